"""One operation on many jobs, and removing one job from history. What it does to the jobs is in engine/bulk.py.

A request is answered after a bounded part of the operation, with the cursor to continue from: so no request takes long, and the client can
stop.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import msgspec

from jobqueue.backend.requests.request import Front, Guard, Owner, Request
from jobqueue.engine.bulk import Action, Bulk
from jobqueue.engine.filters import Matching
from jobqueue.errors import BadRequest, Forbidden, Unavailable, UnknownJob, Unsupported
from jobqueue.limits import NAME
from jobqueue.model import Job, JobChange


class BulkDone(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The result of one part. matched: jobs of this part that matched; done: how many of them were changed; refused: how many were left
    unchanged, by error code; cursor: where the next part begins, None at the end.
    """

    matched: int
    done: int
    refused: dict[str, int]
    cursor: str | None


class BulkJobs(Request[BulkDone], frozen=True, tag="bulk"):
    """One part of an operation on all jobs that match, starting at the cursor that the previous part returned; see engine/bulk.py.

    change: what an edit changes. Raises BadRequest (also for a filter that matches every job), TooLarge.
    """

    changes = True
    action: Action
    matching: Matching
    change: JobChange = JobChange()
    dry_run: bool = False
    cursor: str | None = None

    def needs(self) -> int:
        return self.knows if self.matching.retrying is None and self.matching.error_group is None else 6

    async def serve(self, owner: Owner) -> BulkDone:
        owner.check_open(adding=self.action in ("retry", "edit"))
        clock = owner.clock
        bulk = Bulk(owner.engine, clock.now(), clock.skew(), self.action, self.matching, self.change, self.cursor, self.dry_run)
        while True:
            now = clock.now()
            bulk.step(now, clock.skew())
            if not self.dry_run:
                await owner.commit(now)
            if bulk.enough or owner.draining:
                return BulkDone(matched=bulk.matched, done=bulk.done, refused=dict(bulk.refused), cursor=bulk.cursor)
            await asyncio.sleep(0)

    async def guarded(self, guard: Guard) -> BulkDone:
        named_queue(guard, self.matching, "filter.queue")
        if isinstance(self.change.queue, str):
            guard.allow(self.change.queue, "edit.queue")
        return await guard.beneath(self)

    async def spread(self, front: Front) -> BulkDone:
        queue, to = self.matching.queue, self.change.queue
        if isinstance(to, str):
            if queue is not None:
                front.check_together("edit.queue", queue, to)
            elif NAME.fullmatch(to) is not None:
                raise Unsupported("edit.queue", "with several partitions, give the queue of the jobs too, as filter.queue")
        if queue is not None:
            return await front.for_queue(queue, self)
        # In all partitions at the same time, so that in each the jobs count that exist when the operation begins.
        cursors = _cursors(self.cursor, front.count)
        going = [index for index, cursor in enumerate(cursors) if cursor is not None]
        parts = await asyncio.gather(
            *(front.at(index, msgspec.structs.replace(self, cursor=cursors[index] or None)) for index in going), return_exceptions=True
        )
        failed = [part for part in parts if isinstance(part, BaseException)]
        done = [part for part in parts if isinstance(part, BulkDone)]
        for error in failed:
            if not isinstance(error, Unavailable) or not done or self.cursor is None:
                raise error
        # A partition that cannot be reached now goes on with a later part, where this one began.
        for index, part in zip(going, parts, strict=True):
            if isinstance(part, BulkDone):
                cursors[index] = part.cursor
        refused: Counter[str] = Counter()
        for part in done:
            refused.update(part.refused)
        return BulkDone(
            matched=sum(part.matched for part in done),
            done=sum(part.done for part in done),
            refused=dict(refused),
            cursor=None if cursors.count(None) == len(cursors) else ".".join("" if cursor is None else cursor for cursor in cursors),
        )


def _cursors(cursor: str | None, count: int) -> list[str | None]:
    """The cursor of each partition: "" to begin, None for one that has ended. Raises BadRequest."""
    if cursor is None:
        return [""] * count
    cursors = cursor.split(".")
    if len(cursors) != count:
        raise BadRequest("cursor", "is not a cursor that this server returned")
    return [each or None for each in cursors]


class ForgetJob(Request[Job], frozen=True, tag="forget"):
    """Remove one concluded job from history, with its payload, result, errors and log. Returns the job as it was. Raises UnknownJob,
    NotForgettable.
    """

    changes = True
    knows = 6
    id: str

    async def serve(self, owner: Owner) -> Job:
        owner.check_open()
        now = owner.clock.now()
        return await owner.one(now, owner.engine.forget_one(self.id))

    async def guarded(self, guard: Guard) -> Job:
        job = await guard.job(self.id)
        if not guard.sees(job.queue):
            # They can read it, since it was enqueued in a queue of theirs.
            raise UnknownJob(self.id)
        return await guard.beneath(self)

    async def spread(self, front: Front) -> Job:
        return await front.for_job(self.id, self)


def named_queue(guard: Guard, matching: Matching, field: str) -> None:
    """Raise Forbidden unless a filter names a queue that they can use."""
    if matching.queue is None:
        error = Forbidden("a token that is limited to some queues must name a queue")
        error.field = field
        raise error
    guard.allow(matching.queue, field)


BULK = (BulkJobs, ForgetJob)
