"""One operation on many jobs, and removing one job from history. What it does to the jobs is in engine/bulk.py.

A request is answered after a bounded part of the operation, with the cursor to continue from: so no request takes long, and the client can
stop.
"""

from __future__ import annotations

import asyncio

import msgspec

from jobqueue.backend.requests.request import Guard, Owner, Request
from jobqueue.engine.bulk import Action, Bulk
from jobqueue.engine.filters import Matching
from jobqueue.errors import Forbidden, UnknownJob
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


def named_queue(guard: Guard, matching: Matching, field: str) -> None:
    """Raise Forbidden unless a filter names a queue that they can use."""
    if matching.queue is None:
        error = Forbidden("a token that is limited to some queues must name a queue")
        error.field = field
        raise error
    guard.allow(matching.queue, field)


BULK = (BulkJobs, ForgetJob)
