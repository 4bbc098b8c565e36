"""The types that every part shares: jobs, leases, policies, statuses and outcomes.

Owns: the shape of a job and of the requests to a queue. It must never decide anything: `engine/lifecycle.py` decides what can happen to a
job, and `engine/checks.py` which values are allowed.

Units: times are seconds since the Unix epoch (float), durations are seconds (float); payloads, results and errors are JSON text as bytes,
exactly as sent. Inside the engine, times are engine time (`clock.py`); a `Backend` returns UTC.

Why msgspec Structs and not dataclasses with slots: a job with `gc=False` is a third cheaper to create, 16 bytes smaller, and not tracked by
the garbage collector, which would otherwise visit every queued job in each full collection and stall the loop (docs/decisions/0004). No
object here refers back to its owner, so there are no cycles for the collector to miss."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import ClassVar, Final, Literal

import msgspec

from jobqueue.about import About
from jobqueue.joblog import LogPart
from jobqueue.past import Attempt, Failures, Origin
from jobqueue.policy import Backoff, Pause, QueuePolicy
from jobqueue.unique import Claim, Unique

DEFAULT_QUEUE = "default"
PRIORITIES = 10
"""Priorities are 0 (most urgent) to 9."""


class Status(StrEnum):
    """The current state of a job."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    CONCLUDED = "concluded"


class Outcome(StrEnum):
    """How a concluded job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


# The members as module names, for hot paths: on Python 3.11 `Status.QUEUED` costs 0.2 µs, a module name 0.01 µs.
SCHEDULED: Final = Status.SCHEDULED
QUEUED: Final = Status.QUEUED
IN_PROGRESS: Final = Status.IN_PROGRESS
CONCLUDED: Final = Status.CONCLUDED
SUCCEEDED: Final = Outcome.SUCCEEDED
FAILED: Final = Outcome.FAILED
CANCELLED: Final = Outcome.CANCELLED
EXPIRED: Final = Outcome.EXPIRED


AfterFailure = Literal["cancel", "run", "hold"]
"""What happens to a job when one of its parents does not succeed: it is cancelled, it runs nevertheless, or it waits until that parent
succeeds."""


class Header(msgspec.Struct, frozen=True, gc=False):
    """A message attribute of a job, as in Amazon SQS. value: UTF-8 or bytes; type: String, Number or Binary, or one with `.label` added."""

    name: str
    value: bytes
    type: str = "String"


class JobSpec(msgspec.Struct, gc=False, kw_only=True):
    """A job as its producer requested it. None means not given: the queue's policy or the server's default applies.

    run_at is UTC (seconds since the epoch); delay and run_at exclude each other. traceparent: the trace that the job belongs to (W3C Trace
    Context), for the worker to continue. key: what the job is about; order, limits and fairness apply per key. tags: words to search by.
    unique: see Unique. after: ids of the jobs that must end before this one runs; after_failure: see AfterFailure; group: the group that it
    joins. headers: see Header. there: the queue must exist already. claim: the number of the claim of its id
    (engine/claims.py), 0 for none."""

    payload: bytes
    id: str | None = None
    queue: str = DEFAULT_QUEUE
    type: str | None = None
    description: str | None = None
    priority: int = 5
    delay: float | None = None
    run_at: float | None = None
    expires_in: float | None = None
    max_attempts: int | None = None
    backoff: Backoff | None = None
    lease_seconds: float | None = None
    traceparent: str | None = None
    key: str | None = None
    tags: tuple[str, ...] = ()
    unique: Unique | None = None
    after: tuple[str, ...] = ()
    after_failure: AfterFailure = "cancel"
    group: str | None = None
    headers: tuple[Header, ...] = ()
    there: ClassVar[bool] = False
    claim: ClassVar[int] = 0


class JobChange(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Changes to a waiting job; a field that is not set is left as it is. delay and run_at exclude each other, see JobSpec.

    delay, expires_in: seconds from now; expires_in None: the job does not expire."""

    payload: bytes | msgspec.UnsetType = msgspec.UNSET
    queue: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType | None = msgspec.UNSET
    priority: int | msgspec.UnsetType = msgspec.UNSET
    delay: float | msgspec.UnsetType = msgspec.UNSET
    run_at: float | msgspec.UnsetType = msgspec.UNSET
    expires_in: float | msgspec.UnsetType | None = msgspec.UNSET
    tags: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A worker's exclusive, timed hold on one attempt at a job.

    replayed: the lease was handed out again under its attempt_id, so if an earlier answer could not be written, a worker can still have it.
    prolonged: it ran out while the server was stalled and was prolonged for that; an extend by its worker resets this. who: the owner of
    the attempt_id, see Want. limited: it uses a limit that another job may be waiting for, so a worker should not take it before it can
    start. attempts_max: how many attempts the job had when it was handed out; None for no bound."""

    token: str
    expires_at: float
    seconds: float
    started_at: float
    worker: str | None = None
    attempt_id: str | None = None
    progress: float | None = None
    message: str | None = None
    cancel_requested: bool = False
    replayed: bool = False
    prolonged: bool = False
    who: str = ""
    limited: bool = False
    attempts_max: int | None = None


class Conclusion(msgspec.Struct, frozen=True, gc=False):
    """How and when a job ended. token: the lease that ended it, None if no worker did.

    said: the outcome that the worker requested; it differs from outcome if a cancel request overrides it. halts: this failure stops the
    job's key, and history does not forget the job until it is retried, cancelled, or its key resumed."""

    outcome: Outcome
    concluded_at: float
    result: bytes | None = None
    token: str | None = None
    said: Outcome | None = None
    worker: str | None = None
    started_at: float | None = None
    halts: bool = False


