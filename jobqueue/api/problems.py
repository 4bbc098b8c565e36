"""Errors on the wire: RFC 9457 problem details, with one table from code to status.

`problem` makes every error answer of the server, including those that aiohttp's parser causes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from jobqueue.errors import BadRequest, CallerError, Duplicate, Full, QueueError, Unavailable, Unconfirmed
from jobqueue.http.answers import PROBLEM, Answer
from jobqueue.http.request import Request


class Entry(NamedTuple):
    """A code's HTTP status and its title, which is the same in all occurrences (RFC 9457, section 3.1.4)."""

    status: int
    title: str


PROBLEMS: dict[str, Entry] = {
    "bad_request": Entry(400, "The request is invalid"),
    "unauthorized": Entry(401, "A valid bearer token is required"),
    "forbidden": Entry(403, "This token or origin does not permit the request"),
    "not_found": Entry(404, "No such path"),
    "unknown_job": Entry(404, "No such job"),
    "unknown_queue": Entry(404, "No such queue"),
    "unknown_worker": Entry(404, "No such worker"),
    "unknown_schedule": Entry(404, "No such schedule"),
    "unknown_task": Entry(404, "No such task"),
    "unknown_group": Entry(404, "No such group"),
    "method_not_allowed": Entry(405, "The path does not support this method"),
    "request_timeout": Entry(408, "The request took too long to arrive"),
    "id_conflict": Entry(409, "A different job already has this id"),
    "lease_lost": Entry(409, "The lease is not live"),
    "not_in_progress": Entry(409, "The job is concluded"),
    "in_progress": Entry(409, "A worker has the job"),
    "duplicate": Entry(409, "Another job has this unique key"),
    "not_retryable": Entry(409, "The job cannot be retried"),
    "not_forgettable": Entry(409, "The job cannot be forgotten"),
    "group_closed": Entry(409, "The group is closed"),
    "queue_not_empty": Entry(409, "The queue holds live jobs"),
    "too_large": Entry(413, "Too large"),
    "unsupported_media_type": Entry(415, "The body's type or encoding is not supported"),
    "queue_full": Entry(429, "The queue or the server is full"),
    "too_many_queues": Entry(429, "Too many queues"),
    "too_many_schedules": Entry(429, "Too many schedules"),
    "too_many_tasks": Entry(429, "Too many tasks"),
    "too_many_groups": Entry(429, "Too many groups"),
    "too_many_waiters": Entry(429, "Too many waiting requests"),
    "too_many_listeners": Entry(429, "Too many event listeners"),
    "too_many_connections": Entry(429, "Too many connections"),
    "rate_limited": Entry(429, "Too many requests"),
    "internal_error": Entry(500, "Internal error in the server"),
    "unsupported": Entry(501, "Not possible across partitions"),
    "draining": Entry(503, "The server is shutting down"),
    "storage_unavailable": Entry(503, "Changes cannot be stored at the moment"),
    "http_version": Entry(505, "Only HTTP/1.0 and HTTP/1.1 are supported"),
}


class NotFound(CallerError):
    """No route has this path."""

    code = "not_found"


class MethodNotAllowed(CallerError):
    """A route has this path, but none has it with this method. allow: the methods that exist."""

    code = "method_not_allowed"

    def __init__(self, method: str, allow: list[str]) -> None:
        super().__init__(f"{method[:20]} is not allowed here; allowed: {', '.join(allow)}")
        self.allow = allow


class InternalError(QueueError):
    """A defect in the server. The log has the traceback; the client learns no internals."""

    code = "internal_error"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an error answer, and of a failed item of a batch.

    unconfirmed: the change may have been made nevertheless; max: the longest wait that is allowed, if the request asked for a longer one;
    job_id: the job that holds the unique key.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    field: str | None = None
    unconfirmed: bool = False
    max: float | None = None
    job_id: str | None = None


_encode = msgspec.json.Encoder().encode


def describe(error: QueueError) -> Problem:
    """The problem details of an error."""
    status, title = PROBLEMS[error.code]
    # A lone surrogate in a client's input must not make its error impossible to encode.
    detail = error.detail.encode("utf-8", "replace").decode()
    most = error.max if isinstance(error, BadRequest) else None
    return Problem(
        f"urn:jobqueue:problem:{error.code}",
        title,
        status,
        error.code,
        detail,
        error.field,
        isinstance(error, Unconfirmed),
        most,
        error.job_id if isinstance(error, Duplicate) else None,
    )


def encode(problem: Problem) -> bytes:
    """The body of the native API's errors."""
    return _encode(problem)


class Writer(Protocol):
    """Writes errors in one of several formats, depending on the request."""

    def __call__(self, error: QueueError, request: Request) -> Answer:
        """The answer to a request that failed."""


class Shape(NamedTuple):
    """How an API writes its errors: the body for a problem, and its media type. writer: replaces both, if set."""

    encode: Callable[[Problem], bytes]
    content_type: bytes
    writer: Writer | None = None


NATIVE = Shape(encode, PROBLEM)


def problem(error: QueueError, shape: Shape = NATIVE, *, close: bool = False) -> Answer:
    """The answer to a request that failed."""
    body = describe(error)
    headers = b""
    if isinstance(error, Full | Unavailable):
        headers = b"Retry-After: %d\r\n" % error.retry_after
    elif isinstance(error, MethodNotAllowed):
        headers = b"Allow: %s\r\n" % ", ".join(error.allow).encode()
    elif error.code == "unauthorized":
        headers = b'WWW-Authenticate: Bearer realm="jobqueue"\r\n'
    return Answer(body.status, shape.encode(body), shape.content_type, headers, close=close or body.status in (408, 505))
