"""What each queue counted and held: a sample every ten seconds for an hour, and every five minutes for a day.

Nothing is done when jobs come and go: a sample is the difference of the queue's counters between the end and the start of a step. A queue
that holds nothing and counted nothing has no row for that step, and costs one comparison. Steps are numbered by UTC, so a sample has the
same position whichever server took it; if the clock is set back, samples of later steps are dropped.

Bounded: QUEUES_MAX queues have samples of their own, at most 31 KB each. When there are as many, a new queue gets the place of one that was
idle for IDLE_SECONDS, or none. Values of such a queue that are not known are null, never 0.

The samples of the day are stored: one row per step with the samples of all queues, written once and deleted a day later.
"""

from __future__ import annotations

import functools
import math
import operator
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from jobqueue.engine.queues import QueueState
from jobqueue.histogram import JOB_SECONDS, Timings

KIND = "samples/"
"""The prefix of a step's number, under which its samples are stored."""

QUEUES_MAX = 500
"""The most queues with samples of their own: 15 MB if each of them did something in every step."""

IDLE_SECONDS = 300.0
"""How long a queue must have been idle before another gets its place."""

WHOLE, REFUSED = "", "/"
"""The names for the sum of all queues, and for the fact that there was no room for a queue's samples. No queue has such a name."""


class Span(NamedTuple):
    """seconds: the length of a step; steps: how many are kept."""

    seconds: int
    steps: int

    def ended(self, utc: float) -> int:
        """The number of the last step that has ended."""
        return int(utc // self.seconds) - 1


HOUR, DAY = Span(10, 360), Span(300, 288)

COUNTED = ("enqueued", "concluded", "failed", "attempts_failed")
"""Part of a sample: what was counted in its step."""

HELD = ("queued", "in_progress", "oldest_seconds")
"""Part of a sample: what was there at the end of its step."""

TOOK = ("pickup_p50_seconds", "pickup_p95_seconds", "duration_p50_seconds", "duration_p95_seconds")
"""How long jobs that were handed out for the first time in the step had waited, and how long jobs that a worker concluded in it had taken.
"""

COLUMNS = (*COUNTED, *HELD, *TOOK)

Value = int | float | None

_ROW = struct.Struct("<7I5f")
"""The step's number, counts, jobs that were there; seconds, NaN if there are none."""

ROW_BYTES = _ROW.size

_MOST = (1 << 32) - 1


def step_of(row: bytes | bytearray, at: int = 0) -> int:
    """The number of the step of the sample at this position."""
    return int.from_bytes(row[at : at + 4], "little")


def summed(rows: Iterable[bytes]) -> bytes:
    """The sum of samples of one step. As in `columns`, ages and percentiles are the largest of theirs: more is not known."""
    numbers, *columns = zip(*(_ROW.unpack(row) for row in rows), strict=True)
    sums = (min(_MOST, sum(column)) for column in columns[:6])
    return _ROW.pack(numbers[0], *sums, *(functools.reduce(_larger, column) for column in columns[6:]))


_NOTHING = (0, 0, 0, 0, 0)


class _Mark:
    """A queue's counters at the start of a step."""

    __slots__ = ("counts", "waited", "worked")

    def __init__(self, queue: QueueState | None = None) -> None:
        self.counts = _NOTHING if queue is None else _counts(queue)
        self.waited = () if queue is None else tuple(queue.waited or ())
        self.worked = () if queue is None else tuple(queue.worked or ())


def _counts(queue: QueueState) -> tuple[int, int, int, int, int]:
    concluded = queue.succeeded_total + queue.failed_total + queue.cancelled_total + queue.expired_total
    return queue.enqueued_total, concluded, queue.failed_total, queue.attempts_failed_total, queue.dequeued_total


def _since(counts: list[int] | None, before: tuple[int, ...]) -> list[int]:
    """The counts since then."""
    if not counts or not before:
        return [*(counts or ())]
    return [now - then for now, then in zip(counts, before, strict=True)]


def _added(total: list[int], more: list[int]) -> list[int]:
    return [one + other for one, other in zip(total, more, strict=True)] if total and more else total or more


_NEW = _Mark(), _Mark()


class _Step:
    """A step that is being summed up, of one queue or of all."""

    __slots__ = ("counts", "in_progress", "oldest", "queued", "waited", "worked")

    def __init__(self) -> None:
        self.counts = [0, 0, 0, 0]
        self.queued = self.in_progress = 0
        self.oldest = math.inf
        """Since when the longest-waiting of the next jobs has waited, engine time."""
        self.waited: list[int] = []
        self.worked: list[int] = []

    def add(self, other: _Step) -> None:
        """Add the values of another step."""
        self.counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]
        self.queued += other.queued
        self.in_progress += other.in_progress
        self.oldest = min(self.oldest, other.oldest)
        self.waited = _added(self.waited, other.waited)
        self.worked = _added(self.worked, other.worked)

    def row(self, number: int, now: float) -> bytes:
        """The step in its stored form."""
        oldest = math.nan if self.oldest == math.inf else max(0.0, now - self.oldest)
        held = [min(_MOST, max(0, count)) for count in (*self.counts, self.queued, self.in_progress)]
        return _ROW.pack(number, *held, oldest, *_quantiles(self.waited), *_quantiles(self.worked))


