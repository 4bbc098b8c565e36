"""Requests about whole queues. Ending everything in a queue is in engine/purging.py."""

from __future__ import annotations

import asyncio

import msgspec

from jobqueue.backend.merging import by_name
from jobqueue.backend.requests.request import PAGE, Front, Guard, Owner, Request
from jobqueue.engine.purging import Purge
from jobqueue.model import QueueStats
from jobqueue.policy import QueuePolicy

SLICE = 500
"""Jobs ended in one step, and so in one commit."""

SLICE_MAX = 16 * SLICE
"""The most live jobs that a queue can have to be deleted in one step, together with jobs that came in meanwhile."""


class GetPolicy(Request[QueuePolicy], frozen=True, tag="queues.policy"):
    """A queue's policy, at a tenth of the cost of `Backend.queue`; also the cheap way to check that a queue exists. Raises UnknownQueue."""

    knows = 3
    name: str

    async def serve(self, owner: Owner) -> QueuePolicy:
        return owner.engine.queue(self.name).policy

    async def guarded(self, guard: Guard) -> QueuePolicy:
        guard.allow(self.name)
        return await guard.beneath(self)

    async def spread(self, front: Front) -> QueuePolicy:
        return await front.for_queue(self.name, self)


async def _purged(owner: Owner, name: str) -> int:
    purge = Purge(owner.engine, name)
    await owner.sliced(purge.windows(SLICE), purge.step)
    return await owner.sliced(purge.jobs(SLICE), purge.step) if name in owner.engine.queues else 0


class PurgeAll(Request[int], frozen=True, tag="queues.purge"):
    """Cancel every live job of a queue, including those in progress, give up the failed jobs that halt its keys, and release its unique
    keys that are held for a time. Returns how many jobs ended. Works in slices: when it raises, some slices may be done. Raises
    UnknownQueue.
    """

    changes = True
    knows = 3
    name: str

    async def serve(self, owner: Owner) -> int:
        owner.check_open()
        return await _purged(owner, self.name)

    async def guarded(self, guard: Guard) -> int:
        guard.allow(self.name)
        return await guard.beneath(self)

    async def spread(self, front: Front) -> int:
        return await front.for_queue(self.name, self)


class DeleteQueue(Request[int], frozen=True, tag="queues.delete"):
    """Do what PurgeAll does, and then delete the queue, with jobs that came in meanwhile; dequeues that wait only for it are answered with
    no jobs.
    """

    changes = True
    knows = 3
    name: str

    async def serve(self, owner: Owner) -> int:
        owner.check_open()
        engine, count = owner.engine, SLICE
        ended = await _purged(owner, self.name)
        while (queue := engine.queues.get(self.name)) is not None:
            purge = Purge(engine, self.name)
            jobs = purge.jobs(count)
            if queue.live > count:
                # A producer that is as fast as this loop could keep the queue filled for ever, so from time to time one step does more.
                ended += await owner.sliced(jobs, purge.step)
                count = min(2 * count, SLICE_MAX)
                continue
            now = owner.clock.now()
            ended += sum([purge.step(now, part) for part in jobs])
            # When the last job of a group ends, for example, this can have made another job here.
            if gone := not queue.live:
                engine.delete_queue(self.name)
                owner.dismiss_queue(self.name)
            await owner.commit(now)
            if gone:
                break
            await asyncio.sleep(0)
        return ended

    async def guarded(self, guard: Guard) -> int:
        guard.allow(self.name)
        return await guard.beneath(self)

    async def spread(self, front: Front) -> int:
        return await front.for_queue(self.name, self)


class Made(msgspec.Struct, frozen=True):
    """A queue, and whether it was created now."""

    stats: QueueStats
    created: bool


class MakeQueue(Request[Made], frozen=True, tag="queues.make"):
    """Create a queue with this policy if there is no queue of this name; an existing queue is not changed. Raises BadRequest,
    TooManyQueues.
    """

    changes = True
    knows = 3
    name: str
    policy: QueuePolicy = QueuePolicy()

    async def serve(self, owner: Owner) -> Made:
        owner.check_open()
        now = owner.clock.now()
        created = self.name not in owner.engine.queues
        if created:
            owner.engine.put_policy(self.name, self.policy, now)
        # If another request has just created it, that may not be stored yet.
        await owner.commit(now)
        return Made(owner.queue_stats(self.name), created)

    async def guarded(self, guard: Guard) -> Made:
        guard.allow(self.name)
        if self.policy.dead_letter is not None:
            guard.allow(self.policy.dead_letter, "dead_letter")
        return await guard.beneath(self)

    async def spread(self, front: Front) -> Made:
        if self.policy.dead_letter is not None:
            front.check_together("dead_letter", self.name, self.policy.dead_letter)
        return await front.for_queue(self.name, self)


class QueueNames(Request[tuple[list[str], str | None]], frozen=True, tag="queues.names"):
    """Up to `limit` names of queues that begin with `prefix`, in order, starting after the name `after`; and the next `after`."""

    knows = 3
    prefix: str = ""
    after: str = ""
    limit: int = 1_000

    async def serve(self, owner: Owner) -> tuple[list[str], str | None]:
        return owner.engine.names_after(self.prefix, self.after, self.limit)

    async def guarded(self, guard: Guard) -> tuple[list[str], str | None]:
        found: list[str] = []
        cursor: str | None = self.after
        while cursor is not None and len(found) <= self.limit:
            asked = msgspec.structs.replace(self, after=cursor, limit=max(self.limit, PAGE))
            page, cursor = await guard.beneath(asked)
            found += [name for name in page if guard.sees(name)]
        # The name of a queue that they cannot see must not be revealed either.
        return found[: self.limit], found[self.limit - 1] if len(found) > self.limit else None

    async def spread(self, front: Front) -> tuple[list[str], str | None]:
        return by_name(await front.everywhere(self), str, self.limit)


QUEUES = (GetPolicy, PurgeAll, DeleteQueue, MakeQueue, QueueNames)
