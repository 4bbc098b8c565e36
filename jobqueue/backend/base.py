"""The Backend contract: a whole queue, as the edges see it. Whatever passes `tests/conformance/` is one.

For every method: what comes back is a snapshot that nobody changes afterwards; times in it are UTC, seconds since the epoch;
once an operation returns, its change is as durable as the backend promises.

An operation that raises has changed nothing, with two exceptions. Unconfirmed says that the change may have been made: it is made where
others may see it, and is not as durable as promised yet, and perhaps never. And one that is cancelled may have been carried out.
Whoever repeats it must be able to find out; the ids of jobs and the tokens of leases are there for that. Purge and redrive go by slices:
when they raise, slices may have been done.

Any method may raise StorageUnavailable, and any that changes something Unconfirmed, but for a dequeue, which puts back what it took; those
that change something raise Draining once `drain` was called, except the three a worker needs to hand in its work (extend, release,
conclude).

**Its errors.** An operation raises the errors that are documented at it, and StorageUnavailable or Unconfirmed for whatever befalls what
is beneath it: a connection to a database that breaks, a time-out, a full disk. Anything else that it raises, a ConnectionError, an OSError
or a TimeoutError included, is taken for a defect: the client is answered 500 and the log has the traceback. None of them is ever taken to
mean that the client has gone, which a backend learns by being cancelled (asyncio.CancelledError, where it waits; GeneratorExit, where it
has not got as far as a task) and by nothing else. One that is cancelled lets go of what it took, and lets the cancellation through.

**How long it takes.** An operation may suspend for as long as it needs; it must not block the loop. A caller may be gone by then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, Self

import msgspec

from jobqueue.engine.events import Kind
from jobqueue.errors import QueueError
from jobqueue.histogram import Timings
from jobqueue.model import (
    Job,
    JobFilter,
    JobSpec,
    KeyStats,
    Outcome,
    PolicyChange,
    QueuePolicy,
    QueueStats,
    Reason,
    Status,
    Verdict,
    Want,
)


class Enqueued(msgspec.Struct, frozen=True, gc=False):
    """A job as it stood right after the enqueue, before any worker was handed it; created is False for a repeat.

    handed_over: whether a worker that waited has it by now.
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
    """One item of a batch of extends; None keeps what is."""

    id: str
    token: str
    lease_seconds: float | None = None
    progress: float | None = None
    message: str | None = None


class StorageStats(msgspec.Struct, frozen=True):
    """What keeps the jobs. failing: changes cannot be stored now; commits: how long each took, in seconds; unwritten_bytes: what waits."""

    failing: bool
    commits: Timings
    unwritten_bytes: int


class MemberStats(msgspec.Struct, frozen=True):
    """A server on the store. address: of its peer port; seen_seconds: since it last said that it is there."""

    name: str
    address: str
    seen_seconds: float


class ClusterStats(msgspec.Struct, frozen=True, kw_only=True):
    """One server of many on a store, as it sees itself and the others.

    name, address: its own; store: where the rows are; owner: who owns the queue and where it is reached, None while nobody does, or its
    lease has passed; epoch: of the last claim; members: those who said in the last minute that they are there; lease_left_seconds: until
    another may claim if the owner is not heard of again; problem: why this server would not own the queue, None while it would.
    standby: who follows the owner closely enough to take over without reading the rows, None while nobody does; behind: commits that it
    has yet to follow, as of its last word.

    What is this server's own: renewed_seconds: since it renewed its lease, None where it is not the owner; link_seconds: what the owner's
    answer to this server took the last time that it was asked for its totals, None at the owner and while it cannot be asked;
    clock_seconds: how far its clock is ahead of the store's at the least, None until it has compared them.
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


class BackendStats(msgspec.Struct, frozen=True):
    """Totals over all queues, against their bounds where they have one.

    live_bytes: what live jobs hold, as `engine/sizes.py` counts it; history: jobs and bytes by outcome; undelivered_total: jobs put back
    because the answer could not be delivered. In seconds: time_in_queue, from when a job was created, fell due or was retried to its
    first hand-out; time_in_progress, from a hand-out to its conclude; pickup, from what made a job available to a dequeue that was held
    for it to the end of that one's answer. storage: None where jobs are in memory alone. errors_left_out_total,
    messages_left_out_total: what workers said that there was no room for.
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
    errors_left_out_total: int = 0
    messages_left_out_total: int = 0


