"""Every job the server knows, by id and by age.

By age: a job's number never changes, so it serves as the cursor of a listing. Numbers are kept in chunks of 256, dropped when
their last job is forgotten: O(1) to add and remove, and a page starts at its cursor without walking what is newer.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobqueue.model import Job

_CHUNK_BITS = 8


class Catalogue:
    """Jobs by id and by number."""

    __slots__ = ("_chunks", "by_id", "next_number")

    def __init__(self) -> None:
        self.by_id: dict[str, Job] = {}
        self.next_number = 1
        self._chunks: dict[int, dict[int, Job]] = {}

    def add(self, job: Job) -> None:
        """Take in a job made with the number `next_number`."""
        self.by_id[job.id] = job
        number = job.number
        key = number >> _CHUNK_BITS
        if key in self._chunks:
            self._chunks[key][number] = job
        else:
            self._chunks[key] = {number: job}
        self.next_number = number + 1

    def remove(self, job: Job) -> None:
        """Forget a job."""
        del self.by_id[job.id]
        key = job.number >> _CHUNK_BITS
        chunk = self._chunks[key]
        del chunk[job.number]
        if not chunk:
            del self._chunks[key]

    def numbered(self, number: int) -> Job | None:
        """The job of a number, None if there is none."""
        return self._chunks.get(number >> _CHUNK_BITS, {}).get(number)

    def newest_first(self, before: int | None) -> Iterator[Job]:
        """Jobs from the newest down, or from the newest below the number `before`."""
        limit = self.next_number if before is None else before
        top = limit >> _CHUNK_BITS
        # Chunks are made in ascending order, so the dict's own order is theirs.
        for key in reversed(self._chunks):
            if key > top:
                continue
            for number in reversed(self._chunks[key]):
                if number < limit:
                    yield self._chunks[key][number]
