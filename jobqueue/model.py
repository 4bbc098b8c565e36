"""The words every part shares: jobs, leases, policies, statuses and outcomes.

Owns: the shape of a job and of what is asked of a queue. It must never decide anything: what may happen
to a job is `engine/lifecycle.py`, what values are allowed is `engine/checks.py`.

Units: times are seconds since the Unix epoch (float), durations are seconds (float), payloads, results
and errors are the JSON text as bytes, exactly as it was sent. Inside the engine times run on the
monotonic line of `clock.py`; a `Backend` hands out UTC.

Why msgspec Structs and not dataclasses with slots: a job made with `gc=False` is a third cheaper to build,
16 bytes smaller and invisible to the garbage collector, which otherwise walks every queued job in each
full collection and stalls the loop (docs/decisions/0004). Nothing here refers back to what holds it, so
no cycle can be missed.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final, Literal

import msgspec

DEFAULT_QUEUE = "default"
PRIORITIES = 10
"""Priorities are 0 (most urgent) to 9."""


class Status(StrEnum):
    """Where a job is in its life."""

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


# Members by themselves, for hot paths: on Python 3.11 `Status.QUEUED` costs 0.2 µs, a name of the module 0.01.
SCHEDULED: Final = Status.SCHEDULED
QUEUED: Final = Status.QUEUED
IN_PROGRESS: Final = Status.IN_PROGRESS
CONCLUDED: Final = Status.CONCLUDED
SUCCEEDED: Final = Outcome.SUCCEEDED
FAILED: Final = Outcome.FAILED
CANCELLED: Final = Outcome.CANCELLED
EXPIRED: Final = Outcome.EXPIRED


class Backoff(msgspec.Struct, frozen=True, gc=False):
    """Exponential backoff with full jitter: before attempt n + 1, uniform(0, min(cap, base * factor ** (n - 1))) seconds."""

    base: float = 1.0
    factor: float = 2.0
    cap: float = 300.0


class Rate(msgspec.Struct, frozen=True, gc=False):
    """At most `limit` hand-outs in `per` seconds, evenly spaced, but for `burst` at once after a time of rest.

    It is the generic cell rate algorithm (ITU-T I.371): a bucket of `burst`, which gains one every per / limit seconds.
    """

    limit: int
    per: float
    burst: int = 1

    @property
    def interval(self) -> float:
        """Seconds between two hand-outs at the steady rate."""
        return self.per / self.limit


Order = Literal["none", "fifo", "halt"]
"""What a key's jobs do to each other: nothing; one after the other, in order; the same, and a final failure stops the key."""


class PerKey(msgspec.Struct, frozen=True, gc=False):
    """What holds for each key of a queue by itself.

    concurrency: the most of its jobs that may be in progress, 1 where there is an order; max_jobs: the most that may be live.
    """

    order: Order = "none"
    concurrency: int | None = None
    rate: Rate | None = None
    max_jobs: int | None = None


class QueuePolicy(msgspec.Struct, frozen=True, gc=False):
    """What a queue does with jobs that do not say otherwise.

    lease_seconds: how long a lease holds; max_attempts: attempts before a failure is final; max_jobs: the most
    jobs that may be live (not concluded) in this queue, None for the server's bound alone; paused: hands out
    nothing, accepts everything. concurrency: the most jobs that may be in progress; fair: of the keys of a priority, the one with the least
    in progress goes first; weights: how much of that a key may have beside those that are not named, which have 1.
    """

    lease_seconds: float = 300.0
    max_attempts: int = 5
    backoff: Backoff = Backoff()
    max_jobs: int | None = None
    paused: bool = False
    concurrency: int | None = None
    rate: Rate | None = None
    per_key: PerKey | None = None
    fair: bool = False
    weights: dict[str, float] = {}

    @property
    def keyed(self) -> bool:
        """Whether it matters to the queue which key a job has."""
        return self.fair or self.per_key is not None

    @property
    def limited(self) -> bool:
        """Whether a lease takes something that another job may have to wait for."""
        per_key = self.per_key
        return (
            self.concurrency is not None
            or self.rate is not None
            or (per_key is not None and (per_key.order != "none" or per_key.concurrency is not None or per_key.rate is not None))
        )