class Parent(msgspec.Struct, frozen=True, gc=False):
    """A parent of a job, as shown to the job's worker. outcome: None if the parent is live, or no longer known; left_out: there is a
    result, but no room for it in the answer."""

    id: str
    outcome: Outcome | None
    result: bytes | None = None
    left_out: bool = False


class Extra(msgspec.Struct, frozen=True, gc=False):
    """Fields that few jobs have. tags: see JobSpec; origin: of a dead letter, see Origin; schedule: the name of the schedule that made the
    job; home: the queue in which it was enqueued, None while it is there; edited: it was changed since it was enqueued. after,
    after_failure, group: see JobSpec. not_before: of a job that is held back (see Job.held_back), the earliest time at which it can run
    once it no longer is. log: the size of its log in bytes (engine/logs.py), which is not stored. claim: its unique key, and its state.
    parents: of a job that is handed out, how its parents ended. headers: see Header."""

    tags: tuple[str, ...] = ()
    origin: Origin | None = None
    schedule: str | None = None
    home: str | None = None
    edited: bool = False
    after: tuple[str, ...] = ()
    after_failure: AfterFailure = "cancel"
    group: str | None = None
    not_before: float | None = None
    log: int = 0
    claim: Claim | None = None
    parents: tuple[Parent, ...] = ()
    headers: tuple[Header, ...] = ()

    @property
    def may_hold_back(self) -> bool:
        """Whether something here can keep the job waiting for anything but a time."""
        return bool(self.after) or (self.claim is not None and self.claim.state == "waits")


NOTHING: Final = Extra()
"""The extra of a job that has no such fields."""


class Details(msgspec.Struct, frozen=True, gc=False):
    """Fields that most jobs do not have. Frozen: a change creates a new object, so snapshots share them, and all plain jobs share `PLAIN`.

    asked: (delay, run_at, expires_in) as the producer sent them, kept to tell a repeated enqueue from a conflicting one; error: of the last
    failure; past: the last failed attempts, oldest first; seq: see Job.seq, None if it equals the job's number; key: see JobSpec; holds:
    the job was handed out, has returned, and holds its key until it is concluded; extra: fields that few jobs have."""

    description: str | None = None
    max_attempts: int | None = None
    backoff: Backoff | None = None
    lease_seconds: float | None = None
    asked: tuple[float | None, float | None, float | None] | None = None
    run_at: float | None = None
    expires_at: float | None = None
    error: bytes | None = None
    traceparent: str | None = None
    past: tuple[Attempt, ...] = ()
    seq: int | None = None
    key: str | None = None
    holds: bool = False
    extra: Extra = NOTHING


