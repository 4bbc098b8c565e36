"""The jobs that a worker has taken and not started, and how many more to take ahead.

Taking ahead hides the round trip of a call, and lets one call bring many jobs. But a job that waits here is kept from an idle worker. So
only as many are taken as will start in a moment, judging by recent run times of handlers; jobs that could not start soon are released.

Nothing is taken ahead from a queue with limited jobs: a job that waits here would use up capacity that another worker could use. One call
can bring several jobs with the same key of such a queue; they start one after the other, in the order in which they came. If one does not
succeed, those behind it are released, since the queue may require it to be done before them.
"""

from __future__ import annotations

from collections import deque

from jobqueue.clock import Clock, Timer
from jobqueue.worker.endings import RELEASED, Ending
from jobqueue.worker.runs import Run

AHEAD_SECONDS = 0.05
"""Jobs are taken ahead for about this much work."""

WAITING_SECONDS_MAX = 1.0
"""Jobs that could not start for this long are released."""

NEWEST = 0.1
"""The weight of the newest run time in the running mean."""

_Key = tuple[str, str]
"""A queue and a key in it."""


class _Line:
    """Jobs of one key. first: the one that runs, or is next; free: its handler is over."""

    __slots__ = ("behind", "first", "free")

    def __init__(self, first: Run) -> None:
        self.first = first
        self.behind: deque[Run] = deque()
        self.free = False


class Waiting:
    """Jobs that wait to start, first in, first out. ahead_max: the most jobs to take ahead, 0 for none."""

    def __init__(self, clock: Clock, concurrency: int, ahead_max: int) -> None:
        self._clock = clock
        self._concurrency = concurrency
        self._ahead_max = ahead_max
        self._runs: deque[Run] = deque()
        self.lines: dict[_Key, _Line] = {}
        """If it is empty, `ended` and `freed` have nothing to do."""
        self._limited: set[str] = set()
        """Queues whose last job was limited."""
        self._mean_seconds: float | None = None
        self._timer: Timer | None = None

    def __len__(self) -> int:
        """How many can start."""
        return len(self._runs)

    def add(self, run: Run) -> None:
        """Add a job at the end."""
        leased = run.leased
        if not leased.limited:
            if self._limited:
                self._limited.discard(leased.queue)
            self._runs.append(run)
            return
        self._limited.add(leased.queue)
        key = _key(run)
        line = None if key is None else self.lines.get(key)
        if line is not None:
            line.behind.append(run)
            return
        if key is not None:
            self.lines[key] = _Line(run)
        self._runs.append(run)

    def next(self) -> Run | None:
        """Remove and return the next job to start, None if there is none."""
        return self._runs.popleft() if self._runs else None

    def took(self, seconds: float) -> None:
        """Record how long a handler took."""
        mean = self._mean_seconds
        self._mean_seconds = seconds if mean is None else mean * (1 - NEWEST) + seconds * NEWEST

    def room(self, running: int) -> int:
        """How many jobs to ask for. None until half of those taken ahead have started: few large calls cost less than many small ones."""
        ahead = 0
        if self._ahead_max and self._mean_seconds is not None and not self._limited:
            ahead = min(self._ahead_max, int(self._concurrency * AHEAD_SECONDS / max(self._mean_seconds, 1e-6)))
        if len(self._runs) > ahead // 2:
            return 0
        return max(0, self._concurrency - running + ahead - len(self._runs))

    def surplus(self) -> list[Run]:
        """Limited jobs that cannot start now although nothing with their key is before them; they are removed, to be released at once. They
        were requested before it was known that they are limited. Call it when no slot is free.
        """
        if not self._limited:
            return []
        limited = [run for run in self._runs if run.leased.limited]
        if limited:
            self._runs = deque(run for run in self._runs if not run.leased.limited)
        return limited

    def watch(self) -> None:
        """Release jobs that will not start in time."""
        if self._timer is None and (firsts := self._firsts()):
            self._timer = self._clock.call_at(min(run.started_at for run in firsts) + WAITING_SECONDS_MAX, self._give_back)

    def _firsts(self) -> list[Run]:
        firsts = [line.behind[0] for line in self.lines.values() if line.behind]
        if self._runs:
            firsts.append(self._runs[0])
        return firsts

    def _give_back(self) -> None:
        self._timer = None
        late = self._clock.now() - WAITING_SECONDS_MAX
        while self._runs and self._runs[0].started_at <= late:
            # The running handlers take at least this long; waiting for their end would show that too late.
            self._mean_seconds = max(self._mean_seconds or 0.0, WAITING_SECONDS_MAX)
            self._runs.popleft().end(RELEASED)
        for line in list(self.lines.values()):
            while line.behind and line.behind[0].started_at <= late:
                line.behind.popleft().end(RELEASED)
        self.watch()

    def end(self, run: Run, ending: Ending | None) -> None:
        """End a job before it started."""
        if not run.is_over:
            line = self._line(run)
            if line is not None and line.first is not run:
                line.behind.remove(run)
            else:
                self._runs.remove(run)
            run.end(ending)

    def ended(self, run: Run, well: bool) -> bool:
        """The attempt at a job is over; `well` says whether it succeeded. Returns whether another job can start instead. If it never
        started, its handler is over too.
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
        """Let the next job of a key start."""
        line.free = False
        if line.behind:
            line.first = line.behind.popleft()
            self._runs.append(line.first)
            return
        key = _key(run)
        assert key is not None
        del self.lines[key]

    def _line(self, run: Run) -> _Line | None:
        if not self.lines:
            return None
        key = _key(run)
        return None if key is None else self.lines.get(key)

    def close(self) -> None:
        """Release all jobs."""
        if self._timer is not None:
            self._timer.cancel()
        while self._runs:
            self._runs.popleft().end(RELEASED)
        for line in list(self.lines.values()):
            while line.behind:
                line.behind.popleft().end(RELEASED)


def _key(run: Run) -> _Key | None:
    """The queue and key, if the job must run one after the other with others of the same key; otherwise None."""
    leased = run.leased
    return (leased.queue, leased.key) if leased.limited and leased.key is not None else None
