"""What the native API answers: jobs, queues and batches as JSON. One encoder, built at import.

Payloads, results and errors are copied unchanged. Times are RFC 3339 in UTC with milliseconds, durations are in seconds.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from jobqueue.api.native.headers import HeaderBody, headers_view
from jobqueue.api.native.reasons import ReasonView, reason_view
from jobqueue.api.native.stamps import stamp, stamp_or_none
from jobqueue.api.native.unique import UniqueView, unique_view
from jobqueue.api.problems import Problem
from jobqueue.engine.calendar import slot_of
from jobqueue.model import CANCELLED, PLAIN, AfterFailure, Block, Conclusion, Job, KeyStats, Outcome, Parent, QueueStats, Status
from jobqueue.past import Attempt, Ended, Failures
from jobqueue.policy import Pause, QueuePolicy
from jobqueue.reason import Reason

_TOTALS = [(field.removesuffix("_total"), field) for field in QueueStats.__struct_fields__ if field.endswith("_total")]


class EnqueuedView(msgspec.Struct, frozen=True, gc=False):
    """A job's summary, the answer to an enqueue. run_at and expires_at are null if the job has none."""

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
    tags: tuple[str, ...] | UnsetType = UNSET


class LeaseView(msgspec.Struct, frozen=True, gc=False):
    """The lease of a worker. Only its holder ever sees the token."""

    token: str
    expires_at: str


class SlotView(msgspec.Struct, frozen=True, gc=False):
    """Which schedule made a job, and for which slot; slot is null if the schedule was run by hand."""

    name: str
    slot: str | None


class DequeuedView(msgspec.Struct, frozen=True, gc=False):
    """A job as a worker receives it. attempts includes this one; error is that of the last failure, null before the first.

    traceparent, key, tags and headers are present if the producer sent them; schedule if a schedule made the job; limited, always true,
    if other jobs may have to wait because of this lease, so that a worker should not take the job before it can start it; max_attempts,
    of the job or its queue, unless there is no limit.
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
    tags: tuple[str, ...] | UnsetType = UNSET
    schedule: SlotView | UnsetType = UNSET
    group: str | UnsetType = UNSET
    parents: list[ParentView] | UnsetType = UNSET
    headers: dict[str, str | HeaderBody] | UnsetType = UNSET
    max_attempts: int | UnsetType = UNSET


class AttemptView(msgspec.Struct, frozen=True, gc=False):
    """An attempt that failed or whose lease ran out. error is null if its worker reported none, or one too large to keep; traceback is
    present if its worker sent one.
    """

    attempt: int
    worker: str | None
    started_at: str
    ended_at: str
    ended: Ended
    error: Raw | None
    traceback: str | UnsetType = UNSET


class ParentView(msgspec.Struct, frozen=True, gc=False):
    """A parent of the job that is handed out, and how it ended. left_out: there is a result, but no room for it in the answer."""

    id: str
    outcome: Outcome | None
    result: Raw | None
    left_out: bool | UnsetType = UNSET


class OriginView(msgspec.Struct, frozen=True, gc=False):
    """Where a dead letter comes from: the queue in which it failed for good, when, how its last attempt there ended, and how many attempts
    it had had by then.
    """

    queue: str
    at: str
    reason: Ended
    attempts: int


class JobView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A job as every reader sees it. Lists leave out past, headers, payload and result, and waiting_for unless it is requested.

    If max_attempts is null, the queue's policy applies. origin is present only in a dead letter; schedule only if a schedule made the job;
    halts, always true, only while the job's failure holds back its key.
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
    tags: tuple[str, ...]
    unique: UniqueView | UnsetType = UNSET
    origin: OriginView | UnsetType = UNSET
    schedule: SlotView | UnsetType = UNSET
    halts: bool | UnsetType = UNSET
    after: tuple[str, ...] | UnsetType = UNSET
    after_failure: AfterFailure | UnsetType = UNSET
    group: str | UnsetType = UNSET
    headers: dict[str, str | HeaderBody] | UnsetType = UNSET
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
    """The results, in the order of the items; for a failed item, `{"error": problem}`."""

    jobs: list[Any]


class FailedItem(msgspec.Struct, frozen=True, gc=False):
    """The result of a failed item of a batch."""

    error: Problem


class DoneItem(msgspec.Struct, gc=False):
    """In a short answer, the result of an item that was done as requested. If the full answer has attempts and run_at and the client cannot
    know them, attempts is present if it is not 1, and run_at if it is not null.
    """

    id: str
    attempts: int | UnsetType = UNSET
    run_at: str | UnsetType = UNSET


class ShortBatchView(msgspec.Struct, frozen=True):
    """A short answer to a batch of enqueues. created_at: when the jobs were created that are answered only with their id."""

    created_at: str
    jobs: list[Any]


class ConcludedView(msgspec.Struct, frozen=True, gc=False):
    """The answer to a conclude, alone or in a batch. status shows whether the job is concluded or scheduled for its next attempt."""

    id: str
    status: Status
    outcome: Outcome | None
    attempts: int
    run_at: str | None


class QueueView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A queue: its policy, its jobs by status, the dequeues that wait on it, and its totals since it was created."""

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
    created_at: str | None
    modified_at: str | None
    paused_at: str | None
    paused_by: str | None
    failures: Failures
    totals: dict[str, int]


