"""The Backend contract: a complete queue, as the edges of the server use it. Any class that passes `tests/conformance/` is a Backend.

For every method: the return value is a snapshot that does not change afterwards. Times in it are UTC, in seconds since the epoch. When an
operation returns, its change is as durable as the backend promises.

An operation that raises has changed nothing, with two exceptions. After Unconfirmed, the change may have been made: others can see it, but
it is not as durable as promised yet, and perhaps never will be. And an operation that is cancelled may have been carried out. A caller that
repeats an operation must be able to find out; the ids of jobs and the tokens of leases serve for that. Purge, retry_failed and redrive work
in slices: when they raise, some slices may be done.

Any method can raise StorageUnavailable. Any method that changes something can raise Unconfirmed, except a dequeue, which puts back what it
took. After `drain` was called, methods that change something raise Draining, except the three that a worker needs to report its work
(extend, release, conclude).

**Errors.** An operation raises the errors that are documented at it, and StorageUnavailable or Unconfirmed for any failure below it: a
broken connection to a database, a time-out, a full disk. Any other exception, including ConnectionError, OSError and TimeoutError, is
treated as a defect: the client is answered 500, and the traceback is logged. None of them ever means that the client has gone. A backend
learns of that only by being cancelled (asyncio.CancelledError where it waits; GeneratorExit where it does not run in a task yet). An
operation that is cancelled releases what it took, and lets the cancellation propagate.

**Duration.** An operation may suspend for as long as it needs; it must not block the loop. Its caller may be gone by then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self

import msgspec

from jobqueue.backend.requests.request import R, Request
from jobqueue.engine.events import Kind
from jobqueue.errors import QueueError
from jobqueue.histogram import Timings
from jobqueue.joblog import LogPart
from jobqueue.model import Job, JobChange, JobFilter, JobSpec, KeyStats, Outcome, QueueStats, Status, Verdict, Want
from jobqueue.past import Failures
from jobqueue.policy import PolicyChange, QueuePolicy
from jobqueue.reason import Reason
from jobqueue.schedule import ScheduleTotals


class SentSpec(JobSpec, gc=False, kw_only=True):
    """A JobSpec as servers pass it to each other. It can set `there` and `claim`; no producer can."""

    there: bool = False  # type: ignore[misc]
    claim: int = 0  # type: ignore[misc]


def claimed(spec: JobSpec, number: int) -> SentSpec:
    """The same spec, under the claim of its id with this number."""
    sent = SentSpec(**{name: getattr(spec, name) for name in JobSpec.__struct_fields__})
    sent.there, sent.claim = spec.there, number
    return sent


class Enqueued(msgspec.Struct, frozen=True, gc=False):
    """A job as it was right after the enqueue, before it was handed to any worker. created is False for a repeated enqueue.

    handed_over: whether the job is now with a worker that was waiting.
    """

    job: Job
    created: bool
    handed_over: bool = False


class Conclude(msgspec.Struct, frozen=True, gc=False):
    """One item of a batch of concludes."""

    id: str
    token: str
    verdict: Verdict


class Extend(msgspec.Struct, frozen=True, gc=False):
    """One item of a batch of extends. None leaves a value as it is."""

    id: str
    token: str
    lease_seconds: float | None = None
    progress: float | None = None
    message: str | None = None
    log: LogPart | None = None


class Release(msgspec.Struct, frozen=True, gc=False):
    """One item of a batch of releases."""

    job_id: str
    token: str
    delay: float = 0.0


class StorageStats(msgspec.Struct, frozen=True):
    """The state of the storage. failing: changes cannot be stored now; problem: the reason. commits: how long each commit took, in seconds.
    unwritten_bytes: what waits to be written. last_at, last_seconds: when the last commit was, UTC, and how long it took; None before the
    first.
    """

    failing: bool
    commits: Timings
    unwritten_bytes: int
    problem: str | None = None
    last_at: float | None = None
    last_seconds: float | None = None


class MemberStats(msgspec.Struct, frozen=True):
    """A server on the store. address: of its peer port; seen_seconds: time since it last reported that it is running."""

    name: str
    address: str
    seen_seconds: float


class PartitionStats(msgspec.Struct, frozen=True, kw_only=True):
    """One partition, as a server sees it; the fields are those of ClusterStats."""

    index: int
    owner: str | None
    owner_address: str | None
    epoch: int
    lease_left_seconds: float | None = None
    problem: str | None = None
    standby: str | None = None
    behind: int = 0
    renewed_seconds: float | None = None
    link_seconds: float | None = None


class ClusterStats(msgspec.Struct, frozen=True, kw_only=True):
    """One of several servers on a store: its view of itself and of the others.

    name, address: its own. store: where the rows are. owner: which server owns the queue, and its address; None if there is no owner or the
    owner's lease has passed. epoch: of the last claim. members: the servers that reported in the last minute that they are running.
    lease_left_seconds: time until another server can claim the queue if the owner is not heard from again. problem: why this server would
    not own the queue, None if it would. standby: the server that follows the owner closely enough to take over without reading the rows,
    None if there is none. behind: commits that the standby has yet to follow, according to its last message.

    partitions: of a store that has several, each of them; [] otherwise. With several, owner and standby are None, epoch is the sum, and the
    other fields have the worst value of any partition.

    About this server only: renewed_seconds: time since it renewed its lease, None if it is not the owner. link_seconds: how long the owner
    took to answer this server's last request for its totals; None at the owner, and while the owner cannot be reached. clock_seconds: a
    lower bound of how far its clock is ahead of the store's, None until they were compared.
    """

    name: str
    address: str
    store: str
    owner: str | None
    owner_address: str | None
    epoch: int
    members: list[MemberStats]
    lease_left_seconds: float | None = None
    problem: str | None = None
    standby: str | None = None
    behind: int = 0
    renewed_seconds: float | None = None
    link_seconds: float | None = None
    clock_seconds: float | None = None
    partitions: list[PartitionStats] = []

    @property
    def owners(self) -> list[str | None]:
        """The owner of each partition."""
        return [each.owner for each in self.partitions] or [self.owner]

    @property
    def standbys(self) -> list[str | None]:
        """The standby of each partition. A server knows those of the partitions that it owns, and where it is the standby itself."""
        return [each.standby for each in self.partitions] or [self.standby]

    @property
    def without_standby(self) -> int:
        """How many of the partitions that this server owns have no standby; without partitions, 1 if it knows of none."""
        if not self.partitions:
            return int(self.standby is None)
        return sum(each.owner == self.name and each.standby is None for each in self.partitions)


class BackendStats(msgspec.Struct, frozen=True):
    """Totals over all queues, with their limits where they have one.

    live_bytes: the size of live jobs, as `engine/sizes.py` counts it. history: jobs and bytes by outcome. undelivered_total: jobs put back
    because the answer could not be delivered. In seconds: time_in_queue, from when a job was created, fell due or was retried until its
    first hand-out; time_in_progress, from a hand-out to its conclude; pickup, from when a job became available to a waiting dequeue until
    the end of that dequeue's answer. storage: None if jobs are only in memory. errors_left_out_total, messages_left_out_total: errors and
    messages of workers that were not kept for lack of room. dead_letters_refused_total: jobs that went to history because their dead-letter
    queue had no room. failed_forgotten_total: failed jobs that history had no more room for. logs: jobs that have a log. log_lines_total:
    lines that were kept; log_lines_dropped_total: those of them that were dropped later because a log was full; log_lines_left_out_total:
    lines that were not kept for lack of room. workers: the listed workers by state (busy, idle, quiet). groups: groups that are not
    concluded. edges: how many jobs the live jobs are after, in total. unique_windows: unique keys that are held for a time. duplicates:
    enqueues that met a held key, by what happened to them.
    """

    jobs_live: int
    live_bytes: int
    queues: int
    waiters: int
    leases: int
    history: dict[Outcome, tuple[int, int]]
    undelivered_total: int
    draining: bool
    leases_expired_total: int = 0
    time_in_queue: Timings = Timings()
    time_in_progress: Timings = Timings()
    pickup: Timings = Timings()
    storage: StorageStats | None = None
    listeners: int = 0
    failures: Failures = Failures()
    errors_left_out_total: int = 0
    messages_left_out_total: int = 0
    dead_letters_refused_total: int = 0
    logs: int = 0
    log_lines_total: int = 0
    log_lines_dropped_total: int = 0
    log_lines_left_out_total: int = 0
    workers: dict[str, int] = {}
    unique_windows: int = 0
    duplicates: dict[str, int] = {}
    schedules: ScheduleTotals = ScheduleTotals()
    groups: int = 0
    edges: int = 0
    failed_forgotten_total: int = 0


class Notice(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a listener receives for one event: the state of the job, or the policy of the queue, right after the step that caused the event.

    cursor: its position, for `Backend.listen`. at: when it happened. Never contains a payload, a result, an error or a token. For events of
    queues, all fields from `id` on except policy are None. policy is None for events of jobs, and for events of a queue that no longer
    exists.
    """

    cursor: str
    kind: Kind
    at: float
    queue: str
    id: str | None = None
    number: int | None = None
    type: str | None = None
    priority: int | None = None
    status: Status | None = None
    outcome: Outcome | None = None
    attempts: int | None = None
    run_at: float | None = None
    lease_expires_at: float | None = None
    worker: str | None = None
    progress: float | None = None
    message: str | None = None
    cancel_requested: bool | None = None
    policy: QueuePolicy | None = None
    key: str | None = None


