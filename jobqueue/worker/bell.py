"""Waiting without polling, on an injected clock; and the pauses while the server is unreachable."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Protocol

from jobqueue.clock import Clock
from jobqueue.worker.refusals import hindrance

PAUSE_SECONDS_MIN = 0.1
PAUSE_SECONDS_MAX = 5.0
"""The pause after a failed call is random, below these: the limit doubles from the first to the second."""

_logger = logging.getLogger("jobqueue.worker")


class Random(Protocol):
    """The part of `random.Random` that is used."""

    def uniform(self, a: float, b: float, /) -> float:
        """A number between the two."""


class Bell:
    """Wakes its one sleeper when it is rung or when the time has come. If it is rung while nobody sleeps, the next wait returns at once."""

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
        """Sleep until it is rung, or until the clock shows `until`."""
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
    """Whether a worker's calls currently fail, for example because the server is unreachable or its disk is full. Logged once when that
    begins, when the reason changes, and when it is over.
    """

    def __init__(self, clock: Clock, chance: Random | None = None) -> None:
        self._clock = clock
        self._chance = chance or random.Random()
        self._since: float | None = None
        self._said = ("", "")

    def over(self) -> None:
        """Note that a call was answered."""
        if self._since is not None:
            _logger.info("%s after %.1f s", self._said[1], self._clock.now() - self._since)
            self._since = None

    def failed(self, error: Exception, times: int) -> float:
        """Note that a call failed, the `times`-th in a row. Returns the seconds to wait before the next: longer each time, and random, so
        that workers do not all retry together.
        """
        if self._since is None:
            self._since = self._clock.now()
            self._said = ("", "")
        if (said := hindrance(error)) != self._said:
            self._said = said
            _logger.warning("%s", f"{said[0]}: {error}")
        ceiling = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN * 2.0 ** min(times, 16))
        return self._chance.uniform(ceiling / 2, ceiling)
