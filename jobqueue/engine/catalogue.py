"""Every job the server knows, by id and by age.

By age: a job's number never changes, so it serves as the cursor of a listing. Numbers are kept in chunks of 128, dropped when
their last job is forgotten: O(1) to add and remove, and a page starts at its cursor without walking what is newer.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobqueue.model import Job

_CHUNK_BITS = 7
"""A job takes 9 bytes of a full chunk, and one old job among many that are forgotten holds a kilobyte."""

_CHUNK_MASK = (1 << _CHUNK_BITS) - 1


class _Chunk:
    __slots__ = ("jobs", "live")

    def __init__(self) -> None:
        self.jobs: list[Job | None] = [None] * (1 << _CHUNK_BITS)
        self.live = 0


class Catalogue:
    """Jobs by id and by number. A number may be skipped."""

    __slots__ = ("_chunks", "by_id", "next_number")

    def __init__(self) -> None:
        self.by_id: dict[str, Job] = {}
        self.next_number = 1
        self._chunks: dict[int, _Chunk] = {}

    def add(self, job: Job) -> None:
        """Take in a job made with the number `next_number`."""
        self.by_id[job.id] = job
        number = job.number
        chunk = self._chunks.get(number >> _CHUNK_BITS)
        if chunk is None:
            chunk = self._chunks[number >> _CHUNK_BITS] = _Chunk()
        chunk.jobs[number & _CHUNK_MASK] = job
        chunk.live += 1
        self.next_number = number + 1

    def exchange(self, job: Job, other: Job) -> None:
        """Know another object as this job: one of the same id and number."""
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
        """The job of a number, None if there is none."""
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

    def walk(self) -> Iterator[Job]:
        """All jobs, oldest first. It may be left and gone on with while jobs come and go: it shows those that are there when it comes to
        them, but perhaps not those that are newer than its first step.
        """
        for key in list(self._chunks):
            chunk = self._chunks.get(key)
            if chunk is not None:
                for job in chunk.jobs:
                    if job is not None:
                        yield job