class Listen(msgspec.Struct, frozen=True, kw_only=True):
    """Which events a listener receives. An empty set matches all. types: types of jobs, so events of queues do not match. sees: which
    queues the listener can see at all.
    """

    queues: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    kinds: frozenset[Kind] = frozenset()
    sees: Callable[[str], bool] | None = None

    def wants(self, notice: Notice) -> bool:
        """Whether a notice is for this listener."""
        return (
            (not self.queues or notice.queue in self.queues)
            and (not self.types or notice.type in self.types)
            and (not self.kinds or notice.kind in self.kinds)
            and (self.sees is None or self.sees(notice.queue))
        )


class Listening(Protocol):
    """One listener, from its start position on. An async context manager; leaving it ends the listener.

    missed, once entered: some events after its cursor are no longer remembered.
    """

    missed: bool

    @property
    def cursor(self) -> str:
        """The position up to which events were delivered, including events that the listener does not want."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def notices(self, limit: int, wait: float) -> list[Notice] | None:
        """Up to `limit` events since the last call, in order, each after its commit; [] if none came in `wait` seconds.

        None if there will be no more: the server drains, or the listener is so far behind that events were forgotten before it got them.
        """


class Taking(Protocol):
    """One dequeue, from taking a place in line to the last byte of the answer. An async context manager.

    Entering waits, and returns the jobs, each with its lease; [] if the wait passed or the server drains. Whatever happens before
    `delivered()` is called (an exception, a cancellation), leaving puts the jobs back in their old places. Their attempts are not counted,
    and the next waiter gets them at once. The same applies if entering raises, for example StorageUnavailable. A dequeue that is cancelled
    while it waits loses its place in line.

    quiet, once entered: there are no jobs because the worker, which has reported its state, is quiet (requests/workers.py).
    """

    quiet: bool

    def at_once(self) -> list[Job] | None:
        """What entering would return, if no waiting of any kind is needed; call `leave` at the end. None: the context manager must be
        entered.

        Raises what entering raises.
        """

    def leave(self) -> None:
        """Put back the jobs that `at_once` returned, if they were not delivered; otherwise do nothing."""

    async def __aenter__(self) -> list[Job]: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    def delivered(self) -> None:
        """Note that the answer was sent: the jobs are the worker's until their leases end."""


