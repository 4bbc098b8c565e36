"""The types for groups. A group counts the conclusions of its members, and enqueues jobs when all have ended.

The rules are in engine/groups.py.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from jobqueue.model import DEFAULT_QUEUE, JobSpec

CallbackState = Literal["waits", "owed", "made"]
"""The state of a callback, the job that a group enqueues when it has ended: not enqueued yet, no room for it yet, or enqueued."""


class GroupSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A group as it was requested. queue: whoever has access to it can see, close and cancel the group, and add jobs to it.

    on_concluded: enqueued once all members have ended; on_succeeded: once all have succeeded. Both have no id, no time except a delay, no
    parents and no group.
    """

    id: str | None = None
    queue: str = DEFAULT_QUEUE
    on_concluded: JobSpec | None = None
    on_succeeded: JobSpec | None = None


class CallbackStats(msgspec.Struct, frozen=True):
    """The state of a group's callback. queue: the job's queue; job: its id, once it is enqueued; problem: why it is not enqueued yet."""

    state: CallbackState
    queue: str
    job: str | None = None
    problem: str | None = None


class GroupStats(msgspec.Struct, frozen=True, kw_only=True):
    """The current state of a group. created_at: UTC, seconds since the epoch.

    live: members that have not ended; the four outcomes: members that ended so, including forgotten ones. concluded: it is closed and all
    have ended. cancelled: whether it was cancelled.
    """

    id: str
    queue: str
    created_at: float
    closed: bool
    cancelled: bool
    concluded: bool
    live: int
    succeeded: int
    failed: int
    # The outcome of members, not the cancelling of the group.
    cancelled_jobs: int
    expired: int
    on_concluded: CallbackStats | None = None
    on_succeeded: CallbackStats | None = None

    @property
    def ended(self) -> int:
        """Members that have ended."""
        return self.succeeded + self.failed + self.cancelled_jobs + self.expired

    @property
    def members(self) -> int:
        """All members, including forgotten ones."""
        return self.live + self.ended
