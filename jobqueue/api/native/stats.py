"""GET /stats: what the server holds in all, what keeps it, and, where it is one of many, how it sees itself and the others."""

from __future__ import annotations

from typing import Literal

import msgspec

from jobqueue.api.native import views
from jobqueue.api.site import Site
from jobqueue.backend.base import BackendStats, ClusterStats, MemberStats, StorageStats
from jobqueue.errors import StorageUnavailable
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request

Role = Literal["owner", "standby", "front"]


class HeldStats(msgspec.Struct, frozen=True):
    """What is held, over all queues."""

    jobs_live: int
    payload_bytes: int
    queues: int
    waiters: int
    listeners: int
    leases: int


class CommitStats(msgspec.Struct, frozen=True):
    """What keeps the jobs, a file or a store, and how long its commits took."""

    failing: bool
    unwritten_bytes: int
    commits: int
    p50_seconds: float | None
    p99_seconds: float | None


class ServerName(msgspec.Struct, frozen=True):
    """A server, and where the others reach it."""

    name: str
    address: str | None


class Member(msgspec.Struct, frozen=True):
    """A server on the store, as the one that was asked sees it."""

    name: str
    address: str
    role: Role
    asked: bool
    seen_seconds: float


class Lag(msgspec.Struct, frozen=True):
    """What lies between this server and its owner, store and standby."""

    renewed_seconds: float | None
    link_seconds: float | None
    clock_seconds: float | None
    standby_commits: int | None


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """One server of many on a store."""

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


class StatsView(msgspec.Struct, frozen=True, kw_only=True):
    """The whole server."""

    draining: bool
    unavailable: str | None
    held: HeldStats | None
    storage: CommitStats | None
    cluster: ClusterView | None


async def stats(site: Site, request: Request, _: str) -> Answer:
    """GET /stats. It is answered too while nobody can tell what is held: that is when somebody wants to know who is there."""
    found: BackendStats | None = None
    unavailable = None
    try:
        found = await site.stats()
    except StorageUnavailable as error:
        unavailable = error.detail
    # After it: it measures the link.
    seen = site.backend.cluster()
    return Answer(
        200,
        views.encode(
            StatsView(
                draining=site.draining,
                unavailable=unavailable,
                held=None if found is None else _held(found),
                storage=None if found is None or found.storage is None else _storage(found.storage),
                cluster=None if seen is None else _cluster(seen),
            )
        ),
    )


def _held(found: BackendStats) -> HeldStats:
    return HeldStats(found.jobs_live, found.live_bytes, found.queues, found.waiters, found.listeners, found.leases)


def _storage(found: StorageStats) -> CommitStats:
    commits = found.commits
    return CommitStats(
        found.failing, found.unwritten_bytes, sum(commits.counts), _rounded(commits.quantile(0.5)), _rounded(commits.quantile(0.99))
    )


def _rounded(seconds: float | None) -> float | None:
    """To a tenth of a millisecond, which is finer than anything here is known."""
    return None if seconds is None else round(seconds, 4) + 0.0  # which makes 0.0 of -0.0


def _cluster(seen: ClusterStats) -> ClusterView:
    return ClusterView(
        name=seen.name,
        address=seen.address,
        store=seen.store,
        owner=None if seen.owner is None else ServerName(seen.owner, seen.owner_address),
        epoch=seen.epoch,
        lease_left_seconds=_rounded(seen.lease_left_seconds),
        standby=seen.standby,
        problem=seen.problem,
        lag=Lag(
            _rounded(seen.renewed_seconds),
            _rounded(seen.link_seconds),
            _rounded(seen.clock_seconds),
            None if seen.standby is None else seen.behind,
        ),
        members=[_member(member, seen) for member in seen.members],
    )


def _member(member: MemberStats, seen: ClusterStats) -> Member:
    role: Role = "owner" if member.name == seen.owner else "standby" if member.name == seen.standby else "front"
    return Member(member.name, member.address, role, member.name == seen.name, round(member.seen_seconds, 1))
