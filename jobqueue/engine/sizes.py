"""What a job counts against the bounds on bytes: everything in it that somebody else chose the size of.

One place for live jobs and for history, for the bounds and for the metrics. A new text of a job is counted here, or excused in
tests/engine/test_sizes.py with a reason. Not counted is what each job has whatever its client does: its id, its numbers, its token, the
objects that hold them. Texts count as UTF-8, JSON as it came.
"""

from __future__ import annotations

from typing import Final

from jobqueue.model import PLAIN, Conclusion, Details, Job, Lease, Want

LEASE_EXPIRED: Final = b'"lease_expired"'
"""The error of a job whose last lease ran out."""

ERROR_LEFT_OUT: Final = b'"error left out: the server holds as many bytes as it may"'
"""The error of a job whose worker sent one that there was no room for."""

_OWN: Final = (LEASE_EXPIRED, ERROR_LEFT_OUT)
"""The server's own words, which count for nothing: they stand in for something when there is room for nothing."""


def text_bytes(text: str) -> int:
    """A text's length in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def names_bytes(of: Lease | Want) -> int:
    """Who holds a lease, by its own names for itself."""
    size = 0
    if of.worker is not None:
        size = text_bytes(of.worker)
    if of.attempt_id is not None:
        size += text_bytes(of.attempt_id)
    return size


def lease_bytes(lease: Lease) -> int:
    """What a lease adds to its job."""
    size = names_bytes(lease)
    return size if lease.message is None else size + text_bytes(lease.message)


def details_bytes(details: Details) -> int:
    """What a job's details add to it."""
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
        if attempt.worker is not None:
            size += text_bytes(attempt.worker)
    return size


def conclusion_bytes(conclusion: Conclusion) -> int:
    """What its end adds to a job."""
    size = 0 if conclusion.result is None else len(conclusion.result)
    return size if conclusion.worker is None else size + text_bytes(conclusion.worker)


def own_bytes(job: Job) -> int:
    """What a job counts without its lease or its conclusion."""
    size = len(job.payload)
    if job.type is not None:
        size += text_bytes(job.type)
    return size if job.details is PLAIN else size + details_bytes(job.details)


def shown_bytes(job: Job) -> int:
    """What a job counts in a listing, which shows no payload, no result and no past attempts."""
    size = 0 if job.error is None else len(job.error)
    if job.description is not None:
        size += text_bytes(job.description)
    if job.key is not None:
        size += text_bytes(job.key)
    lease = job.lease
    return size if lease is None or lease.message is None else size + text_bytes(lease.message)


def job_bytes(job: Job) -> int:
    """What a job counts, live or concluded."""
    # In one piece for what most jobs are: history asks for each that it forgets.
    size = len(job.payload) if job.details is PLAIN and job.type is None else own_bytes(job)
    hold = job.hold
    if hold is None:
        return size
    return size + (conclusion_bytes(hold) if isinstance(hold, Conclusion) else lease_bytes(hold))
