"""The content of GET /events for jobs and queues, as JSON."""

from __future__ import annotations

import msgspec

from jobqueue.api.native.stamps import stamp
from jobqueue.backend.base import Notice
from jobqueue.model import Outcome, Status
from jobqueue.policy import QueuePolicy


class JobEventView(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """An event of a job: the job's state right after it. at: when it happened."""

    at: str
    queue: str
    id: str
    number: int
    type: str | None
    priority: int
    status: Status
    outcome: Outcome | None
    attempts: int
    run_at: str | None
    lease_expires_at: str | None
    worker: str | None
    progress: float | None
    message: str | None
    cancel_requested: bool
    key: str | None


class QueueEventView(msgspec.Struct, frozen=True, gc=False):
    """An event of a queue: its policy from then on, null if the queue was deleted."""

    at: str
    queue: str
    policy: QueuePolicy | None


def event(notice: Notice) -> JobEventView | QueueEventView:
    """See JobEventView and QueueEventView."""
    if notice.id is None:
        return QueueEventView(stamp(notice.at), notice.queue, notice.policy)
    assert notice.number is not None
    assert notice.priority is not None
    assert notice.status is not None
    assert notice.attempts is not None
    return JobEventView(
        at=stamp(notice.at),
        queue=notice.queue,
        id=notice.id,
        number=notice.number,
        type=notice.type,
        priority=notice.priority,
        status=notice.status,
        outcome=notice.outcome,
        attempts=notice.attempts,
        run_at=None if notice.run_at is None else stamp(notice.run_at),
        lease_expires_at=None if notice.lease_expires_at is None else stamp(notice.lease_expires_at),
        worker=notice.worker,
        progress=notice.progress,
        message=notice.message,
        cancel_requested=notice.cancel_requested is True,
        key=notice.key,
    )