PLAIN: Final = Details()
"""The details of a job that has no such fields."""


class Job(msgspec.Struct, gc=False, eq=False):
    """One job. Only the engine changes it; a backend returns snapshots.

    A server can hold a million jobs, so the size counts: twelve fields are 112 bytes, and every two more would add 16
    (docs/decisions/0004). number: order of creation across the server; hold: the live lease while the job is in progress, its conclusion
    when it is concluded, else None; slot: owned by the ring that holds the job."""

    id: str
    number: int
    queue: str
    priority: int
    payload: bytes
    created_at: float
    status: Status
    type: str | None = None
    details: Details = PLAIN
    attempts: int = 0
    hold: Lease | Conclusion | None = None
    slot: int = -1

    def __lt__(self, other: Job) -> bool:
        """Used by heaps if two jobs have the same place: at most one of the entries is still valid, so their order does not matter."""
        return False

    @property
    def lease(self) -> Lease | None:
        """The live lease, None unless the job is in progress."""
        hold = self.hold
        return hold if type(hold) is Lease else None

    @property
    def conclusion(self) -> Conclusion | None:
        """How and when the job ended, None while it is live."""
        hold = self.hold
        return hold if type(hold) is Conclusion else None

    @property
    def outcome(self) -> Outcome | None:
        """How the job ended, None while it is live."""
        hold = self.hold
        return hold.outcome if type(hold) is Conclusion else None

    @property
    def seq(self) -> int:
        """Its place in its queue: smaller is older, 0 if it has no place yet. It is the job's number, unless the job joined the queue
        later."""
        seq = self.details.seq
        return self.number if seq is None else seq

    @property
    def description(self) -> str | None:
        """See JobSpec."""
        return self.details.description

    @property
    def max_attempts(self) -> int | None:
        """See JobSpec."""
        return self.details.max_attempts

    @property
    def backoff(self) -> Backoff | None:
        """See JobSpec."""
        return self.details.backoff

    @property
    def lease_seconds(self) -> float | None:
        """See JobSpec."""
        return self.details.lease_seconds

    @property
    def run_at(self) -> float | None:
        """The time before which it does not run (the end of a delay or a backoff); None if it can run at once."""
        return self.details.run_at

    @property
    def held_back(self) -> bool:
        """Whether it waits for something other than a time: it is scheduled, but for no time."""
        return self.status is SCHEDULED and self.details.run_at is None

    @property
    def expires_at(self) -> float | None:
        """When a waiting job expires, None for never."""
        return self.details.expires_at

    @property
    def error(self) -> bytes | None:
        """The error of the last failure, None before the first."""
        return self.details.error

    @property
    def traceparent(self) -> str | None:
        """See JobSpec."""
        return self.details.traceparent

    @property
    def key(self) -> str | None:
        """See JobSpec."""
        return self.details.key

    @property
    def tags(self) -> tuple[str, ...]:
        """See JobSpec."""
        return self.details.extra.tags

    @property
    def headers(self) -> tuple[Header, ...]:
        """See Header."""
        return self.details.extra.headers

    @property
    def unique(self) -> Unique | None:
        """See JobSpec."""
        claim = self.details.extra.claim
        return None if claim is None else claim.unique

    @property
    def origin(self) -> Origin | None:
        """Where a dead letter comes from; None if it is not a dead letter."""
        return self.details.extra.origin

    @property
    def received(self) -> int:
        """The number of attempts so far, including those before it became a dead letter."""
        origin = self.details.extra.origin
        return self.attempts if origin is None else self.attempts + origin.attempts

    @property
    def schedule(self) -> str | None:
        """The name of the schedule that made it, None if none did."""
        return self.details.extra.schedule

    @property
    def home(self) -> str:
        """The queue in which it was enqueued."""
        return self.details.extra.home or self.queue

    @property
    def past(self) -> tuple[Attempt, ...]:
        """See Details."""
        return self.details.past


