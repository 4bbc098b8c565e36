"""Decides when samples are taken (engine/samples.py): shortly after each step of ten seconds, one slice of the queues in each turn of the
loop.

With 2,000 queues, an idle server spends about a millisecond on this every ten seconds.
"""

from __future__ import annotations

import math

from jobqueue.clock import Clock
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import K_THING_CHANGED, Event
from jobqueue.engine.samples import HOUR

AFTER_SECONDS = 0.05
"""How long after its end a step is sampled: exactly at the end, rounding of the clock could show that it is not over."""

SLICE = 500
"""Queues sampled in one turn."""


class Sampling:
    """Takes an engine's samples. due: when it will run next, in engine time; infinity before it has begun and after it was stopped."""

    __slots__ = ("_clock", "_engine", "due")

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self.due = math.inf

    def _utc(self, now: float) -> float:
        return now + self._clock.skew()

    def begin(self, now: float) -> None:
        """Start counting."""
        self._engine.samples.start(self._utc(now), self._engine.queues.values())
        self._next(now)

    def stop(self) -> None:
        """Take no more."""
        self.due = math.inf

    def _next(self, now: float) -> None:
        self.due = now + HOUR.seconds - self._utc(now) % HOUR.seconds + AFTER_SECONDS

    def look(self, now: float) -> None:
        """Sample a slice of the queues. Samples to be stored are left in the engine's events."""
        samples = self._engine.samples
        if not samples.busy:
            samples.begin(self._utc(now), self._engine.queues.values())
        if samples.busy:
            self._engine.events += [Event(K_THING_CHANGED, name) for name in samples.look(now, SLICE)]
        if samples.busy:
            self.due = now
        else:
            self._next(now)
