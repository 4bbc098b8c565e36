"""The jobs a worker has taken and not begun, and how many more to take ahead.

Taking ahead hides a call's round trip, and lets one call bring many jobs. But a job that waits here is kept from an idle worker, so only
as many are taken as will begin in a moment, going by how long handlers took lately; and what could not begin soon goes back.
"""

from __future__ import annotations

from collections import deque

from jobqueue.clock import Clock, Timer
from jobqueue.worker.endings import RELEASED, Ending
from jobqueue.worker.runs import Run

AHEAD_SECONDS = 0.05
"""Jobs are taken ahead for about this much work."""

WAITING_SECONDS_MAX = 1.0
"""What could not begin for so long goes back."""

NEWEST = 0.1
"""The share of the newest handler's time in their mean."""


class Waiting:
    """First come, first begun. ahead_max: jobs to take ahead at most, 0 for none."""

    def __init__(self, clock: Clock, concurrency: int, ahead_max: int) -> None:
        self._clock = clock
        self._concurrency = concurrency
        self._ahead_max = ahead_max
        self._runs: deque[Run] = deque()
        self._mean_seconds: float | None = None
        self._timer: Timer | None = None

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: Run) -> None:
        """At the end."""
        self._runs.append(run)

    def next(self) -> Run:
        """The one to begin."""
        return self._runs.popleft()

    def took(self, seconds: float) -> None:
        """A handler took so long."""
        mean = self._mean_seconds
        self._mean_seconds = seconds if mean is None else mean * (1 - NEWEST) + seconds * NEWEST

    def room(self, running: int) -> int:
        """How many jobs to ask for. None until half of those taken ahead have begun: few large calls cost less than many small ones."""
        ahead = 0
        if self._ahead_max and self._mean_seconds is not None:
            ahead = min(self._ahead_max, int(self._concurrency * AHEAD_SECONDS / max(self._mean_seconds, 1e-6)))
        if len(self._runs) > ahead // 2:
            return 0
        return max(0, self._concurrency - running + ahead - len(self._runs))

    def watch(self) -> None:
        """Give back what will not have begun in time."""
        if self._runs and self._timer is None:
            self._timer = self._clock.call_at(self._runs[0].started_at + WAITING_SECONDS_MAX, self._give_back)

    def _give_back(self) -> None:
        self._timer = None
        now = self._clock.now()
        while self._runs and self._runs[0].started_at + WAITING_SECONDS_MAX <= now:
            # What runs now takes at least this long, which its end would tell too late.
            self._mean_seconds = max(self._mean_seconds or 0.0, WAITING_SECONDS_MAX)
            self._runs.popleft().end(RELEASED)
        self.watch()

    def end(self, run: Run, ending: Ending | None) -> None:
        """End one before it began."""
        if not run.is_over:
            self._runs.remove(run)
            run.end(ending)

    def close(self) -> None:
        """Give all back."""
        if self._timer is not None:
            self._timer.cancel()
        while self._runs:
            self._runs.popleft().end(RELEASED)
