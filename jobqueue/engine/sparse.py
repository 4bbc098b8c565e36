"""A catalogue for one of several partitions, whose jobs have every so many-th number.

A chunk covers as many more numbers as there are partitions, and lists only the jobs that exist, in order. So it holds about as many jobs as
a chunk of the only partition, and a job takes as little memory; it also holds numbers that another partition would give, as in a store that
was divided later. The price is a search for a number within its chunk.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from operator import attrgetter

from jobqueue.engine.catalogue import CHUNK_JOBS, Catalogue
from jobqueue.engine.packs import NEVER
from jobqueue.model import Job
from jobqueue.partition import ALONE, Place

_number = attrgetter("number")


def catalogue(place: Place = ALONE) -> Catalogue:
    """An empty catalogue for a partition."""
    return Catalogue() if place.count == 1 else SparseCatalogue(place)


class SparseCatalogue(Catalogue):
    """See Catalogue."""

    __slots__ = ("_lists", "_place", "_width")

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.next_number = place.first
        self.packing = NEVER
        self._place = place
        self._width = CHUNK_JOBS * place.count
        self._lists: dict[int, list[Job]] = {}

    def add(self, job: Job) -> None:
        """See Catalogue. A number that another partition would give is fine, if it is above all others."""
        self.by_id[job.id] = job
        number = job.number
        found = self._lists.get(number // self._width)
        if found is None:
            self._lists[number // self._width] = [job]
        else:
            found.append(job)
        self.next_number = self._place.number_from(number + 1)

    def go_on(self, number: int) -> None:
        """See Catalogue."""
        self.next_number = self._place.number_from(number)

    def take_number(self) -> int:
        """See Catalogue."""
        number = self.next_number
        self.next_number = number + self._place.count
        return number

    def exchange(self, job: Job, other: Job) -> None:
        """See Catalogue."""
        self.by_id[job.id] = other
        jobs = self._lists[job.number // self._width]
        jobs[bisect_left(jobs, job.number, key=_number)] = other

    def remove(self, job: Job) -> None:
        """See Catalogue."""
        del self.by_id[job.id]
        key = job.number // self._width
        jobs = self._lists[key]
        del jobs[bisect_left(jobs, job.number, key=_number)]
        if not jobs:
            del self._lists[key]

    def numbered(self, number: int) -> Job | None:
        """See Catalogue."""
        jobs = self._lists.get(number // self._width, ())
        at = bisect_left(jobs, number, key=_number)
        return jobs[at] if at < len(jobs) and jobs[at].number == number else None

    def newest_first(self, before: int | None) -> Iterator[Job]:
        """See Catalogue."""
        limit = self.next_number if before is None else before
        top = limit // self._width
        for key in reversed(self._lists):
            if key <= top:
                jobs = self._lists[key]
                yield from reversed(jobs if key < top else jobs[: bisect_left(jobs, limit, key=_number)])

    def oldest_first(self, after: int) -> Iterator[Job]:
        """See Catalogue."""
        bottom = (after + 1) // self._width
        for key, jobs in self._lists.items():
            if key >= bottom:
                yield from jobs if key > bottom else jobs[bisect_left(jobs, after + 1, key=_number) :]

    def following(self, number: int, count: int) -> list[Job]:
        """See Catalogue."""
        keys = list(self._lists)
        found: list[Job] = []
        bottom = (number + 1) // self._width
        for key in keys[bisect_left(keys, bottom) :]:
            jobs = self._lists[key]
            found += jobs if key > bottom else jobs[bisect_left(jobs, number + 1, key=_number) :]
            if len(found) >= count:
                break
        return found

    def not_before(self, at: float) -> int:
        """See Catalogue."""
        keys, later = self._begun(at)
        return keys[later] * self._width if later < len(keys) else self.next_number

    def all_before(self, at: float) -> int:
        """See Catalogue."""
        keys, later = self._begun(at)
        return keys[later - 1] * self._width - 1 if later else 0

    def _begun(self, at: float) -> tuple[list[int], int]:
        keys = list(self._lists)
        return keys, bisect_left(keys, at, key=lambda key: self._lists[key][0].created_at)

    def walk(self) -> Iterator[Job]:
        """See Catalogue."""
        for key in list(self._lists):
            # A copy, since jobs that go would make the others move up.
            for job in list(self._lists.get(key, ())):
                there = self.numbered(job.number)
                if there is not None:
                    yield there
