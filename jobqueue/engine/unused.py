"""Deletes queues that nobody uses, so that a new name for every run does not exhaust the limit of queues.

Such a queue was made by its first job; its policy was never set, and neither it nor one of its keys was paused; it has no live job, and no
request waits for one. Jobs in history do not keep it: a retry makes the queue again, as an enqueue does. A queue stays if a policy names it
for dead letters, or a schedule for its jobs.

Nothing is done when the last job of a queue ends. All queues are looked at, a slice per step, if the ticker runs for any reason and has not
looked for a while; and also when the first queue that was found unused has been so for long enough. So an idle server sets no timer for
this, and as long as no tick happens, nothing was used either.

Since when a queue is unused is not stored. After a restart or a takeover the time begins again.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from jobqueue.engine.engine import Engine
from jobqueue.engine.queues import QueueState

LOOKS = 60
"""How often it looks, at most, in the time after which a queue is deleted: so a queue is deleted late by at most a sixtieth of that time.
"""

SLICE = 500
"""Queues looked at in one step."""


class Unused:
    """Finds queues that nobody uses. due: when to look next, infinity if no known queue will have to go."""

    __slots__ = ("_engine", "_left", "_looked_at", "_named", "_next", "_seconds", "_since", "due")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seconds = engine.limits.unused_queue_seconds
        self._left: list[QueueState] = []
        """The queues that are still to be looked at in this round."""
        self._named: set[str | None] = set()
        self._since: dict[QueueState, tuple[float, int]] = {}
        """Since when each of them was unused, and its use counters at that time."""
        self._looked_at = -math.inf
        self._next = math.inf
        self.due = math.inf

    def stir(self, now: float) -> None:
        """Something happened, so a queue may be newly unused."""
        if self._seconds and self.due > now:
            self.due = min(self.due, max(now, self._looked_at + self._seconds / LOOKS))

    def look(self, now: float, standing: Callable[[str], int]) -> None:
        """Look at a slice of the queues, and delete those that have been unused for long enough. standing: how many requests wait for a
        queue.
        """
        if not self._left:
            self._begin(now)
        for queue in self._left[-SLICE:]:
            if self._engine.queues.get(queue.name) is queue:
                self._look_at(queue, now, standing)
        del self._left[-SLICE:]
        self.due = now if self._left else self._next

    def _begin(self, now: float) -> None:
        engine = self._engine
        self._looked_at, self._next = now, math.inf
        self._left = list(engine.queues.values())
        self._named = {queue.policy.dead_letter for queue in self._left}
        self._named |= {table.schedule.job.queue for table in engine.schedules.tables.values()}
        # Some may have been deleted meanwhile, or made again with the same name.
        self._since = {queue: seen for queue, seen in self._since.items() if engine.queues.get(queue.name) is queue}

    def _look_at(self, queue: QueueState, now: float, standing: Callable[[str], int]) -> None:
        if queue.own or queue.live or queue.name in self._named or standing(queue.name):
            self._since.pop(queue, None)
            return
        used = queue.enqueued_total + queue.retried_total + queue.moved_in_total
        since, before = self._since.get(queue, (now, -1))
        if used != before:
            since = now
            self._since[queue] = now, used
        if now - since < self._seconds:
            self._next = min(self._next, since + self._seconds)
            return
        del self._since[queue]
        self._engine.delete_queue(queue.name)
