"""GET /stats: what the server holds, its storage and, if it is one of several servers, its view of itself and the others."""

from __future__ import annotations

import time
from typing import Literal

import msgspec

from jobqueue import __version__
from jobqueue.api import bounds as bounded
from jobqueue.api.bounds import State
from jobqueue.api.machine import Disk, Used
from jobqueue.api.native import views
from jobqueue.api.native.stamps import stamp, stamp_or_none
from jobqueue.api.site import Site
from jobqueue.backend.base import BackendStats, ClusterStats, MemberStats, PartitionStats, StorageStats
from jobqueue.errors import StorageUnavailable
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request
from jobqueue.past import Failures

Role = Literal["owner", "standby", "front"]


class HeldStats(msgspec.Struct, frozen=True):
    """What the server holds, over all queues."""

    jobs_live: int
    payload_bytes: int
    queues: int
    waiters: int
    listeners: int
    leases: int
    failures: Failures
    failed_jobs_forgotten: int


class CommitStats(msgspec.Struct, frozen=True):
    """The file or store in which jobs are stored, and how long its commits took."""

    failing: bool
    unwritten_bytes: int
    commits: int
    p50_seconds: float | None
    p99_seconds: float | None
    problem: str | None
    last_at: str | None
    last_seconds: float | None


class DiskStats(msgspec.Struct, frozen=True):
    """The disk that has the data file."""

    file_bytes: int
    free_bytes: int
    total_bytes: int
    state: State


class MemoryStats(msgspec.Struct, frozen=True):
    """The memory that the process uses, and its limit."""

    used_bytes: int
    limit_bytes: int | None
    state: State


class ServerStats(msgspec.Struct, frozen=True, kw_only=True):
    """The server that was asked."""

    version: str
    started_at: str
    uptime_seconds: float
    storage: Literal["memory", "file", "store"]
    place: str | None
    disk: DiskStats | None
    memory: MemoryStats | None


class BoundStats(msgspec.Struct, frozen=True):
    """A quantity that has a limit, and how much of it is used."""

    name: str
    used: int
    limit: int
    state: State


class ServerName(msgspec.Struct, frozen=True):
    """A server, and the address at which other servers reach it."""

    name: str
    address: str | None


class Member(msgspec.Struct, frozen=True):
    """A server on the store, as seen by the server that was asked."""

    name: str
    address: str
    role: Role
    asked: bool
    seen_seconds: float


class Lag(msgspec.Struct, frozen=True):
    """Delays between this server and its owner, store and standby."""

    renewed_seconds: float | None
    link_seconds: float | None
    clock_seconds: float | None
    standby_commits: int | None


class Partition(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of the store."""

    index: int
    owner: ServerName | None
    epoch: int
    lease_left_seconds: float | None
    standby: str | None
    standby_commits: int | None
    problem: str | None


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """This server, as one of several servers on a store."""

    name: str
    address: str
    store: str
    owner: ServerName | None
    epoch: int
    lease_left_seconds: float | None
    standby: str | None
    problem: str | None
    lag: Lag
    members: list[Member]
    partitions: list[Partition]


class StatsView(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the whole server."""

    draining: bool
    unavailable: str | None
    held: HeldStats | None
    storage: CommitStats | None
    cluster: ClusterView | None
    server: ServerStats
    bounds: list[BoundStats]
    limits: dict[str, float]


async def stats(site: Site, request: Request, _: str) -> Answer:
    """GET /stats. It is also answered while the counts are not available: an operator then needs to see which servers exist."""
    found: BackendStats | None = None
    unavailable = None
    try:
        found = await site.stats()
    except StorageUnavailable as error:
        unavailable = error.detail
    # Afterwards, since the call above measures the link.
    seen = site.backend.cluster()
    used = await site.machine.look()
    bounds = bounded.connections(request.connection.server)
    if found is not None:
        bounds = bounded.held(found, site.limits) + bounds
        bounds += [] if found.storage is None else [bounded.unwritten(found.storage, site.limits)]
    return Answer(
        200,
        views.encode(
            StatsView(
                draining=site.draining,
                unavailable=unavailable,
                held=None if found is None else _held(found),
                storage=None if found is None or found.storage is None else _storage(found.storage),
                cluster=None if seen is None else _cluster(seen),
                server=_server(site, used, seen),
                bounds=[BoundStats(each.name, each.used, each.limit, each.state) for each in bounds],
                limits=msgspec.structs.asdict(site.limits),
            )
        ),
    )


def _held(found: BackendStats) -> HeldStats:
    counts = found.jobs_live, found.live_bytes, found.queues, found.waiters, found.listeners, found.leases
    return HeldStats(*counts, found.failures, found.failed_forgotten_total)


def _storage(found: StorageStats) -> CommitStats:
    commits = found.commits
    return CommitStats(
        found.failing,
        found.unwritten_bytes,
        sum(commits.counts),
        _rounded(commits.quantile(0.5)),
        _rounded(commits.quantile(0.99)),
        found.problem,
        stamp_or_none(found.last_at),
        _rounded(found.last_seconds),
    )


def _disk(disk: Disk) -> DiskStats:
    return DiskStats(disk.file_bytes, disk.free_bytes, disk.total_bytes, bounded.state_of_disk(disk.free_bytes, disk.total_bytes))


def _server(site: Site, used: Used, seen: ClusterStats | None) -> ServerStats:
    data, disk = site.machine.data, used.disk
    return ServerStats(
        version=__version__,
        started_at=stamp(site.life.started_at),
        uptime_seconds=round(time.monotonic() - site.life.started, 1),
        storage="store" if seen is not None else "memory" if data is None else "file",
        place=data if seen is None else seen.store,
        disk=None if disk is None else _disk(disk),
        memory=None
        if used.memory_bytes is None
        else MemoryStats(used.memory_bytes, used.memory_limit_bytes, bounded.state_of(used.memory_bytes, used.memory_limit_bytes)),
    )


def _rounded(seconds: float | None) -> float | None:
    """Rounded to a tenth of a millisecond, which is finer than the accuracy of any value here."""
    return None if seconds is None else round(seconds, 4) + 0.0  # turns -0.0 into 0.0


def _cluster(seen: ClusterStats) -> ClusterView:
    return ClusterView(
        name=seen.name,
        address=seen.address,
        store=seen.store,
        owner=_named(seen),
        epoch=seen.epoch,
        lease_left_seconds=_rounded(seen.lease_left_seconds),
        standby=seen.standby,
        problem=seen.problem,
        lag=Lag(
            _rounded(seen.renewed_seconds),
            _rounded(seen.link_seconds),
            _rounded(seen.clock_seconds),
            seen.behind if any(seen.standbys) else None,
        ),
        members=[_member(member, seen) for member in seen.members],
        partitions=[_partition(each) for each in seen.partitions],
    )


def _named(seen: ClusterStats | PartitionStats) -> ServerName | None:
    return None if seen.owner is None else ServerName(seen.owner, seen.owner_address)


def _partition(seen: PartitionStats) -> Partition:
    return Partition(
        index=seen.index,
        owner=_named(seen),
        epoch=seen.epoch,
        lease_left_seconds=_rounded(seen.lease_left_seconds),
        standby=seen.standby,
        standby_commits=None if seen.standby is None else seen.behind,
        problem=seen.problem,
    )


def _member(member: MemberStats, seen: ClusterStats) -> Member:
    role: Role = "owner" if member.name in seen.owners else "standby" if member.name in seen.standbys else "front"
    return Member(member.name, member.address, role, member.name == seen.name, round(member.seen_seconds, 1))
