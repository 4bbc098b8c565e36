"""A Backend that forwards each operation to another backend, which it chooses for each operation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence

from jobqueue.backend.base import Backend, Conclude, Enqueued, Extend, Release
from jobqueue.backend.requests.request import R, Request
from jobqueue.errors import QueueError
from jobqueue.model import Job, JobChange, JobFilter, JobSpec, KeyStats, QueueStats, Verdict
from jobqueue.policy import PolicyChange, QueuePolicy
from jobqueue.reason import Reason

Ask = Callable[[Backend], Awaitable[R]]
"""One operation, on any backend."""


class Passing(ABC):
    """The operations that consist of one request and one answer. Subclasses define the others, and those on the whole backend."""

    @abstractmethod
    async def _pass(self, ask: Ask[R]) -> R:
        """Forward an operation that reads, or that reports a worker's work."""

    async def _change(self, ask: Ask[R]) -> R:
        """Forward an operation that brings new work or changes something; a draining server refuses it."""
        return await self._pass(ask)

    @abstractmethod
    async def _hold(self, request: Request[R], wait: float) -> R:
        """Forward a request that is held for up to `wait` seconds."""

    async def ask(self, request: Request[R]) -> R:
        if request.held:
            return await self._hold(request, request.wait_seconds)
        return await (self._change if request.new_work else self._pass)(lambda to: to.ask(request))

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        return await self._change(lambda to: to.enqueue(spec))

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        return await self._change(lambda to: to.enqueue_batch(specs))

    async def conclude(self, job_id: str, token: str, verdict: Verdict) -> Job:
        return await self._pass(lambda to: to.conclude(job_id, token, verdict))

    async def conclude_batch(self, items: Sequence[Conclude | QueueError]) -> list[Job | QueueError]:
        return await self._pass(lambda to: to.conclude_batch(items))

    async def extend(self, item: Extend) -> Job:
        return await self._pass(lambda to: to.extend(item))

    async def extend_batch(self, items: Sequence[Extend | QueueError]) -> list[Job | QueueError]:
        return await self._pass(lambda to: to.extend_batch(items))

    async def release(self, job_id: str, token: str, delay: float) -> Job:
        return await self._pass(lambda to: to.release(job_id, token, delay))

    async def release_batch(self, items: Sequence[Release | QueueError]) -> list[Job | QueueError]:
        return await self._pass(lambda to: to.release_batch(items))

    async def give_back(self, job_id: str, token: str) -> bool:
        return await self._pass(lambda to: to.give_back(job_id, token))

    async def cancel(self, job_id: str) -> Job:
        return await self._change(lambda to: to.cancel(job_id))

    async def retry(self, job_id: str) -> Job:
        return await self._change(lambda to: to.retry(job_id))

    async def edit(self, job_id: str, change: JobChange) -> Job:
        return await self._change(lambda to: to.edit(job_id, change))

    async def numbered(self, number: int) -> Job:
        return await self._pass(lambda to: to.numbered(number))

    async def jobs(self, wanted: JobFilter) -> tuple[list[Job], int | str | None]:
        return await self._pass(lambda to: to.jobs(wanted))

    async def queues(self) -> list[QueueStats]:
        return await self._pass(lambda to: to.queues())

    async def queue_page(self, after: str, limit: int) -> tuple[list[QueueStats], str | None]:
        return await self._pass(lambda to: to.queue_page(after, limit))

    async def queue(self, name: str) -> QueueStats:
        return await self._pass(lambda to: to.queue(name))

    async def put_policy(self, name: str, policy: QueuePolicy, by: str | None = None) -> QueueStats:
        return await self._change(lambda to: to.put_policy(name, policy, by))

    async def delete_queue(self, name: str) -> None:
        await self._change(lambda to: to.delete_queue(name))

    async def change_policy(self, name: str, change: PolicyChange, by: str | None = None) -> QueueStats:
        return await self._change(lambda to: to.change_policy(name, change, by))

    async def keys(self, name: str, after: str, limit: int) -> tuple[list[KeyStats], str | None]:
        return await self._pass(lambda to: to.keys(name, after, limit))

    async def set_key_paused(self, name: str, key: str, paused: bool, by: str | None = None) -> KeyStats:
        return await self._change(lambda to: to.set_key_paused(name, key, paused, by))

    async def waiting_for(self, numbers: Sequence[int]) -> list[list[Reason]]:
        return await self._pass(lambda to: to.waiting_for(numbers))

    async def set_paused(self, name: str, paused: bool, by: str | None = None) -> QueueStats:
        return await self._change(lambda to: to.set_paused(name, paused, by))

    async def purge(self, name: str) -> int:
        return await self._change(lambda to: to.purge(name))

    async def retry_failed(self, name: str) -> int:
        return await self._change(lambda to: to.retry_failed(name))
