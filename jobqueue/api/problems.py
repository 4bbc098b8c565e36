"""Errors on the wire: RFC 9457 problem details, one table from code to status.

Every error answer of the server is made by `problem`, those that aiohttp's parser causes included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from jobqueue.errors import BadRequest, CallerError, Full, QueueError, Unavailable, Unconfirmed
from jobqueue.http.answers import PROBLEM, Answer


class Entry(NamedTuple):
    """A code's HTTP status and its title, which never changes from one occurrence to the next (RFC 9457, section 3.1.4)."""

    status: int
    title: str


PROBLEMS: dict[str, Entry] = {
    "bad_request": Entry(400, "The request is not valid"),
    "unauthorized": Entry(401, "A valid bearer token is needed"),
    "forbidden": Entry(403, "This may not be done with this token, or from there"),
    "not_found": Entry(404, "No such path"),
    "unknown_job": Entry(404, "No such job"),
    "unknown_queue": Entry(404, "No such queue"),
    "method_not_allowed": Entry(405, "The path exists, the method does not"),
    "request_timeout": Entry(408, "The request took too long to arrive"),
    "id_conflict": Entry(409, "A different job already has this id"),
    "lease_lost": Entry(409, "The lease is not live"),
    "not_in_progress": Entry(409, "The job is concluded"),
    "not_retryable": Entry(409, "The job cannot be retried"),
    "queue_not_empty": Entry(409, "The queue holds live jobs"),
    "too_large": Entry(413, "Too large"),
    "unsupported_media_type": Entry(415, "The body's type or encoding is not supported"),
    "queue_full": Entry(429, "The queue or the server is full"),
    "too_many_queues": Entry(429, "Too many queues"),
    "too_many_waiters": Entry(429, "Too many requests are held open"),
    "too_many_listeners": Entry(429, "Too many event listeners"),
    "too_many_connections": Entry(429, "Too many connections"),
    "rate_limited": Entry(429, "Too many requests"),
    "internal_error": Entry(500, "A defect in the server"),
    "draining": Entry(503, "The server is shutting down"),
    "storage_unavailable": Entry(503, "Changes cannot be stored now"),
    "http_version": Entry(505, "Only HTTP/1.0 and HTTP/1.1 are served"),
}


class NotFound(CallerError):
    """No route has this path."""

    code = "not_found"


class MethodNotAllowed(CallerError):
    """A route has this path, none with this method. allow: the methods that exist."""

    code = "method_not_allowed"

    def __init__(self, method: str, allow: list[str]) -> None:
        super().__init__(f"{method[:20]} is not allowed here; allowed: {', '.join(allow)}")
        self.allow = allow


class InternalError(QueueError):
    """A defect of ours. The log has the traceback; the client learns nothing of our insides."""

    code = "internal_error"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of an error answer, and of a failed item of a batch.

    unconfirmed: what was asked for may have been done all the same; max: the longest wait, where one longer was asked for.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    field: str | None = None
    unconfirmed: bool = False
    max: float | None = None


_encode = msgspec.json.Encoder().encode


def describe(error: QueueError) -> Problem:
    """The problem details of an error."""
    status, title = PROBLEMS[error.code]
    # A lone surrogate in what a client sent must not make its error unencodable.
    detail = error.detail.encode("utf-8", "replace").decode()
    most = error.max if isinstance(error, BadRequest) else None
    return Problem(
        f"urn:jobqueue:problem:{error.code}", title, status, error.code, detail, error.field, isinstance(error, Unconfirmed), most
    )


def encode(problem: Problem) -> bytes:
    """The body of the native API's errors."""
    return _encode(problem)


class Shape(NamedTuple):
    """How an API writes its errors: the body from the problem, and its type."""

    encode: Callable[[Problem], bytes]
    content_type: bytes


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
