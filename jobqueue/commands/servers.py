"""The servers on a store as rows, fields and one line for people: which servers exist, which is the owner, and the delays between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobqueue.commands.output import Column
from jobqueue.commands.shapes import span
from jobqueue.errors import QueueError

if TYPE_CHECKING:
    from jobqueue.client.server_types import Partition
    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import Cluster, Commits, Member, Stats

SILENT_SECONDS = 3.5
"""A server gives a sign of life once a second. One that has not done so for this long is silent, and is not expected to take over."""

CLOCK_SECONDS = 0.5
"""From here on a server warns that its clock is wrong."""

CLOCK_ALIKE_SECONDS = 0.001

STATE_STYLES = {"owner": "green", "standby": "cyan"}


def stats_of(client: Client) -> Stats | None:
    """The server's stats; None if it does not give them: to a token for some queues only, or because it is too old."""
    try:
        return client.stats()
    except QueueError as error:
        if error.code in ("forbidden", "not_found"):
            return None
        raise


def brief(seconds: float) -> str:
    """A short time: 0.4ms, 12ms, 1.3s, 2m."""
    if abs(seconds) < 0.9995:
        return f"{seconds * 1_000:.{1 if abs(seconds) < 0.00995 else 0}f}ms"
    return f"{seconds:.1f}s" if abs(seconds) < 59.95 else span(seconds)


def _silent(member: Member, cluster: Cluster) -> bool:
    """Whether it is silent, as seen by the server that was asked. While that server cannot reach the store, silence means nothing."""
    heard = next((other.seen_seconds for other in cluster.members if other.asked), 0.0)
    return member.seen_seconds - heard > SILENT_SECONDS


def _state(member: Member, cluster: Cluster) -> str:
    """One word for a member, or that it is silent."""
    return f"silent for {span(member.seen_seconds)}" if _silent(member, cluster) else member.role


def _state_style(text: str) -> str:
    return "red" if text.startswith("silent") else STATE_STYLES.get(text, "")


MEMBER_COLUMNS = (
    Column("SERVER", cut=32),
    Column("ADDRESS", keep=6, cut=24),
    Column("STATE", style=_state_style),
    Column("SEEN", keep=5, right=True),
    Column("ASKED", keep=7),
)


def member_rows(cluster: Cluster) -> list[tuple[str, ...]]:
    """A row for each server."""
    return [
        (member.name, member.address, _state(member, cluster), f"{member.seen_seconds:.1f}s", "this one" if member.asked else "")
        for member in cluster.members
    ]


def commit_fields(commits: Commits | None) -> list[tuple[str, str]]:
    """How the file or the store takes changes."""
    if commits is None:
        return []
    took = "none yet"
    if commits.p50_seconds is not None and commits.p99_seconds is not None:
        took = f"half within {brief(commits.p50_seconds)}, 99 of 100 within {brief(commits.p99_seconds)}"
    waiting = f", {commits.unwritten_bytes:,} bytes wait" if commits.unwritten_bytes else ""
    failing = f"FAILING: {commits.problem}; " if commits.problem else "FAILING; " if commits.failing else ""
    return [("commits", failing + took + waiting)]


def server_fields(stats: Stats | None) -> list[tuple[str, str]]:
    """The server that was asked: what it is, where it stores jobs, and what is near its limit."""
    if stats is None or stats.server is None:
        return []
    server, disk, memory = stats.server, stats.server.disk, stats.server.memory
    kept = {"memory": "in memory", "file": f"in {server.place}", "store": f"on {server.place}"}.get(server.storage, server.storage)
    fields = [("server", f"{server.version}, up for {span(server.uptime_seconds)}, keeps jobs {kept}")]
    if disk is not None:
        free = f"{size(disk.free_bytes)} of {size(disk.total_bytes)} free, the file has {size(disk.file_bytes)}"
        fields.append(("disk", _MARKS.get(disk.state, "") + free))
    if memory is not None:
        limit = "" if memory.limit_bytes is None else f" of {size(memory.limit_bytes)}"
        fields.append(("memory", _MARKS.get(memory.state, "") + size(memory.used_bytes) + limit))
    near = [bound for bound in stats.bounds if bound.state != "ok"]
    return fields + [(bound.name.replace("_", " "), f"{_MARKS.get(bound.state, '')}{bound.used:,} of {bound.limit:,}") for bound in near]


_MARKS = {"near": "NEARLY FULL; ", "full": "FULL; "}


