"""Clocks that show what the ticker does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobqueue.clock import ManualClock, Timer


class TurnClock(ManualClock):
    """A ManualClock on which a timer that is already due runs in a later turn of the loop, as a loop's own timers do.

    set_at: the times for which timers were set; fired: how many callbacks ran; tick_seconds: how long each of them takes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.set_at: list[float] = []
        self.fired = 0
        self.tick_seconds = 0.0
        self._ticking = False
        self._read = 0

    def now(self) -> float:
        return super().now() + (self._readings() if self._ticking else 0.0)

    def _readings(self) -> float:
        """Nothing at first, then as much as a callback takes."""
        self._read += 1
        return self.tick_seconds if self._read > 1 else 0.0

    def stand_still(self, seconds: float) -> None:
        """Let time pass with no timer running; those that fell due run late, at the next `advance`."""
        self._now += seconds

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        self.set_at.append(when)

        def fire() -> None:
            self.fired += 1
            self._ticking, self._read = True, 0
            callback()
            self._ticking = False

        if when <= self.now():
            return asyncio.get_running_loop().call_soon(fire)
        return super().call_at(when, fire)
