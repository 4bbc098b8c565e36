"""Which partition has which id, if the id's home is another partition than the job's queue. See docs/decisions/0044-partitions.md.

The home of an id keeps a *claim* for each job elsewhere whose id it decides on: the job's partition, and the number of the claim. Claims
take their numbers from the counter of job numbers, so each number is given once, and a later claim has a higher one. A job is enqueued
elsewhere under such a number.

The other side keeps a *floor* for each home: it refuses to make a job under a claim of that home with a lower number. So a home can learn
that a claim is void: the other partition first sees that it has no job of this id, and raises the floor above the claim's number; from then
on no delayed enqueue can make one, and the home can drop the claim. Neither side looks at a clock, and a floor never has to be forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import ClassVar, NamedTuple

from jobqueue.engine.events import K_THING_CHANGED, Event
from jobqueue.engine.state import State
from jobqueue.errors import IdConflict
from jobqueue.model import JobSpec
from jobqueue.partition import PARTITIONS_MAX, ClaimVoid, home_of

CLAIM = "claim/"
"""The prefix of a claimed id in storage."""

FLOOR = "floor/"
"""The prefix of a home's index in storage."""


class IdClaim(NamedTuple):
    """A claim: the partition that has the id, and the claim's number. 0 stands for no claim: a job of the home itself has the id."""

    partition: int
    number: int


OURS = 1 << 62
"""Stands for the number of a claim in jobs that a server makes itself: no floor is above it."""


class _OurSpec(JobSpec, gc=False, kw_only=True):
    claim: ClassVar[int] = OURS


class Claims:
    """The claims of a home, and the floors for other homes."""

    __slots__ = ("_claims", "_state", "floors")

    def __init__(self, state: State) -> None:
        self._state = state
        self._claims: dict[str, int] = {}
        """By id, in the order of their numbers. One integer each, since there can be as many as jobs."""
        self.floors: dict[int, int] = {}
        """By home."""

    def __len__(self) -> int:
        return len(self._claims)

    def get(self, job_id: str) -> IdClaim | None:
        """The claim of this id, None if there is none."""
        packed = self._claims.get(job_id)
        return None if packed is None else _unpacked(packed)

    @property
    def most(self) -> int:
        """The most claims that are kept: as many as the limits allow jobs, live and ended."""
        limits = self._state.limits
        return limits.jobs_max + limits.history_jobs_max

    def claim(self, job_id: str, partition: int, void: int = 0) -> IdClaim | None:
        """Claim an id for a job in another partition, unless it is taken. Returns what stands then; None if there is no room for a claim.

        void: the number of a claim that is void, which is replaced if it still stands.
        """
        state = self._state
        if job_id in state.jobs.by_id:
            return IdClaim(state.place.index, 0)
        stands = self.get(job_id)
        if stands is not None and stands.number != void:
            return stands
        if stands is None and len(self._claims) >= self.most:
            return None
        number = state.jobs.take_number()
        self._claims.pop(job_id, None)
        self._claims[job_id] = number * PARTITIONS_MAX + partition
        state.events.append(Event(K_THING_CHANGED, CLAIM + job_id))
        return IdClaim(partition, number)

    def above(self, number: int) -> None:
        """Let the next claims have higher numbers than this one, and not be below a floor that it was learnt from."""
        jobs = self._state.jobs
        if jobs.next_number <= number:
            jobs.go_on(number + 1)

    def drop(self, job_id: str, number: int) -> bool:
        """Drop the claim of an id that has this number. Returns whether it stood."""
        stands = self.get(job_id)
        if stands is None or stands.number != number:
            return False
        del self._claims[job_id]
        self._state.events.append(Event(K_THING_CHANGED, CLAIM + job_id))
        return True

    def void(self, home: int, ids: Sequence[str], below: int) -> list[bool]:
        """For each id, whether it has a job here. If not all have, no job is made any more under a claim of `home` below this number."""
        by_id = self._state.jobs.by_id
        known = [job_id in by_id for job_id in ids]
        if not all(known) and self.floors.get(home, 0) < below:
            self.floors[home] = below
            self._state.events.append(Event(K_THING_CHANGED, f"{FLOOR}{home}"))
        return known

    def check(self, spec: JobSpec) -> None:
        """Check that a job of an id that no job has can be made here. Raises ClaimVoid; IdConflict for a job that this server makes."""
        place, job_id = self._state.place, spec.id
        if place.count == 1 or job_id is None:
            return
        home = home_of(job_id, place.count)
        if home == place.index:
            if job_id in self._claims:
                raise IdConflict(job_id, "queue") if spec.claim == OURS else ClaimVoid(job_id)
        elif spec.claim < max(1, self.floors.get(home, 0)):
            raise ClaimVoid(job_id)

    def ours(self, spec: JobSpec) -> JobSpec:
        """The spec of a job that this server makes itself, under an id that it does not claim."""
        if self._state.place.count == 1 or spec.id is None:
            return spec
        return _OurSpec(**{name: getattr(spec, name) for name in spec.__struct_fields__})

    def page(self, skip: int, limit: int, below: int) -> list[tuple[str, IdClaim]]:
        """Up to `limit` of the oldest claims after the first `skip`, with numbers below `below`."""
        found = ((job_id, _unpacked(packed)) for job_id, packed in islice(self._claims.items(), skip, skip + limit))
        return [(job_id, claim) for job_id, claim in found if claim.number < below]

    # Restoring and following.

    def follow(self, claims: Iterable[tuple[str, IdClaim]], dropped: Iterable[str], floors: Mapping[int, int]) -> None:
        """Take over claims and floors as they are stored."""
        for job_id in dropped:
            self._claims.pop(job_id, None)
        for job_id, claim in sorted(claims, key=_number):
            self._claims.pop(job_id, None)
            self._claims[job_id] = claim.number * PARTITIONS_MAX + claim.partition
        self.floors.update(floors)

    def fault(self) -> str | None:
        """What is wrong with these claims and floors; None if they can be. Every job is restored."""
        state = self._state
        index, count = state.place.index, state.place.count
        for job_id, packed in self._claims.items():
            partition, number = _unpacked(packed)
            if job_id in state.jobs.by_id:
                return f"the id {job_id!r} is claimed for partition {partition}, and job number {state.jobs.found(job_id).number} has it"
            if home_of(job_id, count) != index or partition == index or partition >= count:
                return f"the id {job_id!r} is claimed for partition {partition} in partition {index} of {count}"
            # A store that was divided later has one number for all claims from then.
            if not 0 < number < state.jobs.next_number:
                return f"the claim of the id {job_id!r} has the number {number}, which was never given"
        for home, floor in self.floors.items():
            if home == index or not 0 <= home < count or floor < 1:
                return f"partition {index} of {count} has the floor {floor} for partition {home}"
        return None


def _number(item: tuple[str, IdClaim]) -> int:
    return item[1].number


def _unpacked(packed: int) -> IdClaim:
    number, partition = divmod(packed, PARTITIONS_MAX)
    return IdClaim(partition, number)