def size(count: int) -> str:
    """Bytes, for people."""
    value, units = float(count), ("bytes", "KiB", "MiB", "GiB", "TiB")
    for unit in units:
        if value < 1024 or unit == units[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "bytes" or value >= 9.95 else f"{value:.1f} {unit}"


PARTITION_COLUMNS = (
    Column("PARTITION", right=True),
    Column("OWNER", cut=32, style=lambda text: "red" if text == "none" else ""),
    Column("EPOCH", right=True),
    Column("LEASE", right=True),
    Column("STANDBY", cut=32),
)


def partition_rows(cluster: Cluster) -> list[tuple[str, ...]]:
    """A row for each partition; none if the store has one."""
    rows: list[tuple[str, ...]] = []
    for each in cluster.partitions:
        owner = "none" if each.owner is None else each.owner.name
        left = "" if each.lease_left_seconds is None else brief(each.lease_left_seconds)
        behind = f", {each.standby_commits:,} behind" if each.standby_commits else ""
        unknown = "none" if each.owner is None or _owned(each, cluster) else ""
        rows.append((str(each.index), owner, str(each.epoch), left, unknown if each.standby is None else each.standby + behind))
    return rows


def _owned(each: Partition, cluster: Cluster) -> bool:
    """Whether the server that was asked owns a partition."""
    return each.owner is not None and each.owner.name == cluster.name


def _ownerless(cluster: Cluster) -> list[int]:
    """The partitions that have no owner."""
    return [each.index for each in cluster.partitions if each.owner is None]


def _owner(cluster: Cluster) -> str:
    if cluster.partitions:
        missing = _ownerless(cluster)
        owned = sum(_owned(each, cluster) for each in cluster.partitions)
        if missing:
            return f"none for partition {', '.join(map(str, missing))}: requests for it are answered 503 until a server has taken over"
        return f"all {len(cluster.partitions)} partitions have one; this server owns {owned}"
    if cluster.owner is None:
        return "none: requests are answered 503 until a server has taken over"
    left = "" if cluster.lease_left_seconds is None else f", lease for another {brief(cluster.lease_left_seconds)}"
    return f"{cluster.owner.name}, epoch {cluster.epoch}{left}"


def _standby(cluster: Cluster) -> str:
    behind = f", {cluster.lag.standby_commits:,} commits behind" if cluster.lag.standby_commits else ""
    if cluster.partitions:
        owned = [each for each in cluster.partitions if _owned(each, cluster)]
        cold = ", ".join(str(each.index) for each in owned if each.standby is None)
        if cold:
            return f"none for partition {cold}: a server that takes over first reads its jobs"
        return f"every partition that this server owns has one{behind}" if owned else ""
    return "none: a server that takes over first reads all jobs" if cluster.standby is None else cluster.standby + behind


def cluster_fields(cluster: Cluster) -> list[tuple[str, str]]:
    """How one of several servers sees itself and the others."""
    lag = cluster.lag
    asked = cluster.name
    if lag.link_seconds is not None:
        asked += f", which the {'slowest owner' if cluster.partitions else 'owner'} answers in {brief(lag.link_seconds)}"
    elif lag.renewed_seconds is not None:
        asked += f", which renewed its lease {brief(lag.renewed_seconds)} ago"
    return [
        ("store", cluster.store),
        ("owner", _owner(cluster)),
        ("standby", _standby(cluster)),
        ("asked", asked),
        ("its clock", _clock(lag.clock_seconds)),
        ("cannot be owner", cluster.problem or ""),
    ]


def _clock(ahead: float | None) -> str:
    if ahead is None:
        return ""
    if abs(ahead) < CLOCK_ALIKE_SECONDS:
        return "as the store's"
    said = f"{brief(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the store's"
    return f"{said}: set the clock; if the difference grows, this server cannot be the owner" if abs(ahead) > CLOCK_SECONDS else said


def heading(cluster: Cluster) -> tuple[str, bool]:
    """One line for the top of a screen, and whether something is wrong."""
    silent = sum(_silent(member, cluster) for member in cluster.members)
    count = len(cluster.members)
    there = f"{count} server{'' if count == 1 else 's'}" + (f", {silent} silent" if silent else "")
    missing = _ownerless(cluster)
    if missing or (cluster.owner is None and not cluster.partitions):
        return f"{there}   no owner" + (f" of {len(missing)} of {len(cluster.partitions)} partitions" if missing else ""), True
    wrong = "" if cluster.problem is None else f"   {cluster.name} cannot be the owner: {cluster.problem}"
    owner = f"{len(cluster.partitions)} partitions" if cluster.owner is None else f"owner {cluster.owner.name}"
    return f"{there}   {owner}   epoch {cluster.epoch}{wrong}", bool(silent or wrong)
