"""The clock for the times of rows in a store: the server's own clock, with the store's UTC.

Times in rows are passed from one owner to the next in UTC. If each server used its own UTC, a lease would end sooner with every takeover by
a server whose clock is ahead, and a clock that is set wrong while its server owns the queue would move every lease for the next owner. The
store's clock is the same for all servers. It is read anyway before a claim, and its distance from this server's monotonic clock does not
change until the machine sleeps.
"""

from __future__ import annotations

from collections.abc import Callable

from jobqueue.clock import Clock, Timer, Uptime

SLEEP_SECONDS = 0.05
"""Smaller differences between the monotonic clock and the uptime come from reading them at different moments, not from sleep."""


class StoreClock:
    """A Clock. `skew` is the store's UTC minus engine time, once the two were compared; before that, this server's own UTC minus engine
    time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._least: float | None = None
        self._most = 0.0
        self._awake = 0.0
        """Uptime minus engine time when they were first compared; this grows when the machine sleeps."""

    def compared(self, before: float, after: float, there: float) -> None:
        """The store's UTC was `there` at some moment between two engine times. Several comparisons together are more exact than the best
        one.
        """
        slept = self._slept()
        if self._least is not None and slept:
            # The earlier result is more exact than an answer that took long.
            self._least, self._most = self._least + slept - SLEEP_SECONDS, self._most + slept + SLEEP_SECONDS
            self._awake += slept
        least, most = there - after, there - before
        if self._least is None or least > self._most or most < self._least:
            # Either the first comparison, or the store's clock has changed because of a failover.
            self._least, self._most, self._awake = least, most, self._ahead()
        else:
            self._least, self._most = max(least, self._least), min(most, self._most)

    def _ahead(self) -> float:
        uptime = self._clock.uptime()
        return 0.0 if uptime is None else uptime.seconds - self._clock.now()

    def _slept(self) -> float:
        slept = self._ahead() - self._awake
        return slept if slept > SLEEP_SECONDS else 0.0

    def now(self) -> float:
        """See Clock.now."""
        return self._clock.now()

    def skew(self) -> float:
        """See Clock.skew; for the store's UTC."""
        if self._least is None:
            return self._clock.skew()
        return (self._least + self._most) / 2 + self._slept()

    def uptime(self) -> Uptime | None:
        """See Clock.uptime."""
        return self._clock.uptime()

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """See Clock.call_at."""
        return self._clock.call_at(when, callback)
