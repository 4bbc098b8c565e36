"""Requests about schedules. What happens at a slot is in engine/schedules.py.

A schedule belongs to the queue for which it makes jobs: a caller who cannot use that queue does not see the schedule.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from msgspec.structs import replace

from jobqueue.backend.merging import by_name
from jobqueue.backend.requests.request import PAGE, Front, Guard, Owner, Request
from jobqueue.engine.schedules import Schedules
from jobqueue.errors import UnknownSchedule
from jobqueue.model import Job, JobSpec
from jobqueue.schedule import Schedule, ScheduleChange, ScheduleStats

Page = tuple[list[ScheduleStats], str | None]
"""Schedules, and the cursor of the next page: None at the end."""


def _schedules(owner: Owner, adding: bool = False) -> Schedules:
    """The schedules, when one is about to be changed."""
    owner.check_open(adding)
    schedules = owner.engine.schedules
    schedules.see(owner.clock.now(), owner.clock.skew())
    return schedules


def _stats(owner: Owner, name: str) -> ScheduleStats:
    return owner.engine.schedules.stats(owner.engine.schedules.table(name))


def _brief(stats: ScheduleStats) -> ScheduleStats:
    schedule = replace(stats.schedule, job=replace(stats.schedule.job, payload=b"", headers=()))
    return replace(stats, schedule=schedule)


class ListSchedules(Request[Page], frozen=True, tag="schedules.list"):
    """Up to `limit` schedules by name, starting after the name `after`; and the next `after`.

    Each has only its next slot, and b"" as its job's payload: the payloads of a thousand schedules could be too large for one answer.
    """

    after: str = ""
    limit: int = 100

    async def serve(self, owner: Owner) -> Page:
        schedules = owner.engine.schedules
        names = sorted(name for name in schedules.tables if name > self.after)
        page = [_brief(schedules.stats(schedules.tables[name], 1)) for name in names[: self.limit]]
        return page, names[self.limit - 1] if len(names) > self.limit else None

    async def guarded(self, guard: Guard) -> Page:
        found: list[ScheduleStats] = []
        cursor: str | None = self.after
        while cursor is not None and not found:
            page, cursor = await guard.beneath(ListSchedules(after=cursor, limit=max(self.limit, PAGE)))
            found = [stats for stats in page if guard.sees(stats.schedule.job.queue)]
            if not found:
                await asyncio.sleep(0)
        # A name that they cannot see must not be revealed either.
        more, found = cursor is not None or len(found) > self.limit, found[: self.limit]
        return found, found[-1].name if more and found else None

    async def spread(self, front: Front) -> Page:
        return by_name(await front.everywhere(self), lambda stats: stats.name, self.limit)


class GetSchedule(Request[ScheduleStats], frozen=True, tag="schedules.get"):
    """One schedule, with its next five slots. Raises UnknownSchedule."""

    name: str

    async def serve(self, owner: Owner) -> ScheduleStats:
        return _stats(owner, self.name)

    async def guarded(self, guard: Guard) -> ScheduleStats:
        stats = await guard.beneath(self)
        if not guard.sees(stats.schedule.job.queue):
            raise UnknownSchedule(self.name)
        return stats

    async def spread(self, front: Front) -> ScheduleStats:
        _, stats = await front.found(self, UnknownSchedule)
        return stats


class PutSchedule(Request[ScheduleStats], frozen=True, tag="schedules.put"):
    """Create a schedule, or change it; putting an identical schedule again changes nothing.

    by: the name of the caller's token, which is stored with a pause. Raises BadRequest, TooLarge, TooManySchedules.
    """

    changes = True
    name: str
    schedule: Schedule
    by: str | None = None

    def specs(self) -> Iterator[JobSpec]:
        yield self.schedule.job

    async def serve(self, owner: Owner) -> ScheduleStats:
        _schedules(owner, adding=True).put(self.name, self.schedule, self.by)
        await owner.commit(owner.clock.now())
        return _stats(owner, self.name)

    async def guarded(self, guard: Guard) -> ScheduleStats:
        guard.allow(self.schedule.job.queue)
        with contextlib.suppress(UnknownSchedule):
            # They cannot change an existing schedule that makes jobs for another queue.
            guard.allow((await guard.beneath(GetSchedule(name=self.name))).schedule.job.queue)
        return await guard.beneath(self)

    async def spread(self, front: Front) -> ScheduleStats:
        queue = self.schedule.job.queue
        with contextlib.suppress(UnknownSchedule):
            _, stats = await front.found(GetSchedule(name=self.name), UnknownSchedule)
            front.check_together("job.queue", stats.schedule.job.queue, queue)
        return await front.for_queue(queue, self)


class ChangeSchedule(Request[ScheduleStats], frozen=True, tag="schedules.change"):
    """Change some fields of a schedule, such as whether it is paused. by: see PutSchedule. Raises UnknownSchedule, BadRequest, TooLarge."""

    changes = True
    name: str
    change: ScheduleChange
    by: str | None = None

    def specs(self) -> Iterator[JobSpec]:
        if isinstance(self.change.job, JobSpec):
            yield self.change.job

    async def serve(self, owner: Owner) -> ScheduleStats:
        _schedules(owner, adding=True).change(self.name, self.change, self.by)
        await owner.commit(owner.clock.now())
        return _stats(owner, self.name)

    async def guarded(self, guard: Guard) -> ScheduleStats:
        await GetSchedule(name=self.name).guarded(guard)
        if isinstance(self.change.job, JobSpec):
            guard.allow(self.change.job.queue)
        return await guard.beneath(self)

    async def spread(self, front: Front) -> ScheduleStats:
        index, stats = await front.found(GetSchedule(name=self.name), UnknownSchedule)
        if isinstance(self.change.job, JobSpec):
            front.check_together("job.queue", stats.schedule.job.queue, self.change.job.queue)
        return await front.at(index, self)


class DeleteSchedule(Request[None], frozen=True, tag="schedules.delete"):
    """Delete a schedule; the jobs that it made remain. Raises UnknownSchedule."""

    changes = True
    name: str

    async def serve(self, owner: Owner) -> None:
        _schedules(owner).delete(self.name)
        await owner.commit(owner.clock.now())

    async def guarded(self, guard: Guard) -> None:
        await GetSchedule(name=self.name).guarded(guard)
        await guard.beneath(self)

    async def spread(self, front: Front) -> None:
        index, _ = await front.found(GetSchedule(name=self.name), UnknownSchedule)
        await front.at(index, self)


class RunSchedule(Request[tuple[Job, bool]], frozen=True, tag="schedules.run"):
    """Make a job of a schedule now, independent of its slots. Returns the job, and whether it was made; it was not if another job has its
    unique key.

    Raises UnknownSchedule, Duplicate, QueueFull, TooManyQueues.
    """

    changes = True
    name: str

    async def serve(self, owner: Owner) -> tuple[Job, bool]:
        job, made = _schedules(owner, adding=True).run(self.name)
        return await owner.one(owner.clock.now(), job), made

    async def guarded(self, guard: Guard) -> tuple[Job, bool]:
        await GetSchedule(name=self.name).guarded(guard)
        return await guard.beneath(self)

    async def spread(self, front: Front) -> tuple[Job, bool]:
        index, _ = await front.found(GetSchedule(name=self.name), UnknownSchedule)
        return await front.at(index, self)


class Backfill(Request[list[str]], frozen=True, tag="schedules.backfill"):
    """Run the past slots of a schedule from `start` to `end`, both included. Returns the ids of their jobs, including those that exist
    already.

    Raises UnknownSchedule, BadRequest, QueueFull (too many slots wait).
    """

    changes = True
    name: str
    start: float
    end: float

    async def serve(self, owner: Owner) -> list[str]:
        ids = _schedules(owner, adding=True).backfill(self.name, self.start, self.end)
        await owner.commit(owner.clock.now())
        return ids

    async def guarded(self, guard: Guard) -> list[str]:
        await GetSchedule(name=self.name).guarded(guard)
        return await guard.beneath(self)

    async def spread(self, front: Front) -> list[str]:
        index, _ = await front.found(GetSchedule(name=self.name), UnknownSchedule)
        return await front.at(index, self)


SCHEDULES = (ListSchedules, GetSchedule, PutSchedule, ChangeSchedule, DeleteSchedule, RunSchedule, Backfill)
