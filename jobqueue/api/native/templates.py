"""Answers about one plain job, which most jobs are, written directly as bytes.

A view is an object that is encoded field by field. For a plain job (`model.PLAIN`) most fields are always the same. Each function here
returns exactly the bytes that the encoder makes of the view (`views.py`, which describes the fields), as `tests/api/test_templates.py`
checks; any other job is left to the view.
"""

from __future__ import annotations

from jobqueue.api.native import views
from jobqueue.api.native.reasons import reason_view
from jobqueue.api.native.stamps import stamp
from jobqueue.api.native.views import encode
from jobqueue.model import CONCLUDED, PLAIN, QUEUED, Conclusion, Job, Lease
from jobqueue.reason import Reason

NAMES_MAX = 1_000

_names: dict[str | None, bytes] = {None: b"null"}
"""Names of queues, types and workers as JSON. There are few of them, and they are repeated in each job."""

_ENQUEUED = b'{"id":%b,"queue":%b,"type":%b,"priority":%d,"status":"queued","created_at":"%b","run_at":null,"expires_at":null,"created":%b}'

_DEQUEUED = (
    b'{"id":%b,"number":%d,"queue":%b,"type":%b,"description":null,"priority":%d,"attempts":%d,"created_at":"%b",'
    b'"lease":{"token":%b,"expires_at":"%b"},"error":null,"payload":%b,"max_attempts":%d}'
)

_JOB = (
    b'{"id":%b,"number":%d,"queue":%b,"type":%b,"description":null,"priority":%d,"status":"%b","outcome":%b,"attempts":%d,'
    b'"max_attempts":null,"created_at":"%b","run_at":null,"expires_at":null,%b,"error":null,"key":null,"tags":[],'
    b'"waiting_for":%b,"past":[],"result":%b,"payload":%b}'
)

_CONCLUDED = b'{"id":%b,"status":"concluded","outcome":%b,"attempts":%d,"run_at":null}'

_RUN = b'"started_at":%b,"concluded_at":%b,"lease_expires_at":%b,"worker":%b,"progress":%b,"message":%b,"cancel_requested":%b'

_NEVER_RUN = _RUN % (*[b"null"] * 6, b"false")


def _name(value: str | None) -> bytes:
    known = _names.get(value)
    if known is not None:
        return known
    if len(_names) >= NAMES_MAX:
        _names.clear()
        _names[None] = b"null"
    made = _names[value] = encode(value)
    return made


def _time(at: float | None) -> bytes:
    return b"null" if at is None else b'"%b"' % stamp(at).encode()


def enqueued(job: Job, created: bool) -> bytes:
    """See views.enqueued."""
    if job.details is not PLAIN or job.status is not QUEUED:
        return encode(views.enqueued(job, created))
    return _ENQUEUED % (
        encode(job.id),
        _name(job.queue),
        _name(job.type),
        job.priority,
        stamp(job.created_at).encode(),
        b"true" if created else b"false",
    )


def dequeued(job: Job) -> bytes:
    """See views.dequeued. The job must be under a lease."""
    lease = job.hold
    if job.details is not PLAIN or type(lease) is not Lease or lease.limited or lease.attempts_max is None:
        return encode(views.dequeued(job))
    return _DEQUEUED % (
        encode(job.id),
        job.number,
        _name(job.queue),
        _name(job.type),
        job.priority,
        job.attempts,
        stamp(job.created_at).encode(),
        encode(lease.token),
        stamp(lease.expires_at).encode(),
        job.payload,
        lease.attempts_max,
    )


def concluded(job: Job) -> bytes:
    """See views.concluded."""
    end = job.hold
    if job.details.run_at is not None or type(end) is not Conclusion or job.status is not CONCLUDED:
        return encode(views.concluded(job))
    return _CONCLUDED % (encode(job.id), _name(end.outcome), job.attempts)


def whole(job: Job, reasons: list[Reason]) -> bytes:
    """See views.job_view; includes everything about the job."""
    hold = job.hold
    if job.details is not PLAIN or (type(hold) is Conclusion and hold.halts):
        return encode(views.job_view(job, whole=True, reasons=reasons))
    outcome, run, result = b"null", _NEVER_RUN, b"null"
    if type(hold) is Lease:
        run = _RUN % (
            _time(hold.started_at),
            b"null",
            _time(hold.expires_at),
            _name(hold.worker),
            encode(hold.progress),
            encode(hold.message),
            b"true" if hold.cancel_requested else b"false",
        )
    elif type(hold) is Conclusion:
        outcome = encode(hold.outcome)
        run = _RUN % (_time(hold.started_at), _time(hold.concluded_at), b"null", _name(hold.worker), b"null", b"null", b"false")
        result = hold.result or b"null"
    return _JOB % (
        encode(job.id),
        job.number,
        _name(job.queue),
        _name(job.type),
        job.priority,
        job.status.value.encode(),
        outcome,
        job.attempts,
        stamp(job.created_at).encode(),
        run,
        encode([reason_view(reason) for reason in reasons]) if reasons else b"[]",
        result,
        job.payload,
    )
