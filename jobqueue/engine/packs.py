"""Packs: jobs deep in a queue, up to 128 in one record.

A job that waits is an object, with objects for its id, its number and its payload. While thousands of jobs are before it, nobody needs
these: a pack has the payloads and times in one piece of memory. In the ring, in the catalogue and by its id, the pack takes the places of
its jobs. Whoever reaches one of these places gets the job: the pack is opened, and all its jobs are objects again. This takes about a
microsecond for a job, and as much to pack it. A listing looks at packed jobs without opening them.

Only jobs that nothing has happened to since their enqueue, and that are plain (no details), are packed, and each place of a ring at most
once: so who begins a walk over a lane can prevent, by one assignment, that the objects it holds are replaced (`Lane.slices`).

The records are in memory that is mapped for them, a mebibyte at a time, and given back to the system when all jobs in it have left. The
allocator of C would keep most of it: what it allocated later, and is still in use, is behind it.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Sequence
from itertools import accumulate, repeat
from mmap import mmap
from typing import NamedTuple, Protocol

from jobqueue.model import PLAIN, QUEUED, Job


class Packing(NamedTuple):
    """When jobs are packed. size: jobs in a pack, at most 256, and how often a lane is looked at, in jobs; deep: how many places of a lane
    stay unpacked at its front; behind: how many stay unpacked at its back."""

    size: int = 128
    deep: int = 16_384
    behind: int = 1_024


PACKING = Packing()

NEVER = Packing(deep=1 << 62)
"""For a catalogue that cannot hold packs."""

PAYLOAD_BYTES_MAX = 65_536
"""The largest payload that is packed. Of a larger one, its own object is a small part."""

_AREA_BYTES = 1 << 20

_TIME, _END = struct.Struct("=d"), struct.Struct("=I")
"""In a record: the time of each job, then where the payload of each ends, then the payloads."""


class Area:
    """Mapped memory for records, one after the other. It is unmapped when the last pack with a record in it is gone."""

    __slots__ = ("_memory", "_used")

    def __init__(self) -> None:
        self._memory: mmap | None = None
        self._used = 0

    def add(self, record: bytes) -> tuple[mmap, int]:
        """Copy a record here. Returns the memory and where in it the record is."""
        memory, at = self._memory, self._used
        if memory is None or at + len(record) > len(memory):
            memory, at = _mapped(max(_AREA_BYTES, len(record))), 0
            self._memory = memory
        memory[at : at + len(record)] = record
        self._used = at + len(record)
        return memory, at


def _mapped(size: int) -> mmap:
    if sys.platform == "win32":
        return mmap(-1, size)
    from mmap import MAP_ANONYMOUS, MAP_PRIVATE

    return mmap(-1, size, flags=MAP_ANONYMOUS | MAP_PRIVATE)


class Index(Protocol):
    """The catalogue, as a pack uses it."""

    area: Area

    def put(self, jobs: Iterable[Job], items: Iterable[Job | Pack]) -> None:
        """Put each job, or the pack that has it, in the places of this job."""


class Places(Protocol):
    """A ring, as a pack uses it."""

    def put(self, places: Iterable[int], items: Iterable[Job | Pack]) -> None:
        """Put each job, or the pack that has it, in a place."""


def packable(items: Sequence[object]) -> list[int]:
    """The positions of what can be packed in these places of a lane."""
    return [
        at
        for at, job in enumerate(items)
        if type(job) is Job
        and job.details is PLAIN
        and not job.attempts
        and job.hold is None
        and job.status is QUEUED
        and len(job.payload) <= PAYLOAD_BYTES_MAX
    ]


class Pack:
    """Jobs of one lane, all `packable`. places: of the ring, ascending, the last less than 256 behind the first."""

    __slots__ = ("_at", "_catalogue", "_first", "_ids", "_jobs", "_memory", "_numbers", "_priority", "_queue", "_record", "_ring", "_types")

    def __init__(self, catalogue: Index, ring: Places, places: Sequence[int], jobs: Sequence[Job]) -> None:
        self._catalogue, self._ring = catalogue, ring
        self.move(places)
        self._queue, self._priority = jobs[0].queue, jobs[0].priority
        self._ids = tuple([job.id for job in jobs])
        numbers = [job.number for job in jobs]
        first, count = numbers[0], len(numbers)
        self._numbers: Sequence[int] = range(first, first + count) if numbers[-1] == first + count - 1 else tuple(numbers)
        types = tuple([job.type for job in jobs])
        self._types = types[:1] if types.count(types[0]) == count else types
        payloads = [job.payload for job in jobs]
        times = struct.pack(f"={count}d{count}I", *[job.created_at for job in jobs], *accumulate(map(len, payloads)))
        self._memory, self._record = catalogue.area.add(b"".join([times, *payloads]))
        self._jobs: list[Job] | None = None
        """Once it is open."""
        ring.put(places, repeat(self))
        catalogue.put(jobs, repeat(self))
        for job in jobs:
            job.slot = -1

    def look(self) -> list[Job]:
        """Its jobs, for somebody who only reads: copies, if the pack is not open."""
        if self._jobs is not None:
            return self._jobs
        count, queue, priority = len(self._ids), self._queue, self._priority
        times = struct.unpack_from(f"={count}d{count}I", self._memory, self._record)
        begin = self._record + count * (_TIME.size + _END.size)
        record = self._memory[begin : begin + times[-1]]
        types = self._types if len(self._types) > 1 else self._types * count
        numbers, places = list(self._numbers), [self._first + distance for distance in self._at]
        if places == numbers:
            # The two fields share the int objects then (ring.py).
            places = numbers
        # By position, as in `Engine.enqueue`.
        return [
            Job(job_id, number, queue, priority, record[start:end], created_at, QUEUED, kind, PLAIN, 0, None, place)
            for job_id, number, created_at, start, end, kind, place in zip(
                self._ids, numbers, times[:count], (0, *times[count:-1]), times[count:], types, places, strict=True
            )
        ]

    def copy(self, at: int) -> Job:
        """One of its jobs, for somebody who only reads: a copy, if the pack is not open."""
        if self._jobs is not None:
            return self._jobs[at]
        ends = self._record + len(self._ids) * _TIME.size
        begin = ends + len(self._ids) * _END.size
        (created_at,) = _TIME.unpack_from(self._memory, self._record + at * _TIME.size)
        (end,) = _END.unpack_from(self._memory, ends + at * _END.size)
        (start,) = _END.unpack_from(self._memory, ends + (at - 1) * _END.size) if at else (0,)
        kind = self._types[at] if len(self._types) > 1 else self._types[0]
        payload = self._memory[begin + start : begin + end]
        number, place = self._numbers[at], self._first + self._at[at]
        return Job(self._ids[at], number, self._queue, self._priority, payload, created_at, QUEUED, kind, PLAIN, 0, None, place)

    def open(self) -> list[Job]:
        """Its jobs, each of which is in its places again."""
        if self._jobs is None:
            jobs = self._jobs = self.look()
            self._ring.put([job.slot for job in jobs], jobs)
            self._catalogue.put(jobs, jobs)
        return self._jobs

    def move(self, places: Sequence[int]) -> None:
        """Its jobs have these places of the ring now."""
        self._first = first = places[0]
        self._at = bytes([place - first for place in places])

    @property
    def number(self) -> int:
        """The number of its last job."""
        return self._numbers[-1]

    def at(self, number: int) -> int:
        """The position among its jobs of the one with this number."""
        return self._numbers.index(number)
