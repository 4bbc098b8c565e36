"""Clocks that show what the ticker does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from jobqueue.clock import ManualClock, Timer


class TurnClock(ManualClock):
    """A ManualClock on which a timer that is already due runs in a later turn of the loop, as a loop's own timers do.

    set_at: the times for which timers were set; fired: how many callbacks ran.
    """

    def __init__(self) -> None:
        super().__init__()
        self.set_at: list[float] = []
        self.fired = 0

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        self.set_at.append(when)

        def fire() -> None:
            self.fired += 1
            callback()

        if when <= self.now():
            return asyncio.get_running_loop().call_soon(fire)
        return super().call_at(when, fire)
