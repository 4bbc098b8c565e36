"""A backend as seen by a caller whose token is limited to some queues.

Every access to a job or a queue goes through this class, so code that gets it in place of the backend cannot forget a check. A live job
moves to another queue only as a dead letter or by an edit, and leases have tokens. So checking the job first and acting on it afterwards
can race in only two cases: the job was theirs until a moment ago, or history forgets it in between and its id is used again in another
queue. On the local backend nothing runs in between.

A caller who can use the queue in which a job was enqueued can read the job wherever it is now, wait for its end, and report late that they
had ended it, with the token of the lease that ran out; nothing else.

The caller names a queue, so a queue that they cannot use is answered Forbidden, whether it exists or not. A job is different: a job that
they cannot see is treated as one that does not exist, in every operation, and an enqueue with its id conflicts without any details of how
it differs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Container, Sequence
from typing import TypeVar

import msgspec

from jobqueue.backend.base import Backend, BackendStats, ClusterStats, Conclude, Enqueued, Extend, Listen, Listening, Release, Taking
from jobqueue.backend.requests.groups import GetGroup
from jobqueue.backend.requests.request import R, Request
from jobqueue.errors import Forbidden, IdConflict, QueueError, UnknownGroup, UnknownJob, UnknownParent
from jobqueue.model import Job, JobChange, JobFilter, JobSpec, KeyStats, QueueStats, Verdict, Want
from jobqueue.policy import PolicyChange, QueuePolicy
from jobqueue.reason import Reason

K = TypeVar("K", str, int)


class RestrictedBackend:
    """A Backend in front of another one; the methods are documented at `Backend`. Each can also raise Forbidden, having changed nothing.

    who: whose restriction it is, for the error; sees: whether they can use a queue. Lists leave out what they cannot see; `stats` are
    totals over all queues.
    """

    def __init__(self, backend: Backend, who: str, sees: Callable[[str], bool]) -> None:
        self._backend = backend
        self._who = who
        self.sees = sees

    @property
    def at_once(self) -> bool:
        return self._backend.at_once

    def _refusal(self, queue: str, field: str = "queue") -> Forbidden | None:
        if self.sees(queue):
            return None
        error = Forbidden(f"the token {self._who} gives no access to the queue {queue[:80]!r}")
        error.field = field
        return error

    def allow(self, queue: str, field: str = "queue") -> None:
        """See Guard, in requests/request.py; likewise for `sees` and `beneath`."""
        refusal = self._refusal(queue, field)
        if refusal is not None:
            raise refusal

    def _reads(self, job: Job) -> bool:
        return self.sees(job.queue) or (job.home != job.queue and self.sees(job.home))

    async def _look(self, find: Callable[[K], Awaitable[Job]], key: K, reading: bool = False) -> Job:
        """A job, if they can see it; with reading: if they can at least read it. Raises UnknownJob."""
        try:
            job = await find(key)
        except UnknownJob:
            # Checked in any case, so that the answer takes as long as that for a job which they cannot see.
            self.sees("")
            raise
        if not (self._reads(job) if reading else self.sees(job.queue)):
            raise UnknownJob(str(key))
        return job

    async def _check_job(self, job_id: str, late: bool = False) -> None:
        # A worker of the original queue can still end it, for example as a dead letter, with the lease that it had.
        await self._look(self._backend.job, job_id, reading=late)

    async def _told(self, conflict: IdConflict, job_id: str | None) -> IdConflict:
        """A conflict, reduced to what they are allowed to know of it."""
        assert job_id is not None
        try:
            await self._look(self._backend.job, job_id, reading=True)
        except UnknownJob:
            return IdConflict(job_id)
        return conflict

    async def _hangs_on_hidden(self, spec: JobSpec, made: Container[str] = ()) -> QueueError | None:
        """The error for a job that is after a job that they cannot see, or that joins a group that they cannot see. made: ids of jobs that
        are enqueued before it.
        """
        if not spec.after and spec.group is None:
            return None
        error: QueueError | None = None
        for parent in spec.after:
            try:
                hidden = not self._reads(await self._backend.job(parent))
            except UnknownJob:
                hidden = parent not in made
            if hidden:
                error = UnknownParent(parent)
        if spec.group is not None:
            try:
                await GetGroup(id=spec.group).guarded(self)
            except UnknownGroup:
                error = UnknownGroup(spec.group, "group")
        if error is not None and spec.id is not None:
            # A repeat can come after the jobs that it depends on were forgotten; it is compared then.
            with contextlib.suppress(UnknownJob):
                await self._look(self._backend.job, spec.id, reading=True)
                return None
        return error

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        self.allow(spec.queue)
        refusal = await self._hangs_on_hidden(spec)
        if refusal is not None:
            raise refusal
        try:
            return await self._backend.enqueue(spec)
        except IdConflict as conflict:
            raise await self._told(conflict, spec.id) from None

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        made: set[str] = set()
        allowed: list[JobSpec | QueueError] = []
        for spec in specs:
            one = spec
            if isinstance(spec, JobSpec):
                one = self._refusal(spec.queue) or await self._hangs_on_hidden(spec, made) or spec
                if one is spec and spec.id is not None:
                    made.add(spec.id)
            allowed.append(one.bare() if isinstance(one, QueueError) else one)
        replies = await self._backend.enqueue_batch(allowed)
        return [
            (await self._told(reply, spec.id)).bare() if isinstance(reply, IdConflict) and isinstance(spec, JobSpec) else reply
            for spec, reply in zip(allowed, replies, strict=True)
        ]

    def dequeue(self, want: Want, wait: float) -> Taking:
        for queue in want.queues:
            self.allow(queue)
        return self._backend.dequeue(msgspec.structs.replace(want, who=self._who), wait)

    async def _allowed(self, job_id: str, late: bool = False) -> QueueError | None:
        try:
            await self._check_job(job_id, late)
        except UnknownJob as refusal:
            return refusal.bare()
        return None

    async def conclude(self, job_id: str, token: str, verdict: Verdict) -> Job:
        await self._check_job(job_id, verdict.late)
        return await self._backend.conclude(job_id, token, verdict)

    async def conclude_batch(self, items: Sequence[Conclude | QueueError]) -> list[Job | QueueError]:
        return await self._backend.conclude_batch(
            [item if isinstance(item, QueueError) else await self._allowed(item.id, item.verdict.late) or item for item in items]
        )

    async def extend(self, item: Extend) -> Job:
        await self._check_job(item.id)
        return await self._backend.extend(item)

    async def extend_batch(self, items: Sequence[Extend | QueueError]) -> list[Job | QueueError]:
        return await self._backend.extend_batch(
            [item if isinstance(item, QueueError) else await self._allowed(item.id) or item for item in items]
        )

    async def release(self, job_id: str, token: str, delay: float) -> Job:
        await self._check_job(job_id)
        return await self._backend.release(job_id, token, delay)

    async def release_batch(self, items: Sequence[Release | QueueError]) -> list[Job | QueueError]:
        return await self._backend.release_batch(
            [item if isinstance(item, QueueError) else await self._allowed(item.job_id) or item for item in items]
        )

    async def give_back(self, job_id: str, token: str) -> bool:
        await self._check_job(job_id)
        return await self._backend.give_back(job_id, token)

    async def cancel(self, job_id: str) -> Job:
        await self._check_job(job_id)
        return await self._backend.cancel(job_id)

    async def retry(self, job_id: str) -> Job:
        await self._check_job(job_id)
        return await self._backend.retry(job_id)

    async def edit(self, job_id: str, change: JobChange) -> Job:
        await self._check_job(job_id)
        if isinstance(change.queue, str):
            self.allow(change.queue)
        return await self._backend.edit(job_id, change)

    async def ask(self, request: Request[R]) -> R:
        return await request.guarded(self)

    async def beneath(self, request: Request[R]) -> R:
        """See `check`."""
        return await self._backend.ask(request)

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        job = await self._look(self._backend.job, job_id, reading=True)
        if wait <= 0:
            return job
        job = await self._backend.job(job_id, wait)
        if not self._reads(job):
            # It was a dead letter when they began to wait, and has been moved since.
            raise UnknownJob(job_id)
        return job

    async def numbered(self, number: int) -> Job:
        return await self._look(self._backend.numbered, number, reading=True)

    async def jobs(self, wanted: JobFilter) -> tuple[list[Job], int | str | None]:
        if wanted.queue is not None:
            self.allow(wanted.queue)
        return await self._backend.jobs(msgspec.structs.replace(wanted, sees=self.sees))

    def listen(self, wanted: Listen, after: str | None = None) -> Listening:
        for queue in sorted(wanted.queues):
            self.allow(queue)
        return self._backend.listen(msgspec.structs.replace(wanted, sees=self.sees), after)

    async def queues(self) -> list[QueueStats]:
        return [stats for stats in await self._backend.queues() if self.sees(stats.name)]

    async def queue_page(self, after: str, limit: int) -> tuple[list[QueueStats], str | None]:
        found: list[QueueStats] = []
        cursor: str | None = after
        while cursor is not None and not found:
            page, cursor = await self._backend.queue_page(cursor, limit)
            found = [stats for stats in page if self.sees(stats.name)]
            if not found:
                await asyncio.sleep(0)
        # The name of a queue that they cannot see must not be revealed either.
        return found, None if cursor is None else found[-1].name

    async def queue(self, name: str) -> QueueStats:
        self.allow(name)
        return await self._backend.queue(name)

    async def put_policy(self, name: str, policy: QueuePolicy, by: str | None = None) -> QueueStats:
        self.allow(name)
        if policy.dead_letter is not None:
            self.allow(policy.dead_letter, "dead_letter")
        return await self._backend.put_policy(name, policy, by)

    async def change_policy(self, name: str, change: PolicyChange, by: str | None = None) -> QueueStats:
        self.allow(name)
        if isinstance(change.dead_letter, str):
            self.allow(change.dead_letter, "dead_letter")
        return await self._backend.change_policy(name, change, by)

    async def keys(self, name: str, after: str, limit: int) -> tuple[list[KeyStats], str | None]:
        self.allow(name)
        return await self._backend.keys(name, after, limit)

    async def set_key_paused(self, name: str, key: str, paused: bool, by: str | None = None) -> KeyStats:
        self.allow(name)
        return await self._backend.set_key_paused(name, key, paused, by)

    async def waiting_for(self, numbers: Sequence[int]) -> list[list[Reason]]:
        # The caller was shown these jobs, and numbers are never reused.
        return await self._backend.waiting_for(numbers)

    async def delete_queue(self, name: str) -> None:
        self.allow(name)
        await self._backend.delete_queue(name)

    async def set_paused(self, name: str, paused: bool, by: str | None = None) -> QueueStats:
        self.allow(name)
        return await self._backend.set_paused(name, paused, by)

    async def purge(self, name: str) -> int:
        self.allow(name)
        return await self._backend.purge(name)

    async def retry_failed(self, name: str) -> int:
        self.allow(name)
        return await self._backend.retry_failed(name)

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
