"""Time, injected. The only place that relates monotonic time to UTC.

Engine time is monotonic, and set to UTC when the clock is created: it looks like a Unix time, but a step of the wall clock does not change
it, so leases and delays keep their length (promise 9). `skew` is how far UTC has been stepped since then; a backend adds it to the times
that it returns, and subtracts it from those that it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

SKEW_STEP_SECONDS = 0.5
"""Differences below this are jitter between two clock readings, not a step of the wall clock."""


SKEW_READ_SECONDS = 0.05
"""The shortest time between two comparisons of the clocks, since the skew is needed for every job."""


_BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Linux's id of the current boot; each boot of the machine has another one."""


class Uptime(NamedTuple):
    """How long the machine has been up, in seconds, including sleep. The difference between two uptimes of the same boot is the time
    between them, even if the wall clock was set meanwhile, and if different processes read them.
    """

    boot: str
    seconds: float


class Timer(Protocol):
    """A callback that has not run yet."""

    def cancel(self) -> None:
        """Cancel the callback; harmless after it ran."""


class Clock(Protocol):
    """The clock and timers that the shell needs. Seconds throughout."""

    def now(self) -> float:
        """Engine time: monotonic, in seconds that look like a Unix time."""

    def skew(self) -> float:
        """UTC minus engine time, 0.0 unless the wall clock was stepped."""

    def uptime(self) -> Uptime | None:
        """How long the machine has been up; None if it is not known."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Run callback at engine time `when`, or soon if that has passed; never before this call returns."""


class SystemClock:
    """The machine's clocks and the running loop's timers."""

    def __init__(self) -> None:
        self._anchor = time.time() - time.monotonic()
        self._skew = 0.0
        self._skew_read_at = 0.0
        self._boot = ""
        if hasattr(time, "CLOCK_BOOTTIME"):
            with contextlib.suppress(OSError):
                self._boot = _BOOT.read_text().strip()

    def now(self) -> float:
        """See Clock.now."""
        return time.monotonic() + self._anchor

    def skew(self) -> float:
        """See Clock.skew."""
        monotonic = time.monotonic()
        if monotonic - self._skew_read_at > SKEW_READ_SECONDS:
            self._skew_read_at = monotonic
            skew = time.time() - monotonic - self._anchor
            if abs(skew - self._skew) > SKEW_STEP_SECONDS:
                self._skew = skew
        return self._skew

    def uptime(self) -> Uptime | None:
        """See Clock.uptime."""
        return Uptime(self._boot, time.clock_gettime(time.CLOCK_BOOTTIME)) if self._boot else None

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """See Clock.call_at."""
        return asyncio.get_running_loop().call_later(max(0.0, when - self.now()), callback)


class _ManualTimer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """A clock that stands still until a test advances it; timers that are due run inside `advance`, in order of their time.

    start: the initial wall clock time. up: the machine's uptime at the start; None if it has none.
    """

    def __init__(self, start: float = 1_800_000_000.0, up: Uptime | None = None) -> None:
        self._now = self._start = start
        self._up = up
        self._skew = 0.0
        self._count = itertools.count()
        self._timers: list[tuple[float, int, _ManualTimer]] = []

    def now(self) -> float:
        """See Clock.now."""
        return self._now

    def skew(self) -> float:
        """See Clock.skew."""
        return self._skew

    def step_wall_clock(self, seconds: float) -> None:
        """Step UTC, as an operator or NTP would, and nothing else."""
        self._skew += seconds

    def uptime(self) -> Uptime | None:
        """See Clock.uptime."""
        return None if self._up is None else Uptime(self._up.boot, self._up.seconds + self._now - self._start)

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """See Clock.call_at."""
        timer = _ManualTimer(callback)
        heapq.heappush(self._timers, (when, next(self._count), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Let time pass, and run each timer at its time, including timers that another timer sets meanwhile."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            if timer.callback is not None:
                timer.callback()
        self._now = end