class Want(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one dequeue requests: at most `limit` jobs from `queues`, in order of preference. about: what the worker reports about itself.

    who: the client as access control knows it (the name of its token), "" without access control. An attempt_id belongs to one `who` and
    `worker`."""

    queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    limit: int = 1
    lease_seconds: float | None = None
    worker: str | None = None
    attempt_id: str | None = None
    who: str = ""
    about: About | None = None


class Verdict(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a worker reports about its attempt: succeeded or failed, with a result or an error as JSON text. traceback: where its code
    failed.

    retry False makes a failure final; retry_delay: seconds until the next attempt after a failure, None for the backoff. once: a repeated
    conclude is refused, for callers that take the token from the job itself: several can have it at the same time, and only one of them
    ended the job. log: lines for the job's log, left out if there is no room. late: a success counts even if the lease has run out, until
    the job is handed out again."""

    outcome: Outcome
    result: bytes | None = None
    error: bytes | None = None
    retry: bool = True
    retry_delay: float | None = None
    once: bool = False
    log: LogPart | None = None
    late: bool = False
    traceback: str | None = None


class JobFilter(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Which jobs a listing shows; None matches all.

    Newest first, the jobs created before the one with the number `before`; or, with `after`, oldest first, those created after the job with
    that number, 0 for all. sees: only jobs of queues for which it returns true. payloads: the listing shows payloads and results, which
    then count towards the limit of an answer. cursor: with several partitions, where to continue, in place of `before` and `after`; whether
    `after` is set decides the order. tag: one of its tags; group: its group; parent: a job that it is after; worker: who has or had it;
    error: a piece of the last error, see `engine/filters.py`; error_group: the id of its ErrorGroup; created_after, created_before:
    at or after the first, before the second. retrying: whether it was attempted and waits for its next attempt. by_end: see
    engine/ended.py."""

    status: Status | None = None
    outcome: Outcome | None = None
    queue: str | None = None
    type: str | None = None
    key: str | None = None
    tag: str | None = None
    group: str | None = None
    parent: str | None = None
    worker: str | None = None
    error: str | None = None
    created_after: float | None = None
    created_before: float | None = None
    retrying: bool | None = None
    limit: int = 100
    before: int | None = None
    after: int | None = None
    payloads: bool = False
    error_group: str | None = None
    by_end: bool = False
    cursor: str | None = None
    sees: Callable[[str], bool] | None = None


Block = Literal["order", "halted", "paused", "concurrency", "rate"]
"""What holds back the jobs of a key: an earlier job; a failure; a pause; its concurrency limit; its rate limit."""


class QueueStats(msgspec.Struct, frozen=True, gc=False):
    """One queue's policy, its jobs by status, and its counters since the server started.

    held: how many queued jobs cannot be handed out now, for any reason but the queue's own pause; held_by: the same by reason; keys: how
    many keys it tracks, 0 if it does not use keys; rate_next_at: when its rate allows the next job, None if it allows one now.
    dead_lettered_total: the part of failed_total that moved to another queue; moved_in_total, moved_out_total: jobs that came from another
    queue, and that left for one without having failed here. created_at: when it was made; modified_at: when its policy was last changed, or
    when it was made; pause: its current pause. These three are None if an older server did it."""

    name: str
    policy: QueuePolicy
    scheduled: int
    queued: int
    in_progress: int
    oldest_queued_at: float | None
    waiters: int
    enqueued_total: int
    dequeued_total: int
    redelivered_total: int
    succeeded_total: int
    failed_total: int
    cancelled_total: int
    expired_total: int
    retried_total: int
    moved_in_total: int = 0
    moved_out_total: int = 0
    dead_lettered_total: int = 0
    attempts_failed_total: int = 0
    held: int = 0
    held_by: dict[str, int] = {}
    keys: int = 0
    rate_next_at: float | None = None
    created_at: float | None = None
    modified_at: float | None = None
    failures: Failures = Failures()
    pause: Pause | None = None


class KeyStats(msgspec.Struct, frozen=True, gc=False):
    """One key of a queue. block: what holds back its queued jobs, None if one can be handed out or none is queued.

    holder: the id of the job that it waits for: in progress, between two attempts, or failed. next_at: when its rate allows the next job.
    """

    key: str | None
    queued: int
    scheduled: int
    in_progress: int
    block: Block | None
    paused: bool
    holder: str | None = None
    next_at: float | None = None
    pause: Pause | None = None
