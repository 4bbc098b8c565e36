"""Redriving dead letters as a task, and requests about tasks. How a dead letter is moved is in `QueueAdmin.redrive` in engine/admin.py."""

from __future__ import annotations

from jobqueue.backend.requests.request import Front, Guard, Owner, Request
from jobqueue.backend.tasks import letters
from jobqueue.engine import checks
from jobqueue.engine.filters import Matching
from jobqueue.engine.tasks import TaskStats
from jobqueue.errors import Forbidden, UnknownTask
from jobqueue.limits import REDRIVE_RATE_MAX, REDRIVE_RATE_MIN


class Redrive(Request[TaskStats], frozen=True, tag="redrive"):
    """Move the dead letters that wait in a queue now, and match, to another queue, which is created if needed. This starts a task that
    moves them.

    to: the target queue, None for the queue that each came from. rate: jobs per second, None for no limit. dry_run: only count them. alone:
    refuse if another task of the queue is running. as_new: each job gets a new id and number, and its waiting time counts from when it is
    moved, as if it had been enqueued then, unless something refers to its id: a group, a schedule, or jobs that are after it. Jobs for
    which there is no room when their turn comes stay. Raises UnknownQueue, BadRequest (to, rate), TooManyTasks.
    """

    changes = True
    queue: str
    to: str | None = None
    rate: float | None = None
    matching: Matching = Matching()
    dry_run: bool = False
    alone: bool = False
    as_new: bool = False

    def needs(self) -> int:
        return 6 if self.matching.error_group is not None else 5 if self.as_new else self.knows

    async def serve(self, owner: Owner) -> TaskStats:
        owner.check_open()
        if self.rate is not None:
            checks.number("rate", self.rate, REDRIVE_RATE_MIN, REDRIVE_RATE_MAX, " jobs a second")
        tasks = owner.tasks
        if not self.dry_run:
            tasks.check_room(self.queue if self.alone else None)
        found = await letters(owner, self.queue, self.to, self.matching, owner.clock.skew())
        now = tasks.utc()
        stats = TaskStats(
            id="" if self.dry_run else owner.engine.ids.token(),
            kind="redrive",
            queue=self.queue,
            to=self.to,
            rate=self.rate,
            state="done" if self.dry_run else "running",
            total=len(found),
            done=0,
            started_at=now,
            ended_at=now if self.dry_run else None,
        )
        if self.dry_run:
            return stats
        # Other requests ran during the search, and may have started tasks.
        owner.check_open()
        tasks.check_room(self.queue if self.alone else None)
        tasks.start(owner, stats, found, self.matching, self.as_new)
        began = tasks.get(stats.id)
        await owner.commit(owner.clock.now())
        return began

    async def guarded(self, guard: Guard) -> TaskStats:
        guard.allow(self.queue)
        if self.to is None:
            # Where each came from is known only when it is moved.
            error = Forbidden("a token that is limited to some queues must name the queue to move to")
            error.field = "to"
            raise error
        guard.allow(self.to, "to")
        return await guard.beneath(self)

    async def spread(self, front: Front) -> TaskStats:
        # Without `to`, each goes back to the queue that it came from, which is in the same partition.
        if self.to is not None:
            front.check_together("to", self.queue, self.to)
        return await front.for_queue(self.queue, self)


def _sees(guard: Guard, stats: TaskStats) -> bool:
    return guard.sees(stats.queue) and (stats.to is None or guard.sees(stats.to))


class ListTasks(Request[list[TaskStats]], frozen=True, tag="tasks.list"):
    """Every running task, and the last finished ones, newest first."""

    async def serve(self, owner: Owner) -> list[TaskStats]:
        return owner.tasks.all()

    async def guarded(self, guard: Guard) -> list[TaskStats]:
        return [stats for stats in await guard.beneath(self) if _sees(guard, stats)]

    async def spread(self, front: Front) -> list[TaskStats]:
        found = [stats for tasks in await front.everywhere(self) for stats in tasks]
        return sorted(found, key=lambda stats: stats.started_at, reverse=True)


class GetTask(Request[TaskStats], frozen=True, tag="tasks.get"):
    """One task. Raises UnknownTask."""

    id: str

    async def serve(self, owner: Owner) -> TaskStats:
        return owner.tasks.get(self.id)

    async def guarded(self, guard: Guard) -> TaskStats:
        stats = await guard.beneath(self)
        if not _sees(guard, stats):
            raise UnknownTask(self.id)
        return stats

    async def spread(self, front: Front) -> TaskStats:
        _, stats = await front.found(self, UnknownTask)
        return stats


class CancelTask(Request[TaskStats], frozen=True, tag="tasks.cancel"):
    """End a task. What it has done remains; a finished task does not change. Raises UnknownTask."""

    changes = True
    # Not new work: a draining server accepts it, as the owner does.
    hands_in = True
    id: str

    async def serve(self, owner: Owner) -> TaskStats:
        now = owner.clock.now()
        owner.tasks.cancel(self.id)
        await owner.commit(now)
        return owner.tasks.get(self.id)

    async def guarded(self, guard: Guard) -> TaskStats:
        await GetTask(id=self.id).guarded(guard)
        return await guard.beneath(self)

    async def spread(self, front: Front) -> TaskStats:
        index, _ = await front.found(GetTask(id=self.id), UnknownTask)
        return await front.at(index, self)


TASKS = (Redrive, ListTasks, GetTask, CancelTask)
