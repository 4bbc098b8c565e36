"""The jobs a worker has taken and not begun, and how many more to take ahead.

Taking ahead hides a call's round trip, and lets one call bring many jobs. But a job that waits here is kept from an idle worker, so only
as many are taken as will begin in a moment, going by how long handlers took lately; and what could not begin soon goes back.

Nothing is taken ahead of a queue that hands out limited jobs: what waits here would take up what another worker could use. Jobs of one
key of such a queue, which one call may bring, begin one after the other, in the order in which they came. When one does not succeed,
those behind it go back, since the queue may want it done before them.
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

_Key = tuple[str, str]
"""A queue and a key of it."""


class _Line:
    """Jobs of one key. first: the one that runs, or is next to; free: its handler is over."""

    __slots__ = ("behind", "first", "free")

    def __init__(self, first: Run) -> None:
        self.first = first
        self.behind: deque[Run] = deque()
        self.free = False


class Waiting:
    """First come, first begun. ahead_max: jobs to take ahead at most, 0 for none."""

    def __init__(self, clock: Clock, concurrency: int, ahead_max: int) -> None:
        self._clock = clock
        self._concurrency = concurrency
        self._ahead_max = ahead_max
        self._runs: deque[Run] = deque()
        self._lines: dict[_Key, _Line] = {}
        self._limited: set[str] = set()
        """Queues whose last job was limited."""
        self._mean_seconds: float | None = None
        self._timer: Timer | None = None

    def __len__(self) -> int:
        """Those that may begin."""
        return len(self._runs)

    def add(self, run: Run) -> None:
        """At the end."""
        leased = run.leased
        if not leased.limited:
            if self._limited:
                self._limited.discard(leased.queue)
            self._runs.append(run)
            return
        self._limited.add(leased.queue)
        key = _key(run)
        line = None if key is None else self._lines.get(key)
        if line is not None:
            line.behind.append(run)
            return
        if key is not None:
            self._lines[key] = _Line(run)
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
        if self._ahead_max and self._mean_seconds is not None and not self._limited:
            ahead = min(self._ahead_max, int(self._concurrency * AHEAD_SECONDS / max(self._mean_seconds, 1e-6)))
        if len(self._runs) > ahead // 2:
            return 0
        return max(0, self._concurrency - running + ahead - len(self._runs))

    def surplus(self) -> list[Run]:
        """Limited jobs that cannot begin now though nothing of their key is before them, taken out, to go back at once: they were asked for
        before it was known that they are limited. To be called when no slot is free.
        """
        if not self._limited:
            return []
        limited = [run for run in self._runs if run.leased.limited]
        if limited:
            self._runs = deque(run for run in self._runs if not run.leased.limited)
        return limited

    def watch(self) -> None:
        """Give back what will not have begun in time."""
        if self._timer is None and (firsts := self._firsts()):
            self._timer = self._clock.call_at(min(run.started_at for run in firsts) + WAITING_SECONDS_MAX, self._give_back)

    def _firsts(self) -> list[Run]:
        firsts = [line.behind[0] for line in self._lines.values() if line.behind]
        if self._runs:
            firsts.append(self._runs[0])
        return firsts

    def _give_back(self) -> None:
        self._timer = None
        late = self._clock.now() - WAITING_SECONDS_MAX
        while self._runs and self._runs[0].started_at <= late:
            # What runs now takes at least this long, which its end would tell too late.
            self._mean_seconds = max(self._mean_seconds or 0.0, WAITING_SECONDS_MAX)
            self._runs.popleft().end(RELEASED)
        for line in list(self._lines.values()):
            while line.behind and line.behind[0].started_at <= late:
                line.behind.popleft().end(RELEASED)
        self.watch()

    def end(self, run: Run, ending: Ending | None) -> None:
        """End one before it began."""
        if not run.is_over:
            line = self._line(run)
            if line is not None and line.first is not run:
                line.behind.remove(run)
            else:
                self._runs.remove(run)
            run.end(ending)

    def ended(self, run: Run, well: bool) -> bool:
        """The attempt at a job is over, and the job succeeded or not; whether another may begin for it. If it never began, its handler is
        over too.
        """
        line = self._line(run)
        if line is None or line.first is not run:
            return False
        if not well:
            behind, line.behind = line.behind, deque()
            for other in behind:
                other.end(RELEASED)
        if line.free or run.job is None:
            self._go_on(run, line)
        return well and line.first is not run

    def freed(self, run: Run) -> None:
        """The handler of a job is over."""
        line = self._line(run)
        if line is not None and line.first is run:
            line.free = True
            if run.is_over:
                self._go_on(run, line)

    def _go_on(self, run: Run, line: _Line) -> None:
        """Let the next of a key begin."""
        line.free = False
        if line.behind:
            line.first = line.behind.popleft()
            self._runs.append(line.first)
            return
        key = _key(run)
        assert key is not None
        del self._lines[key]

    def _line(self, run: Run) -> _Line | None:
        if not self._lines:
            return None
        key = _key(run)
        return None if key is None else self._lines.get(key)

    def close(self) -> None:
        """Give all back."""
        if self._timer is not None:
            self._timer.cancel()
        while self._runs:
            self._runs.popleft().end(RELEASED)
        for line in list(self._lines.values()):
            while line.behind:
                line.behind.popleft().end(RELEASED)


def _key(run: Run) -> _Key | None:
    """The key by which a job is one after the other with others, if it is."""
    leased = run.leased
    return (leased.queue, leased.key) if leased.limited and leased.key is not None else None
