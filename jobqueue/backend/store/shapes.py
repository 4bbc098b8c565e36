"""Encodes and decodes jobs and errors between servers. Built as plain tuples, which costs half of making a struct first.

Everything else is encoded as msgspec does it, with field names.
"""

from __future__ import annotations

from typing import Any

import msgspec

from jobqueue import errors
from jobqueue.backend.store.moved import Moved
from jobqueue.errors import BadRequest, QueueError, StorageUnavailable, Unavailable, Unconfirmed
from jobqueue.model import PLAIN, Conclusion, Details, Job, Lease, Status
from jobqueue.partition import ClaimVoid


class ErrorRow(msgspec.Struct, array_like=True, gc=False):
    """A QueueError. kind: its class in `jobqueue.errors`."""

    kind: str
    detail: str
    field: str | None = None
    retry_after: int | None = None
    max: float | None = None
    ids: tuple[str, ...] = ()
    job_id: str | None = None


class JobRow(msgspec.Struct, array_like=True, gc=False):
    """A job. details: None for PLAIN."""

    id: str
    number: int
    queue: str
    priority: int
    payload: bytes
    created_at: float
    status: Status
    type: str | None
    attempts: int
    lease: Lease | None
    conclusion: Conclusion | None
    details: Details | None


class Item(msgspec.Struct, array_like=True, gc=False):
    """The result of one item of a batch: a job, or an error."""

    job: JobRow | None
    error: ErrorRow | None = None
    created: bool = False
    handed_over: bool = False


FILTERS = ("key", "tag", "worker", "error", "created_after", "created_before", "group", "parent", "retrying", "error_group", "by_end")
"""The filters of a JobFilter that are sent last, in this order."""


def job_row(job: Job) -> tuple[Any, ...]:
    """A JobRow, as a tuple."""
    hold, details = job.hold, job.details
    leased = type(hold) is Lease
    return (
        job.id,
        job.number,
        job.queue,
        job.priority,
        job.payload,
        job.created_at,
        job.status,
        job.type,
        job.attempts,
        hold if leased else None,
        None if leased else hold,
        None if details is PLAIN else details,
    )


def job_of(row: JobRow) -> Job:
    """The job of a row."""
    details = row.details
    return Job(
        row.id,
        row.number,
        row.queue,
        row.priority,
        row.payload,
        row.created_at,
        row.status,
        row.type,
        PLAIN if details is None else details,
        row.attempts,
        row.lease or row.conclusion,
    )


_JOB_BYTES = 2_000
"""More than the names, ids, times and field names of almost any job take."""


def held_bytes(job: Job) -> int:
    """The approximate size that a job adds to a frame."""
    size = len(job.payload) + _JOB_BYTES
    if job.conclusion is not None and job.conclusion.result is not None:
        size += len(job.conclusion.result)
    if job.lease is not None and job.lease.message is not None:
        size += 4 * len(job.lease.message)
    details = job.details
    if details is not PLAIN:
        size += (
            4 * len(details.description or "")
            + len(details.error or b"")
            + sum(len(one.error or b"") + 4 * len(one.traceback or "") for one in details.past)
        )
        extra = details.extra
        size += sum(4 * len(text) for text in (*extra.tags, *extra.after))
        size += sum(4 * len(parent.id) + 50 + len(parent.result or b"") for parent in extra.parents)
        size += 0 if job.unique is None else 4 * len(job.unique.key)
        size += sum(len(header.name) + 4 * len(header.type) + len(header.value) for header in extra.headers)
    return size


KINDS: dict[str, type[QueueError]] = {
    kind.__name__: kind for kind in (*vars(errors).values(), ClaimVoid, Moved) if isinstance(kind, type) and issubclass(kind, QueueError)
}
"""Every error class, by its name."""


def error_row(error: QueueError) -> tuple[Any, ...]:
    """An ErrorRow, as a tuple. An error whose class is not in `jobqueue.errors` is sent as its nearest base class there."""
    kind = next(each.__name__ for each in type(error).__mro__ if KINDS.get(each.__name__) is each)
    return (
        kind,
        error.detail,
        error.field,
        getattr(error, "retry_after", None),
        error.max if isinstance(error, BadRequest) else None,
        error.ids if isinstance(error, Unconfirmed) else (),
        error.job_id,
    )


def error_of(row: ErrorRow) -> QueueError:
    """The error of a row; StorageUnavailable if only the other server knows the class."""
    kind = KINDS.get(row.kind)
    if kind is None:
        return StorageUnavailable(f"the owner refused with {row.kind[:80]!r}, which this server does not know: {row.detail}")
    error = kind.told(row.detail, row.field)
    if row.job_id is not None:
        error.job_id = row.job_id
    if row.retry_after is not None and isinstance(error, errors.Full | Unavailable):
        error.retry_after = row.retry_after
    if row.max is not None and isinstance(error, BadRequest):
        error.max = row.max
    if row.ids and isinstance(error, Unconfirmed):
        error.ids = row.ids
    return error