class Backend(Protocol):
    """A complete queue."""

    @property
    def at_once(self) -> bool:
        """Whether every operation can run without a task until it first suspends.

        If True, the HTTP edge runs a request where it was parsed, outside any task, to its end or its first suspension. This saves half of
        the cost of a small request. Until then `asyncio.current_task()` is None or an unrelated task, and code that needs the current task
        (asyncio.timeout, TaskGroup, wait_for, most of anyio) raises or affects another request. A backend that uses any of these, directly
        or perhaps through a library, must return False; then each operation is called in a task of its own request.
        """

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        """Submit a job. If a waiter for its queue exists, the oldest one gets the job before this returns.

        Raises BadRequest, TooLarge, IdConflict, QueueFull, TooManyQueues.
        """

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        """Submit many jobs. Returns the result or error of each item in its place; an error does not affect other items. Errors among
        `specs` are passed through.
        """

    def dequeue(self, want: Want, wait: float) -> Taking:
        """Take up to `want.limit` jobs, waiting up to `wait` seconds for the first.

        Waiters are served in the order in which they came; a newer one never overtakes an older one for the same queue. If the attempt_id
        still has live leases, the same worker of the same `want.who` gets the same jobs and leases again: those in `want.queues`, at most
        `want.limit`. If an older waiter with that attempt_id is still waiting, it is answered [] and the newer one takes over. A batch ends
        before the job with which its jobs would exceed `answer_bytes_max`. Raises BadRequest and TooManyWaiters on entering.
        """

    async def conclude(self, job_id: str, token: str, verdict: Verdict) -> Job:
        """End an attempt. With `verdict.late`, also end a job that has been waiting since the lease of this token ran out.

        Raises BadRequest, TooLarge, UnknownJob, LeaseLost, NotInProgress.
        """

    async def conclude_batch(self, items: Sequence[Conclude | QueueError]) -> list[Job | QueueError]:
        """End many attempts; see enqueue_batch."""

    async def extend(self, item: Extend) -> Job:
        """Extend a lease. An extend by 0 seconds ends it as if it had run out; the returned job then has no lease.

        Raises BadRequest, UnknownJob, LeaseLost, NotInProgress.
        """

    async def extend_batch(self, items: Sequence[Extend | QueueError]) -> list[Job | QueueError]:
        """Extend many leases; see enqueue_batch."""

    async def release(self, job_id: str, token: str, delay: float) -> Job:
        """Give a job back without using up an attempt. Raises BadRequest, UnknownJob, LeaseLost, NotInProgress."""

    async def release_batch(self, items: Sequence[Release | QueueError]) -> list[Job | QueueError]:
        """Give many jobs back; see enqueue_batch."""

    async def give_back(self, job_id: str, token: str) -> bool:
        """Undo a dequeue whose answer was not delivered. For a caller that has left its `Taking` and needs the undo to be stored.

        Returns True if it was undone; False if the job now has another lease, or if the lease was handed out again under its attempt_id:
        then a worker may have it.
        """

    async def cancel(self, job_id: str) -> Job:
        """Stop a job. Raises UnknownJob, NotInProgress."""

    async def retry(self, job_id: str) -> Job:
        """Queue a concluded job again that did not succeed. Raises UnknownJob, NotRetryable, QueueFull, TooManyQueues."""

    async def edit(self, job_id: str, change: JobChange) -> Job:
        """Change some fields of a waiting job. With a new queue or priority it goes to the back. Repeats of its enqueue are no longer
        compared with it.

        Raises UnknownJob, InProgress, NotInProgress (it is concluded), BadRequest, TooLarge, QueueFull, TooManyQueues.
        """

    async def ask(self, request: Request[R]) -> R:
        """Carry out an operation that is a struct (see requests/). Raises the errors documented at that struct."""

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        """A job, live or in history. With `wait`, returns when the job is concluded or the wait has passed.

        A conclusion that was waited for is as durable as an answered change when this returns it. Raises UnknownJob, TooManyWaiters.
        """

    async def numbered(self, number: int) -> Job:
        """The job with this number, live or in history. Numbers start at 1 and are never reused. Raises UnknownJob."""

    async def jobs(self, wanted: JobFilter) -> tuple[list[Job], int | str | None]:
        """A page of jobs, and the cursor of the next page: a number (a `before` or an `after`), or, with several partitions, a text (a
        `cursor`). A page can be short although there is a next one. Raises BadRequest (cursor).
        """

    async def queues(self) -> list[QueueStats]:
        """Every queue, by name. If there are many, they are read in slices, each at a different moment."""

    async def queue_page(self, after: str, limit: int) -> tuple[list[QueueStats], str | None]:
        """Up to `limit` queues by name, starting after the name `after`, and the next `after`: None at the end.

        A page can be short although there is a next one.
        """

    async def queue(self, name: str) -> QueueStats:
        """One queue. Raises UnknownQueue."""

    async def put_policy(self, name: str, policy: QueuePolicy, by: str | None = None) -> QueueStats:
        """Create a queue or set its policy. Raises BadRequest, TooManyQueues.

        by: the name of the caller's token, which is stored with a pause; None if the server requires no tokens.
        """

    async def change_policy(self, name: str, change: PolicyChange, by: str | None = None) -> QueueStats:
        """Change some fields of a queue's policy. Raises UnknownQueue, BadRequest."""

    async def keys(self, name: str, after: str, limit: int) -> tuple[list[KeyStats], str | None]:
        """Up to `limit` keys of a queue, sorted by most held up, then most queued; and the cursor of the next page, None at the end. after:
        such a cursor, "" for the first page.

        The list is empty if the queue's policy does not use keys. Keys come and go between pages. Raises UnknownQueue, BadRequest (cursor).
        """

    async def set_key_paused(self, name: str, key: str, paused: bool, by: str | None = None) -> KeyStats:
        """Pause or resume a key of a queue. Resuming also ends a halt that a failed job caused; that job is then given up.

        Raises UnknownQueue, BadRequest, QueueFull (the limit of paused keys is reached).
        """

    async def waiting_for(self, numbers: Sequence[int]) -> list[list[Reason]]:
        """For each job, all reasons why it is not in progress now. Empty for a job that is in progress, has ended or is unknown.

        Jobs are named by number, which is never reused: an id may by now belong to another job, in a queue that the caller cannot see.
        """

    async def delete_queue(self, name: str) -> None:
        """Delete a queue that has no live jobs. Raises UnknownQueue, QueueNotEmpty."""

    async def set_paused(self, name: str, paused: bool, by: str | None = None) -> QueueStats:
        """Pause or resume a queue. Raises UnknownQueue."""

    async def purge(self, name: str) -> int:
        """Cancel every job that was queued or scheduled when this was called. Returns how many. Raises UnknownQueue."""

    async def retry_failed(self, name: str) -> int:
        """Retry every failed job of a queue, oldest first, while there is room. Returns how many. Raises UnknownQueue."""

    def listen(self, wanted: Listen, after: str | None = None) -> Listening:
        """Receive events from now on, or those after the cursor `after`.

        The backend remembers a bounded number of events, while somebody listens and for a short time after. With a cursor that is older
        than that, from another process or invalid, listening starts from now, with `missed` set. Raises TooManyListeners on entering.
        """

    async def check(self) -> None:
        """Raise Draining or StorageUnavailable if no new work is accepted now, as far as is known without trying."""

    async def stats(self) -> BackendStats:
        """Totals at one moment. Raises StorageUnavailable, if another server has them."""

    def cluster(self) -> ClusterStats | None:
        """This server's view of the servers on its store, without waiting, whether or not one of them owns the queue. None if this is the
        only server.
        """

    def drain(self) -> None:
        """Accept no new work, and answer every waiter now. Calling it again has no effect."""

    async def close(self) -> None:
        """Drain, then release timers and storage."""
