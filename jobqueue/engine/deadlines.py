"""Due times in one heap: run_at, expires_at and lease expiry of jobs; with other items, the time-outs of waiters.

Owns: when each item is due. An item has at most one due time, and at most one heap entry that counts. Moving a due time later (a
heartbeat) leaves the entry where it is; when it comes up it is set anew. Taking a due time away (a conclude) leaves its entry behind,
stale. So extending a lease costs no heap operation at all, and stale entries are swept out when they are most of the heap:
at 10,000 jobs a second with leases of 300 s, three million would otherwise pile up and keep their jobs in memory.

A sweep does not happen at once, since with a million leases it would take a third of a second. The heap is put aside, a new one is begun,
and each later change moves a few entries over; what is due first is the first of either. Taking the last leaf off a heap leaves a heap.

Items carry nothing of this: most jobs wait in a queue and are never due, and two fields in each cost more than a dict of those that are.
"""

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import Generic, TypeVar

_STALE_MAX = 64
"""Stale entries that may be there beside as many as there are items, before a sweep begins."""

_SWEPT = 8
"""Entries that each change moves over during a sweep: it is over before the heap has grown by an eighth."""

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Items by due time, told apart by identity: their class must not define equality. Ties leave in the order in which they were set.

    earliest: when something may be due next; it may be early (a stale entry), never late; infinity when the heap is empty.
    looked: how many entries the last `pop` looked at.
    """

    __slots__ = ("_aside", "_count", "_entries", "_heap", "_later", "earliest", "looked")

    def __init__(self) -> None:
        self.earliest = math.inf
        self.looked = 0
        self._heap: list[tuple[float, int, T]] = []
        self._aside: list[tuple[float, int, T]] = []
        """The heap that is being swept, empty when none is."""
        self._entries: dict[T, tuple[float, int, T]] = {}
        """The entry that counts, of every item that has a due time."""
        self._later: dict[T, float] = {}
        """The due times that were moved later than their entry."""
        self._count = 0

    def __len__(self) -> int:
        """Items that have a due time."""
        return len(self._entries)

    @property
    def entries(self) -> int:
        """Heap entries held, stale ones included; at most twice the items, plus 64, and a quarter more during a sweep."""
        return len(self._heap) + len(self._aside)

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
        """Take out an item; harmless when it has no due time."""
        if self._entries.pop(item, None) is None:
            return
        if self._later:
            self._later.pop(item, None)
        if self._aside or len(self._heap) > 2 * len(self._entries) + _STALE_MAX:
            self._sweep()

    def _sweep(self) -> None:
        """Go on with a sweep, or begin one: move a few entries over, but for the stale ones."""
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
        """Take out one item that is due at `now`, the earliest first; None when none is, or none of the first `looks` entries.

        An entry counts whether it is stale, is set anew for a later time, or is of an item that is due: see `looked`.
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
                # Even if it is due by now: something that was due before it may be further down. In place: a dict of half a million from
                # which items are taken and put back is built anew now and then, which takes a tenth of a second.
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
