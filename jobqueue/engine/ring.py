"""A growing ring buffer: O(1) at both ends and for removal inside.

Owns: the `slot` of every job it holds, an absolute position that only grows and is masked to get an index. A job removed from inside leaves
a tombstone; tombstones are skipped at the front, and swept out when the ring is full and they are at least half of it, so the removals that
made a sweep necessary pay for it. The ring shrinks when it is an eighth full, so its memory is freed after a burst.

Why not `collections.deque`: it cannot remove inside in O(1), and skipping removed jobs lazily would keep each in memory until its turn
comes, which in a paused queue is never.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any, TypeVar

from jobqueue.engine.packs import Pack
from jobqueue.model import Job

_CAPACITY_MIN = 16
_SHRINK_MIN = _CAPACITY_MIN << 2


T = TypeVar("T")


def pieces(places: list[T], count: int) -> Iterator[list[T]]:
    """A list in parts, each freed when it is returned: freeing half a million jobs at once, which nothing else holds, takes a tenth of a
    second.
    """
    empty: list[Any] = [None] * count
    for start in range(0, len(places), count):
        part = places[start : start + count]
        places[start : start + count] = empty[: len(part)]
        yield part


class Ring:
    """Jobs in order; live: their number. A job is in at most one ring at a time. The engine limits the number of jobs."""

    __slots__ = ("_head", "_items", "_mask", "_tail", "live")

    def __init__(self) -> None:
        self._items: list[Any] = [None] * _CAPACITY_MIN
        """A Job, None, or in a lane (lane.py) the Pack that has the place's job."""
        self._mask = _CAPACITY_MIN - 1
        self._head = 0
        self._tail = 0
        self.live = 0

    def __len__(self) -> int:
        return self.live

    @property
    def capacity(self) -> int:
        """The number of allocated places, 8 bytes each."""
        return self._mask + 1

    def append(self, job: Job) -> None:
        """Add at the back. O(1) amortised."""
        tail, number = self._tail, job.number
        if not self.live:
            # Any position is possible. From here on, if one ring gets all jobs, slots equal the jobs' numbers, and share the same int
            # objects.
            self._head = tail = number
        elif tail - self._head > self._mask:
            self._resize()
            tail = self._tail
        job.slot = number if tail == number else tail
        self._items[tail & self._mask] = job
        self._tail = tail + 1
        self.live += 1

    def peek(self) -> Job | None:
        """The job at the front, None when empty. O(1): the front is never a tombstone."""
        if not self.live:
            return None
        job = self._items[self._head & self._mask]
        return job if type(job) is Job else self._opened(self._head & self._mask)

    def _opened(self, at: int) -> Job:
        """The job in a place that holds a pack."""
        self._items[at].open()
        job = self._items[at]
        assert type(job) is Job, "the front is never a tombstone"
        return job

    def put(self, places: Iterable[int], items: Iterable[Job | Pack]) -> None:
        """See Places."""
        held, mask = self._items, self._mask
        for place, item in zip(places, items, strict=False):
            held[place & mask] = item

    def popleft(self) -> Job:
        """Take the job at the front; IndexError when empty. O(1) amortised."""
        if not self.live:
            raise IndexError("pop from an empty ring")
        items, mask, head = self._items, self._mask, self._head
        job: Job = items[head & mask]
        if type(job) is not Job:
            job = self._opened(head & mask)
        items[head & mask] = None
        job.slot = -1
        self.live = live = self.live - 1
        head += 1
        if (live and items[head & mask] is None) or (live << 3 < mask and mask >= _SHRINK_MIN):
            self._skip(head)
        else:
            self._head = head
        return job

    def _skip(self, head: int) -> None:
        """Move the front to the first job from `head` on, and shrink the ring if most of it is empty."""
        mask = self._mask
        if self.live:
            items = self._items
            while items[head & mask] is None:
                head += 1
            self._head = head
        else:
            self._head = self._tail
        if mask >= _SHRINK_MIN and self.live << 3 < mask:
            self._resize()

    def remove(self, job: Job) -> None:
        """Remove a job that is in this ring, wherever it is. O(1) amortised."""
        at = job.slot & self._mask
        assert self._items[at] is job, "the job is not in this ring"
        self._items[at] = None
        job.slot = -1
        self.live -= 1
        self._skip(self._head)

    def _resize(self) -> None:
        """Grow, shrink or sweep, so that the live jobs fill between a quarter and a half of the ring."""
        if self.live > self._mask:
            self._grow()
            return
        capacity = _CAPACITY_MIN
        while capacity < self.live << 1:
            capacity <<= 1
        if capacity <= self._mask and self._tail - self._head <= capacity:
            self._shrink(capacity)
            return
        self._renumber(capacity)

    def _renumber(self, capacity: int) -> None:
        """Sweep: the live jobs get places next to each other."""
        live, mask = [item for item in Ring.span(self) if item is not None], capacity - 1
        # So that the next job's number can again be its position; see append. Never below 0, since negative slots have another meaning in a
        # lane.
        head = max(0, live[-1].number - len(live) + 1) if live else 0
        items: list[Any] = [None] * capacity
        packed: dict[Pack, list[int]] = {}
        for slot, item in enumerate(live, head):
            if type(item) is Job:
                item.slot = slot if slot != item.number else item.number
            else:
                packed.setdefault(item, []).append(slot)
            items[slot & mask] = item
        for pack, places in packed.items():
            pack.move(places)
        self._head, self._tail = head, head + len(live)
        self._items, self._mask = items, mask

    def _shrink(self, capacity: int) -> None:
        """Free empty places. Jobs are not visited or renumbered: for a hundred thousand that would take 20 ms."""
        start, end = self._head & self._mask, self._tail & self._mask
        kept = self._items[start:end] if start <= end else self._items[start:] + self._items[:end]
        items: list[Any] = [None] * capacity
        at = self._head & (capacity - 1)
        before_end = min(len(kept), capacity - at)
        items[at : at + before_end] = kept[:before_end]
        items[: len(kept) - before_end] = kept[before_end:]
        self._items, self._mask = items, capacity - 1

    def _grow(self) -> None:
        """Double a full ring. In place: no job is renumbered, and no second list is allocated."""
        items, room = self._items, self._mask + 1
        start = self._head & self._mask
        items.extend(repeat(None, room))
        self._mask += room
        # The jobs from the front to the end of the old list, and those that had wrapped around to its beginning, are now a lap apart.
        if self._head & room:
            items[start + room :] = items[start:room]
            items[start:room] = repeat(None, room - start)
        else:
            items[room : room + start] = items[:start]
            items[:start] = repeat(None, start)

    def newest_first(self) -> Iterator[Job]:
        """Every job, back to front; the ring must not change meanwhile."""
        items, mask = self._items, self._mask
        for slot in range(self._tail - 1, self._head - 1, -1) if self.live else ():
            job = items[slot & mask]
            if job is not None:
                yield job

    def span(self) -> list[Any]:
        """The places from front to back, None for removed jobs; in a lane also packs. O(capacity), but only as slow as a copy of memory."""
        start, stop = self._head & self._mask, self._tail & self._mask
        if self._tail == self._head:
            return []
        return self._items[start:stop] if start < stop else self._items[start:] + self._items[:stop]

    def jobs(self) -> list[Job]:
        """Every job, front to back. O(capacity)."""
        for item in Ring.span(self):
            if type(item) is Pack:
                item.open()
        return [job for job in Ring.span(self) if job is not None]
