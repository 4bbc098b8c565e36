"""Notes on GET /stats; see reference.py."""

from __future__ import annotations

from typing import Any

Notes = dict[str, dict[str, Any]]


_CLUSTER = {
    "ClusterView.name": "This server.",
    "ClusterView.address": "Where the others reach this server.",
    "ClusterView.store": "The store, by its URL without a password.",
    "ClusterView.owner": "The owner; null while there is no owner, or its lease has ended, and always with several partitions.",
    "ClusterView.epoch": "How often ownership has changed, of all partitions together.",
    "ClusterView.lease_left_seconds": "Seconds until another server can take over if the owner stays silent.",
    "ClusterView.standby": "The server that follows the owner and takes over at once; null if there is none, or several partitions.",
    "ClusterView.problem": "Why this server cannot become the owner, for example a wrong clock; null if it can.",
    "ClusterView.lag": "The state of the links between this server and the others.",
    "ClusterView.partitions": "The partitions, in order; empty if the store has one.",
    "Partition.index": "The number of the partition, from 0.",
    "Partition.owner": "Its owner; null while it has none, or the lease has ended.",
    "Partition.epoch": "How often its ownership has changed.",
    "Partition.lease_left_seconds": "Seconds until another server can take it over if its owner stays silent.",
    "Partition.standby": "The server that follows its owner and takes over at once; null if there is none, or if another server owns the "
    "partition and this one is not its standby.",
    "Partition.standby_commits": "How many commits the standby is behind; null if it is not known.",
    "Partition.problem": "Why this server cannot become its owner; null if it can.",
    "ClusterView.members": "The servers that announced themselves in the last minute, including this one.",
    "ServerName.name": "The server.",
    "ServerName.address": "Where the others reach it.",
    "Lag.renewed_seconds": "Seconds since this server, the owner, renewed its lease; null on other servers.",
    "Lag.link_seconds": "How long the owner took to answer this server; null on the owner itself, and if the owner cannot be reached.",
    "Lag.clock_seconds": "How far this server's clock is ahead of the store's; null until they have been compared.",
    "Lag.standby_commits": "How many commits the standby is behind, at most; null if it is missing.",
    "Member.name": "The server.",
    "Member.address": "Where the others reach it.",
    "Member.role": "`front`: it forwards requests to the owner.",
    "Member.asked": "true for the server that gave this answer.",
    "Member.seen_seconds": "Seconds since it announced itself, which it does once a second.",
}
"""Of several servers on a store."""


def server_notes() -> Notes:
    """GET /stats."""
    said = {
        "StatsView.draining": "true while the server shuts down.",
        "StatsView.unavailable": "Why the numbers are not available, for example because there is no owner; null if they are.",
        "StatsView.held": "What the server holds in all queues together; null while this is not available.",
        "StatsView.storage": "The state of the file or the store; null in memory, and while this is not available.",
        "StatsView.cluster": "This server's view of itself and the others on its store; null without a store.",
        "StatsView.server": "The server that was asked.",
        "StatsView.bounds": "Each bound of the server, how much of it is used, and its state. Jobs and queues are left out while `held` "
        "is not available.",
        "StatsView.limits": "The limits in force, by name; docs/operations.md says what each is.",
        "HeldStats.jobs_live": "Jobs that are not concluded.",
        "HeldStats.payload_bytes": "Bytes of these jobs, including texts.",
        "HeldStats.queues": "Queues.",
        "HeldStats.waiters": "Waiting requests: dequeues and waits for a result.",
        "HeldStats.listeners": "Listeners of /events.",
        "HeldStats.leases": "Live leases.",
        "HeldStats.failed_jobs_forgotten": "Failed jobs that history dropped for lack of room, since the server started.",
        "CommitStats.failing": "true while changes cannot be stored.",
        "CommitStats.unwritten_bytes": "Bytes of changes that wait to be stored.",
        "CommitStats.commits": "Commits since the file was opened, or since the owner became the owner.",
        "CommitStats.p50_seconds": "The median duration of these commits, in seconds; null before the first.",
        "CommitStats.p99_seconds": "The 99th percentile of the same; null before the first.",
        "CommitStats.problem": "Why changes cannot be stored; null while they can.",
        "CommitStats.last_at": "The time of the last commit. RFC 3339, UTC, milliseconds; null before the first.",
        "CommitStats.last_seconds": "How long the last commit took; null before the first.",
        "ServerStats.version": "The server's version.",
        "ServerStats.started_at": "When the process started. RFC 3339, UTC, milliseconds.",
        "ServerStats.uptime_seconds": "How long the process has run.",
        "ServerStats.storage": "Where jobs are kept.",
        "ServerStats.place": "The path of the file, or the URL of the store without a password; null in memory.",
        "ServerStats.disk": "The disk that the file is on; null if there is no file, or the disk cannot be read.",
        "ServerStats.memory": "The process's memory; null if the system does not report it.",
        "DiskStats.file_bytes": "The size of the data file and of the log beside it.",
        "DiskStats.free_bytes": "The free space of the disk.",
        "DiskStats.total_bytes": "The size of the disk.",
        "DiskStats.state": "`full`: less than 64 MiB is free. `near`: less than 1 GiB is free, or less than 5 % of the disk and less than "
        "10 GiB.",
        "MemoryStats.used_bytes": "How much memory the process uses.",
        "MemoryStats.limit_bytes": "The limit that its control groups or the machine set; null if it is not known.",
        "MemoryStats.state": "`near`: from 90 % of the limit on. `full`: all of it.",
        "BoundStats.name": "What is bounded: the name of its metric without `jobqueue_`.",
        "BoundStats.used": "How much of it is used.",
        "BoundStats.limit": "The limit.",
        "BoundStats.state": "`near`: from 90 % of the limit on. `full`: all of it.",
        **_CLUSTER,
    }
    return {name: {"description": text} for name, text in said.items()}
