"""How many were how long: counts between fixed bounds, as Prometheus wants them, for about a quarter of a microsecond each.

prometheus-client's own Histogram takes a lock and walks its bounds for every value, which on the hot path would cost more than the rest
of what is counted there.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec

QUICK_SECONDS = (0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""For what the server does by itself: a hand-out, a commit, a turn of the loop."""

REQUEST_SECONDS = (0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 30.0, 60.0)
"""For answers, from an enqueue in memory to a dequeue held to its end."""

JOB_SECONDS = (0.001, 0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0)
"""For what jobs wait and take, from a millisecond to a day."""


class Timings(msgspec.Struct, frozen=True, gc=False):
    """A histogram as it was at one moment; see Histogram. total: the sum of all values."""

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = (0,)
    total: float = 0.0

    def quantile(self, share: float) -> float | None:
        """The value below which that share of all lies, reckoned as if they lay evenly between two bounds; None while there are none.

        Where it lies beyond the last bound, that bound.
        """
        wanted = share * sum(self.counts)
        if not wanted:
            return None
        below = 0.0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count >= wanted:
                return below + (bound - below) * wanted / count
            wanted -= count
            below = bound
        return below


class Histogram:
    """bounds: the upper ends, ascending, each belonging to what lies below it. counts: one more than bounds, the last for all beyond."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value. One below zero, after a clock was stepped, counts as zero."""
        self.counts[bisect_left(self.bounds, value)] += 1
        if value > 0:
            self.total += value

    def timings(self) -> Timings:
        """What it holds now."""
        return Timings(self.bounds, tuple(self.counts), self.total)
