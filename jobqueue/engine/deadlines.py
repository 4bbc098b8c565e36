"""Due times in one heap: run_at, expires_at and lease expiry of jobs; with other items, the timeouts of waiters.

Owns: when each item is due. An item has at most one due time, and at most one valid heap entry. Moving a due time later (a heartbeat)
leaves the entry where it is; when the entry comes up, it is set again. Removing a due time (a conclude) leaves a stale entry behind. So
extending a lease costs no heap operation, and stale entries are swept out when they are most of the heap: at 10,000 jobs a second with
leases of 300 s, three million would otherwise accumulate and keep their jobs in memory.

A sweep is spread over many changes, since with a million leases it would take a third of a second. The heap is put aside, a new one is
started, and each later change moves a few entries over; the next due time is the earlier one of the two heaps. Entries are taken from the
end of the old heap, which leaves it a valid heap.

Items have no fields for this: most jobs wait in a queue and are never due, and two more fields in each job cost more than a dict of the
jobs that are.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Generic, TypeVar

_STALE_MAX = 64
"""The most stale entries, in addition to one per item, before a sweep begins."""

_SWEPT = 8
"""Entries that each change moves over during a sweep: so it ends before the heap has grown by an eighth."""

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Items by due time, compared by identity: their class must not define equality. Items due at the same time leave in the order in which
    they were set.

    earliest: when an item may be due next; it can be too early (a stale entry), never too late; infinity when the heap is empty. looked:
    how many entries the last `pop` looked at.
    """

    __slots__ = ("_aside", "_count", "_entries", "_heap", "_later", "earliest", "looked")

    def __init__(self) -> None:
        self.earliest = math.inf
        self.looked = 0
        self._heap: list[tuple[float, int, T]] = []
        self._aside: list[tuple[float, int, T]] = []
        """The heap that is being swept, empty when none is."""
        self._entries: dict[T, tuple[float, int, T]] = {}
        """The valid entry of every item that has a due time."""
        self._later: dict[T, float] = {}
        """Due times that were moved later than their entry."""
        self._count = 0

    def __len__(self) -> int:
        """The number of items that have a due time."""
        return len(self._entries)

    @property
    def entries(self) -> int:
        """The number of heap entries, including stale ones; at most twice the items, plus 64, and a quarter more during a sweep."""
        return len(self._heap) + len(self._aside)

    def items(self) -> Iterable[T]:
        """All items that have a due time, in no order."""
        return self._entries

    def due(self, item: T) -> float | None:
        """When an item is due, None for never."""
        entry = self._entries.get(item)
        return None if entry is None else self._later.get(item, entry[0])

    def set(self, item: T, due: float) -> None:
        """Set when `item` is due."""
        entry = self._entries.get(item)
        if entry is not None:
            if entry[0] <= due:
                self._later[item] = due
                return
            self._later.pop(item, None)
        self._count = count = self._count + 1
        self._entries[item] = entry = (due, count, item)
        heap = self._heap
        heappush(heap, entry)
        if due < self.earliest:  # noqa: PLR1730 # a third of the cost of min()
            self.earliest = due
        if self._aside or len(heap) > 2 * len(self._entries) + _STALE_MAX:
            self._sweep()

    def drop(self, item: T) -> None:
        """Remove an item; harmless if it has no due time."""
        if self._entries.pop(item, None) is None:
            return
        if self._later:
            self._later.pop(item, None)
        if self._aside or len(self._heap) > 2 * len(self._entries) + _STALE_MAX:
            self._sweep()

    def _sweep(self) -> None:
        """Begin or continue a sweep: move a few entries over, without the stale ones."""
        if not self._aside:
            self._heap, self._aside = [], self._heap
        heap, aside, entries = self._heap, self._aside, self._entries
        for _ in range(min(_SWEPT, len(aside))):
            entry = aside.pop()
            if entries.get(entry[2]) is entry:
                heappush(heap, entry)
        self._look_ahead()

    def _look_ahead(self) -> None:
        heap, aside = self._heap, self._aside
        earliest = heap[0][0] if heap else math.inf
        self.earliest = min(earliest, aside[0][0]) if aside else earliest

    def next(self) -> float | None:
        """`earliest`, None for never."""
        return None if self.earliest == math.inf else self.earliest

    def pop(self, now: float, looks: int = 1 << 60) -> T | None:
        """Take out the earliest item that is due at `now`; None if none is due, or none among the first `looks` entries.

        Every entry counts as looked at, whether it is stale, is set again for a later time, or belongs to a due item: see `looked`.
        """
        self.looked = 0
        while self.earliest <= now and self.looked < looks:
            self.looked += 1
            heap, aside = self._heap, self._aside
            entry = heappop(aside if aside and (not heap or aside[0] < heap[0]) else heap)
            self._look_ahead()
            at, _, item = entry
            if self._entries.get(item) is not entry:
                continue
            due = self._later.pop(item, at)
            if due > at:
                # Even if it is due by now, since an earlier one may be further down. In place: a dict of half a million items from which
                # items are taken and put back is rebuilt now and then, which takes a tenth of a second.
                self._count = count = self._count + 1
                self._entries[item] = entry = (due, count, item)
                heappush(self._heap, entry)
                self._look_ahead()
                continue
            del self._entries[item]
            if self._aside or len(self._heap) > 2 * len(self._entries) + _STALE_MAX:
                self._sweep()
            return item
        return None