def _quantiles(counts: list[int]) -> tuple[float, float]:
    """The median and the 95th percentile."""
    timings = Timings(JOB_SECONDS, tuple(counts))
    half, most = timings.quantile(0.5), timings.quantile(0.95)
    return math.nan if half is None else half, math.nan if most is None else most


class _Rows:
    """The samples of a span of one queue, or of all, in the order of their steps."""

    __slots__ = ("rows",)

    def __init__(self) -> None:
        self.rows = bytearray()

    def newest(self) -> int:
        """The number of the last step; -1 if there is none."""
        return step_of(self.rows, len(self.rows) - ROW_BYTES) if self.rows else -1

    def forget(self, upto: int, beyond: int) -> None:
        """Drop the samples up to one step, and those after another."""
        rows, first = self.rows, 0
        while self.newest() > beyond:
            del rows[-ROW_BYTES:]
        while first < len(rows) and step_of(rows, first) <= upto:
            first += ROW_BYTES
        del rows[:first]

    def at(self, number: int) -> bytes | None:
        """The sample of a step, searched from the newest on."""
        rows = self.rows
        for first in range(len(rows) - ROW_BYTES, -1, -ROW_BYTES):
            found = step_of(rows, first)
            if found == number:
                return bytes(rows[first : first + ROW_BYTES])
            if found < number:
                return None
        return None


class _Kept:
    """The samples of a queue, or of all. since: from when on, UTC, it has every sample in which it was not idle."""

    __slots__ = ("day", "hour", "since")

    def __init__(self, since: float) -> None:
        self.hour = _Rows()
        self.day = _Rows()
        self.since = since

    def of(self, span: Span) -> _Rows:
        """The samples of one span."""
        return self.hour if span is HOUR else self.day

    def seen(self) -> float:
        """The end of the last step in which it was not idle."""
        return (self.hour.newest() + 1) * HOUR.seconds if self.hour.rows else (self.day.newest() + 1) * DAY.seconds


