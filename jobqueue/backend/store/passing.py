"""A Backend that passes each operation on to another one, which it chooses operation by operation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from jobqueue.backend.base import Backend, Conclude, Enqueued, Extend
from jobqueue.errors import QueueError
from jobqueue.model import Job, JobFilter, JobSpec, KeyStats, PolicyChange, QueuePolicy, QueueStats, Reason, Verdict

R = TypeVar("R")
Ask = Callable[[Backend], Awaitable[R]]
"""One operation, of whichever backend."""


class Passing(ABC):
    """The operations that are one question and one answer. Those that are more, and the whole, are the subclass's own."""

    @abstractmethod
    async def _pass(self, ask: Ask[R]) -> R:
        """Have an operation carried out that reads, or hands in a worker's work."""

    async def _change(self, ask: Ask[R]) -> R:
        """Have an operation carried out that brings new work or changes what is there, which a server that drains does not do."""
        return await self._pass(ask)

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

    async def give_back(self, job_id: str, token: str) -> bool:
        return await self._pass(lambda to: to.give_back(job_id, token))

    async def cancel(self, job_id: str) -> Job:
        return await self._change(lambda to: to.cancel(job_id))

    async def retry(self, job_id: str) -> Job:
        return await self._change(lambda to: to.retry(job_id))

    async def numbered(self, number: int) -> Job:
        return await self._pass(lambda to: to.numbered(number))

    async def jobs(self, wanted: JobFilter) -> tuple[list[Job], int | None]:
        return await self._pass(lambda to: to.jobs(wanted))

    async def queues(self) -> list[QueueStats]:
        return await self._pass(lambda to: to.queues())

    async def queue_page(self, after: str, limit: int) -> tuple[list[QueueStats], str | None]:
        return await self._pass(lambda to: to.queue_page(after, limit))

    async def queue(self, name: str) -> QueueStats:
        return await self._pass(lambda to: to.queue(name))

    async def put_policy(self, name: str, policy: QueuePolicy) -> QueueStats:
        return await self._change(lambda to: to.put_policy(name, policy))

    async def delete_queue(self, name: str) -> None:
        await self._change(lambda to: to.delete_queue(name))

    async def change_policy(self, name: str, change: PolicyChange) -> QueueStats:
        return await self._change(lambda to: to.change_policy(name, change))

    async def keys(self, name: str, after: str, limit: int) -> tuple[list[KeyStats], str | None]:
        return await self._pass(lambda to: to.keys(name, after, limit))

    async def set_key_paused(self, name: str, key: str, paused: bool) -> KeyStats:
        return await self._change(lambda to: to.set_key_paused(name, key, paused))

    async def waiting_for(self, numbers: Sequence[int]) -> list[list[Reason]]:
        return await self._pass(lambda to: to.waiting_for(numbers))

    async def set_paused(self, name: str, paused: bool) -> QueueStats:
        return await self._change(lambda to: to.set_paused(name, paused))

    async def purge(self, name: str) -> int:
        return await self._change(lambda to: to.purge(name))

    async def redrive(self, name: str) -> int:
        return await self._change(lambda to: to.redrive(name))
