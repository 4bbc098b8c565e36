"""One priority of one queue: jobs leave in the order of their `seq`, whatever way they returned.

New jobs get increasing numbers and join a ring. A job that returns (released, lease expired, answer not delivered) keeps its number, which
is smaller than that of every job still waiting in the ring, unless keys hold some of those back (flow.py), and goes to a heap. The smaller
number leaves first: this is what "at the front of its priority" and "in its old place" mean, also if several return in any order.

Rejected: pushing returned jobs onto the front of the ring. Two that return in the wrong order would stay in it, and an ordered insertion is
O(n) when many leases end together.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import chain
from typing import Any

from jobqueue.engine.catalogue import Catalogue
from jobqueue.engine.packs import Pack, packable
from jobqueue.engine.ring import Ring, pieces
from jobqueue.model import Job

_RETURNED = -2
"""A slot at or below this: the job is in the heap, in the entry with that number. -1 is "in no container"."""

_SWEEP_MIN = 64

_PACKS_MAX = 8
"""The most packs made in one step."""


class Lane(Ring):
    """A FIFO to which jobs can return. `append` is the ring's: it requires a job with the greatest seq so far.

    live: jobs in the ring; returned: jobs that returned.
    """

    __slots__ = ("_entry", "_heap", "_packed", "returned")

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[int, int, Job]] = []
        self.returned = 0
        self._entry = _RETURNED
        self._packed = 0
        """No place before this one is packed any more."""

    def __len__(self) -> int:
        return self.live + self.returned

    def give_back(self, job: Job) -> None:
        """Put a job that was taken from here back in its old place. O(log of the returned jobs)."""
        # The entry's number distinguishes a valid entry from a stale one of the same job, and breaks ties in the heap.
        self._entry -= 1
        job.slot = self._entry
        self.returned += 1
        heapq.heappush(self._heap, (job.seq, self._entry, job))

    def peek(self) -> Job | None:
        """The next job to leave, None when empty."""
        if not self.returned:
            return super().peek()
        heap = self._heap
        while heap[0][2].slot != heap[0][1]:
            heapq.heappop(heap)
        seq, _, job = heap[0]
        # If keys were held back, jobs left from behind others, so they are younger than the front when they return.
        front = super().peek()
        return job if front is None or seq < front.seq else front

    def popleft(self) -> Job:
        """Take the next job to leave; IndexError when empty."""
        if not self.returned:
            return Ring.popleft(self)
        job = self.peek()
        assert job is not None
        self.remove(job)
        return job

    def remove(self, job: Job) -> None:
        """Remove a job that is here, wherever it is. O(1) amortised."""
        if job.slot > _RETURNED:
            super().remove(job)
            return
        job.slot = -1
        self.returned -= 1
        # Its entry stays, stale (as the slot shows), and peek skips it. Stale entries are swept when they are most of the heap.
        if not self.returned:
            self._heap.clear()
        elif len(self._heap) > max(_SWEEP_MIN, 2 * self.returned):
            self._heap = [entry for entry in self._heap if entry[2].slot == entry[1]]
            heapq.heapify(self._heap)

    def before(self, job: Job) -> int:
        """Roughly how many jobs are before this one: at least the true number, apart from jobs that returned, and at most all."""
        if job.slot <= _RETURNED:
            return 0
        return self.returned + min(self.live - 1, max(0, job.slot - self._head))

    def slices(self, count: int) -> Iterator[list[Job]]:
        """The jobs that are here now and still are when the iteration reaches them, looking at so many places at a time; jobs that returned
        come first, in no order. Copying a million takes milliseconds; looking at them takes longer, so it is done in slices.
        """
        entries, span = list(self._heap), self._kept_span()

        def still_here() -> Iterator[list[Job]]:
            for returned in pieces(entries, count):
                # An entry's number is used once: a job that left and returned has another.
                yield [job for _, n, job in returned if job.slot == n]
            for jobs in _jobs(span, count):
                yield [job for job in jobs if job.slot >= 0]

        return still_here()

    def members(self, count: int) -> Iterator[list[Job]]:
        """The jobs that are here now, wherever they are when the iteration reaches them; possibly also some that were here before."""
        entries = list(self._heap)
        return chain(([job for _, _, job in part] for part in pieces(entries, count)), _jobs(self._kept_span(), count))

    def _kept_span(self) -> list[Any]:
        """The same as `span`, for a walk that is suspended: none of these jobs gets another object meanwhile."""
        self._packed = self._tail
        return self.span()

    def _renumber(self, capacity: int) -> None:
        before = sum(item is not None for item in self.span()[: max(0, self._packed - self._head)])
        super()._renumber(capacity)
        self._packed = self._head + before

    def pack(self, catalogue: Catalogue) -> None:
        """Pack jobs that are deep in the ring, if there are enough: see packs.py."""
        size, deep, behind = catalogue.packing
        items, mask = self._items, self._mask
        at = max(self._packed, self._head + deep)
        stop = min(self._tail - behind, at + size * _PACKS_MAX)
        while at + size <= stop:
            there = [items[place & mask] for place in range(at, at + size)]
            found = packable(there)
            # Fewer in a record would save little.
            if len(found) > size // 2:
                try:
                    Pack(catalogue, self, [at + distance for distance in found], [there[distance] for distance in found])
                except OSError:
                    # There is no memory to map: these jobs stay as they are.
                    break
            at += size
        self._packed = max(self._packed, min(at, self._tail))

    def jobs(self) -> list[Job]:
        """Every job in the order in which they leave. O(n log n)."""
        returned = sorted((seq, n, job) for seq, n, job in self._heap if job.slot == n)
        return list(heapq.merge([job for _, _, job in returned], super().jobs(), key=_seq))


def _jobs(span: list[Any], count: int) -> Iterator[list[Job]]:
    """The jobs of a lane's span, looking at so many places at a time. A pack that is in the span is there with all its places."""
    pack, at = None, 0
    for places in pieces(span, count):
        found: list[Job] = []
        for item in places:
            if type(item) is Pack:
                pack, at = item, at + 1 if item is pack else 0
                found.append(item.open()[at])
            elif item is not None:
                found.append(item)
        yield found


def _seq(job: Job) -> int:
    return job.seq
