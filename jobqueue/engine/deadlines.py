"""Due times in one heap: run_at, expires_at and lease expiry of jobs; with other items, the time-outs of waiters.

Owns: the `due` and `armed` of every item. An item has at most one due time, and at most one heap entry that counts: the one at
`armed`. Moving a due time later (a heartbeat) or away (a conclude) leaves the entry where it is; it is looked at when it comes up,
re-armed or dropped. So extending a lease costs no heap operation at all, and stale entries are swept out when they are most of the heap:
at 10,000 jobs a second with leases of 300 s, three million would otherwise pile up and keep their jobs in memory.
"""

from __future__ import annotations

import heapq
import math
from typing import Generic, Protocol, TypeVar

_SWEEP_MIN = 64


class HasDue(Protocol):
    """due: when something must happen to the item, None for never. armed: the time of its entry in the heap."""

    due: float | None
    armed: float | None


T = TypeVar("T", bound=HasDue)


class Deadlines(Generic[T]):
    """Items by due time. Ties leave in the order in which they were armed.

    live: items that have a due time. earliest: when something may be due next; it may be early (a stale entry), never late;
    infinity when the heap is empty.
    """

    __slots__ = ("_count", "_heap", "earliest", "live")

    def __init__(self) -> None:
        self.earliest = math.inf
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0
        self.live = 0

    def __len__(self) -> int:
        """Items that have a due time."""
        return self.live

    @property
    def entries(self) -> int:
        """Heap entries held, stale ones included; at most twice the items, plus 64."""
        return len(self._heap)

    def set(self, item: T, due: float | None) -> None:
        """Set when `item` is due; None takes it out."""
        if due is None:
            if item.due is not None:
                item.due = None
                self.live -= 1
                if len(self._heap) > _SWEEP_MIN and len(self._heap) > 2 * self.live:
                    self._sweep()
            return
        if item.due is None:
            self.live += 1
        item.due = due
        if item.armed is None or due < item.armed:
            self._arm(item, due)

    def _arm(self, item: T, due: float) -> None:
        item.armed = due
        self._count += 1
        heapq.heappush(self._heap, (due, self._count, item))
        self.earliest = min(self.earliest, due)
        if len(self._heap) > _SWEEP_MIN and len(self._heap) > 2 * self.live:
            self._sweep()

    def _sweep(self) -> None:
        kept: list[tuple[float, int, T]] = []
        seen: set[int] = set()
        for entry in self._heap:
            item = entry[2]
            # Two entries of one item at one time: it was moved away from that time and back.
            if item.armed != entry[0] or id(item) in seen:
                continue
            seen.add(id(item))
            if item.due is None:
                item.armed = None
            else:
                kept.append(entry)
        heapq.heapify(kept)
        self._heap = kept
        self.earliest = kept[0][0] if kept else math.inf

    def next(self) -> float | None:
        """`earliest`, None for never."""
        return None if self.earliest == math.inf else self.earliest

    def pop(self, now: float) -> T | None:
        """Take out one item that is due at `now`, the earliest first; None when none is."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, _, item = heapq.heappop(heap)
            self.earliest = heap[0][0] if heap else math.inf
            if item.armed != at:
                continue
            item.armed = None
            if item.due is None:
                continue
            if item.due > at:
                # Even if it is due by now: something that was due before it may be further down.
                self._arm(item, item.due)
                heap = self._heap
                continue
            item.due = None
            self.live -= 1
            if len(heap) > _SWEEP_MIN and len(heap) > 2 * self.live:
                self._sweep()
            return item
        return None
