"""A rate limit by the generic cell rate algorithm (ITU-T I.371): the whole state of a bucket is one time."""

from __future__ import annotations

import math

import msgspec

from jobqueue.policy import Rate


class Bucket(msgspec.Struct, gc=False, eq=False):
    """The state of a rate limit. full_at: when the bucket is full again; waits: it has none to give until the ticker updates it; low_at:
    the time of the last take that found less than one missing.

    Nothing here reads a clock: callers pass the time.
    """

    full_at: float = 0.0
    low_at: float = -math.inf
    waits: bool = False

    def take(self, rate: Rate, now: float) -> None:
        """Take one."""
        interval = rate.interval
        if self.full_at - now < interval:
            self.low_at = now
        self.full_at = max(self.full_at, now) + interval

    def give_back(self, rate: Rate, taken_at: float) -> None:
        """Undo a `take`. If it has been refilled since, it is not given back: it would be counted twice.

        That is so if a later take found less than one missing: it would have found the bucket full, or nearly, without the take that is
        undone. The exact amount could only be known from a list of all takes.
        """
        if taken_at >= self.low_at:
            self.full_at -= rate.interval

    def empty(self, rate: Rate, now: float) -> None:
        """Empty the bucket; it fills from now on."""
        self.full_at = now + rate.burst * rate.interval
        self.low_at = now

    def next_at(self, rate: Rate) -> float:
        """When it has, or had, the next one available."""
        return self.full_at - (rate.burst - 1) * rate.interval

    def reckon(self, rate: Rate | None, now: float) -> float | None:
        """Check whether one is available now. Returns when to check again: when one is, or when the bucket is full; None if it is full.

        rate: can have changed since the last call, also to None. A bucket never owes more than its own size.
        """
        if rate is None:
            self.full_at = 0.0
        else:
            self.full_at = min(self.full_at, now + rate.burst * rate.interval)
        at = now if rate is None else self.next_at(rate)
        self.waits = at > now
        if self.waits:
            return at
        if self.full_at > now:
            return self.full_at
        self.full_at = 0.0
        return None
