"""What the native API answers: jobs, queues and batches as JSON. One encoder, built at import.

Payloads, results and errors are copied in as the bytes they came as. Times are RFC 3339 in UTC with milliseconds, durations seconds.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from jobqueue.api.problems import Problem
from jobqueue.model import Attempt, Block, Ended, Job, KeyStats, Outcome, QueuePolicy, QueueStats, Reason, Status, Why

_TOTALS = [(field.removesuffix("_total"), field) for field in QueueStats.__struct_fields__ if field.endswith("_total")]
_seconds: dict[int, str] = {}
_stamps: dict[float, str] = {}
"""Those made last: the jobs of a batch have most of their times in common."""


def stamp(at: float) -> str:
    """RFC 3339 in UTC with milliseconds, rounded down."""
    known = _stamps.get(at)
    if known is not None:
        return known
    if len(_stamps) > 100:
        _stamps.clear()
    # The microsecond makes up for what a float loses: 2**31 + 0.002 is a little less than it says.
    total_ms = int((at * 1_000 + 0.001) // 1)
    second = total_ms // 1_000
    text = _seconds.get(second)
    if text is None:
        if len(_seconds) > 1_000:
            _seconds.clear()
        text = _seconds[second] = "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}".format(*time.gmtime(second)[:6])
    made = _stamps[at] = f"{text}.{total_ms - second * 1_000:03d}Z"
    return made


def _stamp(at: float | None) -> str | None:
    return None if at is None else stamp(at)


class EnqueuedView(msgspec.Struct, frozen=True, gc=False):
    """A job's summary, as an enqueue answers it. run_at and expires_at are null where there is none."""

    id: str
    queue: str
    type: str | None
    priority: int
    status: Status
    created_at: str
    run_at: str | None
    expires_at: str | None
    created: bool
    key: str | UnsetType = UNSET


class LeaseView(msgspec.Struct, frozen=True, gc=False):
    """The lease a worker is handed: only its holder ever sees the token."""

    token: str
    expires_at: str


class DequeuedView(msgspec.Struct, frozen=True, gc=False):
    """A job as a worker is handed it. attempts counts this one; error is the last failure's, null before the first.

    traceparent and key are there if the producer gave one; limited, true, if the lease takes something that other jobs may have to wait
    for, so that a worker should not take the job before it can begin.
    """

    id: str
    number: int
    queue: str
    type: str | None
    description: str | None
    priority: int
    attempts: int
    created_at: str
    lease: LeaseView
    error: Raw | None
    payload: Raw
    traceparent: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    limited: bool | UnsetType = UNSET


class AttemptView(msgspec.Struct, frozen=True, gc=False):
    """An attempt that failed or whose lease ran out. error is null where its worker said nothing, or more than is kept."""

    attempt: int
    worker: str | None
    started_at: str
    ended_at: str
    ended: Ended
    error: Raw | None


class ReasonView(msgspec.Struct, frozen=True, gc=False, kw_only=True, omit_defaults=True):
    """One thing that a job waits for. Only what goes with the reason is there."""

    reason: Why
    until: str | None = None
    key: str | None = None
    block: Block | None = None
    job: str | None = None
    worker: str | None = None
    used: int | None = None
    total: int | None = None
    ahead: int | None = None


class JobView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A job as anyone may see it. Lists leave past, payload and result out, and waiting_for unless it is asked for; max_attempts null
    follows the queue's policy. halts, true, is there only while the job's failure keeps its key from going on.
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
    created_at: str
    run_at: str | None
    expires_at: str | None
    started_at: str | None
    concluded_at: str | None
    lease_expires_at: str | None
    worker: str | None
    progress: float | None
    message: str | None
    cancel_requested: bool
    error: Raw | None
    key: str | None
    halts: bool | UnsetType = UNSET
    waiting_for: list[ReasonView] | UnsetType = UNSET
    past: list[AttemptView] | UnsetType = UNSET
    result: Raw | UnsetType | None = UNSET
    payload: Raw | UnsetType = UNSET


class ExtendedView(msgspec.Struct, frozen=True, gc=False):
    """The answer to an extend."""

    id: str
    expires_at: str
    cancel_requested: bool


class BatchView(msgspec.Struct, frozen=True):
    """Results in the order of the items; a failed item's is `{"error": problem}`."""

    jobs: list[Any]


class FailedItem(msgspec.Struct, frozen=True, gc=False):
    """The result of a batch's item that failed."""

    error: Problem


class ConcludedView(msgspec.Struct, frozen=True, gc=False):
    """The answer to a conclude, alone or in a batch: status says whether the job is concluded or scheduled for its next attempt."""

    id: str
    status: Status
    outcome: Outcome | None
    attempts: int
    run_at: str | None


class QueueView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A queue: its policy, its jobs by status, its waiters, and its totals since the server started."""

    name: str
    policy: QueuePolicy
    scheduled: int
    queued: int
    in_progress: int
    waiters: int
    oldest_queued_at: str | None
    held: int
    held_by: dict[str, int]
    keys: int
    rate_next_at: str | None
    totals: dict[str, int]


class KeyView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A key of a queue. block says what keeps its queued jobs back, null when the next may go; holder is the job that it waits for."""

    key: str
    queued: int
    scheduled: int
    in_progress: int
    block: Block | None
    paused: bool
    holder: str | None
    next_at: str | None


