"""Short answers: a client asks for them with `Prefer: return=minimal` (RFC 7240), and `Preference-Applied` confirms that it got one.

For each item, a batch's answer has what the single operation would answer. The client knows most of that, since it is in its request. A
short answer leaves it out.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from msgspec import UNSET

from jobqueue.api.native.stamps import stamp
from jobqueue.api.native.views import DoneItem
from jobqueue.backend.base import Enqueued
from jobqueue.http.request import Request
from jobqueue.model import PLAIN, QUEUED, SCHEDULED, Conclusion, Job

APPLIED = b"Preference-Applied: return=minimal\r\n"


def short_wanted(request: Request) -> bool:
    """Whether the client prefers a short answer. If a preference is repeated, the first one counts (RFC 7240, section 2).

    Call it before the backend: a request that waits releases its headers.
    """
    prefer = request.head.fields.prefer
    return prefer is not None and _minimal(prefer)


@lru_cache(64)
def _minimal(prefer: str) -> bool:
    for preference in prefer.split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "return":
            return value.strip().strip('"').lower() == "minimal"
    return False


def made_at(replies: Iterable[object]) -> float | None:
    """When the first job that this batch made was created, None if it made none."""
    return next((reply.job.created_at for reply in replies if isinstance(reply, Enqueued) and reply.created), None)


def enqueued(reply: Enqueued, at: float | None) -> DoneItem | None:
    """The short form of an enqueue, if it made the job at that moment and the job is simply queued."""
    job = reply.job
    details = job.details
    if not reply.created or job.created_at != at:
        return None
    if details is not PLAIN and (job.status is not QUEUED or details.run_at is not None or details.expires_at is not None):
        return None
    return DoneItem(job.id)


def concluded(job: Job) -> DoneItem | None:
    """The short form of a conclude, if the job has ended with the outcome that its worker reported."""
    end, run_at = job.hold, job.details.run_at
    if type(end) is not Conclusion or end.said is not end.outcome:
        return None
    if run_at is None and job.attempts == 1:
        return DoneItem(job.id)
    return DoneItem(job.id, UNSET if job.attempts == 1 else job.attempts, UNSET if run_at is None else stamp(run_at))


def released(job: Job) -> DoneItem | None:
    """The short form of a release, if the job waits again."""
    if job.status is SCHEDULED and job.run_at is not None:
        return DoneItem(job.id, run_at=stamp(job.run_at))
    return DoneItem(job.id) if job.status is QUEUED else None
