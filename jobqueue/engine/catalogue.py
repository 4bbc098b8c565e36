"""Every job that the server knows, by id and by age.

By age: a job's number never changes, so it serves as the cursor of a listing. Numbers are kept in chunks of 128, which are dropped when
their last job is forgotten: adding and removing is O(1), and a page starts at its cursor without walking over newer jobs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from jobqueue.model import Job

_CHUNK_BITS = 7
"""A job takes 9 bytes of a full chunk; a chunk with a single old job takes a kilobyte."""

CHUNK_JOBS = 1 << _CHUNK_BITS
_CHUNK_MASK = CHUNK_JOBS - 1


class _Chunk:
    __slots__ = ("jobs", "live")

    def __init__(self) -> None:
        self.jobs: list[Job | None] = [None] * CHUNK_JOBS
        self.live = 0


class Catalogue:
    """Jobs by id and by number. Numbers can be skipped. See sparse.py for one of several partitions."""

    __slots__ = ("_chunks", "by_id", "next_number")

    def __init__(self) -> None:
        self.by_id: dict[str, Job] = {}
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
        self.by_id[job.id] = other
        self._chunks[job.number >> _CHUNK_BITS].jobs[job.number & _CHUNK_MASK] = other

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
        return None if chunk is None else chunk.jobs[number & _CHUNK_MASK]

    def newest_first(self, before: int | None) -> Iterator[Job]:
        """Jobs from the newest down, or from the newest below the number `before`."""
        limit = self.next_number if before is None else before
        top = limit >> _CHUNK_BITS
        # Chunks are made in ascending order, so the dict's own order is theirs.
        for key in reversed(self._chunks):
            if key > top:
                continue
            jobs = self._chunks[key].jobs
            for job in reversed(jobs if key < top else jobs[: limit & _CHUNK_MASK]):
                if job is not None:
                    yield job

    def oldest_first(self, after: int) -> Iterator[Job]:
        """Jobs from the oldest above the number `after` up."""
        bottom = (after + 1) >> _CHUNK_BITS
        for key, chunk in self._chunks.items():
            if key < bottom:
                continue
            jobs = chunk.jobs
            for job in jobs if key > bottom else jobs[(after + 1) & _CHUNK_MASK :]:
                if job is not None:
                    yield job

    def following(self, number: int, count: int) -> list[Job]:
        """The oldest jobs above this number, oldest first: `count` of them, if there are as many, or a few more."""
        keys = list(self._chunks)
        found: list[Job] = []
        first = number + 1
        for key in keys[bisect_left(keys, first >> _CHUNK_BITS) :]:
            jobs = self._chunks[key].jobs
            found += [job for job in (jobs[first & _CHUNK_MASK :] if key == first >> _CHUNK_BITS else jobs) if job is not None]
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
        return keys, bisect_left(keys, at, key=lambda key: next(job for job in self._chunks[key].jobs if job is not None).created_at)

    def walk(self) -> Iterator[Job]:
        """All jobs, oldest first. Jobs can come and go while the walk is suspended: it returns those that exist when it reaches them, but
        possibly not those that are newer than its first step.
        """
        for key in list(self._chunks):
            chunk = self._chunks.get(key)
            if chunk is not None:
                for job in chunk.jobs:
                    if job is not None:
                        yield job