class PolicyChange(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Some fields of a policy; what is not set stays as it is."""

    lease_seconds: float | msgspec.UnsetType = msgspec.UNSET
    max_attempts: int | msgspec.UnsetType = msgspec.UNSET
    backoff: Backoff | msgspec.UnsetType = msgspec.UNSET
    max_jobs: int | msgspec.UnsetType | None = msgspec.UNSET
    paused: bool | msgspec.UnsetType = msgspec.UNSET
    concurrency: int | msgspec.UnsetType | None = msgspec.UNSET
    rate: Rate | msgspec.UnsetType | None = msgspec.UNSET
    per_key: PerKey | msgspec.UnsetType | None = msgspec.UNSET
    fair: bool | msgspec.UnsetType = msgspec.UNSET
    weights: dict[str, float] | msgspec.UnsetType = msgspec.UNSET

    def of(self, policy: QueuePolicy) -> QueuePolicy:
        """The policy with the change made to it."""
        said = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not msgspec.UNSET}
        return msgspec.structs.replace(policy, **said)


class JobSpec(msgspec.Struct, gc=False, kw_only=True):
    """A job as its producer asked for it. None means "not said": the queue's policy or the server's default decides.

    run_at is UTC (seconds since the epoch); delay and run_at exclude each other. traceparent: the trace this belongs to (W3C Trace
    Context), for the worker to go on with. key: what the job is about; order, limits and fairness are by key.
    """

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


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A worker's exclusive, timed hold on one attempt at a job.

    replayed: the lease was handed out again under its attempt_id, so a failed write of an earlier answer no
    longer proves that nobody has it. prolonged: it ran out while the server stood still and was held longer for that; an extend by its
    worker takes that back. who: whose attempt_id it is, see Want. limited: it takes something that another job may have to wait for, so a
    worker should not take it before it can begin.
    """

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


class Conclusion(msgspec.Struct, frozen=True, gc=False):
    """How and when a job ended. token: the lease that ended it, None if no worker did.

    said: the outcome the worker asked for, kept apart from outcome because a cancel request overrides it. halts: the job's key stands still
    for this failure, and history does not forget it until somebody has said what is to become of it.
    """

    outcome: Outcome
    concluded_at: float
    result: bytes | None = None
    token: str | None = None
    said: Outcome | None = None
    worker: str | None = None
    started_at: float | None = None
    halts: bool = False


Ended = Literal["failed", "lease_expired"]
"""How an attempt ended that counts and did not succeed: its worker said failed, or its lease ran out."""


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """An attempt that failed or whose lease ran out. number: which, from 1; error: what its worker said, None if nothing or too much."""

    number: int
    worker: str | None
    started_at: float
    ended_at: float
    ended: Ended
    error: bytes | None


class Details(msgspec.Struct, frozen=True, gc=False):
    """What most jobs have none of. Frozen: a change makes new ones, so snapshots share them, and all plain jobs share `PLAIN`.

    asked: (delay, run_at, expires_in) as the producer sent them, kept to tell a repeated enqueue from a conflicting one; error: the last
    failure's; past: the last attempts that failed, oldest first; seq: see Job.seq, None where it is the job's number; key: see JobSpec;
    holds: the job was handed out, has come back, and holds its key until it is concluded.
    """

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


PLAIN: Final = Details()
"""The details of a job that has none."""


class Job(msgspec.Struct, gc=False, eq=False):
    """One job. Only the engine changes it; whoever is handed one by a backend holds a snapshot.

    A server may hold a million, so what is written here counts: twelve fields are 112 bytes, and each two more would be 16
    (docs/decisions/0004). number: order of creation over the whole server; hold: the live lease while the job is in progress, its
    conclusion when it is concluded, else None; slot belongs to the ring that holds the job.
    """

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
        """Heaps ask for it where two jobs have one place: one of them stands there no more, and it is all one which is looked at first."""
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
        """Place in its queue, smaller is older; 0 before it has one. Its number, unless it joined the queue later than it was made."""
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
        """Not before when: a delay's end, a retry's; None for a job that could run at once."""
        return self.details.run_at

    @property
    def expires_at(self) -> float | None:
        """When a job that still waits expires, None for never."""
        return self.details.expires_at

    @property
    def error(self) -> bytes | None:
        """The last failure's error, None before the first."""
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
    def past(self) -> tuple[Attempt, ...]:
        """See Details."""
        return self.details.past


class Want(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one dequeue asks for: at most `limit` jobs from `queues`, in order of preference.

    who: whose request it is, as access control knows it (a token's name), "" where nobody is asked. An attempt_id is that of one `who` and
    one `worker`.
    """

    queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    limit: int = 1
    lease_seconds: float | None = None
    worker: str | None = None
    attempt_id: str | None = None
    who: str = ""


class Verdict(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a worker says of its attempt: succeeded or failed, with a result or an error as JSON text.

    retry False makes a failure final; retry_delay: seconds until the next attempt after a failure, None for the backoff. once: a repeat is
    refused, for whoever found the token in the job: many may have at the same time, and one of them ended it.
    """

    outcome: Outcome
    result: bytes | None = None
    error: bytes | None = None
    retry: bool = True
    retry_delay: float | None = None
    once: bool = False


class JobFilter(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Which jobs a listing shows; None matches all.

    Newest first, those created before the job of the number `before`; or, with `after`, oldest first, those created after the job of
    that number, 0 for all. sees: only jobs of queues that it is true of. payloads: the listing shows payloads and results, so they count
    towards the bound on an answer.
    """

    status: Status | None = None
    outcome: Outcome | None = None
    queue: str | None = None
    type: str | None = None
    key: str | None = None
    limit: int = 100
    before: int | None = None
    after: int | None = None
    payloads: bool = False
    sees: Callable[[str], bool] | None = None


Block = Literal["order", "halted", "paused", "concurrency", "rate"]
"""What keeps a key's jobs back: one that is before them; a failure; somebody's word; as many as may be in progress; a rate."""


class QueueStats(msgspec.Struct, frozen=True, gc=False):
    """One queue's policy, its jobs by status, and what it did since the server started.

    held: how many of those that are queued may not be handed out now, for whatever reason but the queue's own pause; held_by: for which;
    keys: how many keys it keeps count of, 0 where keys do not matter; rate_next_at: when its rate lets the next job go, None when one may
    go now.
    """

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
    held: int = 0
    held_by: dict[str, int] = {}
    keys: int = 0
    rate_next_at: float | None = None


class KeyStats(msgspec.Struct, frozen=True, gc=False):
    """One key of a queue. block: what keeps its queued jobs back, None when one may go or there is none.

    holder: the id of the job that it waits for: in progress, between two attempts, or failed. next_at: when its rate lets the next go.
    """

    key: str | None
    queued: int
    scheduled: int
    in_progress: int
    block: Block | None
    paused: bool
    holder: str | None = None
    next_at: float | None = None


Why = Literal["time", "paused", "key", "concurrency", "rate", "line", "workers"]


class Reason(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One thing that a job waits for. What the kind does not have is None.

    time: `until`. paused: the queue. key: of the job's key, `block`; `job` is what it waits for, with the `worker` that has it and
    `until` when its lease ends or it runs again. concurrency: of the queue, or of `key`: `used` of `total`. rate: likewise, the next slot
    at `until`. line: `ahead` jobs go before it, roughly. workers: nobody waits for a job of this queue now; `used` are in progress.
    """

    kind: Why
    until: float | None = None
    key: str | None = None
    block: Block | None = None
    job: str | None = None
    worker: str | None = None
    used: int | None = None
    total: int | None = None
    ahead: int | None = None
