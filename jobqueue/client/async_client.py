"""The client for asyncio. What its operations do is told at `Operations`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any, overload

from jobqueue.client import calls
from jobqueue.client.async_transport import AsyncTransport
from jobqueue.client.listening import Listener, asked
from jobqueue.client.operations import documented
from jobqueue.client.retrying import WAIT_SECONDS, result_of
from jobqueue.client.types import (
    Conclude,
    Concluded,
    Enqueued,
    Extend,
    Extended,
    Job,
    JobEvent,
    JobInfo,
    LeasedJob,
    NewJob,
    Page,
    Queue,
    Token,
    WorkOutcome,
)
from jobqueue.errors import QueueError
from jobqueue.model import DEFAULT_QUEUE, Backoff, Outcome, Status


@documented
class AsyncClient(AsyncTransport):
    """A client of one server, for asyncio. `Client` is the same for threads.

    url: the server's base URL, with a prefix if it has one; without it JOBQUEUE_URL, else http://127.0.0.1:8080.
    token: the bearer token; without it JOBQUEUE_TOKEN. An empty one is none.
    timeout: seconds for each try of a call, connecting and the last byte of the answer included, on top of the time the server was asked
    to wait.
    max_wait: seconds one request asks to be held at most, longer waits being made of several; less once the
    server said that it holds none so long.
    retrying: when a request is sent again; see Retrying.
    ssl_context: for https with certificates of your own.
    sleep: how it pauses before it sends again; for tests.

    Raises ValueError for a url or a token that cannot be one. Nothing is opened before the first call. Use it in one event loop, and
    close it there: `async with AsyncClient() as client: …`. Any number of tasks may share one: each call that is held has a connection
    of its own, without a bound. A call that is cancelled may still have happened. The jobs that a cancelled
    dequeue was about to return are given back in the background, which `close` waits for, 5 seconds at most.
    """

    # Jobs.

    @overload
    async def enqueue(
        self,
        payload: Any,
        *,
        id: str | None = None,
        queue: str = DEFAULT_QUEUE,
        type: str | None = None,
        description: str | None = None,
        priority: int = 5,
        delay: float | None = None,
        run_at: datetime | None = None,
        expires_in: float | None = None,
        max_attempts: int | None = None,
        backoff: Backoff | None = None,
        lease_seconds: float | None = None,
        traceparent: str | None = None,
        wait: None = None,
    ) -> Enqueued: ...

    @overload
    async def enqueue(
        self,
        payload: Any,
        *,
        id: str | None = None,
        queue: str = DEFAULT_QUEUE,
        type: str | None = None,
        description: str | None = None,
        priority: int = 5,
        delay: float | None = None,
        run_at: datetime | None = None,
        expires_in: float | None = None,
        max_attempts: int | None = None,
        backoff: Backoff | None = None,
        lease_seconds: float | None = None,
        traceparent: str | None = None,
        wait: float,
    ) -> Any: ...

    async def enqueue(
        self,
        payload: Any,
        *,
        id: str | None = None,
        queue: str = DEFAULT_QUEUE,
        type: str | None = None,
        description: str | None = None,
        priority: int = 5,
        delay: float | None = None,
        run_at: datetime | None = None,
        expires_in: float | None = None,
        max_attempts: int | None = None,
        backoff: Backoff | None = None,
        lease_seconds: float | None = None,
        traceparent: str | None = None,
        wait: float | None = None,
    ) -> Any:
        job = NewJob(
            payload, id, queue, type, description, priority, delay, run_at, expires_in, max_attempts, backoff, lease_seconds, traceparent
        )
        if wait is None:
            return await self._run(calls.enqueue(job))
        return await self._carry(result_of(job, wait, self._retrying, self._hold))

    async def enqueue_batch(self, jobs: Iterable[NewJob]) -> list[Enqueued | QueueError]:
        return await self._run(calls.enqueue_batch(jobs))

    async def dequeue(
        self,
        queue: str | Sequence[str] = DEFAULT_QUEUE,
        *,
        wait: float = WAIT_SECONDS,
        lease_seconds: float | None = None,
        worker: str | None = None,
        attempt_id: str | None = None,
    ) -> LeasedJob | None:
        return await self._taken(calls.dequeue(queue, wait, lease_seconds, worker, attempt_id))

    async def dequeue_batch(
        self,
        queue: str | Sequence[str] = DEFAULT_QUEUE,
        *,
        limit: int,
        wait: float = WAIT_SECONDS,
        lease_seconds: float | None = None,
        worker: str | None = None,
        attempt_id: str | None = None,
    ) -> list[LeasedJob]:
        return await self._taken(calls.dequeue_batch(queue, limit, wait, lease_seconds, worker, attempt_id))

    async def conclude(
        self,
        job_id: str,
        lease: str,
        outcome: WorkOutcome,
        *,
        result: Any = None,
        error: Any = None,
        retry: bool = True,
        retry_delay: float | None = None,
    ) -> Concluded:
        return await self._run(calls.conclude(job_id, lease, outcome, result, error, retry, retry_delay))

    async def conclude_batch(self, items: Iterable[Conclude]) -> list[Concluded | QueueError]:
        return await self._run(calls.conclude_batch(items))

    async def extend(
        self, job_id: str, lease: str, *, lease_seconds: float | None = None, progress: float | None = None, message: str | None = None
    ) -> Extended:
        return await self._run(calls.extend(job_id, lease, lease_seconds, progress, message))

    async def extend_batch(self, items: Iterable[Extend]) -> list[Extended | QueueError]:
        return await self._run(calls.extend_batch(items))

    async def release(self, job_id: str, lease: str, *, delay: float = 0.0) -> JobInfo:
        return await self._run(calls.release(job_id, lease, delay))

    async def cancel(self, job_id: str) -> JobInfo:
        return await self._run(calls.cancel(job_id))

    async def retry(self, job_id: str) -> JobInfo:
        return await self._run(calls.retry(job_id))

    async def job(self, job_id: str, *, wait: float = 0.0) -> Job:
        return await self._run(calls.job(job_id, wait))

    async def jobs(
        self,
        *,
        status: Status | str | None = None,
        outcome: Outcome | str | None = None,
        queue: str | None = None,
        type: str | None = None,
        limit: int | None = None,
        cursor: int | None = None,
    ) -> Page:
        return await self._run(calls.jobs(status, outcome, queue, type, limit, cursor))

    async def all_jobs(
        self,
        *,
        status: Status | str | None = None,
        outcome: Outcome | str | None = None,
        queue: str | None = None,
        type: str | None = None,
        limit: int | None = None,
        cursor: int | None = None,
    ) -> AsyncIterator[JobInfo]:
        while True:
            page = await self._run(calls.jobs(status, outcome, queue, type, limit, cursor))
            for job in page.jobs:
                yield job
            if page.cursor is None:
                return
            cursor = page.cursor

    # Not a generator itself, so that what is asked wrongly is said here.
    def events(
        self,
        *,
        queue: str | Sequence[str] | None = None,
        type: str | Sequence[str] | None = None,
        event: str | Sequence[str] | None = None,
        last_event_id: str | None = None,
    ) -> AsyncIterator[JobEvent]:
        return self._listen(Listener(asked(queue, type, event), last_event_id, self._retrying))

    # Queues and the server.

    async def queues(self) -> list[Queue]:
        return await self._run(calls.queues())

    async def queue(self, name: str) -> Queue:
        return await self._run(calls.queue(name))

    async def put_queue(
        self,
        name: str,
        *,
        lease_seconds: float | None = None,
        max_attempts: int | None = None,
        backoff: Backoff | None = None,
        max_jobs: int | None = None,
        paused: bool = False,
    ) -> Queue:
        return await self._run(calls.put_queue(name, lease_seconds, max_attempts, backoff, max_jobs, paused))

    async def delete_queue(self, name: str) -> None:
        return await self._run(calls.delete_queue(name))

    async def pause(self, name: str) -> Queue:
        return await self._run(calls.pause(name))

    async def resume(self, name: str) -> Queue:
        return await self._run(calls.resume(name))

    async def purge(self, name: str) -> int:
        return await self._run(calls.purge(name))

    async def retry_failed(self, name: str) -> int:
        return await self._run(calls.retry_failed(name))

    async def token(self) -> Token:
        return await self._run(calls.token())

    async def metrics(self) -> str:
        return await self._run(calls.metrics())

    async def openapi(self) -> dict[str, Any]:
        return await self._run(calls.openapi())

    async def healthy(self) -> bool:
        return await self._asks(calls.healthy())

    async def ready(self) -> bool:
        return await self._asks(calls.ready())
