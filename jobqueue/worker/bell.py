"""Waiting without polling, on an injected clock; and what a worker does while the server is away."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Protocol

from jobqueue.clock import Clock

PAUSE_SECONDS_MIN = 0.1
PAUSE_SECONDS_MAX = 5.0
"""A pause after a failed call is somewhere below these, doubling from the first to the second."""

_logger = logging.getLogger("jobqueue.worker")


class Random(Protocol):
    """What is used of `random.Random`."""

    def uniform(self, a: float, b: float, /) -> float:
        """A number between the two."""


class Bell:
    """Wakes its one sleeper: when it is rung, or when the time has come. Rung while nobody sleeps, it wakes the next at once."""

    __slots__ = ("_clock", "_rung", "_sleeper")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = False
        self._sleeper: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake the sleeper."""
        sleeper = self._sleeper
        if sleeper is None or sleeper.done():
            self._rung = True
        else:
            sleeper.set_result(None)

    async def wait(self, until: float | None = None) -> None:
        """Sleep until it is rung, or the clock shows `until`."""
        if not self._rung:
            self._sleeper = asyncio.get_running_loop().create_future()
            timer = None if until is None else self._clock.call_at(until, self.ring)
            try:
                await self._sleeper
            finally:
                self._sleeper = None
                if timer is not None:
                    timer.cancel()
        self._rung = False


async def sleep(clock: Clock, seconds: float) -> None:
    """Sleep on the clock."""
    await Bell(clock).wait(clock.now() + seconds)


class Outage:
    """Whether the server is away, as its worker's tasks find it. It is logged once when it goes and once when it is back."""

    def __init__(self, clock: Clock, chance: Random | None = None) -> None:
        self._clock = clock
        self._chance = chance or random.Random()
        self._since: float | None = None

    def over(self) -> None:
        """A call was answered."""
        if self._since is not None:
            _logger.info("the server is back after %.1f s", self._clock.now() - self._since)
            self._since = None

    def failed(self, error: Exception, times: int) -> float:
        """A call failed, `times` in a row: seconds to wait before the next, longer each time and never the same for all workers."""
        if self._since is None:
            self._since = self._clock.now()
            _logger.warning("the server is away, trying again until it is back: %s", error)
        ceiling = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN * 2.0 ** min(times, 16))
        return self._chance.uniform(ceiling / 2, ceiling)
