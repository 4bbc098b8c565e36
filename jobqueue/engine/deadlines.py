"""Due times in one heap: run_at, expires_at and lease expiry of jobs; with other items, the time-outs of waiters.

Owns: when each item is due. An item has at most one due time, and at most one heap entry that counts. Moving a due time later (a
heartbeat) leaves the entry where it is; when it comes up it is set anew. Taking a due time away (a conclude) leaves its entry behind,
stale. So extending a lease costs no heap operation at all, and stale entries are swept out when they are most of the heap:
at 10,000 jobs a second with leases of 300 s, three million would otherwise pile up and keep their jobs in memory.

Items carry nothing of this: most jobs wait in a queue and are never due, and two fields in each cost more than a dict of those that are.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

_STALE_MAX = 64
"""Stale entries that may be there beside as many as there are items."""

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Items by due time, told apart by identity: their class must not define equality. Ties leave in the order in which they were set.

    earliest: when something may be due next; it may be early (a stale entry), never late; infinity when the heap is empty.
    """

    __slots__ = ("_count", "_entries", "_heap", "_later", "earliest")

    def __init__(self) -> None:
        self.earliest = math.inf
        self._heap: list[tuple[float, int, T]] = []
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
        """Heap entries held, stale ones included; at most twice the items, plus 64."""
        return len(self._heap)

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
        if len(heap) > 2 * len(self._entries) + _STALE_MAX:
            self._sweep()

    def drop(self, item: T) -> None:
        """Take out an item; harmless when it has no due time."""
        if self._entries.pop(item, None) is None:
            return
        if self._later:
            self._later.pop(item, None)
        if len(self._heap) > 2 * len(self._entries) + _STALE_MAX:
            self._sweep()

    def _sweep(self) -> None:
        """Drop the stale entries."""
        heap, entries = self._heap, self._entries
        heap[:] = [entry for entry in heap if entries.get(entry[2]) is entry]
        heapify(heap)
        self.earliest = heap[0][0] if heap else math.inf

    def next(self) -> float | None:
        """`earliest`, None for never."""
        return None if self.earliest == math.inf else self.earliest

    def pop(self, now: float) -> T | None:
        """Take out one item that is due at `now`, the earliest first; None when none is."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            entry = heappop(heap)
            self.earliest = heap[0][0] if heap else math.inf
            at, _, item = entry
            if self._entries.get(item) is not entry:
                continue
            due = self._later.pop(item, at)
            del self._entries[item]
            if due > at:
                # Even if it is due by now: something that was due before it may be further down.
                self.set(item, due)
                continue
            if len(heap) > 2 * len(self._entries) + _STALE_MAX:
                self._sweep()
            return item
        return None
