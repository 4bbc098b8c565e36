"""Whether an enqueue with a known id repeats the one that made the job."""

from __future__ import annotations

from jobqueue.errors import IdConflict
from jobqueue.model import Header, Job, JobSpec
from jobqueue.policy import Backoff
from jobqueue.unique import alike

_COMPARED = ("payload", "type", "description", "priority", "max_attempts", "lease_seconds", "key", "tags")
"""The fields that make an enqueue with a known id the same enqueue, byte for byte. The queue comes first: if it differs, nothing else is
compared. Also compared: backoff, and delay, run_at and expires_in as sent. Not traceparent: a producer that retries may do so in another
span.
"""

_NO_TIMES = (None, None, None)


def asked(spec: JobSpec) -> tuple[float | None, float | None, float | None] | None:
    """See Details.asked. A delay of 0 is none."""
    if spec.delay or spec.run_at is not None or spec.expires_in is not None:
        return (spec.delay or None, spec.run_at, spec.expires_in)
    return None


def in_order(headers: tuple[Header, ...]) -> tuple[Header, ...]:
    """Headers in the order in which a job stores them. The order in which they were sent does not matter."""
    return tuple(sorted(headers, key=_name)) if len(headers) > 1 else headers


def _name(header: Header) -> str:
    return header.name


def _values(backoff: Backoff | None) -> tuple[float, ...] | None:
    return None if backoff is None else (backoff.base, backoff.factor, backoff.cap)


def check_same(job: Job, spec: JobSpec) -> None:
    """Raise IdConflict unless this spec is what the job was enqueued with."""
    if job.details.extra.edited:
        # The job was edited, so what was enqueued is no longer known.
        return
    # The queue in which it was enqueued, since it may be a dead letter by now.
    if job.home != spec.queue:
        raise IdConflict(job.id, "queue")
    for field in _COMPARED:
        if getattr(job, field) != getattr(spec, field):
            raise IdConflict(job.id, field)
    if job.headers != in_order(spec.headers):
        raise IdConflict(job.id, "headers")
    for field in ("after", "after_failure", "group"):
        if getattr(job.details.extra, field) != getattr(spec, field):
            raise IdConflict(job.id, field)
    # By value: an edge can send a subclass of Backoff, which msgspec treats as unequal, and a restored job has Backoff itself.
    if _values(job.backoff) != _values(spec.backoff):
        raise IdConflict(job.id, "backoff")
    if not alike(job.unique, spec.unique):
        raise IdConflict(job.id, "unique")
    for field, was, wanted in zip(("delay", "run_at", "expires_in"), job.details.asked or _NO_TIMES, asked(spec) or _NO_TIMES, strict=True):
        if was != wanted:
            raise IdConflict(job.id, field)
