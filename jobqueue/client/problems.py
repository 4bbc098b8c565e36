"""Errors of clients: those that only a client has, and the server's errors, made from its answers.

A problem's `code` selects the class of `jobqueue.errors`. Unknown codes, from a newer server or a proxy in between, become
UnexpectedAnswer, which keeps status and code.

QueueError (jobqueue.errors)
├── Unavailable
│   └── ConnectionFailed   no answer: refused, cut or timed out
│       └── AnswerLost     the same, Unconfirmed: the change may have been made
├── UnexpectedAnswer       an answer that this client does not know
│   └── OutcomeUnknown     the same, Unconfirmed
├── JobFailed              the caller waited for a job's result, and the job did not succeed
└── WaitTimeout            it did not conclude in time
"""

from __future__ import annotations

from typing import Any

import msgspec

from jobqueue import errors
from jobqueue.client.exchange import Answer, NotConnected
from jobqueue.client.types import Job
from jobqueue.errors import (
    BadRequest,
    Draining,
    Full,
    QueueError,
    RateLimited,
    StorageUnavailable,
    StorageUnconfirmed,
    TooManyConnections,
    Unavailable,
    Unconfirmed,
)
from jobqueue.model import Outcome


class ConnectionFailed(Unavailable, ConnectionError):
    """No answer came: the connection was refused, cut, or too slow. sent: whether the request may have been carried out."""

    code = "connection_failed"
    sent = True

    @classmethod
    def by(cls, error: Exception, asked: str) -> ConnectionFailed:
        """The error for a connection that failed. asked: the request, for people."""
        made = cls(f"{asked}: {str(error) or type(error).__name__}")
        made.sent = not isinstance(error, NotConnected)
        return made


class AnswerLost(ConnectionFailed, Unconfirmed):
    """No answer came to a request that changes something; the change may have been made. Raised after the last try."""


class UnexpectedAnswer(QueueError):
    """An answer that is not of this protocol, or is of a newer version. status: the HTTP status; code: the problem's, if it was one."""

    code = "unexpected_answer"
    retry_after: int = 1

    def __init__(self, status: int, detail: str, code: str = "unexpected_answer", field: str | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.field = field


class OutcomeUnknown(UnexpectedAnswer, Unconfirmed):
    """An answer that does not say whether a change was made: for example, from a proxy that lost the server's answer, or a 500 caused by a
    defect in the server.
    """


class JobFailed(QueueError):
    """The caller waited for a job's result, and the job did not succeed. outcome: how it ended; error: of its last attempt; job: the whole
    job.
    """

    code = "job_failed"

    def __init__(self, job: Job) -> None:
        error = bytes(job.raw_error).decode("utf-8", "replace")
        said = "" if error == "null" else f": {error[:200]}"
        super().__init__(f"job {job.id!r} ended as {job.outcome} after {job.attempts} attempts{said}")
        self.job = job

    @property
    def outcome(self) -> Outcome | None:
        """failed, cancelled or expired."""
        return self.job.outcome

    @property
    def error(self) -> Any:
        """The error of the last attempt, as plain Python objects; None if it gave none."""
        return self.job.error


class WaitTimeout(QueueError, TimeoutError):
    """The job has not concluded within the wait. It is not cancelled: look it up by job_id. waited: seconds."""

    job_id: str

    code = "wait_timeout"

    def __init__(self, job_id: str, waited: float) -> None:
        super().__init__(f"job {job_id!r} has not concluded within {waited:g} s; it goes on")
        self.job_id = job_id
        self.waited = waited


class Problem(msgspec.Struct, frozen=True, gc=False):
    """The body of an error answer, and of a failed item of a batch (RFC 9457)."""

    status: int
    code: str
    detail: str
    field: str | None = None
    unconfirmed: bool = False
    max: float | None = None
    job_id: str | None = None


KINDS: dict[str, type[QueueError]] = {
    kind.code: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, QueueError) and "code" in vars(kind) and kind.code != "error" and kind is not Unconfirmed
}
"""The class of `jobqueue.errors` for each code."""

_decode = msgspec.json.Decoder(Problem).decode


def error_of(problem: Problem) -> QueueError:
    """The error that a problem describes."""
    kind = KINDS.get(problem.code)
    if kind is None:
        return UnexpectedAnswer(problem.status, problem.detail, problem.code, problem.field)
    if problem.unconfirmed and kind is StorageUnavailable:
        kind = StorageUnconfirmed
    error = kind.told(problem.detail, problem.field)
    if problem.job_id is not None:
        error.job_id = problem.job_id
    if isinstance(error, BadRequest):
        error.max = problem.max
    return error


def failure(answer: Answer) -> QueueError:
    """The error that an answer other than 2xx describes."""
    try:
        problem = _decode(answer.body)
    except (ValueError, RecursionError):
        where = answer.headers.get("location", "nowhere")[:200]
        hint = f"; redirects are not followed; this one leads to {where}" if 300 <= answer.status < 400 else ""
        return UnexpectedAnswer(answer.status, f"{answer.status} without a problem{hint}: {answer.body[:200]!r}")
    error = error_of(problem)
    seconds = retry_after(answer)
    if seconds is not None and isinstance(error, Full | Unavailable | UnexpectedAnswer):
        error.retry_after = seconds
    return error


def retry_after(answer: Answer) -> int | None:
    """The seconds of Retry-After; None if it is missing or a date, which jobqueue never sends."""
    text = answer.headers.get("retry-after", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def unconfirmed(error: QueueError, ids: tuple[str, ...]) -> QueueError:
    """The error for a change that one of the tries may have made, when this is the error of the last try."""
    made: QueueError
    if isinstance(error, Unconfirmed):
        made = error
    elif isinstance(error, ConnectionFailed):
        made = AnswerLost(error.detail)
    elif isinstance(error, UnexpectedAnswer):
        made = OutcomeUnknown(error.status, error.detail, error.code, error.field)
        made.retry_after = error.retry_after
    elif isinstance(error, StorageUnavailable):
        # This try was refused before it changed anything, which says nothing about earlier tries.
        made = StorageUnconfirmed(f"an earlier try may have been stored nevertheless: {error.detail}")
        made.retry_after = error.retry_after
    elif isinstance(error, Draining | RateLimited | TooManyConnections):
        made = AnswerLost(f"an earlier try may have been carried out: {error.detail}")
        made.retry_after = error.retry_after
    else:
        return error
    assert isinstance(made, Unconfirmed)
    made.ids = ids
    return made
