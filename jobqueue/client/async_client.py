"""The client for asyncio, with all that both clients can do: each operation, what it takes, sends, answers and raises.

`sync_client.py` is made from this file by `python -m tests.client.generate`. The rest is in
async_queues.py, async_batches.py, async_logs.py and async_server.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, overload

from msgspec import UNSET, UnsetType

from jobqueue.client import calls, reading, short
from jobqueue.client.async_batches import AsyncBatches
from jobqueue.client.async_logs import AsyncLogs
from jobqueue.client.async_queues import AsyncQueues
from jobqueue.client.async_server import AsyncServer
from jobqueue.client.async_workers import AsyncWorkers
from jobqueue.client.header_types import HeaderValue
from jobqueue.client.listening import Listener, asked
from jobqueue.client.log_types import LogLine
from jobqueue.client.retrying import WAIT_SECONDS, result_of
from jobqueue.client.sending import ConcludeOne, ExtendOne, JobEdit, encoded, instant, once, place, query, shared
from jobqueue.client.types import (
    Concluded,
    Enqueued,
    Extended,
    Job,
    JobEvent,
    JobInfo,
    LeasedJob,
    NewJob,
    Page,
    WorkOutcome,
)
from jobqueue.client.worker_types import QUIET, About
from jobqueue.model import DEFAULT_QUEUE, AfterFailure, Outcome, Status
from jobqueue.policy import Backoff
from jobqueue.unique import Unique


class AsyncClient(AsyncBatches, AsyncQueues, AsyncLogs, AsyncServer, AsyncWorkers):
    """A client of one server, or of several servers on one store, for asyncio. `Client` is the same for threads.

        async with AsyncClient("http://127.0.0.1:8080") as client:
            made = await client.enqueue({"to": "ann"}, queue="mail", type="email")
            job = await client.job(made.id, wait=30)  # once a worker has done it, or as it is after 30 seconds
            print(job.outcome, job.result)

    url: the server's base URL, with its path prefix if it has one. By default JOBQUEUE_URL, or http://127.0.0.1:8080. For several servers
    on one store, up to 32 URLs: a sequence, or one str with commas between them. The client uses one of them, chosen at random, and
    another if that one cannot be reached or is unavailable.
    token: the bearer token. By default JOBQUEUE_TOKEN; an empty str means no token.
    timeout: seconds for each try of a call, from connecting to the last byte of the answer, in addition to the time that the server is
    asked to wait; several servers share it.
    max_wait: the longest wait in seconds that one request asks for; longer waits use several requests. If the server's limit is lower, the
    client uses that.
    retrying: when a request is sent again; see Retrying.
    ssl_context: for https with your own certificates.
    sharing: whether calls of enqueue, conclude, extend and release that are made while another such call is under way are sent together,
    in one request. A single call is sent at once. Each call has its own answer or error, and is sent again by itself.
    sleep: how the client pauses before it sends again; for tests.

    Raises ValueError for an invalid url or token. Nothing is opened before the first call. Use it in one event loop, and close it there:
    `async with AsyncClient() as client: …`. Any number of tasks can share a client: each waiting call has its own connection, without a
    limit. A cancelled call may still have had its effect. The jobs that a cancelled dequeue was about to return are released in the
    background; `close` waits for that, 5 seconds at most.

    Durations are in seconds, as int or float. Times are datetimes with a time zone. Payloads, results and errors can be anything that
    msgspec encodes as JSON: None, bool, int, float, str, lists, dicts, dataclasses, Structs, datetimes, UUIDs; or JSON text as
    msgspec.Raw, which is sent unchanged. docs/protocol.md has each field's bounds.

    Every operation can raise ConnectionFailed (no answer), BadRequest (an invalid field; `field` says which), Unauthorized (no token or a
    wrong one), Draining (the server is shutting down), TooManyConnections, and UnexpectedAnswer (not an answer of this protocol). All are
    QueueErrors with `code`, `detail` and `field`. An operation that changes something can raise Unconfirmed: the change may have been
    made. Each operation lists the other errors that it raises.

    A request whose answer was lost is sent again, and so is one that was answered 429 or 503, after its Retry-After; see Retrying. The
    exceptions are cancel, retry, forget, edit, purge, redrive and retry_failed, whose repetition could undo what others did in the
    meantime, and healthy and ready.
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
        tags: Sequence[str] = (),
        unique: Unique | None = None,
        after: Sequence[str] = (),
        after_failure: AfterFailure = "cancel",
        group: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
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
        tags: Sequence[str] = (),
        unique: Unique | None = None,
        after: Sequence[str] = (),
        after_failure: AfterFailure = "cancel",
        group: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
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
        tags: Sequence[str] = (),
        unique: Unique | None = None,
        after: Sequence[str] = (),
        after_failure: AfterFailure = "cancel",
        group: str | None = None,
        headers: Mapping[str, HeaderValue] | None = None,
        wait: float | None = None,
    ) -> Any:
        """Submit a job. With a wait, wait for its result.

        payload: the data of the job, any JSON value.
        id: str of 1 to 128 characters. Without one, the client makes a UUIDv7, so that it can send the job again if the answer is lost.
        queue: a name of 1 to 80 of the characters A-Z a-z 0-9 . _ : - type: str of 1 to 128 characters, the kind of job; description: str,
        for people.
        priority: int from 0, the most urgent, to 9.
        delay: seconds before a worker can take it; run_at: the datetime from which a worker can take it. Give one or the other.
        expires_in: seconds after which it expires, if no worker has it then.
        max_attempts: int; backoff: Backoff; lease_seconds: seconds. By default, as in the queue's policy.
        traceparent: str, the trace that the job belongs to (W3C Trace Context); a Worker continues it.
        key: str of 1 to 128 characters, such as an account; the queue's policy can order, limit and share jobs by it.
        tags: up to 8 str of 1 to 64 characters, to find the job by.
        unique: Unique, to allow only one job with the same unique key in the queue.
        after: ids of up to 100 jobs that must have ended before; after_failure: what to do if one of them does not succeed: "cancel",
        "run", or "hold" until it has succeeded.
        group: the id of the group that the job joins.
        headers: a dict of up to 12 headers by name: str, or Header for a type other than String. The worker receives them.
        wait: seconds to wait for the result, including the time of the enqueue; any length, math.inf for ever.

        Without wait, returns Enqueued. Its `created` is False if a job with this id and the same content existed before. If the client
        made the id, it is always True; if you chose it, it can be False because the first answer was lost and the job was sent again.
        With unique, the returned job can be another one that holds the key: then `created` is False, and a wait is for the result of that
        job.

        With wait, returns the result as plain Python objects once the job succeeded. Raises JobFailed (it failed, was cancelled or
        expired), WaitTimeout (not concluded in time; the job continues, and the error has its job_id), and UnknownJob (history has
        forgotten it).

        Also raises IdConflict (a job with this id has different content), Duplicate (another job, `job_id`, has the unique key),
        TooLarge, UnknownJob (an unknown id in after), UnknownGroup, GroupClosed, QueueFull, TooManyQueues.
        """
        job = NewJob(
            payload, calls.new_id(queue) if id is None else id, queue, type, description, priority, delay, run_at, expires_in, max_attempts,
            backoff, lease_seconds, traceparent, key, tags, unique, after, after_failure, group, headers,
        )  # fmt: skip
        if wait is None:
            return await self._run(calls.enqueue(job, id is None))
        return await self._carry(result_of(job, wait, self._retrying, self._hold, self._servers))

    async def dequeue(
        self,
        queue: str | Sequence[str] = DEFAULT_QUEUE,
        *,
        wait: float = WAIT_SECONDS,
        lease_seconds: float | None = None,
        worker: str | None = None,
        attempt_id: str | None = None,
        about: About | None = None,
    ) -> LeasedJob | None:
        """Take a job, or wait for one. You hold the job until its lease ends: extend it, and conclude or release it.

        queue: a name, or several in order of preference.
        wait: seconds to wait for a job; 0 for no wait, any length, math.inf for ever. A wait above the client's max_wait uses several
        requests. It can end early if the server shuts down.
        lease_seconds: length of the lease, 0 for one that ends at once; by default the job's own, or that of its queue.
        worker: str of 1 to 128 characters, the worker's name; shown with the job.
        attempt_id: str of 1 to 128 characters. By default the client makes one, so that it can repeat a request whose answer was lost, and
        get the same job. Choose it yourself to do this across restarts; never use the same one for two dequeues.
        about: About, details of the worker for the list of workers; requires worker.

        Returns a LeasedJob, or None if the wait ended without a job; None at once if the worker is quiet. Raises TooManyWaiters.
        """
        taken: Any = await self._taken(calls.dequeue(queue, wait, lease_seconds, worker, attempt_id, about))
        return None if taken is QUIET else taken

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
        log: Sequence[str | LogLine] = (),
        log_offset: int | None = None,
        late: bool = False,
        traceback: str | None = None,
    ) -> Concluded:
        """Finish an attempt.

        job_id: the job's id; lease: the token of its lease, `job.lease.token`.
        outcome: "succeeded" or "failed".
        result: any JSON value, only with succeeded; error: any JSON value, only with failed.
        retry: False makes a failure final, even if attempts are left; retry_delay: seconds until the next attempt after a failure, None for
        the job's backoff.
        log: lines for the job's log, and log_offset: as `lines` and `offset` of `log`; left out if there is no room for them.
        late: True accepts a success even after the lease has run out, while the job waits and has not been handed out again.
        traceback: str, only with failed: where the code failed, for people; the server keeps 8 KiB of it with the attempt.

        Returns Concluded: the job's new state. Raises LeaseLost (you no longer hold the job; after a lost answer to a failure, the first
        try may have succeeded), NotInProgress (this lease has concluded it, with another outcome), UnknownJob, TooLarge.
        """
        body = encoded(ConcludeOne(lease, outcome, result, error, retry, retry_delay, log, log_offset, late, traceback))
        return await self._run(shared(place("jobs", job_id, "/conclude"), short.concluded(outcome), body, "/batch/conclude", job_id))

    async def extend(
        self,
        job_id: str,
        lease: str,
        *,
        lease_seconds: float | None = None,
        progress: float | None = None,
        message: str | None = None,
        log: Sequence[str | LogLine] = (),
        log_offset: int | None = None,
    ) -> Extended:
        """Extend a lease and report progress: a heartbeat.

        job_id, lease: as conclude.
        lease_seconds: the lease ends that long from now; without it, after its original length; with 0 at once, as if it had run out.
        progress: from 0 to 1; message: str, for people. Without them, the last values stay.
        log, log_offset: as conclude. Without log_offset, all lines are added.

        Returns Extended. If its cancel_requested is True, stop. Raises LeaseLost (stop: you no longer hold the job), NotInProgress,
        UnknownJob.
        """
        body = encoded(ExtendOne(lease, lease_seconds, progress, message, log, log_offset))
        return await self._run(shared(place("jobs", job_id, "/extend"), reading.extended, body, "/batch/extend", job_id))

    async def release(self, job_id: str, lease: str, *, delay: float = 0.0) -> JobInfo:
        """Return a job to its queue. The attempt does not count, and the job keeps its place.

        job_id, lease: as conclude. delay: seconds before a worker can take it again.

        Returns JobInfo. Raises LeaseLost (you no longer hold the job; after a lost answer, it may have been released), NotInProgress,
        UnknownJob.
        """
        return await self._run(calls.release(job_id, lease, delay))

    async def cancel(self, job_id: str) -> JobInfo:
        """Cancel a job. A waiting job is concluded as cancelled; for a job in progress, its worker learns it with its next extend.

        Returns JobInfo. Raises UnknownJob, NotInProgress (it is concluded already).
        """
        return await self._run(once("POST", place("jobs", job_id, "/cancel"), reading.job_info, idempotent=False))

    async def retry(self, job_id: str) -> JobInfo:
        """Queue a job again that failed, was cancelled or expired, with all its attempts.

        Returns JobInfo. Raises UnknownJob, NotRetryable (it is not concluded, or it succeeded), QueueFull, TooManyQueues.
        """
        return await self._run(once("POST", place("jobs", job_id, "/retry"), reading.job_info, idempotent=False))

    async def forget(self, job_id: str) -> JobInfo:
        """Take a concluded job out of history at once, with its payload, result, errors and log: its id is free again.

        Returns JobInfo, the job as it was. Raises UnknownJob, NotForgettable (it is not concluded, it halts its key, or jobs that wait are
        after it). Needs the scope admin.
        """
        return await self._run(once("POST", place("jobs", job_id, "/forget"), reading.job_info, idempotent=False))

    async def edit(
        self,
        job_id: str,
        *,
        payload: Any = UNSET,
        queue: str | UnsetType = UNSET,
        description: str | UnsetType | None = UNSET,
        priority: int | UnsetType = UNSET,
        delay: float | UnsetType = UNSET,
        run_at: datetime | UnsetType = UNSET,
        expires_in: float | UnsetType | None = UNSET,
        tags: Sequence[str] | UnsetType = UNSET,
    ) -> JobInfo:
        """Change some fields of a job that waits; the others stay as they are.

        payload, description, run_at, tags: as enqueue; queue, priority: likewise; a new value puts the job at the back. delay,
        expires_in: seconds from now; expires_in None: it does not expire.

        Returns JobInfo. Raises UnknownJob, InProgress (a worker has it), NotInProgress (it is concluded), TooLarge, QueueFull,
        TooManyQueues.
        """
        asked = JobEdit(payload, queue, description, priority, delay, run_at, expires_in, tags)
        return await self._run(once("PATCH", place("jobs", job_id), reading.job_info, encoded(asked), idempotent=False))

    async def job(self, job_id: str, *, wait: float = 0.0) -> Job:
        """Return a job, or wait until it is concluded.

        wait: the longest wait in seconds; 0 for no wait, math.inf for ever.

        Returns the Job as it is then: check its status. Raises UnknownJob (it never existed, or history has forgotten it),
        TooManyWaiters.
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
        tag: str | None = None,
        group: str | None = None,
        parent: str | None = None,
        worker: str | None = None,
        error: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        retrying: bool | None = None,
        error_group: str | None = None,
        order: Literal["created", "concluded"] = "created",
        waiting_for: bool = False,
        limit: int | None = None,
        cursor: int | str | None = None,
    ) -> Page:
        """One page of jobs, newest first, without payloads and results.

        status, outcome, queue, type, key: only jobs with this value; status and outcome as Status, Outcome or their names.
        tag: str, only jobs with this tag; group: str, only members of this group; parent: str, only jobs that are after the job with this
        id.
        worker: str, only jobs that this worker has, or had last.
        error: str, only jobs whose last error contains this; case-sensitive.
        created_after, created_before: datetime with a time zone, only jobs created at that time or later, or before it.
        waiting_for: bool, whether each job has what it waits for.
        limit: int from 1 to 1000, jobs on a page; without it 100.
        cursor: the cursor of the page before.
        retrying: bool, only jobs that wait for their next attempt; False: only the others.
        error_group: str, only jobs whose last error is in this group, the `id` of one of `errors`.
        order: "concluded" lists concluded jobs only, the last to end first.

        Returns Page.
        """
        wanted = {"status": status, "outcome": outcome, "queue": queue, "type": type, "key": key, "tag": tag, "cursor": cursor}
        wanted |= {"group": group, "parent": parent}
        since, until = instant("created_after", created_after), instant("created_before", created_before)
        why = "true" if waiting_for else None
        again = None if retrying is None else "true" if retrying else "false"
        target = query(
            "/jobs",
            **wanted,
            worker=worker,
            error=error,
            created_after=since,
            created_before=until,
            retrying=again,
            error_group=error_group,
            order=None if order == "created" else order,
            waiting_for=why,
            limit=limit,
        )
        return await self._run(once("GET", target, reading.page))

    async def all_jobs(
        self,
        *,
        status: Status | str | None = None,
        outcome: Outcome | str | None = None,
        queue: str | None = None,
        type: str | None = None,
        key: str | None = None,
        tag: str | None = None,
        group: str | None = None,
        parent: str | None = None,
        worker: str | None = None,
        error: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        retrying: bool | None = None,
        error_group: str | None = None,
        order: Literal["created", "concluded"] = "created",
        waiting_for: bool = False,
        limit: int | None = None,
        cursor: int | str | None = None,
    ) -> AsyncIterator[JobInfo]:
        """Every matching job, newest first. Pages are requested as they are needed. The parameters are those of jobs.

        Returns an iterator of JobInfo (AsyncClient: for `async for`). Jobs that are enqueued meanwhile are not included.
        """
        while True:
            page = await self.jobs(
                status=status,
                outcome=outcome,
                queue=queue,
                type=type,
                key=key,
                tag=tag,
                group=group,
                parent=parent,
                worker=worker,
                error=error,
                created_after=created_after,
                created_before=created_before,
                retrying=retrying,
                error_group=error_group,
                order=order,
                waiting_for=waiting_for,
                limit=limit,
                cursor=cursor,
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
        """Listen to events of jobs and queues, from the start of the iteration until the client is closed.

        queue, type, event: only events of these queues, of jobs of these types, with these names; one or a list of each. last_event_id:
        str, continue after the event with this event_id; without it, begin now. With an id that the server does not know, such as "none",
        the stream begins with a `reset`.

        Returns an iterator of JobEvent (AsyncClient: for `async for`). If the connection is lost, the client connects again, without end,
        after pauses as in Retrying, and continues where it was. The event `reset` means that events were missed nevertheless: read the
        state again. close() ends the iteration, from any thread or task. Raises Forbidden, TooManyListeners.
        """
        return self._listen(Listener(asked(queue, type, event), last_event_id, self._retrying, self._servers))
