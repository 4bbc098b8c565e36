"""What goes into the clients and what comes out: items of batches, and the server's answers.

Times are datetimes with a zone, UTC in answers; durations are seconds. Payloads, results and errors in answers stay the JSON text they
came as until they are asked for, so that who never looks at one never pays for parsing it. Each look parses anew: keep what you got.
Fields that a newer server adds are passed over.
"""

from __future__ import annotations

from datetime import datetime
from math import isfinite
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Raw

from jobqueue.errors import BadRequest
from jobqueue.model import DEFAULT_QUEUE, Backoff, Ended, Outcome, QueuePolicy, Status

T = TypeVar("T")

Kind: TypeAlias = type[T]
"""`type` within a class that has a field of that name."""

WorkOutcome = Literal["succeeded", "failed"]
"""What a worker may say of its attempt; the server alone says cancelled and expired."""

_decoder = msgspec.json.Decoder()


def _decode(raw: Raw) -> Any:
    """JSON text as plain Python objects. Raises msgspec.DecodeError, a ValueError, where it is nested deeper than Python can follow."""
    try:
        return _decoder.decode(raw)
    except RecursionError:
        raise msgspec.DecodeError("the JSON is nested too deeply") from None


def _decode_as(raw: Raw, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except RecursionError:
        raise msgspec.ValidationError("the JSON is nested too deeply") from None


def check_finite(asked: msgspec.Struct, *names: str) -> None:
    """Raises BadRequest for a field that is infinite or no number: JSON has neither, and would say null, which means the default."""
    for name in names:
        value = getattr(asked, name)
        if isinstance(value, float) and not isfinite(value):
            raise BadRequest(name, f"{value} is not a finite number")


# Items of batches.


class NewJob(msgspec.Struct, frozen=True, omit_defaults=True):
    """A job to enqueue, an item of `enqueue_batch`. The fields are those of `enqueue`; None: the queue's policy or the server decides."""

    payload: Any
    id: str | None = None
    queue: str = DEFAULT_QUEUE
    type: str | None = None
    description: str | None = None
    priority: int = 5
    delay: float | None = None
    run_at: datetime | None = None
    expires_in: float | None = None
    max_attempts: int | None = None
    backoff: Backoff | None = None
    lease_seconds: float | None = None
    traceparent: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        """Raises BadRequest."""
        check_finite(self, "delay", "expires_in", "lease_seconds")


class Conclude(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attempt to finish, an item of `conclude_batch`. The fields are those of `conclude`; lease is the lease's token."""

    id: str
    lease: str
    outcome: WorkOutcome
    result: Any = None
    error: Any = None
    retry: bool = True
    retry_delay: float | None = None

    def __post_init__(self) -> None:
        """Raises BadRequest."""
        check_finite(self, "retry_delay")


class Extend(msgspec.Struct, frozen=True, omit_defaults=True):
    """A lease to push out, an item of `extend_batch`. The fields are those of `extend`; lease is the lease's token."""

    id: str
    lease: str
    lease_seconds: float | None = None
    progress: float | None = None
    message: str | None = None

    def __post_init__(self) -> None:
        """Raises BadRequest."""
        check_finite(self, "lease_seconds", "progress")


# Answers.


class Enqueued(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A job as an enqueue found or left it.

    status is the one it entered with, or, if the job was there already, the one it has. run_at and expires_at are None where there is
    none. created is False when a job of this id and the same content was there before.
    """

    id: str
    queue: str
    type: str | None
    priority: int
    status: Status
    created_at: datetime
    run_at: datetime | None
    expires_at: datetime | None
    created: bool
    key: str | None = None


class Lease(msgspec.Struct, frozen=True, gc=False):
    """The exclusive hold on one attempt. token is the proof that it is yours; expires_at by the server's clock."""

    token: str
    expires_at: datetime


class LeasedJob(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A job as a worker is handed it. attempts counts this attempt, from 1; number is its place in order of creation, as in JobInfo.

    traceparent: the trace that its producer gave it, None if none; key: what it is about, None if nothing; limited: its lease takes
    something that other jobs may have to wait for, so do not take it before you can begin.
    """

    id: str
    number: int
    queue: str
    type: str | None
    description: str | None
    priority: int
    attempts: int
    created_at: datetime
    lease: Lease
    raw_error: Raw = msgspec.field(name="error", default=Raw(b"null"))
    raw_payload: Raw = msgspec.field(name="payload")
    traceparent: str | None = None
    key: str | None = None
    limited: bool = False

    @property
    def payload(self) -> Any:
        """The payload as plain Python objects: dict, list, str, int, float, bool or None."""
        return _decode(self.raw_payload)

    def payload_as(self, kind: Kind[T]) -> T:
        """The payload as a msgspec Struct, a dataclass, a TypedDict or any other type msgspec knows.

        Raises msgspec.ValidationError, a ValueError, which says what does not fit.
        """
        return _decode_as(self.raw_payload, kind)

    @property
    def error(self) -> Any:
        """What the attempt before said went wrong, None before the first failure."""
        return _decode(self.raw_error)


class Reason(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One thing that a job waits for. Only what goes with `reason` is not None.

    time: until when; paused: its queue is. key: what keeps its key back is `block`: order, halted, paused; job is the one that it waits
    for, worker who has that, until when the lease of that ends or it runs again. concurrency: used of total in progress, of the queue, or
    of key; rate: the next slot is at until. line: ahead go before it, roughly. workers: nobody waits for a job of its queue, and used are
    in progress.
    """

    reason: str
    until: datetime | None = None
    key: str | None = None
    block: str | None = None
    job: str | None = None
    worker: str | None = None
    used: int | None = None
    total: int | None = None
    ahead: int | None = None


class JobInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A job without its payload and result, as listings, release, cancel and retry show it.

    number counts jobs in order of creation, over all queues of the server. outcome is None until the job is concluded; max_attempts
    None follows the queue's policy; run_at is when it was or will be due, None if it never had to wait. started_at, worker, progress
    (0 to 1), message, cancel_requested and lease_expires_at are those of the attempt in progress; a concluded job keeps started_at and
    worker. waiting_for: all that keeps it from being in progress; None in a list that was not asked for it.
    halts: it failed, and no other job of its key is handed out until it is retried, or given up by `cancel`, or its key is resumed.
    """

    id: str
    number: int
    queue: str
    type: str | None
    description: str | None
    priority: int
    status: Status
    outcome: Outcome | None
    attempts: int
    max_attempts: int | None
    created_at: datetime
    run_at: datetime | None
    expires_at: datetime | None
    started_at: datetime | None
    concluded_at: datetime | None
    lease_expires_at: datetime | None
    worker: str | None
    progress: float | None
    message: str | None
    cancel_requested: bool
    raw_error: Raw = msgspec.field(name="error", default=Raw(b"null"))
    key: str | None = None
    halts: bool = False
    waiting_for: tuple[Reason, ...] | None = None

    @property
    def error(self) -> Any:
        """What the last failed attempt said went wrong, as plain Python objects; None if none failed."""
        return _decode(self.raw_error)


class Attempt(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An attempt at a job that failed, or whose lease ran out, as `ended` says. attempt is its number, from 1."""

    attempt: int
    worker: str | None
    started_at: datetime
    ended_at: datetime
    ended: Ended
    raw_error: Raw = msgspec.field(name="error", default=Raw(b"null"))

    @property
    def error(self) -> Any:
        """What its worker said went wrong, as plain Python objects; None if nothing, or more than the server keeps of a past attempt."""
        return _decode(self.raw_error)


class Job(JobInfo, frozen=True, gc=False, kw_only=True):
    """A whole job, as `job` answers it: JobInfo with payload and result, and the last of its attempts that failed, oldest first."""

    past: tuple[Attempt, ...] = ()
    raw_payload: Raw = msgspec.field(name="payload")
    raw_result: Raw = msgspec.field(name="result", default=Raw(b"null"))

    @property
    def payload(self) -> Any:
        """The payload as plain Python objects."""
        return _decode(self.raw_payload)

    def payload_as(self, kind: Kind[T]) -> T:
        """The payload as `kind`, as LeasedJob.payload_as. Raises msgspec.ValidationError."""
        return _decode_as(self.raw_payload, kind)

    @property
    def result(self) -> Any:
        """What the attempt that succeeded came to, as plain Python objects; None if it said nothing or none did."""
        return _decode(self.raw_result)

    def result_as(self, kind: Kind[T]) -> T:
        """The result as `kind`, as LeasedJob.payload_as. Raises msgspec.ValidationError."""
        return _decode_as(self.raw_result, kind)


class Concluded(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How a job stands after a conclude: concluded, with its outcome; or scheduled, to be tried again at run_at."""

    id: str
    status: Status
    outcome: Outcome | None
    attempts: int
    run_at: datetime | None


class Extended(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A lease's new end. cancel_requested: stop, whatever is answered the job ends as cancelled."""

    id: str
    expires_at: datetime
    cancel_requested: bool


class Totals(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a queue did since it was made or the server started. They only grow."""

    enqueued: int
    dequeued: int
    redelivered: int
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    retried: int


class Queue(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A queue: its policy, its live jobs by status, the dequeues held on it, its totals.

    oldest_queued_at: when the job that leaves next was created, fell due or was retried, the earliest over all priorities. held: queued
    jobs that a limit or their key keeps back now, held_by: the same by what does; keys: how many it keeps count of; rate_next_at: when its
    rate lets the next job go, None when one may go now.
    """

    name: str
    policy: QueuePolicy
    scheduled: int
    queued: int
    in_progress: int
    waiters: int
    oldest_queued_at: datetime | None
    totals: Totals
    held: int = 0
    held_by: dict[str, int] = {}
    keys: int = 0
    rate_next_at: datetime | None = None


class Key(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A key of a queue: its live jobs by status, and what keeps the queued ones back.

    block: order, halted, paused, concurrency or rate, None when the next may go; holder: the id of the job that it waits for; next_at: when
    its rate lets the next job go.
    """

    key: str
    queued: int
    scheduled: int
    in_progress: int
    block: str | None
    paused: bool
    holder: str | None
    next_at: datetime | None


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What a token may do. name is None where the server asks nobody for one; queues are patterns of names, `*` for all."""

    name: str | None
    scopes: list[str]
    queues: list[str]


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What a server holds over all queues. payload_bytes: of live jobs, texts included; leases: live ones."""

    jobs_live: int
    payload_bytes: int
    queues: int
    waiters: int
    listeners: int
    leases: int


class Commits(msgspec.Struct, frozen=True, kw_only=True):
    """How a file or a store takes changes. failing: it does not now; unwritten_bytes: what waits for it; commits: since it was opened.

    p50_seconds, p99_seconds: what half of the commits took at most, and 99 of 100; None before the first.
    """

    failing: bool
    unwritten_bytes: int
    commits: int
    p50_seconds: float | None
    p99_seconds: float | None


class ServerName(msgspec.Struct, frozen=True, kw_only=True):
    """A server, and where the others reach it."""

    name: str
    address: str | None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A server on the store. role: owner, standby or front; asked: whether it is the one that answered.

    seen_seconds: since it last said that it is there, which it does once a second.
    """

    name: str
    address: str
    role: str
    asked: bool
    seen_seconds: float


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """What lies between the server that was asked and the others; each is None where there is no such thing, or it is not known.

    renewed_seconds: since it renewed its lease, at the owner; link_seconds: what the owner took to answer it, at the others;
    clock_seconds: how far its clock is ahead of the store's; standby_commits: commits that the standby has yet to follow.
    """

    renewed_seconds: float | None
    link_seconds: float | None
    clock_seconds: float | None
    standby_commits: int | None


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """One of the servers on a store, as it sees itself and the others.

    owner: None while nobody owns the queue; epoch: how often it was claimed; lease_left_seconds: until another may claim it if the owner is
    not heard of again; standby: the name of the one that takes over at once; problem: why this server would not own the queue, None while
    it would; members: who said in the last minute that they are there.
    """

    name: str
    address: str
    store: str
    owner: ServerName | None
    epoch: int
    lease_left_seconds: float | None
    standby: str | None
    problem: str | None
    lag: Lag
    members: list[Member]


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """A server as a whole. held, storage: None while nobody can tell, and unavailable says why; storage also where jobs are in memory.

    cluster: None where the server is the only one of its queue.
    """

    draining: bool
    unavailable: str | None
    held: Held | None
    storage: Commits | None
    cluster: Cluster | None


class EventData(msgspec.Struct, frozen=True, kw_only=True):
    """What an event says: all of JobEvent but its name and id."""

    at: datetime | None = None
    queue: str | None = None
    id: str | None = None
    number: int | None = None
    type: str | None = None
    priority: int | None = None
    status: Status | None = None
    outcome: Outcome | None = None
    attempts: int | None = None
    run_at: datetime | None = None
    lease_expires_at: datetime | None = None
    worker: str | None = None
    progress: float | None = None
    message: str | None = None
    cancel_requested: bool | None = None
    policy: QueuePolicy | None = None
    key: str | None = None


class JobEvent(EventData, frozen=True, kw_only=True):
    """Something that happened to a job or a queue, and when (at).

    event: its name, one of docs/protocol.md or of a newer server's; event_id: its place, to go on after it as last_event_id. Of a job it
    says how that stood right after it, and policy is None. Of a queue only at, queue and policy are there, policy None once it is deleted.
    Of `reset`, which says that events were missed, nothing is.
    """

    event: str
    event_id: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Some jobs, newest first. cursor asks for the next page, None at the end; a page may be short, or empty, and still have one."""

    jobs: list[JobInfo]
    cursor: int | None