class Notice(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a listener is told of one event: how the job stood right after the step that brought it about, or the queue's policy.

    cursor: its place, for `Backend.listen`; at: when it happened. Never a payload, a result, an error or a token. From `id` on, all is
    None for events of queues; policy is None for events of jobs and of a queue that is gone.
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
    """Which events a listener is told of; empty matches all. types: of jobs, so queues' events match none; sees: which queues at all."""

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
    """One listener, from where it begins. An async context manager; leaving it ends it.

    missed, once entered: events after its cursor are not known any more.
    """

    missed: bool

    @property
    def cursor(self) -> str:
        """The place up to which it has been told, events that it does not want included."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def notices(self, limit: int, wait: float) -> list[Notice] | None:
        """Up to `limit` events since the last call, in order, each after its commit; [] when none came in `wait` seconds.

        None when there will be no more: the server drains, or the listener is so far behind that events were forgotten before it was told.
        """


class Taking(Protocol):
    """One dequeue, from taking a place in line to the last byte of the answer. An async context manager.

    Entering waits and returns the jobs, each with its lease; [] when the wait passed or the server drains. Whatever happens before
    `delivered()` is called (an exception, a cancellation), leaving puts the jobs back in their old places, their attempts not counted,
    and the next waiter is handed them at once. The same when entering raises, StorageUnavailable say.
    Cancelling while it waits takes it out of line.
    """

    async def __aenter__(self) -> list[Job]: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    def delivered(self) -> None:
        """The answer is out: the jobs are the worker's until their leases end."""


class Backend(Protocol):
    """A whole queue."""

    @property
    def at_once(self) -> bool:
        """Whether no operation needs a task before it first suspends.

        The HTTP edge then runs a request right where it was parsed, outside any task, to its end or its first suspension, which saves half
        of what a small request costs. Until then `asyncio.current_task()` is None or somebody else's, and whatever needs the current task
        (asyncio.timeout, TaskGroup, wait_for, most of anyio) raises or acts on another request. A backend that uses any of that, or a
        library that may, says False, and each of its operations is called in a task of its own request.
        """

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        """Submit a job. The oldest waiter of its queue, if one stands, is handed it before this returns.

        Raises BadRequest, TooLarge, IdConflict, QueueFull, TooManyQueues.
        """

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        """Submit many; each item's result or error in its place, harming no other. An error among `specs` is passed through."""

    def dequeue(self, want: Want, wait: float) -> Taking:
        """Take up to `want.limit` jobs, waiting up to `wait` seconds for the first.

        Waiters are served in the order in which they came; one that comes while an older one stands for the same queue never passes it.
        With an attempt_id whose leases live, the same worker of the same `want.who` is answered at most `want.limit` of the same jobs and
        leases again, those in `want.queues`. Its older waiter with that attempt_id, if one still stands, is answered [] in favour of the
        newer. A batch ends before the job with which its jobs would hold more than `answer_bytes_max`. Raises, on entering, BadRequest and
        TooManyWaiters.
        """

    async def conclude(self, job_id: str, token: str, verdict: Verdict) -> Job:
        """End an attempt. Raises BadRequest, TooLarge, UnknownJob, LeaseLost, NotInProgress."""

    async def conclude_batch(self, items: Sequence[Conclude | QueueError]) -> list[Job | QueueError]:
        """End many attempts; see enqueue_batch."""

    async def extend(self, item: Extend) -> Job:
        """Push a lease's expiry out. Raises BadRequest, UnknownJob, LeaseLost, NotInProgress."""

    async def extend_batch(self, items: Sequence[Extend | QueueError]) -> list[Job | QueueError]:
        """Extend many leases; see enqueue_batch."""

    async def release(self, job_id: str, token: str, delay: float) -> Job:
        """Give a job back without spending an attempt. Raises BadRequest, UnknownJob, LeaseLost, NotInProgress."""

    async def give_back(self, job_id: str, token: str) -> bool:
        """Undo a dequeue whose answer was not delivered, for whoever has left its `Taking` and must see to it that this was stored.

        True if it did; False when the lease is no longer that one, or was handed out again under its attempt_id: a worker may have it then.
        """

    async def cancel(self, job_id: str) -> Job:
        """Stop a job. Raises UnknownJob, NotInProgress."""

    async def retry(self, job_id: str) -> Job:
        """Queue a concluded job that did not succeed again. Raises UnknownJob, NotRetryable, QueueFull, TooManyQueues."""

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        """A job, live or in history; with `wait`, as soon as it is concluded or when the wait passed.

        What it shows of a conclusion that was waited for is as durable as an answer. Raises UnknownJob, TooManyWaiters.
        """

    async def numbered(self, number: int) -> Job:
        """The job of a number, live or in history. Numbers are given from 1 on and never again. Raises UnknownJob."""

    async def jobs(self, wanted: JobFilter) -> tuple[list[Job], int | None]:
        """A page of jobs, and the cursor of the next: its `before`, or its `after`. A page may be short and have a next one."""

    async def queues(self) -> list[QueueStats]:
        """Every queue, by name. Where there are many they are looked at in slices, each of another moment."""

    async def queue_page(self, after: str, limit: int) -> tuple[list[QueueStats], str | None]:
        """Up to `limit` queues by name, from the first behind the name `after`, and the next `after`: None at the end.

        A page may be short and have a next one.
        """

    async def queue(self, name: str) -> QueueStats:
        """One queue. Raises UnknownQueue."""

    async def put_policy(self, name: str, policy: QueuePolicy) -> QueueStats:
        """Make a queue or set its policy. Raises BadRequest, TooManyQueues."""

    async def change_policy(self, name: str, change: PolicyChange) -> QueueStats:
        """Change some fields of a queue's policy. Raises UnknownQueue, BadRequest."""

    async def keys(self, name: str, after: str, limit: int) -> tuple[list[KeyStats], str | None]:
        """Up to `limit` keys that a queue keeps count of, those that hold most up first, then those with most queued; and the cursor of the
        next page, None at the end. after: such a cursor, "" for the first page.

        None where the queue's policy minds no keys. Keys come and go between pages. Raises UnknownQueue, BadRequest (cursor).
        """

    async def set_key_paused(self, name: str, key: str, paused: bool) -> KeyStats:
        """Let a key of a queue hand out nothing, or go on, also when it was a failed job that halted it, which is given up then.

        Raises UnknownQueue, BadRequest, QueueFull (as many keys are paused as may be).
        """

    async def waiting_for(self, numbers: Sequence[int]) -> list[list[Reason]]:
        """For each job what it waits for: all that keeps it from being in progress now. Empty for one that is, has ended or is unknown.

        By number, which is given once: an id may be another job's by now, of a queue that whoever asks may not see.
        """

    async def delete_queue(self, name: str) -> None:
        """Delete a queue that has no live jobs. Raises UnknownQueue, QueueNotEmpty."""

    async def set_paused(self, name: str, paused: bool) -> QueueStats:
        """Pause or resume a queue. Raises UnknownQueue."""

    async def purge(self, name: str) -> int:
        """Cancel every job that was queued or scheduled when this was called; how many. Raises UnknownQueue."""

    async def redrive(self, name: str) -> int:
        """Retry every failed job of a queue, oldest first, while there is room; how many. Raises UnknownQueue."""

    def listen(self, wanted: Listen, after: str | None = None) -> Listening:
        """Be told of events from now on, or from right after those up to the cursor `after`.

        The backend remembers a bounded number of events, while somebody listens and for a short while after; a cursor of before that, of
        another process or of no meaning starts from now, with `missed`. Raises, on entering, TooManyListeners.
        """

    async def check(self) -> None:
        """Whether it takes new work now, as far as whoever does it knows without trying. Raises Draining, StorageUnavailable."""

    async def stats(self) -> BackendStats:
        """Totals of one moment. Raises StorageUnavailable, where they are another server's."""

    def cluster(self) -> ClusterStats | None:
        """This server among those on its store, at once, whether or not any of them owns the queue; None where there is one server."""

    def drain(self) -> None:
        """Take no new work and answer every waiter now. Calling it again changes nothing."""

    async def close(self) -> None:
        """Drain, then let go of timers and storage."""