class Samples:
    """All samples. Times are UTC, except `now`, which is engine time."""

    def __init__(self) -> None:
        self.whole = _Kept(-math.inf)
        self.queues: dict[str, _Kept] = {}
        self.stored: set[int] = set()
        """The steps of the day that have a stored row."""
        self._refused = -math.inf
        """When a queue that should have had samples was last without."""
        self._steps: list[tuple[Span, int, _Step]] = []
        self._left: list[QueueState] = []
        self._ended = {HOUR: -1, DAY: -1}
        """The last step of each span that was processed, or that had ended before."""

    # Taking samples.

    @property
    def busy(self) -> bool:
        """Whether a step is being processed."""
        return bool(self._steps)

    def start(self, utc: float, queues: Iterable[QueueState]) -> None:
        """Start counting now."""
        self._steps, self._left = [], []
        self._ended = {span: span.ended(utc) for span in (HOUR, DAY)}
        # Earlier steps without a stored row, in which nothing happened, are filled with 0.
        self._fill(self._ended[DAY] + 1)
        for queue in queues:
            queue.sampled = _Mark(queue), _Mark(queue)

    def begin(self, utc: float, queues: Iterable[QueueState]) -> None:
        """Begin to process the steps that have ended, if any has since the last time."""
        for span in (HOUR, DAY):
            number, before = span.ended(utc), self._ended[span]
            if before > number:
                for kept in (self.whole, *self.queues.values()):
                    kept.of(span).forget(-1, number)
            self._ended[span] = number
            if before < number:
                self._steps.append((span, number, _Step()))
        if self._steps:
            self._left = list(queues)

    def look(self, now: float, count: int) -> list[str]:
        """Process so many queues; once all are processed, returns the names of rows to be stored or deleted."""
        for queue in self._left[-count:]:
            for span, number, whole in self._steps:
                self._look_at(queue, span, number, whole, now)
        del self._left[-count:]
        if self._left:
            return []
        steps, self._steps = self._steps, []
        changed: list[str] = []
        for span, number, whole in steps:
            row = whole.row(number, now)
            self.whole.of(span).rows += row
            idle = not any(whole.counts) and not whole.queued and not whole.in_progress
            if span is DAY:
                changed = self._day(number, idle)
            else:
                self.whole.hour.forget(number - HOUR.steps, number)
        return changed

    def _look_at(self, queue: QueueState, span: Span, number: int, whole: _Step, now: float) -> None:
        at = 0 if span is HOUR else 1
        marks: tuple[_Mark, _Mark] = queue.sampled or _NEW
        mark = marks[at]
        if mark.counts == _counts(queue) and not queue.queued and not queue.in_progress:
            return
        step = _Step()
        new = _Mark(queue)
        step.counts = [count - before for count, before in zip(new.counts[:4], mark.counts[:4], strict=True)]
        step.queued, step.in_progress = queue.queued, queue.in_progress
        oldest = queue.oldest_queued_at()
        step.oldest = math.inf if oldest is None else oldest
        step.waited, step.worked = _since(queue.waited, mark.waited), _since(queue.worked, mark.worked)
        queue.sampled = (new, marks[1]) if at == 0 else (marks[0], new)
        whole.add(step)
        kept = self.queues.get(queue.name) or self._room(queue.name, float(number * span.seconds))
        if kept is not None:
            rows = kept.of(span)
            rows.rows += step.row(number, now)
            rows.forget(number - span.steps, number)

    def _room(self, name: str, utc: float) -> _Kept | None:
        """Make room for samples of a queue that had none until `utc`; None if there is no room."""
        if len(self.queues) >= QUEUES_MAX:
            self._refused = utc
            idlest = min(self.queues, key=lambda each: self.queues[each].seen())
            if self.queues[idlest].seen() + IDLE_SECONDS > utc:
                return None
            del self.queues[idlest]
        # It was idle until now, unless it may have been a queue for which there was no room.
        kept = self.queues[name] = _Kept(utc if self._crowded(utc) else -math.inf)
        return kept

    def _crowded(self, utc: float) -> bool:
        """Whether a queue may have no samples although it was not idle all day."""
        return self._refused + DAY.seconds * DAY.steps > utc

    def _day(self, number: int, idle: bool) -> list[str]:
        """A step of the day has ended: drop what is older than a day; returns the names of rows to be stored or deleted."""
        oldest = number - DAY.steps
        for name, kept in [(WHOLE, self.whole), *self.queues.items()]:
            kept.day.forget(oldest, number)
            kept.hour.forget((number + 1) * DAY.seconds // HOUR.seconds - 1 - HOUR.steps, _MOST)
            if name != WHOLE and not kept.day.rows and not kept.hour.rows:
                del self.queues[name]
        gone = {each for each in self.stored if each <= oldest or each > number}
        self.stored -= gone
        if not idle:
            self.stored.add(number)
        return [f"{KIND}{each}" for each in (*sorted(gone), *(() if idle else (number,)))]

    # Storage.

    def row(self, name: str) -> dict[str, bytes] | None:
        """The row stored under this name: the samples of a step by queue, with the sum of all under WHOLE. None if there is none."""
        number = int(name.removeprefix(KIND))
        if number not in self.stored:
            return None
        found = ((queue, kept.day.at(number)) for queue, kept in ((WHOLE, self.whole), *self.queues.items()))
        rows = {queue: row for queue, row in found if row is not None}
        if self._refused >= number * DAY.seconds:
            rows[REFUSED] = b""
        return rows

    def restore(self, rows: Mapping[int, Mapping[str, bytes]]) -> None:
        """Restore stored samples, by step. Steps without a row, in which nothing happened, are filled with 0."""
        for number, by_queue in sorted(rows.items()):
            if number in self.stored or number <= self.whole.day.newest():
                continue
            self._fill(number)
            self.stored.add(number)
            for queue, row in by_queue.items():
                if queue == REFUSED:
                    self._refused = max(self._refused, float(number * DAY.seconds))
                    continue
                kept = self.whole if queue == WHOLE else self.queues.get(queue)
                if kept is None and len(self.queues) < QUEUES_MAX:
                    kept = self.queues[queue] = _Kept(-math.inf)
                if kept is not None:
                    kept.day.rows += row
                    kept.day.forget(number - DAY.steps, number)

    def _fill(self, upto: int) -> None:
        newest = self.whole.day.newest()
        last = self.whole.day.at(newest)
        if last is not None and upto - newest <= DAY.steps:
            values = _ROW.unpack(last)
            if not values[5] and not values[6]:
                nothing = _Step()
                for number in range(newest + 1, upto):
                    self.whole.day.rows += nothing.row(number, 0.0)

    def forget(self, numbers: Iterable[int]) -> None:
        """These steps no longer have rows."""
        self.stored.difference_update(numbers)

    # Reading samples.

    def columns(self, span: Span, utc: float, queues: Iterable[str] | None) -> tuple[int, dict[str, list[Value]]]:
        """The number of the first step, and a list for each of COLUMNS, with one value per step; null where there is no sample.

        queues: which queues to sum up; None for all. The oldest age, and percentiles of several queues, are the largest of their values.
        """
        last = span.ended(utc)
        if last == self._ended[span] + 1 or self.busy:
            # It has just ended, and is not processed yet.
            last -= 1
        first = last - span.steps + 1
        whole = {values[0]: values for values in _unpacked(self.whole.of(span))}
        if queues is None:
            return first, _columns(first, span, whole)
        names = list(queues)
        if len(names) == 1:
            return first, _columns(first, span, self._of_one(names[0], span, whole, utc))
        nothing = (*[0] * 6, *[math.nan] * 5)
        summed: dict[int, tuple[float, ...]] = {number: (number, *nothing) for number in whole}
        for name in names:
            if name in self.queues:
                for number, values in self._of_one(name, span, whole, utc).items():
                    before = summed.get(number) or (number, *nothing)
                    sums = map(operator.add, before[1:7], values[1:7])
                    summed[number] = (number, *sums, *map(_larger, before[7:], values[7:]))
        return first, _columns(first, span, summed)

    def _of_one(self, name: str, span: Span, whole: Mapping[int, tuple[float, ...]], utc: float) -> dict[int, tuple[float, ...]]:
        """The samples of one queue: 0 for a step that has samples of other queues but not of this one, if it could have had one."""
        kept = self.queues.get(name)
        since = kept.since if kept is not None else math.inf if self._crowded(utc) else -math.inf
        nothing = [0] * 6 + [math.nan] * 5
        found: dict[int, tuple[float, ...]] = {number: (number, *nothing) for number in whole if number * span.seconds >= since}
        if kept is not None:
            found.update((values[0], values) for values in _unpacked(kept.of(span)))
        return found


def _larger(one: float, other: float) -> float:
    """The larger of two numbers, either of which can be missing."""
    return other if math.isnan(one) or other > one else one


def _unpacked(rows: _Rows) -> Iterator[tuple[int, ...]]:
    return _ROW.iter_unpack(rows.rows)


def _columns(first: int, span: Span, found: Mapping[int, tuple[float, ...]]) -> dict[str, list[Value]]:
    columns: dict[str, list[Value]] = {name: [None] * span.steps for name in COLUMNS}
    for number, (_, *values) in found.items():
        at = number - first
        if 0 <= at < span.steps:
            for name, value in zip(COLUMNS, values, strict=True):
                columns[name][at] = None if math.isnan(value) else round(value, 6)
    return columns
