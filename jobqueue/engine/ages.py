"""Expires jobs that have waited longer than their queue allows (`expires_in` of its policy).

Jobs store nothing for this: no due time, no field. For each value of `expires_in` that queues have, one cursor walks over all jobs in the
order in which they were made, and ends those that are too old, wait, and are in a queue with this value. It continues every tenth of the
value, at least once a minute, in slices. Jobs behind the cursor are already too old for these queues: if one was with a worker meanwhile,
or in another queue, it is checked when it arrives (`State.to_queued`, `State.to_scheduled`), and no job that is too old is handed out
(`Engine.dequeue`). The cursor is not stored either: after a restart, and when a queue gets a new value, it begins at the first job.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from jobqueue.engine.catalogue import Catalogue
from jobqueue.engine.deadlines import Deadlines
from jobqueue.engine.queues import QueueState
from jobqueue.model import QUEUED, SCHEDULED, Job

SLICE = 500
"""Jobs looked at in one step of the ticker."""

ENDED_MAX = 100
"""The most jobs ended in one step."""

PAUSE_SECONDS = 60.0
"""The longest time between two walks of a cursor."""

_ASKED_MAX = 100
"""How many queues are checked for waiting jobs before all jobs are looked at."""


class Owner(Protocol):
    """The owner of the jobs, which ends them."""

    jobs: Catalogue
    queues: dict[str, QueueState]

    def expire(self, job: Job, now: float) -> None:
        """End a waiting job."""


class Cursor:
    """The position of the walk for one value: all jobs up to `number` were looked at. queues: those that have the value."""

    __slots__ = ("number", "queues", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.number = 0
        self.queues: dict[str, None] = {}

    def idle(self, queues: Mapping[str, QueueState]) -> bool:
        """Whether no job waits in its queues, as far as a few looks can tell."""
        if len(self.queues) > _ASKED_MAX:
            return False
        return not any((queue := queues.get(name)) is not None and (queue.queued or queue.scheduled) for name in self.queues)


class Ages:
    """The cursors, by value."""

    __slots__ = ("_deadlines", "_of", "cursors")

    def __init__(self, deadlines: Deadlines[object]) -> None:
        self.cursors: dict[float, Cursor] = {}
        self._of: dict[str, Cursor] = {}
        self._deadlines = deadlines

    def keep(self, queue: QueueState, now: float) -> None:
        """A queue has such a policy, possibly a new one."""
        seconds, cursor = queue.expires_in, self._of.get(queue.name)
        if (None if cursor is None else cursor.seconds) == seconds:
            return
        self.forget(queue.name)
        if seconds is None:
            return
        cursor = self.cursors.setdefault(seconds, Cursor(seconds))
        if queue.live or not cursor.queues:
            cursor.number = 0
            self._deadlines.drop(cursor)
            self._deadlines.set(cursor, now)
        cursor.queues[queue.name] = None
        self._of[queue.name] = cursor

    def forget(self, name: str) -> None:
        """A queue no longer has such a policy, or is gone."""
        cursor = self._of.pop(name, None)
        if cursor is not None:
            del cursor.queues[name]
            if not cursor.queues:
                del self.cursors[cursor.seconds]
                self._deadlines.drop(cursor)

    def due(self, cursor: Cursor, now: float, owner: Owner) -> int:
        """Continue a walk; returns how many jobs it looked at."""
        if cursor.idle(owner.queues):
            # A job that comes later is checked when it comes, if it is too old by then.
            cursor.number = max(cursor.number, owner.jobs.all_before(now - cursor.seconds))
        jobs = owner.jobs.following(cursor.number, SLICE)
        ended = looked = 0
        for job in jobs:
            if job.created_at + cursor.seconds > now:
                self._pause(cursor, now, job.created_at)
                break
            looked += 1
            cursor.number = job.number
            if (
                job.queue in cursor.queues
                and (job.status is QUEUED or job.status is SCHEDULED)
                # A dead letter whose age counts from a later time has a due time of its own (`QueueState.letter_ends`).
                and owner.queues[job.queue].too_old(job, now)
            ):
                owner.expire(owner.jobs.itself(job), now)
                ended += 1
                if ended == ENDED_MAX:
                    self._deadlines.set(cursor, now)
                    break
        else:
            if len(jobs) < SLICE:
                self._pause(cursor, now, now)
            else:
                self._deadlines.set(cursor, now)
        return 1 + looked + 5 * ended

    def _pause(self, cursor: Cursor, now: float, oldest: float) -> None:
        """Continue when a job may be too old, but not at once. oldest: when the oldest job was made that is not too old."""
        self._deadlines.set(cursor, max(oldest + cursor.seconds, now + min(PAUSE_SECONDS, cursor.seconds / 10)))
