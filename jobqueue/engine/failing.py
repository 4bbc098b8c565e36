"""Recent failures in a queue, or in the server: counters for the last 1, 5 and 60 minutes, created at the first failure.

A failure costs a few additions, however many came before it, and the memory used does not grow. Nothing is stored: after a restart the
counters start at zero. Failures by error are counted in error_groups.py.
"""

from __future__ import annotations

from jobqueue.engine.error_groups import ErrorGroups
from jobqueue.limits import Limits
from jobqueue.past import Failures

_SLOTS = 12
_MINUTES = (1, 5, 60)


class Window:
    """Counts events in the last `minutes`, in slots of a twelfth of that: so events that are too old by up to one slot can still be
    counted.
    """

    __slots__ = ("counts", "newest", "width")

    def __init__(self, minutes: int) -> None:
        self.width = minutes * 60 / _SLOTS
        self.counts = [0] * (_SLOTS + 1)
        self.newest = 0
        """The number of the newest slot in which anything was counted. If the clock goes back, events are counted in it."""

    def add(self, now: float) -> None:
        """Count one."""
        at = int(now // self.width)
        if at > self.newest:
            for old in range(max(self.newest + 1, at - _SLOTS), at + 1):
                self.counts[old % len(self.counts)] = 0
            self.newest = at
        self.counts[self.newest % len(self.counts)] += 1

    def count(self, now: float) -> int:
        """How many events were counted in the window that ends now."""
        oldest = int(now // self.width) - _SLOTS
        return sum(self.counts[at % len(self.counts)] for at in range(max(oldest, self.newest - _SLOTS), self.newest + 1))


class Failing:
    """The recent failures. retrying: numbers of the jobs that wait for their next attempt after a failed one."""

    __slots__ = ("attempts", "jobs", "retrying")

    def __init__(self) -> None:
        self.jobs = [Window(minutes) for minutes in _MINUTES]
        self.attempts = [Window(minutes) for minutes in _MINUTES]
        self.retrying: set[int] = set()

    def attempt(self, now: float, last: bool) -> None:
        """An attempt failed; last: the job failed for good."""
        for window in self.attempts:
            window.add(now)
        if last:
            for window in self.jobs:
                window.add(now)

    def seen(self, now: float) -> Failures:
        """The counts as they are now."""
        jobs, attempts = self.jobs, self.attempts
        return Failures(len(self.retrying), *(window.count(now) for window in jobs), *(window.count(now) for window in attempts))


class FailingEverywhere(Failing):
    """The same for all queues, with the errors of each."""

    __slots__ = ("errors",)

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.errors = ErrorGroups(limits)