class KeyView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A key of a queue. block: what holds back its queued jobs, null if the next one can be handed out; holder: the job it waits for."""

    key: str
    queued: int
    scheduled: int
    in_progress: int
    block: Block | None
    paused: bool
    paused_at: str | None
    paused_by: str | None
    holder: str | None
    next_at: str | None


class KeysView(msgspec.Struct, frozen=True):
    """A page of keys, those that hold back the most jobs first. cursor is for the next page, null at the end."""

    keys: list[KeyView]
    cursor: str | None


class QueuesView(msgspec.Struct, frozen=True):
    """A page of queues, by name. cursor is for the next page, null at the end; a page can be short and still have a next one.

    gone, whole and changes are present if the request has changed_since.
    """

    queues: list[QueueView]
    cursor: str | None
    gone: list[str] | UnsetType = UNSET
    whole: bool | UnsetType = UNSET
    changes: str | UnsetType = UNSET


class PurgedView(msgspec.Struct, frozen=True):
    """How many jobs a purge cancelled."""

    queue: str
    purged: int


class RetriedView(msgspec.Struct, frozen=True):
    """How many failed jobs were queued again."""

    queue: str
    retried: int


class PageView(msgspec.Struct, frozen=True):
    """A page of jobs, newest first. cursor is for the next page, null at the end; a page can be short and still have a next one."""

    jobs: list[JobView]
    cursor: int | str | None


def raw(value: bytes | None) -> Raw | None:
    """JSON text that is copied into an answer unchanged."""
    return None if value is None else Raw(value)


def enqueued(job: Job, created: bool) -> EnqueuedView:
    """See EnqueuedView."""
    details = job.details
    if details is PLAIN:
        return EnqueuedView(job.id, job.queue, job.type, job.priority, job.status, stamp(job.created_at), None, None, created)
    return EnqueuedView(
        job.id,
        job.queue,
        job.type,
        job.priority,
        job.status,
        stamp(job.created_at),
        stamp_or_none(details.run_at),
        stamp_or_none(details.expires_at),
        created,
        UNSET if details.key is None else details.key,
        details.extra.tags or UNSET,
    )


def slot_view(schedule: str, job_id: str) -> SlotView:
    """See SlotView."""
    return SlotView(schedule, stamp_or_none(slot_of(schedule, job_id)))


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
        details.extra.tags or UNSET,
        UNSET if details.extra.schedule is None else slot_view(details.extra.schedule, job.id),
        UNSET if details.extra.group is None else details.extra.group,
        _parents(details.extra.parents) if details.extra.after else UNSET,
        headers_view(details.extra.headers) if details.extra.headers else UNSET,
        UNSET if lease.attempts_max is None else lease.attempts_max,
    )


def _parents(parents: tuple[Parent, ...]) -> list[ParentView]:
    return [ParentView(each.id, each.outcome, raw(each.result), True if each.left_out else UNSET) for each in parents]


def _attempt(attempt: Attempt) -> AttemptView:
    return AttemptView(
        attempt.number,
        attempt.worker,
        stamp(attempt.started_at),
        stamp(attempt.ended_at),
        attempt.ended,
        raw(attempt.error),
        UNSET if attempt.traceback is None else attempt.traceback,
    )


def job_view(job: Job, whole: bool, reasons: list[Reason] | None = None) -> JobView:
    """See JobView. whole: include past, payload and result; reasons: what it waits for, None to leave that out."""
    lease, end = job.lease, job.conclusion
    ran = lease or end
    extra = job.details.extra
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
        run_at=stamp_or_none(job.run_at),
        expires_at=stamp_or_none(job.expires_at),
        started_at=None if ran is None else stamp_or_none(ran.started_at),
        concluded_at=None if end is None else stamp(end.concluded_at),
        lease_expires_at=None if lease is None else stamp(lease.expires_at),
        worker=None if ran is None else ran.worker,
        progress=None if lease is None else lease.progress,
        message=None if lease is None else lease.message,
        cancel_requested=lease is not None and lease.cancel_requested,
        error=raw(job.error),
        key=job.key,
        tags=job.tags,
        unique=UNSET if (claim := job.details.extra.claim) is None else unique_view(job, stamp_or_none(claim.until)),
        origin=UNSET if (origin := job.origin) is None else OriginView(origin.queue, stamp(origin.at), origin.reason, origin.attempts),
        schedule=UNSET if job.schedule is None else slot_view(job.schedule, job.id),
        halts=True if end is not None and end.halts else UNSET,
        after=extra.after or UNSET,
        after_failure=extra.after_failure if extra.after else UNSET,
        group=UNSET if extra.group is None else extra.group,
        headers=headers_view(extra.headers) if whole and extra.headers else UNSET,
        waiting_for=UNSET if reasons is None else [reason_view(reason) for reason in reasons],
        past=[_attempt(attempt) for attempt in job.past] if whole else UNSET,
        result=(raw(end.result) if end is not None else None) if whole else UNSET,
        payload=Raw(job.payload) if whole else UNSET,
    )


def concluded(job: Job) -> ConcludedView:
    """See ConcludedView."""
    end, run_at = job.hold, job.details.run_at
    outcome = end.outcome if type(end) is Conclusion else None
    return ConcludedView(job.id, job.status, outcome, job.attempts, None if run_at is None else stamp(run_at))


def extended(job: Job) -> ExtendedView:
    """See ExtendedView."""
    lease = job.lease
    if lease is None:
        # The job ended with this attempt, which is the last of its past attempts.
        return ExtendedView(job.id, stamp(job.past[-1].ended_at), job.outcome is CANCELLED)
    return ExtendedView(job.id, stamp(lease.expires_at), lease.cancel_requested)


def paused_at(pause: Pause | None) -> str | None:
    """When it was paused."""
    return None if pause is None else stamp(pause.at)


def paused_by(pause: Pause | None) -> str | None:
    """Who paused it."""
    return None if pause is None else pause.by


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
        paused_at=paused_at(stats.pause),
        paused_by=paused_by(stats.pause),
        holder=stats.holder,
        next_at=stamp_or_none(stats.next_at),
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
        oldest_queued_at=stamp_or_none(stats.oldest_queued_at),
        held=stats.held,
        held_by=stats.held_by,
        keys=stats.keys,
        rate_next_at=stamp_or_none(stats.rate_next_at),
        created_at=stamp_or_none(stats.created_at),
        modified_at=stamp_or_none(stats.modified_at),
        paused_at=paused_at(stats.pause),
        paused_by=paused_by(stats.pause),
        failures=stats.failures,
        totals={word: getattr(stats, field) for word, field in _TOTALS},
    )


encode = msgspec.json.Encoder().encode
"""Encodes any view."""
