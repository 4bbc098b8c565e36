"""Time, injected. The one place where the monotonic line and UTC meet.

Engine time is monotonic, anchored to UTC when the clock is made: it reads like a Unix time, yet a step of the
wall clock never moves it, so leases and delays hold (promise 9). `skew` is how far UTC has stepped away since;
a backend adds it to what it hands out and takes it off what it is given.
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
"""How often the two clocks are compared, at most: it is asked for with every job."""


_BOOT = Path("/proc/sys/kernel/random/boot_id")
"""Linux's name for this boot of the machine, another one after every start."""


class Uptime(NamedTuple):
    """How long the machine has been up, in seconds, sleep included. Two of the same boot tell how much time lies between them,
    whatever was done to the wall clock meanwhile, and in whichever processes they were read."""

    boot: str
    seconds: float


class Timer(Protocol):
    """A callback that is still to come."""

    def cancel(self) -> None:
        """Forget the callback; harmless after it ran."""


class Clock(Protocol):
    """What the shell asks of time. Seconds throughout."""

    def now(self) -> float:
        """Engine time: monotonic, reads like seconds since the Unix epoch."""

    def skew(self) -> float:
        """UTC minus engine time, 0.0 unless the wall clock was stepped."""

    def uptime(self) -> Uptime | None:
        """How long the machine has been up; None where that cannot be known."""

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
    """A clock that stands still until a test advances it; due timers run inside `advance`, in order of their time.

    start: what the wall clock shows. up: what the machine's uptime is then; None where there is none.
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
        """Move UTC, as an operator or NTP would, and nothing else."""
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
        """Let time pass, stopping at every timer on the way. A timer that sets another one due in between runs too."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            if timer.callback is not None:
                timer.callback()
        self._now = end
