"""What both clients can do, each operation told once. `Client` and `AsyncClient` take their docstrings from here.

The signatures are theirs: what one returns, the other returns to who awaits it.
"""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, TypeVar

C = TypeVar("C", bound="type[Operations]")


def documented(client: C) -> C:
    """Adds what holds for every operation to a client's docstring, since help() shows a class's own alone."""
    client.__doc__ = f"{cleandoc(client.__doc__ or '')}\n\n{cleandoc(Operations.__doc__ or '')}"
    return client


class Operations:
    """The operations of the native API, and what holds for all of them.

    Durations are seconds, as int or float. Times are datetimes with a zone. Payloads, results and errors may be whatever msgspec encodes
    as JSON: None, bool, int, float, str, lists, dicts, dataclasses, Structs, datetimes, UUIDs; or JSON text as msgspec.Raw, which is
    passed on as it is. The docs of the protocol, docs/protocol.md, have each field's bounds.

    Every operation may raise ConnectionFailed (no answer), BadRequest (a field is not as it should be; `field` says which), Unauthorized
    (no token or a wrong one), Draining (the server shuts down), TooManyConnections, and UnexpectedAnswer (not an answer of this
    protocol). All are QueueErrors with `code`, `detail` and `field`. What else one raises is said there.

    A request whose answer was lost is sent again, and one that was answered 429 or 503 after its Retry-After, as `Retrying` says: all
    but cancel, retry, purge, retry_failed, healthy and ready, whose repeat could undo what others did meanwhile, or is not wanted.
    """

    def enqueue(self, *args: Any, **kwargs: Any) -> Any:
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
        wait: seconds to wait for the result, the enqueue included; as long as you like, math.inf for ever.

        Without wait, returns Enqueued. Its `created` is False if a job of this id and the same content was there before. For an id the
        client made it is always True; for one of your own it may be False because the first answer was lost and the job was sent again.

        With wait, returns the result as plain Python objects once the job succeeded. Raises JobFailed (it failed, was cancelled or
        expired), WaitTimeout (not concluded in time; it goes on, and the error has its job_id), and UnknownJob (history has forgotten it).

        Raises also IdConflict (a job of this id has other content), TooLarge, QueueFull, TooManyQueues.
        """

    def enqueue_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Submit many jobs, up to 1000 in one request.

        jobs: an iterable of NewJob. Those without an id get one, as with enqueue.

        Returns a list with an Enqueued for each, in order, or the QueueError that enqueue would have raised: items harm no other, and
        the errors of items are not raised. Raises TooLarge for a request above 1 MiB.
        """

    def dequeue(self, *args: Any, **kwargs: Any) -> Any:
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

    def dequeue_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Take up to `limit` jobs, waiting for the first.

        limit: int from 1 to 1000. The rest as dequeue.

        Returns a list of LeasedJob as soon as one is there, with as many as are there then; empty when the wait passed. Raises
        TooManyWaiters.
        """

    def conclude(self, *args: Any, **kwargs: Any) -> Any:
        """Finish an attempt.

        job_id: the job's id; lease: the token of its lease, `job.lease.token`.
        outcome: "succeeded" or "failed".
        result: any JSON value, only with succeeded; error: any JSON value, only with failed.
        retry: False makes a failure final, whatever attempts are left; retry_delay: seconds until the next attempt after a failure,
        None for the job's backoff.

        Returns Concluded: how the job stands. Raises LeaseLost (the job is no longer yours; after a lost answer to a failure, it may have
        counted), NotInProgress (this lease has concluded it, otherwise), UnknownJob, TooLarge.
        """

    def conclude_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Finish many attempts, up to 1000 in one request.

        items: an iterable of Conclude.

        Returns a list with a Concluded for each, in order, or the QueueError that conclude would have raised. Raises TooLarge for a
        request above 1 MiB.
        """

    def extend(self, *args: Any, **kwargs: Any) -> Any:
        """Push a lease's end out, and say how far the work is: a heartbeat.

        job_id, lease: as conclude.
        lease_seconds: the lease ends that long from now; without it, as long as it was given for.
        progress: from 0 to 1; message: str, what the worker is at. Without them, what was said before stays.

        Returns Extended. When its cancel_requested is True, stop. Raises LeaseLost (stop: the job is no longer yours), NotInProgress,
        UnknownJob.
        """

    def extend_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Push many leases' ends out, up to 1000 in one request.

        items: an iterable of Extend.

        Returns a list with an Extended for each, in order, or the QueueError that extend would have raised.
        """

    def release(self, *args: Any, **kwargs: Any) -> Any:
        """Give a job back. The attempt does not count, and the job keeps its place.

        job_id, lease: as conclude. delay: seconds before it may be taken again.

        Returns JobInfo. Raises LeaseLost (the job is no longer yours; after a lost answer, it may have been given back), NotInProgress,
        UnknownJob.
        """

    def cancel(self, *args: Any, **kwargs: Any) -> Any:
        """Stop a job. One that waits is concluded as cancelled; of one in progress its worker is told at its next extend.

        Returns JobInfo. Raises UnknownJob, NotInProgress (it is concluded already).
        """

    def retry(self, *args: Any, **kwargs: Any) -> Any:
        """Queue a job again that failed, was cancelled or expired, with all its attempts.

        Returns JobInfo. Raises UnknownJob, NotRetryable (it is not concluded, or it succeeded), QueueFull, TooManyQueues.
        """

    def job(self, *args: Any, **kwargs: Any) -> Any:
        """Look at a job, or wait until it is concluded.

        wait: seconds to wait at most, 0 for not at all, math.inf for ever.

        Returns Job as it is then: look at its status. Raises UnknownJob (it never existed, or history has forgotten it), TooManyWaiters.
        """

    def jobs(self, *args: Any, **kwargs: Any) -> Any:
        """One page of jobs, newest first, without payloads and results.

        status, outcome, queue, type: only jobs of this one; status and outcome as Status, Outcome or their names.
        limit: int from 1 to 1000, jobs on a page; without it 100.
        cursor: where the page begins, the cursor of the page before.

        Returns Page.
        """

    def all_jobs(self, *args: Any, **kwargs: Any) -> Any:
        """Every job that fits, newest first, page after page as they are asked for. The parameters are those of jobs.

        Returns an iterator of JobInfo (AsyncClient: for `async for`). Jobs that are enqueued meanwhile are not among them.
        """

    def events(self, *args: Any, **kwargs: Any) -> Any:
        """Listen to what happens to jobs and queues, from when the iteration begins until the client is closed.

        queue, type, event: only events of these queues, of jobs of these types, of these names; one or a list of each.
        last_event_id: str, go on after this event, the event_id of one; without it begin now. One that the server does not know, as
        "none", makes the stream begin with a `reset`.

        Returns an iterator of JobEvent (AsyncClient: for `async for`). A connection that is lost is made again after pauses as Retrying
        says, for ever, and goes on where it was. The event `reset` says that something was missed nevertheless: read again what you show.
        close() ends the iteration, from whichever thread or task. Raises Forbidden, TooManyListeners.
        """

    def queues(self, *args: Any, **kwargs: Any) -> Any:
        """Every queue, by name.

        Returns a list of Queue.
        """

    def queue(self, *args: Any, **kwargs: Any) -> Any:
        """Look at a queue: policy, counts, totals.

        Returns Queue. Raises UnknownQueue.
        """

    def put_queue(self, *args: Any, **kwargs: Any) -> Any:
        """Make a queue, or set its whole policy: what is left out becomes the server's default, not what it was.

        lease_seconds: how long a lease holds if neither dequeue nor job says.
        max_attempts: int; backoff: Backoff; for jobs that do not say.
        max_jobs: int, the live jobs it may hold; None: only the server's bound.
        paused: bool, whether it hands out nothing.

        Returns Queue. Raises TooManyQueues.
        """

    def delete_queue(self, *args: Any, **kwargs: Any) -> Any:
        """Delete a queue that has no live jobs, its policy and totals with it.

        Returns None. Raises UnknownQueue (also when the first answer was lost and the queue was deleted by then), QueueNotEmpty.
        """

    def pause(self, *args: Any, **kwargs: Any) -> Any:
        """Hand out nothing from this queue. Jobs are still accepted, workers wait.

        Returns Queue. Raises UnknownQueue.
        """

    def resume(self, *args: Any, **kwargs: Any) -> Any:
        """Hand out from this queue again.

        Returns Queue. Raises UnknownQueue.
        """

    def purge(self, *args: Any, **kwargs: Any) -> Any:
        """Cancel every job of this queue that is queued or scheduled. Those in progress go on.

        Returns how many, an int. Raises UnknownQueue.
        """

    def retry_failed(self, *args: Any, **kwargs: Any) -> Any:
        """Retry every failed job of this queue that history still has, oldest first, until there is no more room.

        Returns how many, an int. Raises UnknownQueue.
        """

    def token(self, *args: Any, **kwargs: Any) -> Any:
        """What the token of this client may do. Any token may ask.

        Returns Token.
        """

    def metrics(self, *args: Any, **kwargs: Any) -> Any:
        """The server's counts in the text format of Prometheus.

        Returns str.
        """

    def openapi(self, *args: Any, **kwargs: Any) -> Any:
        """The server's description of itself, with its own bounds, as OpenAPI 3.1.

        Returns a dict.
        """

    def healthy(self, *args: Any, **kwargs: Any) -> Any:
        """Is the server alive? Asked once, no token needed.

        Returns bool; False also when no answer came.
        """

    def ready(self, *args: Any, **kwargs: Any) -> Any:
        """Does the server take new work? Asked once, no token needed.

        Returns bool; False while it shuts down, and when no answer came.
        """

    def close(self, *args: Any, **kwargs: Any) -> Any:
        """Close every connection. Leaving `with` (AsyncClient: `async with`) does it too. The client is of no use afterwards.

        Returns None.
        """
