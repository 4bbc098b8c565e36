"""A rate, kept by the generic cell rate algorithm (ITU-T I.371): one time says all that a bucket has to remember."""

from __future__ import annotations

import math

import msgspec

from jobqueue.model import Rate


class Bucket(msgspec.Struct, gc=False, eq=False):
    """What a rate has left. full_at: when it is full again; waits: it has nothing to give until the ticker says so; low_at: when it was
    last taken from with less than one missing.

    Nothing here asks for the time: who changes it says when that was.
    """

    full_at: float = 0.0
    low_at: float = -math.inf
    waits: bool = False

    def take(self, rate: Rate, now: float) -> None:
        """Take one out."""
        interval = rate.interval
        if self.full_at - now < interval:
            self.low_at = now
        self.full_at = max(self.full_at, now) + interval

    def give_back(self, rate: Rate, taken_at: float) -> None:
        """Undo a `take`. What has filled up again since cannot be given back: it would be there twice.

        It has when there was a take later on that found less than one missing. That one would have found the bucket as full, or nearly,
        without the one that is undone. By how much exactly, only a list of all takes would say.
        """
        if taken_at >= self.low_at:
            self.full_at -= rate.interval

    def empty(self, rate: Rate, now: float) -> None:
        """Let it have nothing, and fill from now on."""
        self.full_at = now + rate.burst * rate.interval
        self.low_at = now

    def next_at(self, rate: Rate) -> float:
        """When it has, or had, the next one to give."""
        return self.full_at - (rate.burst - 1) * rate.interval

    def reckon(self, rate: Rate | None, now: float) -> float | None:
        """See whether it has one to give now. When to ask again: once it has, or once it is full; None when it is full.

        rate: may have changed since, to None too. A bucket never owes more than its own size.
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