class KeysView(msgspec.Struct, frozen=True):
    """A page of keys, those that hold most jobs up first. cursor asks for the next page, null at the end."""

    keys: list[KeyView]
    cursor: str | None


class QueuesView(msgspec.Struct, frozen=True):
    """A page of queues, by name. cursor asks for the next page, null at the end; a page may be short and still have one."""

    queues: list[QueueView]
    cursor: str | None


class PurgedView(msgspec.Struct, frozen=True):
    """How many jobs a purge cancelled."""

    queue: str
    purged: int


class RetriedView(msgspec.Struct, frozen=True):
    """How many failed jobs were queued again."""

    queue: str
    retried: int


class PageView(msgspec.Struct, frozen=True):
    """A page of jobs, newest first. cursor asks for the next page, null at the end; a page may be short and still have one."""

    jobs: list[JobView]
    cursor: int | None


def raw(value: bytes | None) -> Raw | None:
    """JSON text to be copied into an answer as it is."""
    return None if value is None else Raw(value)


def enqueued(job: Job, created: bool) -> EnqueuedView:
    """See EnqueuedView."""
    return EnqueuedView(
        job.id,
        job.queue,
        job.type,
        job.priority,
        job.status,
        stamp(job.created_at),
        _stamp(job.run_at),
        _stamp(job.expires_at),
        created,
        UNSET if job.key is None else job.key,
    )


def dequeued(job: Job) -> DequeuedView:
    """See DequeuedView. The job must be under a lease."""
    lease, details = job.lease, job.details
    assert lease is not None
    return DequeuedView(
        job.id,
        job.number,
        job.queue,
        job.type,
        details.description,
        job.priority,
        job.attempts,
        stamp(job.created_at),
        LeaseView(lease.token, stamp(lease.expires_at)),
        raw(details.error),
        Raw(job.payload),
        UNSET if details.traceparent is None else details.traceparent,
        UNSET if details.key is None else details.key,
        True if lease.limited else UNSET,
    )


def _attempt(attempt: Attempt) -> AttemptView:
    return AttemptView(
        attempt.number, attempt.worker, stamp(attempt.started_at), stamp(attempt.ended_at), attempt.ended, raw(attempt.error)
    )


def reason_view(reason: Reason) -> ReasonView:
    """See ReasonView."""
    return ReasonView(
        reason=reason.kind,
        until=_stamp(reason.until),
        key=reason.key,
        block=reason.block,
        job=reason.job,
        worker=reason.worker,
        used=reason.used,
        total=reason.total,
        ahead=reason.ahead,
    )


def job_view(job: Job, whole: bool, reasons: list[Reason] | None = None) -> JobView:
    """See JobView; whole: with past, payload and result; reasons: what it waits for, None to leave that out."""
    lease, end = job.lease, job.conclusion
    ran = lease or end
    return JobView(
        id=job.id,
        number=job.number,
        queue=job.queue,
        type=job.type,
        description=job.description,
        priority=job.priority,
        status=job.status,
        outcome=None if end is None else end.outcome,
        attempts=job.attempts,
        max_attempts=job.max_attempts,
        created_at=stamp(job.created_at),
        run_at=_stamp(job.run_at),
        expires_at=_stamp(job.expires_at),
        started_at=None if ran is None else _stamp(ran.started_at),
        concluded_at=None if end is None else stamp(end.concluded_at),
        lease_expires_at=None if lease is None else stamp(lease.expires_at),
        worker=None if ran is None else ran.worker,
        progress=None if lease is None else lease.progress,
        message=None if lease is None else lease.message,
        cancel_requested=lease is not None and lease.cancel_requested,
        error=raw(job.error),
        key=job.key,
        halts=True if end is not None and end.halts else UNSET,
        waiting_for=UNSET if reasons is None else [reason_view(reason) for reason in reasons],
        past=[_attempt(attempt) for attempt in job.past] if whole else UNSET,
        result=(raw(end.result) if end is not None else None) if whole else UNSET,
        payload=Raw(job.payload) if whole else UNSET,
    )


def concluded(job: Job) -> ConcludedView:
    """See ConcludedView."""
    return ConcludedView(job.id, job.status, job.outcome, job.attempts, _stamp(job.run_at))


def key_view(stats: KeyStats) -> KeyView:
    """See KeyView."""
    assert stats.key is not None
    return KeyView(
        key=stats.key,
        queued=stats.queued,
        scheduled=stats.scheduled,
        in_progress=stats.in_progress,
        block=stats.block,
        paused=stats.paused,
        holder=stats.holder,
        next_at=_stamp(stats.next_at),
    )


def queue_view(stats: QueueStats) -> QueueView:
    """See QueueView."""
    return QueueView(
        name=stats.name,
        policy=stats.policy,
        scheduled=stats.scheduled,
        queued=stats.queued,
        in_progress=stats.in_progress,
        waiters=stats.waiters,
        oldest_queued_at=_stamp(stats.oldest_queued_at),
        held=stats.held,
        held_by=stats.held_by,
        keys=stats.keys,
        rate_next_at=_stamp(stats.rate_next_at),
        totals={word: getattr(stats, field) for word, field in _TOTALS},
    )


encode = msgspec.json.Encoder().encode
"""Any view, as bytes."""
