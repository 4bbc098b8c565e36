"""Figures of what was found: medians with their ranges, percentiles, rates."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench.peers.open_loop import SAMPLES_P999, Load
from bench.peers.sessions import EndToEnd, Session, percentile


class Range(NamedTuple):
    """A median and between what it lies."""

    median: float
    least: float
    greatest: float

    def text(self, form: str = ",.0f") -> str:
        """As it stands in a table."""
        return f"{self.median:{form}} ({self.least:{form}}–{self.greatest:{form}})"


def ranged(values: Sequence[float]) -> Range:
    """Of the rounds' values."""
    return Range(statistics.median(values), min(values), max(values))


def rate(found: Sequence[Session], way: Callable[[Session], EndToEnd | None]) -> Range | None:
    """Jobs a second, if it was measured."""
    rates = [end.rate for session in found if (end := way(session)) is not None]
    return ranged(rates) if rates else None


def p50_us(found: Sequence[list[int]]) -> Range:
    """Of the rounds' medians, in microseconds."""
    return ranged([statistics.median(pickups) / 1_000 for pickups in found])


def p99_us(found: Sequence[list[int]]) -> float:
    """Over all rounds, in microseconds."""
    return percentile([pickup for pickups in found for pickup in pickups], 99) / 1_000


def single(session: Session) -> EndToEnd | None:
    """By one call a job."""
    return session.single


def batch(session: Session) -> EndToEnd | None:
    """By batches, where there are any."""
    return session.batch


def best(found: Sequence[Session]) -> float:
    """The greater median of the two ways; 0 if neither was measured."""
    rates = [given.median for way in (single, batch) if (given := rate(found, way)) is not None]
    return max(rates, default=0.0)


def loads(found: Sequence[Session], share: float) -> list[Load]:
    """Those of one share, of all rounds."""
    return [load for session in found for load in session.loads if load.share == share]


class Latency(NamedTuple):
    """Of an open loop, in microseconds; p999 only where there are enough jobs. offered: jobs a second, the median of the rounds'."""

    offered: float
    p50: float
    p99: float
    p999: float | None


def latency(found: Sequence[Load]) -> Latency:
    """Over all rounds together."""
    values = sorted(value / 1_000 for load in found for value in load.latencies)
    p999 = statistics.quantiles(values, n=1_000, method="inclusive")[998] if len(values) >= SAMPLES_P999 else None
    return Latency(statistics.median(load.offered for load in found), percentile(values, 50), percentile(values, 99), p999)
