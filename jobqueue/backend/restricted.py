"""A backend as somebody sees it who may have to do with some queues only.

Every way to a job or a queue leads through here, so whoever is given this in place of the backend cannot forget to ask. A job's queue never
changes, and leases have tokens, so looking at the job first and acting on it then cannot be raced, but for one case: history forgets a
job in between, and its id is given anew in another queue. On the local backend nothing runs in between.

A queue is named by whoever asks, so one that they may not use is Forbidden, whether it exists or not. A job is not: one that they may
not see is one that does not exist, in every operation, and an enqueue of its id conflicts without a word of how it differs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from jobqueue.backend.base import Backend, BackendStats, ClusterStats, Conclude, Enqueued, Extend, Listen, Listening, Taking
from jobqueue.errors import Forbidden, IdConflict, QueueError, UnknownJob
from jobqueue.model import Job, JobFilter, JobSpec, KeyStats, PolicyChange, QueuePolicy, QueueStats, Reason, Verdict, Want

K = TypeVar("K", str, int)


class RestrictedBackend:
    """A Backend on another one; the methods are documented at `Backend`, and each may raise Forbidden too, having changed nothing.

    who: whose restriction it is, for the error; sees: whether they may have to do with a queue. Listings leave out what they may not see;
    `stats` are totals over all queues.
    """

    def __init__(self, backend: Backend, who: str, sees: Callable[[str], bool]) -> None:
        self._backend = backend
        self._who = who
        self._sees = sees

    @property
    def at_once(self) -> bool:
        return self._backend.at_once

    def _refusal(self, queue: str) -> Forbidden | None:
        if self._sees(queue):
            return None
        error = Forbidden(f"the token {self._who} may not use the queue {queue[:80]!r}")
        error.field = "queue"
        return error

    def _check(self, queue: str) -> None:
        refusal = self._refusal(queue)
        if refusal is not None:
            raise refusal

    async def _look(self, find: Callable[[K], Awaitable[Job]], key: K) -> Job:
        """A job, if they may see it. Raises UnknownJob."""
        try:
            job = await find(key)
        except UnknownJob:
            # Asked all the same, so that the answer takes as long as that for a job which they may not see.
            self._sees("")
            raise
        if not self._sees(job.queue):
            raise UnknownJob(str(key))
        return job

    async def _check_job(self, job_id: str) -> None:
        await self._look(self._backend.job, job_id)

    async def _told(self, conflict: IdConflict, job_id: str | None) -> IdConflict:
        """A conflict as they may know of it."""
        assert job_id is not None
        try:
            await self._check_job(job_id)
        except UnknownJob:
            return IdConflict(job_id)
        return conflict

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        self._check(spec.queue)
        try:
            return await self._backend.enqueue(spec)
        except IdConflict as conflict:
            raise await self._told(conflict, spec.id) from None

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        allowed = [spec if isinstance(spec, QueueError) else self._refusal(spec.queue) or spec for spec in specs]
        replies = await self._backend.enqueue_batch(allowed)
        return [
            (await self._told(reply, spec.id)).bare() if isinstance(reply, IdConflict) and isinstance(spec, JobSpec) else reply
            for spec, reply in zip(allowed, replies, strict=True)
        ]

    def dequeue(self, want: Want, wait: float) -> Taking:
        for queue in want.queues:
            self._check(queue)
        return self._backend.dequeue(msgspec.structs.replace(want, who=self._who), wait)

    async def _allowed(self, item: Conclude | Extend) -> QueueError | None:
        try:
            await self._check_job(item.id)
        except UnknownJob as refusal:
            return refusal.bare()
        return None

    async def conclude(self, job_id: str, token: str, verdict: Verdict) -> Job:
        await self._check_job(job_id)
        return await self._backend.conclude(job_id, token, verdict)

    async def conclude_batch(self, items: Sequence[Conclude | QueueError]) -> list[Job | QueueError]:
        return await self._backend.conclude_batch(
            [item if isinstance(item, QueueError) else await self._allowed(item) or item for item in items]
        )

    async def extend(self, item: Extend) -> Job:
        await self._check_job(item.id)
        return await self._backend.extend(item)

    async def extend_batch(self, items: Sequence[Extend | QueueError]) -> list[Job | QueueError]:
        return await self._backend.extend_batch(
            [item if isinstance(item, QueueError) else await self._allowed(item) or item for item in items]
        )

    async def release(self, job_id: str, token: str, delay: float) -> Job:
        await self._check_job(job_id)
        return await self._backend.release(job_id, token, delay)

    async def give_back(self, job_id: str, token: str) -> bool:
        await self._check_job(job_id)
        return await self._backend.give_back(job_id, token)

    async def cancel(self, job_id: str) -> Job:
        await self._check_job(job_id)
        return await self._backend.cancel(job_id)

    async def retry(self, job_id: str) -> Job:
        await self._check_job(job_id)
        return await self._backend.retry(job_id)

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        job = await self._look(self._backend.job, job_id)
        return job if wait <= 0 else await self._backend.job(job_id, wait)

    async def numbered(self, number: int) -> Job:
        return await self._look(self._backend.numbered, number)

    async def jobs(self, wanted: JobFilter) -> tuple[list[Job], int | None]:
        if wanted.queue is not None:
            self._check(wanted.queue)
        return await self._backend.jobs(msgspec.structs.replace(wanted, sees=self._sees))

    def listen(self, wanted: Listen, after: str | None = None) -> Listening:
        for queue in sorted(wanted.queues):
            self._check(queue)
        return self._backend.listen(msgspec.structs.replace(wanted, sees=self._sees), after)

    async def queues(self) -> list[QueueStats]:
        return [stats for stats in await self._backend.queues() if self._sees(stats.name)]

    async def queue_page(self, after: str, limit: int) -> tuple[list[QueueStats], str | None]:
        found: list[QueueStats] = []
        cursor: str | None = after
        while cursor is not None and not found:
            page, cursor = await self._backend.queue_page(cursor, limit)
            found = [stats for stats in page if self._sees(stats.name)]
            if not found:
                await asyncio.sleep(0)
        # The name of a queue that they may not see is not theirs to know either.
        return found, None if cursor is None else found[-1].name

    async def queue(self, name: str) -> QueueStats:
        self._check(name)
        return await self._backend.queue(name)

    async def put_policy(self, name: str, policy: QueuePolicy) -> QueueStats:
        self._check(name)
        return await self._backend.put_policy(name, policy)

    async def change_policy(self, name: str, change: PolicyChange) -> QueueStats:
        self._check(name)
        return await self._backend.change_policy(name, change)

    async def keys(self, name: str, after: str, limit: int) -> tuple[list[KeyStats], str | None]:
        self._check(name)
        return await self._backend.keys(name, after, limit)

    async def set_key_paused(self, name: str, key: str, paused: bool) -> KeyStats:
        self._check(name)
        return await self._backend.set_key_paused(name, key, paused)

    async def waiting_for(self, numbers: Sequence[int]) -> list[list[Reason]]:
        # Whoever asks has been shown these jobs, and no other job ever has such a number.
        return await self._backend.waiting_for(numbers)

    async def delete_queue(self, name: str) -> None:
        self._check(name)
        await self._backend.delete_queue(name)

    async def set_paused(self, name: str, paused: bool) -> QueueStats:
        self._check(name)
        return await self._backend.set_paused(name, paused)

    async def purge(self, name: str) -> int:
        self._check(name)
        return await self._backend.purge(name)

    async def redrive(self, name: str) -> int:
        self._check(name)
        return await self._backend.redrive(name)

    async def check(self) -> None:
        await self._backend.check()

    async def stats(self) -> BackendStats:
        return await self._backend.stats()

    def cluster(self) -> ClusterStats | None:
        return self._backend.cluster()

    def drain(self) -> None:
        self._backend.drain()

    async def close(self) -> None:
        await self._backend.close()
