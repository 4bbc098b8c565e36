"""Which quantities of a server have limits, how much of each is used, and which are near their limit: for /metrics and /stats."""

from __future__ import annotations

from typing import Literal, NamedTuple

from jobqueue.backend.base import BackendStats, StorageStats
from jobqueue.http.request import Accepting
from jobqueue.limits import GIB, Limits

State = Literal["ok", "near", "full"]

NEAR = 0.9
"""From this share of a limit on, the state is near."""

DISK_FULL_BYTES = 64 << 20
"""With less free space than this a disk counts as full: a commit of everything that can be waiting might not fit."""

DISK_NEAR_BYTES = 10 * GIB
DISK_NEAR = 0.05
"""A disk is nearly full with less free than both this share of it and this many bytes, and in any case with less than a gibibyte."""


class Bound(NamedTuple):
    """One quantity that has a limit. name: of its metric, without the prefix; text: what is counted."""

    name: str
    text: str
    used: int
    limit: int

    @property
    def state(self) -> State:
        """Whether it is near its limit."""
        return state_of(self.used, self.limit)


def state_of(used: float, limit: float | None) -> State:
    """The state for this use of a limit. limit: None if there is none."""
    if limit is None or used < NEAR * limit:
        return "ok"
    return "near" if used < limit else "full"


def state_of_disk(free: int, total: int) -> State:
    """The state of a disk with this much free space."""
    if free < DISK_FULL_BYTES:
        return "full"
    return "near" if free < max(min(GIB, total // 2), min(DISK_NEAR_BYTES, DISK_NEAR * total)) else "ok"


def held(stats: BackendStats, limits: Limits) -> list[Bound]:
    """Jobs, queues and waiting requests."""
    return [
        Bound("jobs_live", "Jobs that are not concluded", stats.jobs_live, limits.jobs_max),
        Bound(
            "payload_bytes",
            "Bytes of jobs that are not concluded, texts included",
            stats.live_bytes,
            limits.payload_total_bytes_max,
        ),
        Bound("queues", "Queues", stats.queues, limits.queues_max),
        Bound("groups", "Groups that are not concluded", stats.groups, limits.groups_max),
        Bound("edges", "Jobs that live jobs are after, in total", stats.edges, limits.edges_max),
        Bound("unique_windows", "Unique keys that are held for a time", stats.unique_windows, limits.unique_windows_max),
        Bound("waiters", "Waiting requests: dequeues and waits for a result", stats.waiters, limits.waiters_max),
        Bound("listeners", "Listeners of /events", stats.listeners, limits.listeners_max),
    ]


def connections(server: Accepting) -> list[Bound]:
    """The connections of one server."""
    return [
        Bound("connections", "Open connections", len(server.open), server.connections_max),
        Bound("unread_bytes", "Bytes of requests that have arrived and are not served yet", server.unread_bytes, server.unread_bytes_max),
        Bound("unsent_bytes", "Bytes of answers that clients have not read", server.unsent_bytes, server.unsent_bytes_max),
    ]


def unwritten(storage: StorageStats, limits: Limits) -> Bound:
    """Changes that wait to be stored."""
    return Bound("unwritten_bytes", "Bytes of changes that wait for the disk", storage.unwritten_bytes, limits.unwritten_bytes_max)
