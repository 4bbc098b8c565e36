"""What a job counts against the limits in bytes: every part of it whose size a client chooses.

The only place for this: for live jobs and history, for the limits and the metrics. A new text in a job is counted here, or listed in
tests/engine/test_sizes.py with a reason. Not counted is what every job has: its id, its numbers, its token, and the objects that hold them.
Texts count as UTF-8, JSON as it was sent.
"""

from __future__ import annotations

from typing import Final

from jobqueue.model import NOTHING, PLAIN, Conclusion, Details, Header, Job, JobSpec, Lease, Want

LEASE_EXPIRED: Final = b'"lease_expired"'
"""The error of a job whose last lease ran out."""

ERROR_LEFT_OUT: Final = b'"error left out: the server holds as many bytes as it may"'
"""The error of a job whose worker sent an error for which there was no room."""

_OWN: Final = (LEASE_EXPIRED, ERROR_LEFT_OUT)
"""The server's own errors, which count as 0 bytes: they are used when there is no room for anything."""


def text_bytes(text: str) -> int:
    """A text's length in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def names_bytes(of: Lease | Want) -> int:
    """The size of the names that a lease's holder gave for itself."""
    size = 0
    worker, attempt_id = of.worker, of.attempt_id
    # `text_bytes`, without the calls: this runs twice for every job of a worker.
    if worker is not None:
        size = len(worker) if worker.isascii() else len(worker.encode())
    if attempt_id is not None:
        size += len(attempt_id) if attempt_id.isascii() else len(attempt_id.encode())
    return size


def lease_bytes(lease: Lease) -> int:
    """The size that a lease adds to its job."""
    size = names_bytes(lease)
    return size if lease.message is None else size + text_bytes(lease.message)


def details_bytes(details: Details) -> int:
    """The size of a job's details."""
    size = 0
    if details.description is not None:
        size = text_bytes(details.description)
    if details.traceparent is not None:
        size += len(details.traceparent)
    if details.key is not None:
        size += text_bytes(details.key)
    if details.error is not None and details.error not in _OWN:
        size += len(details.error)
    for attempt in details.past:
        if attempt.error is not None:
            size += len(attempt.error)
        if attempt.traceback is not None:
            size += text_bytes(attempt.traceback)
        if attempt.worker is not None:
            size += text_bytes(attempt.worker)
    if details.extra is not NOTHING:
        size += sum(text_bytes(tag) for tag in details.extra.tags) + details.extra.log
        if details.extra.claim is not None:
            size += text_bytes(details.extra.claim.unique.key)
        size += sum(text_bytes(parent) for parent in details.extra.after)
        if details.extra.headers:
            size += headers_bytes(details.extra.headers)
    return size


def headers_bytes(headers: tuple[Header, ...]) -> int:
    """The size of a job's headers."""
    return sum(len(header.name) + text_bytes(header.type) + len(header.value) for header in headers)


def spec_bytes(spec: JobSpec) -> int:
    """The size of the job that this spec will make."""
    size = len(spec.payload) + sum(text_bytes(tag) for tag in spec.tags)
    for text in (spec.type, spec.description, spec.traceparent, spec.key):
        size += 0 if text is None else text_bytes(text)
    return size + headers_bytes(spec.headers)


def conclusion_bytes(conclusion: Conclusion) -> int:
    """The size that a conclusion adds to its job."""
    size, worker = 0 if conclusion.result is None else len(conclusion.result), conclusion.worker
    if worker is None:
        return size
    return size + (len(worker) if worker.isascii() else len(worker.encode()))


def own_bytes(job: Job) -> int:
    """The size of a job without its lease or conclusion."""
    size, kind = len(job.payload), job.type
    if kind is not None:
        size += len(kind) if kind.isascii() else len(kind.encode())
    return size if job.details is PLAIN else size + details_bytes(job.details)


def shown_bytes(job: Job) -> int:
    """The size of a job in a listing, which shows no payload, no result and no past attempts."""
    size = 0 if job.error is None else len(job.error)
    if job.description is not None:
        size += text_bytes(job.description)
    if job.key is not None:
        size += text_bytes(job.key)
    size += sum(text_bytes(tag) for tag in job.tags)
    lease = job.lease
    return size if lease is None or lease.message is None else size + text_bytes(lease.message)


def job_bytes(job: Job) -> int:
    """The size of a job, live or concluded."""
    size, hold = own_bytes(job), job.hold
    if hold is None:
        return size
    return size + (conclusion_bytes(hold) if isinstance(hold, Conclusion) else lease_bytes(hold))
