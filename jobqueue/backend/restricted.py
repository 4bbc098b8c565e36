"""A backend as somebody sees it who may have to do with some queues only.

Every way to a job or a queue leads through here, so whoever is given this in place of the backend cannot forget to ask. A job's queue never
changes, and leases have tokens, so looking at the job first and acting on it then cannot be raced, but for one case: history forgets a
job in between, and its id is given anew in another queue. On the local backend nothing runs in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from jobqueue.backend.base import Backend, BackendStats, Conclude, Enqueued, Extend, Listen, Listening, Taking
from jobqueue.errors import Forbidden, QueueError, UnknownJob
from jobqueue.model import Job, JobFilter, JobSpec, QueuePolicy, QueueStats, Verdict, Want


class RestrictedBackend:
    """A Backend on another one; the methods are documented at `Backend`, and each may raise Forbidden too, having changed nothing.

    who: whose restriction it is, for the error; sees: whether they may have to do with a queue. Listings leave out what they may not see;
    `stats` are totals over all queues.
    """

    def __init__(self, backend: Backend, who: str, sees: Callable[[str], bool]) -> None:
        self._backend = backend
        self._who = who
        self._sees = sees

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

    def _seen(self, job: Job) -> Job:
        if not self._sees(job.queue):
            # The queue is not named: its name is not theirs to know.
            raise Forbidden(f"the token {self._who} may not use the queue that the job {job.id[:128]!r} is in")
        return job

    async def _check_job(self, job_id: str) -> None:
        self._seen(await self._backend.job(job_id))

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        self._check(spec.queue)
        return await self._backend.enqueue(spec)

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        return await self._backend.enqueue_batch(
            [spec if isinstance(spec, QueueError) else self._refusal(spec.queue) or spec for spec in specs]
        )

    def dequeue(self, want: Want, wait: float) -> Taking:
        for queue in want.queues:
            self._check(queue)
        return self._backend.dequeue(msgspec.structs.replace(want, who=self._who), wait)

    async def _allowed(self, item: Conclude | Extend) -> QueueError | None:
        try:
            await self._check_job(item.id)
        except Forbidden as refusal:
            return refusal
        except UnknownJob:
            # The backend itself says so, in its own order of errors.
            pass
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

    async def cancel(self, job_id: str) -> Job:
        await self._check_job(job_id)
        return await self._backend.cancel(job_id)

    async def retry(self, job_id: str) -> Job:
        await self._check_job(job_id)
        return await self._backend.retry(job_id)

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        job = self._seen(await self._backend.job(job_id))
        return job if wait <= 0 else await self._backend.job(job_id, wait)

    async def numbered(self, number: int) -> Job:
        return self._seen(await self._backend.numbered(number))

    async def jobs(self, wanted: JobFilter) -> tuple[list[Job], int | None]:
        if wanted.queue is not None:
            self._check(wanted.queue)
        found, cursor = await self._backend.jobs(wanted)
        return [job for job in found if self._sees(job.queue)], cursor

    def listen(self, wanted: Listen, after: str | None = None) -> Listening:
        for queue in sorted(wanted.queues):
            self._check(queue)
        return self._backend.listen(msgspec.structs.replace(wanted, sees=self._sees), after)

    async def queues(self) -> list[QueueStats]:
        return [stats for stats in await self._backend.queues() if self._sees(stats.name)]

    async def queue(self, name: str) -> QueueStats:
        self._check(name)
        return await self._backend.queue(name)

    async def put_policy(self, name: str, policy: QueuePolicy) -> QueueStats:
        self._check(name)
        return await self._backend.put_policy(name, policy)

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

    def check(self) -> None:
        self._backend.check()

    def stats(self) -> BackendStats:
        return self._backend.stats()

    def drain(self) -> None:
        self._backend.drain()

    async def close(self) -> None:
        await self._backend.close()
