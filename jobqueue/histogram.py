"""Histograms: counts of values between fixed bounds, as Prometheus needs them, at about a quarter of a microsecond per value.

prometheus-client's own Histogram takes a lock and walks its bounds for every value, which on the hot path would cost more than everything
else that is counted there.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec

QUICK_SECONDS = (0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""For internal steps of the server: a hand-out, a commit, a turn of the loop."""

REQUEST_SECONDS = (0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 30.0, 60.0)
"""For answers: from an enqueue in memory to a dequeue that waits for its full time."""

JOB_SECONDS = (0.001, 0.01, 0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0)
"""For the waiting and running times of jobs, from a millisecond to a day."""


class Timings(msgspec.Struct, frozen=True, gc=False):
    """A snapshot of a histogram; see Histogram. total: the sum of all values."""

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = (0,)
    total: float = 0.0

    def quantile(self, share: float) -> float | None:
        """The value below which this share of all values lies, interpolated linearly between two bounds; None if there are no values.

        If it lies beyond the last bound, the last bound.
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
    """bounds: the upper bounds, ascending, each included in its bucket. counts: one more than bounds; the last is for values beyond all
    bounds.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value. A value below zero, which can occur after a clock was stepped, counts as zero."""
        self.counts[bisect_left(self.bounds, value)] += 1
        if value > 0:
            self.total += value

    def observe_in(self, value: float, part: list[int] | None) -> list[int]:
        """Count one value here and also in the counts of a part, for example of a queue; returns these, made if there are none yet."""
        at = bisect_left(self.bounds, value)
        self.counts[at] += 1
        if value > 0:
            self.total += value
        if part is None:
            part = [0] * len(self.counts)
        part[at] += 1
        return part

    def timings(self) -> Timings:
        """A snapshot of the current counts."""
        return Timings(self.bounds, tuple(self.counts), self.total)
