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


class QueuePolicy(msgspec.Struct, frozen=True, gc=False):
    """What a queue does with jobs that do not say otherwise.

    lease_seconds: how long a lease holds; max_attempts: attempts before a failure is final; max_jobs: the most
    jobs that may be live (not concluded) in this queue, None for the server's bound alone; paused: hands out
    nothing, accepts everything.
    """

    lease_seconds: float = 300.0
    max_attempts: int = 5
    backoff: Backoff = Backoff()
    max_jobs: int | None = None
    paused: bool = False


class JobSpec(msgspec.Struct, gc=False, kw_only=True):
    """A job as its producer asked for it. None means "not said": the queue's policy or the server's default decides.

    run_at is UTC (seconds since the epoch); delay and run_at exclude each other. traceparent: the trace this belongs to (W3C Trace
    Context), for the worker to go on with.
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


class Lease(msgspec.Struct, frozen=True, gc=False):
    """A worker's exclusive, timed hold on one attempt at a job.

    replayed: the lease was handed out again under its attempt_id, so a failed write of an earlier answer no
    longer proves that nobody has it.
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


class Conclusion(msgspec.Struct, frozen=True, gc=False):
    """How and when a job ended. token: the lease that ended it, None if no worker did.

    said: the outcome the worker asked for, kept apart from outcome because a cancel request overrides it.
    """

    outcome: Outcome
    concluded_at: float
    result: bytes | None = None
    token: str | None = None
    said: Outcome | None = None
    worker: str | None = None
    started_at: float | None = None


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


class Job(msgspec.Struct, gc=False, eq=False):
    """One job. Only the engine changes it; whoever is handed one by a backend holds a snapshot.

    number: order of creation over the whole server; seq: place in its queue, smaller is older; slot, due and
    armed belong to the ring and the deadline heap that hold the job; asked: (delay, run_at, expires_in) as the
    producer sent them, kept to tell a repeated enqueue from a conflicting one; error: the last failure's; past: the last attempts that
    failed, oldest first, a tuple because snapshots share it, and one for all jobs that never failed.
    """

    id: str
    number: int
    queue: str
    priority: int
    payload: bytes
    created_at: float
    status: Status
    type: str | None = None
    description: str | None = None
    max_attempts: int | None = None
    backoff: Backoff | None = None
    lease_seconds: float | None = None
    asked: tuple[float | None, float | None, float | None] | None = None
    run_at: float | None = None
    expires_at: float | None = None
    attempts: int = 0
    error: bytes | None = None
    lease: Lease | None = None
    conclusion: Conclusion | None = None
    seq: int = 0
    slot: int = -1
    due: float | None = None
    armed: float | None = None
    traceparent: str | None = None
    past: tuple[Attempt, ...] = ()

    @property
    def outcome(self) -> Outcome | None:
        """How the job ended, None while it is live."""
        return None if self.conclusion is None else self.conclusion.outcome


class Want(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one dequeue asks for: at most `limit` jobs from `queues`, in order of preference."""

    queues: tuple[str, ...] = (DEFAULT_QUEUE,)
    limit: int = 1
    lease_seconds: float | None = None
    worker: str | None = None
    attempt_id: str | None = None


class Verdict(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a worker says of its attempt: succeeded or failed, with a result or an error as JSON text.

    retry False makes a failure final; retry_delay: seconds until the next attempt after a failure, None for the backoff.
    """

    outcome: Outcome
    result: bytes | None = None
    error: bytes | None = None
    retry: bool = True
    retry_delay: float | None = None


class JobFilter(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Which jobs a listing shows; None matches all. before: only jobs created before the job of this number."""

    status: Status | None = None
    outcome: Outcome | None = None
    queue: str | None = None
    type: str | None = None
    limit: int = 100
    before: int | None = None


class QueueStats(msgspec.Struct, frozen=True, gc=False):
    """One queue's policy, its jobs by status, and what it did since the server started."""

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
