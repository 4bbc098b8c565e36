"""Every job that the server knows, by id and by age.

By age: a job's number never changes, so it serves as the cursor of a listing. Numbers are kept in chunks of 128, which are dropped when
their last job is forgotten: adding and removing is O(1), and a page starts at its cursor without walking over newer jobs.

Jobs deep in a queue are packed (packs.py). `found`, `find` and `numbered` open the pack, so what they return is the job itself. The
iterators return a copy of a packed job, which serves to look at it; `numbered` then returns the job itself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

from jobqueue.engine.packs import PACKING, Area, Pack
from jobqueue.model import Job

_CHUNK_BITS = 7
"""A job takes 9 bytes of a full chunk; a chunk with a single old job takes a kilobyte."""

CHUNK_JOBS = 1 << _CHUNK_BITS
_CHUNK_MASK = CHUNK_JOBS - 1


class _Chunk:
    __slots__ = ("jobs", "live")

    def __init__(self) -> None:
        self.jobs: list[Job | Pack | None] = [None] * CHUNK_JOBS
        self.live = 0


class Catalogue:
    """Jobs by id and by number. Numbers can be skipped. See sparse.py for one of several partitions."""

    __slots__ = ("_chunks", "area", "by_id", "next_number", "packing")

    def __init__(self) -> None:
        self.by_id: dict[str, Job | Pack] = {}
        self.packing, self.area = PACKING, Area()
        self.next_number = 1
        self._chunks: dict[int, _Chunk] = {}

    def add(self, job: Job) -> None:
        """Add a job that was made with the number `next_number`."""
        self.by_id[job.id] = job
        number = job.number
        chunk = self._chunks.get(number >> _CHUNK_BITS)
        if chunk is None:
            chunk = self._chunks[number >> _CHUNK_BITS] = _Chunk()
        chunk.jobs[number & _CHUNK_MASK] = job
        chunk.live += 1
        self.next_number = number + 1

    def put(self, jobs: Iterable[Job], items: Iterable[Job | Pack]) -> None:
        """See Index."""
        by_id, chunks = self.by_id, self._chunks
        for job, item in zip(jobs, items, strict=False):
            number = job.number
            by_id[job.id] = chunks[number >> _CHUNK_BITS].jobs[number & _CHUNK_MASK] = item

    def find(self, job_id: str) -> Job | None:
        """The job with this id, None if there is none."""
        job = self.by_id.get(job_id)
        return self.found(job_id) if type(job) is Pack else job  # type: ignore[return-value] # it is no pack

    def found(self, job_id: str) -> Job:
        """The job with this id, which there is."""
        job = self.by_id[job_id]
        if isinstance(job, Pack):
            job.open()
            job = self.by_id[job_id]
        assert type(job) is Job
        return job

    def all(self) -> Iterator[Job]:
        """All jobs, in the order in which they were added."""
        looked: dict[Pack, Iterator[Job]] = {}
        for item in self.by_id.values():
            if isinstance(item, Pack):
                # The jobs of a pack were added in their order, perhaps with others between them.
                jobs = looked.get(item) or looked.setdefault(item, iter(item.look()))
                yield next(jobs)
            else:
                yield item

    def go_on(self, number: int) -> None:
        """Give out numbers from this one on, which is above all that were given."""
        self.next_number = number

    def take_number(self) -> int:
        """Take a number that no job is given then."""
        number = self.next_number
        self.next_number = number + 1
        return number

    def exchange(self, job: Job, other: Job) -> None:
        """Replace a job's object by another one with the same id and number."""
        self.put([job], [other])

    def remove(self, job: Job) -> None:
        """Forget a job."""
        del self.by_id[job.id]
        key = job.number >> _CHUNK_BITS
        chunk = self._chunks[key]
        chunk.jobs[job.number & _CHUNK_MASK] = None
        chunk.live -= 1
        if not chunk.live:
            del self._chunks[key]

    def numbered(self, number: int) -> Job | None:
        """The job with this number, None if there is none."""
        chunk = self._chunks.get(number >> _CHUNK_BITS)
        if chunk is None:
            return None
        job = chunk.jobs[number & _CHUNK_MASK]
        if isinstance(job, Pack):
            job.open()
            job = chunk.jobs[number & _CHUNK_MASK]
            assert type(job) is Job
        return job

    def itself(self, job: Job) -> Job:
        """The job of which an iterator has returned a copy, if it has: it must still be there."""
        there = self.numbered(job.number)
        assert there is not None
        return there

    def newest_first(self, before: int | None) -> Iterator[Job]:
        """Jobs from the newest down, or from the newest below the number `before`."""
        limit = self.next_number if before is None else before
        top = limit >> _CHUNK_BITS
        # Chunks are made in ascending order, so the dict's own order is theirs.
        for key in reversed(self._chunks):
            if key > top:
                continue
            yield from reversed(self._seen(key, 0, CHUNK_JOBS if key < top else limit & _CHUNK_MASK))

    def oldest_first(self, after: int) -> Iterator[Job]:
        """Jobs from the oldest above the number `after` up."""
        bottom = (after + 1) >> _CHUNK_BITS
        for key in self._chunks:
            if key >= bottom:
                yield from self._seen(key, 0 if key > bottom else (after + 1) & _CHUNK_MASK)

    def following(self, number: int, count: int) -> list[Job]:
        """The oldest jobs above this number, oldest first: `count` of them, if there are as many, or a few more."""
        keys = list(self._chunks)
        found: list[Job] = []
        first = number + 1
        for key in keys[bisect_left(keys, first >> _CHUNK_BITS) :]:
            found += self._seen(key, first & _CHUNK_MASK if key == first >> _CHUNK_BITS else 0)
            if len(found) >= count:
                break
        return found

    def not_before(self, at: float) -> int:
        """A number from which on no job was created before `at`; at most a chunk above the first such number."""
        keys, later = self._begun(at)
        return keys[later] << _CHUNK_BITS if later < len(keys) else self.next_number

    def all_before(self, at: float) -> int:
        """A number up to which every job was created before `at`; at most a chunk below the last such number."""
        keys, later = self._begun(at)
        return (keys[later - 1] << _CHUNK_BITS) - 1 if later else 0

    def _begun(self, at: float) -> tuple[list[int], int]:
        """The existing chunks, and the position of the first whose oldest job was not created before `at`."""
        keys = list(self._chunks)
        return keys, bisect_left(keys, at, key=self._first_at)

    def _first_at(self, key: int) -> float:
        """When the oldest job of a chunk was created."""
        number, item = next((number, item) for number, item in enumerate(self._chunks[key].jobs, key << _CHUNK_BITS) if item is not None)
        return (item.copy(item.at(number)) if isinstance(item, Pack) else item).created_at

    def _seen(self, key: int, start: int, stop: int = CHUNK_JOBS) -> list[Job]:
        """The jobs in these places of a chunk, for somebody who only reads."""
        first = (key << _CHUNK_BITS) + start
        return list(_copied(enumerate(self._chunks[key].jobs[start:stop], first)))

    def walk(self) -> Iterator[Job]:
        """All jobs, oldest first. Jobs can come and go while the walk is suspended: it returns those that exist when it reaches them, but
        possibly not those that are newer than its first step.
        """
        for key in list(self._chunks):
            chunk = self._chunks.get(key)
            if chunk is not None:
                yield from _copied(enumerate(chunk.jobs, key << _CHUNK_BITS))


def _copied(items: Iterable[tuple[int, Job | Pack | None]]) -> Iterator[Job]:
    """The jobs in places of chunks, each with its number; copies of those that are packed."""
    last, copies = None, list[Job]()
    for number, item in items:
        if item is None:
            continue
        if not isinstance(item, Pack):
            yield item
        elif item is not last:
            # The next job may be in another pack, if two queues fill at the same time: so not all of this one.
            last, copies = item, []
            yield item.copy(item.at(number))
        else:
            copies = copies or item.look()
            yield copies[item.at(number)]
