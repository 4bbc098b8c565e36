"""The servers on a store as rows, fields and one line for people: who is there, who owns the queue, and what lies between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobqueue.commands.output import Column
from jobqueue.commands.shapes import span
from jobqueue.errors import QueueError

if TYPE_CHECKING:
    from jobqueue.client.sync_client import Client
    from jobqueue.client.types import Cluster, Commits, Member, Stats

SILENT_SECONDS = 3.5
"""A server says once a second that it is there. One that has not for so long is silent, and not counted on to take over."""

CLOCK_SECONDS = 0.5
"""From here on a server warns that its clock is off."""

CLOCK_ALIKE_SECONDS = 0.001

STATE_STYLES = {"owner": "green", "standby": "cyan"}


def stats_of(client: Client) -> Stats | None:
    """What the server tells of itself; None where it does not: to a token for some queues, or as an older version."""
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
    """Whether it is silent to a server that hears of the others. While the store does not answer that one, silence says nothing."""
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
    return [("commits", ("FAILING; " if commits.failing else "") + took + waiting)]


def cluster_fields(cluster: Cluster) -> list[tuple[str, str]]:
    """What one server of many tells of itself and the others."""
    lag = cluster.lag
    if cluster.owner is None:
        owner = "none: clients are answered 503 and try again until a server has claimed the queue"
    else:
        left = "" if cluster.lease_left_seconds is None else f", lease good for {brief(cluster.lease_left_seconds)}"
        owner = f"{cluster.owner.name}, epoch {cluster.epoch}{left}"
    standby = "none: whoever takes over reads all jobs first"
    if cluster.standby is not None:
        standby = cluster.standby + (f", {lag.standby_commits:,} commits behind" if lag.standby_commits else "")
    asked = cluster.name
    if lag.link_seconds is not None:
        asked += f", which the owner answers in {brief(lag.link_seconds)}"
    elif lag.renewed_seconds is not None:
        asked += f", which renewed its lease {brief(lag.renewed_seconds)} ago"
    return [
        ("store", cluster.store),
        ("owner", owner),
        ("standby", standby),
        ("asked", asked),
        ("its clock", _clock(lag.clock_seconds)),
        ("claims nothing", cluster.problem or ""),
    ]


def _clock(ahead: float | None) -> str:
    if ahead is None:
        return ""
    if abs(ahead) < CLOCK_ALIKE_SECONDS:
        return "as the store's"
    said = f"{brief(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} the store's"
    return f"{said}: set it, before it is so far off that this server may not own the queue" if abs(ahead) > CLOCK_SECONDS else said


def heading(cluster: Cluster) -> tuple[str, bool]:
    """One line for the head of a screen, and whether something is wrong."""
    silent = sum(_silent(member, cluster) for member in cluster.members)
    count = len(cluster.members)
    there = f"{count} server{'' if count == 1 else 's'}" + (f", {silent} silent" if silent else "")
    if cluster.owner is None:
        return f"{there}   no server owns the queue", True
    wrong = "" if cluster.problem is None else f"   {cluster.name} would not own it: {cluster.problem}"
    return f"{there}   owner {cluster.owner.name}   epoch {cluster.epoch}{wrong}", bool(silent or wrong)
