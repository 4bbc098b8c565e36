"""The client for asyncio, with all that both clients can do: each operation, what it takes, sends, answers and raises.

`sync_client.py` is made from this file by `python -m tests.client.generate`. What concerns queues is in async_queues.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from typing import Any, overload

from jobqueue.client import calls, reading
from jobqueue.client.async_queues import AsyncQueues
from jobqueue.client.listening import Listener, asked
from jobqueue.client.retrying import WAIT_SECONDS, result_of
from jobqueue.client.sending import ConcludeOne, ExtendOne, Items, encoded, once, place, query
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
    Stats,
    Token,
    WorkOutcome,
)
from jobqueue.errors import QueueError
from jobqueue.model import DEFAULT_QUEUE, Backoff, Outcome, Status


class AsyncClient(AsyncQueues):
    """A client of one server, or of several on one queue, for asyncio. `Client` is the same for threads.

    url: the server's base URL, with a prefix if it has one; without it JOBQUEUE_URL, else http://127.0.0.1:8080. Of several servers on one
    queue, their URLs: a sequence, or in one str with commas between them, 32 at most. One of them is asked, which is left to chance, and
    another when that one cannot be reached or says that it cannot do it now.
    token: the bearer token; without it JOBQUEUE_TOKEN. An empty one is none.
    timeout: seconds for each try of a call, connecting and the last byte of the answer included, on top of the time the server was asked
    to wait; to connect to one of several servers, a share of it.
    max_wait: seconds one request asks to be held at most, longer waits being made of several; less once the server said that it holds
    none so long.
    retrying: when a request is sent again; see Retrying.
    ssl_context: for https with certificates of your own.
    sleep: how it pauses before it sends again; for tests.

    Raises ValueError for a url or a token that cannot be one. Nothing is opened before the first call. Use it in one event loop, and
    close it there: `async with AsyncClient() as client: …`. Any number of tasks may share one: each call that is held has a connection
    of its own, without a bound. A call that is cancelled may still have happened. The jobs that a cancelled dequeue was about to return
    are given back in the background, which `close` waits for, 5 seconds at most.

    Durations are seconds, as int or float. Times are datetimes with a zone. Payloads, results and errors may be whatever msgspec encodes
    as JSON: None, bool, int, float, str, lists, dicts, dataclasses, Structs, datetimes, UUIDs; or JSON text as msgspec.Raw, which is
    passed on as it is. The docs of the protocol, docs/protocol.md, have each field's bounds.

    Every operation may raise ConnectionFailed (no answer), BadRequest (a field is not as it should be; `field` says which), Unauthorized
    (no token or a wrong one), Draining (the server shuts down), TooManyConnections, and UnexpectedAnswer (not an answer of this
    protocol). All are QueueErrors with `code`, `detail` and `field`. One that changes something may raise Unconfirmed: it may have been
    done. What else one raises is said there.

    A request whose answer was lost is sent again, and one that was answered 429 or 503 after its Retry-After, as `Retrying` says: all
    but cancel, retry, purge, retry_failed, healthy and ready, whose repeat could undo what others did meanwhile, or is not wanted.
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
        key: str | None = None,
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
        key: str | None = None,
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
        key: str | None = None,
        wait: float | None = None,
    ) -> Any:
        """Submit a job. With a wait, wait for its result.

        payload: the work, any JSON value.
        id: str of 1 to 128 characters. Without one the client makes a UUIDv7, so that it can send the job again if the answer was lost.
        queue: a name of 1 to 64 of the characters A-Z a-z 0-9 . _ : -
        type: str of 1 to 128 characters, what kind of work it is; description: str, for people.
        priority: int from 0, the most urgent, to 9.
        delay: seconds before it may be taken; run_at: the datetime from which on it may. One or the other.
        expires_in: seconds after which it is dropped as expired, if no worker holds it then.
        max_attempts: int; backoff: Backoff; lease_seconds: seconds. Without them the queue's policy decides.
        traceparent: str, the trace to go on with (W3C Trace Context); a Worker does.
        key: str of 1 to 128 characters, what it is about; the queue's policy may order, limit and share by it.
        wait: seconds to wait for the result, the enqueue included; as long as you like, math.inf for ever.

        Without wait, returns Enqueued. Its `created` is False if a job of this id and the same content was there before. For an id the
        client made it is always True; for one of your own it may be False because the first answer was lost and the job was sent again.

        With wait, returns the result as plain Python objects once the job succeeded. Raises JobFailed (it failed, was cancelled or
        expired), WaitTimeout (not concluded in time; it goes on, and the error has its job_id), and UnknownJob (history has forgotten it).

        Raises also IdConflict (a job of this id has other content), TooLarge, QueueFull, TooManyQueues.
        """
        job = NewJob(
            payload,
            id,
            queue,
            type,
            description,
            priority,
            delay,
            run_at,
            expires_in,
            max_attempts,
            backoff,
            lease_seconds,
            traceparent,
            key,
        )
        if wait is None:
            return await self._run(calls.enqueue(job))
        return await self._carry(result_of(job, wait, self._retrying, self._hold, self._servers))

    async def enqueue_batch(self, jobs: Iterable[NewJob]) -> list[Enqueued | QueueError]:
        """Submit many jobs, up to 1000 in one request.

        jobs: an iterable of NewJob. Those without an id get one, as with enqueue.

        Returns a list with an Enqueued for each, in order, or the QueueError that enqueue would have raised: items harm no other, and
        the errors of items are not raised. Raises TooLarge for a request above 1 MiB.
        """
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
        """Take a job, waiting for one. The job is yours until its lease ends: extend it, and conclude or release it.

        queue: a name, or several in order of preference.
        wait: seconds to wait for a job, 0 for not at all, as long as you like, math.inf for ever. A wait above the client's max_wait is
        made of several requests. It may end early while the server shuts down.
        lease_seconds: how long the lease holds; without it the job's own, else the policy of its queue.
        worker: str of 1 to 128 characters, who takes it; shown with the job.
        attempt_id: str of 1 to 128 characters. The client makes one of its own, so that a request whose answer was lost can be sent again
        and is answered with the same job. Choose it yourself to do so across restarts; never use one for two dequeues.

        Returns a LeasedJob, or None when the wait passed. Raises TooManyWaiters.
        """
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
        """Take up to `limit` jobs, waiting for the first.

        limit: int from 1 to 1000. The rest as dequeue.

        Returns a list of LeasedJob as soon as one is there, with as many as are there then; empty when the wait passed. Raises
        TooManyWaiters.
        """
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
        """Finish an attempt.

        job_id: the job's id; lease: the token of its lease, `job.lease.token`.
        outcome: "succeeded" or "failed".
        result: any JSON value, only with succeeded; error: any JSON value, only with failed.
        retry: False makes a failure final, whatever attempts are left; retry_delay: seconds until the next attempt after a failure,
        None for the job's backoff.

        Returns Concluded: how the job stands. Raises LeaseLost (the job is no longer yours; after a lost answer to a failure, it may have
        counted), NotInProgress (this lease has concluded it, otherwise), UnknownJob, TooLarge.
        """
        body = encoded(ConcludeOne(lease, outcome, result, error, retry, retry_delay))
        return await self._run(once("POST", place("jobs", job_id, "/conclude"), reading.concluded, body))

    async def conclude_batch(self, items: Iterable[Conclude]) -> list[Concluded | QueueError]:
        """Finish many attempts, up to 1000 in one request.

        items: an iterable of Conclude.

        Returns a list with a Concluded for each, in order, or the QueueError that conclude would have raised. Raises TooLarge for a
        request above 1 MiB.
        """
        return await self._run(once("POST", "/batch/conclude", reading.concluded_batch, encoded(Items(list(items)))))

    async def extend(
        self, job_id: str, lease: str, *, lease_seconds: float | None = None, progress: float | None = None, message: str | None = None
    ) -> Extended:
        """Push a lease's end out, and say how far the work is: a heartbeat.

        job_id, lease: as conclude.
        lease_seconds: the lease ends that long from now; without it, as long as it was given for.
        progress: from 0 to 1; message: str, what the worker is at. Without them, what was said before stays.

        Returns Extended. When its cancel_requested is True, stop. Raises LeaseLost (stop: the job is no longer yours), NotInProgress,
        UnknownJob.
        """
        asked = ExtendOne(lease, lease_seconds, progress, message)
        return await self._run(once("POST", place("jobs", job_id, "/extend"), reading.extended, encoded(asked)))

    async def extend_batch(self, items: Iterable[Extend]) -> list[Extended | QueueError]:
        """Push many leases' ends out, up to 1000 in one request.

        items: an iterable of Extend.

        Returns a list with an Extended for each, in order, or the QueueError that extend would have raised.
        """
        return await self._run(once("POST", "/batch/extend", reading.extended_batch, encoded(Items(list(items)))))

    async def release(self, job_id: str, lease: str, *, delay: float = 0.0) -> JobInfo:
        """Give a job back. The attempt does not count, and the job keeps its place.

        job_id, lease: as conclude. delay: seconds before it may be taken again.

        Returns JobInfo. Raises LeaseLost (the job is no longer yours; after a lost answer, it may have been given back), NotInProgress,
        UnknownJob.
        """
        return await self._run(calls.release(job_id, lease, delay))

    async def cancel(self, job_id: str) -> JobInfo:
        """Stop a job. One that waits is concluded as cancelled; of one in progress its worker is told at its next extend.

        Returns JobInfo. Raises UnknownJob, NotInProgress (it is concluded already).
        """
        return await self._run(once("POST", place("jobs", job_id, "/cancel"), reading.job_info, idempotent=False))

    async def retry(self, job_id: str) -> JobInfo:
        """Queue a job again that failed, was cancelled or expired, with all its attempts.

        Returns JobInfo. Raises UnknownJob, NotRetryable (it is not concluded, or it succeeded), QueueFull, TooManyQueues.
        """
        return await self._run(once("POST", place("jobs", job_id, "/retry"), reading.job_info, idempotent=False))

    async def job(self, job_id: str, *, wait: float = 0.0) -> Job:
        """Look at a job, or wait until it is concluded.

        wait: seconds to wait at most, 0 for not at all, math.inf for ever.

        Returns Job as it is then: look at its status. Raises UnknownJob (it never existed, or history has forgotten it), TooManyWaiters.
        """
        return await self._run(calls.job(job_id, wait))

    async def jobs(
        self,
        *,
        status: Status | str | None = None,
        outcome: Outcome | str | None = None,
        queue: str | None = None,
        type: str | None = None,
        key: str | None = None,
        waiting_for: bool = False,
        limit: int | None = None,
        cursor: int | None = None,
    ) -> Page:
        """One page of jobs, newest first, without payloads and results.

        status, outcome, queue, type, key: only jobs of this one; status and outcome as Status, Outcome or their names.
        waiting_for: bool, whether each says what it waits for.
        limit: int from 1 to 1000, jobs on a page; without it 100.
        cursor: where the page begins, the cursor of the page before.

        Returns Page.
        """
        wanted = {"status": status, "outcome": outcome, "queue": queue, "type": type, "key": key, "limit": limit, "cursor": cursor}
        target = query("/jobs", **wanted, waiting_for="true" if waiting_for else None)
        return await self._run(once("GET", target, reading.page))

    async def all_jobs(
        self,
        *,
        status: Status | str | None = None,
        outcome: Outcome | str | None = None,
        queue: str | None = None,
        type: str | None = None,
        key: str | None = None,
        waiting_for: bool = False,
        limit: int | None = None,
        cursor: int | None = None,
    ) -> AsyncIterator[JobInfo]:
        """Every job that fits, newest first, page after page as they are asked for. The parameters are those of jobs.

        Returns an iterator of JobInfo (AsyncClient: for `async for`). Jobs that are enqueued meanwhile are not among them.
        """
        while True:
            page = await self.jobs(
                status=status, outcome=outcome, queue=queue, type=type, key=key, waiting_for=waiting_for, limit=limit, cursor=cursor
            )
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
        """Listen to what happens to jobs and queues, from when the iteration begins until the client is closed.

        queue, type, event: only events of these queues, of jobs of these types, of these names; one or a list of each.
        last_event_id: str, go on after this event, the event_id of one; without it begin now. One that the server does not know, as
        "none", makes the stream begin with a `reset`.

        Returns an iterator of JobEvent (AsyncClient: for `async for`). A connection that is lost is made again after pauses as Retrying
        says, for ever, and goes on where it was. The event `reset` says that something was missed nevertheless: read again what you show.
        close() ends the iteration, from whichever thread or task. Raises Forbidden, TooManyListeners.
        """
        return self._listen(Listener(asked(queue, type, event), last_event_id, self._retrying, self._servers))

    # The server.

    async def token(self) -> Token:
        """What the token of this client may do. Any token may ask.

        Returns Token.
        """
        return await self._run(once("GET", "/token", reading.token))

    async def stats(self) -> Stats:
        """What the server holds in all, what keeps it, and, where it is one of many, how it sees the others.

        It is answered also while no server owns the queue. Raises Forbidden for a token that holds for some queues only.

        Returns Stats.
        """
        return await self._run(once("GET", "/stats", reading.stats))

    async def metrics(self) -> str:
        """The server's counts in the text format of Prometheus.

        Returns str.
        """
        return await self._run(once("GET", "/metrics", reading.text))

    async def openapi(self) -> dict[str, Any]:
        """The server's description of itself, with its own bounds, as OpenAPI 3.1.

        Returns a dict.
        """
        return await self._run(once("GET", "/openapi.json", reading.document))

    async def healthy(self) -> bool:
        """Is the server alive? Asked once, no token needed. Of several servers: is one of them?

        Returns bool; False also when no answer came.
        """
        return await self._asks(once("GET", "/healthz", reading.yes, idempotent=False))

    async def ready(self) -> bool:
        """Does the server take new work? Asked once, no token needed. Of several servers: does one of them?

        Returns bool; False while it shuts down, and when no answer came.
        """
        return await self._asks(once("GET", "/readyz", reading.yes, idempotent=False))
