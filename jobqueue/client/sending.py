"""What a call consists of, and how a caller's arguments become a request. No input or output here.

Values that JSON cannot represent are refused here, with the field's name; everything else is checked by the server.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import UNSET, UnsetType

from jobqueue.client.endpoint import as_float
from jobqueue.client.log_types import LogLine
from jobqueue.errors import BadRequest
from jobqueue.policy import Backoff, Keep, PerKey, Rate

T = TypeVar("T")

Decode = Callable[[bytes], T]


class Request(msgspec.Struct, frozen=True, gc=False):
    """What is sent. target: path and query after the base URL; wait: seconds that the server can hold the request.

    batch: the path of the batch operation that does the same for many, "" if there is none; job_id: the id in the target, which in an item
    of the batch is added to the body's fields (sharing.py). short: ask for a short answer (short.py).
    """

    method: str
    target: str
    body: bytes | None
    wait: float
    batch: str = ""
    job_id: str | None = None
    short: bool = False


SHORTENED = frozenset({"/batch/enqueue", "/batch/conclude"})
"""Batches for which the clients ask for short answers. A release is not one: its answer has the whole job."""


class Call(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """One operation. request: what it sends; None for a call that is held, for which `make` makes a request to be held for a number of
    seconds.

    idempotent: sent twice it has the same effect as once, so it can be sent again when the answer was lost. wait: how long the caller waits
    in all, which can take several requests; `done` says whether an answer ends the wait. changes: it changes something, so without an
    answer the caller must learn that the change may have been made; ids: of the jobs that it enqueues. quiet: its result for a worker that
    is quiet.
    """

    request: Request | None
    decode: Decode[T]
    idempotent: bool = True
    wait: float = 0.0
    done: Callable[[T], bool] = bool
    changes: bool = False
    ids: tuple[str, ...] = ()
    quiet: Any = None
    make: Callable[[float], Request] | None = None

    def held(self, seconds: float) -> Request:
        """The request to be held for this many seconds."""
        if self.request is not None:
            return self.request
        assert self.make is not None
        return self.make(seconds)


# Bodies, except for those in types.py.


class Release(msgspec.Struct, frozen=True, omit_defaults=True):
    """POST /jobs/{id}/release."""

    lease: str
    delay: float = 0.0


class ConcludeOne(msgspec.Struct, frozen=True, omit_defaults=True):
    """POST /jobs/{id}/conclude."""

    lease: str
    outcome: str
    result: Any = None
    error: Any = None
    retry: bool = True
    retry_delay: float | None = None
    log: Sequence[str | LogLine] = ()
    log_offset: int | None = None
    late: bool = False
    traceback: str | None = None


class ExtendOne(msgspec.Struct, frozen=True, omit_defaults=True):
    """POST /jobs/{id}/extend."""

    lease: str
    lease_seconds: float | None = None
    progress: float | None = None
    message: str | None = None
    log: Sequence[str | LogLine] = ()
    log_offset: int | None = None


class Log(msgspec.Struct, frozen=True, omit_defaults=True):
    """POST /jobs/{id}/log."""

    lease: str
    lines: Sequence[str | LogLine]
    offset: int | None = None


class Dequeue(msgspec.Struct, frozen=True, omit_defaults=True):
    """POST /jobs/dequeue; with a limit, POST /batch/dequeue."""

    queue: str | Sequence[str]
    wait: float
    attempt_id: str
    lease_seconds: float | None = None
    worker: str | None = None
    limit: int | None = None
    host: str | None = None
    concurrency: int | None = None
    version: str | None = None
    started: datetime | None = None


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """PUT /queues/{name}."""

    lease_seconds: float | None = None
    max_attempts: int | UnsetType | None = UNSET
    backoff: Backoff | None = None
    max_jobs: int | None = None
    paused: bool = False
    concurrency: int | None = None
    rate: Rate | None = None
    per_key: PerKey | None = None
    fair: bool = False
    weights: Mapping[str, float] | None = None
    dead_letter: str | None = None
    keep_succeeded: Keep | None = None
    keep_failed: Keep | None = None
    delay: float | None = None
    expires_in: float | None = None
    tags: Mapping[str, str] | None = None
    attributes: Mapping[str, str] | None = None


class PolicyChange(msgspec.Struct, frozen=True):
    """PATCH /queues/{name}. null is a value here."""

    lease_seconds: float | UnsetType = UNSET
    max_attempts: int | UnsetType | None = UNSET
    backoff: Backoff | UnsetType = UNSET
    max_jobs: int | UnsetType | None = UNSET
    paused: bool | UnsetType = UNSET
    concurrency: int | UnsetType | None = UNSET
    rate: Rate | UnsetType | None = UNSET
    per_key: PerKey | UnsetType | None = UNSET
    fair: bool | UnsetType = UNSET
    weights: Mapping[str, float] | UnsetType = UNSET
    dead_letter: str | UnsetType | None = UNSET
    keep_succeeded: Keep | UnsetType | None = UNSET
    keep_failed: Keep | UnsetType | None = UNSET
    delay: float | UnsetType | None = UNSET
    expires_in: float | UnsetType | None = UNSET
    tags: Mapping[str, str] | UnsetType = UNSET
    attributes: Mapping[str, str] | UnsetType = UNSET


class JobEdit(msgspec.Struct, frozen=True):
    """PATCH /jobs/{id}."""

    payload: Any = UNSET
    queue: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    priority: int | UnsetType = UNSET
    delay: float | UnsetType = UNSET
    run_at: datetime | UnsetType = UNSET
    expires_in: float | UnsetType | None = UNSET
    tags: Sequence[str] | UnsetType = UNSET


KEYS_PAGE = 1_000
"""Keys requested in one page."""


class Items(msgspec.Struct, frozen=True):
    """POST /batch/…, except for dequeue."""

    jobs: Sequence[Any]


_encode = msgspec.json.Encoder().encode
_UNSENDABLE = (TypeError, ValueError, RecursionError, OverflowError)


# Encoding.


def encoded(body: msgspec.Struct) -> bytes:
    """A body as JSON. Raises BadRequest, also for a number that JSON does not have: it would be written as null, which means
    the default.
    """
    try:
        text = _encode(body)
    except _UNSENDABLE as error:
        raise BadRequest(_culprit(body), f"cannot be sent as JSON: {error}") from None
    # Fields that are None are left out, so null occurs only inside payloads, results and errors.
    if b"null" in text:
        _check_numbers(body, "")
    return text


def _check_numbers(body: msgspec.Struct, where: str) -> None:
    """Check every number of a body, including nested ones, but not the caller's own JSON, where msgspec writes null for them."""
    for attribute, name in zip(body.__struct_fields__, body.__struct_encode_fields__, strict=True):
        value = getattr(body, attribute)
        if name in ("payload", "result", "error"):
            continue
        if isinstance(value, float) and not isfinite(value):
            raise BadRequest(where + name, f"{value} is not a finite number")
        if isinstance(value, msgspec.Struct):
            _check_numbers(value, f"{where}{name}.")
        elif name == "weights" and isinstance(value, Mapping):
            for key, weight in value.items():
                if isinstance(weight, float) and not isfinite(weight):
                    raise BadRequest(f"{where}weights.{key}", f"{weight} is not a finite number")
        elif name == "jobs":
            for at, item in enumerate(value):
                if isinstance(item, msgspec.Struct):
                    _check_numbers(item, f"jobs[{at}].")


def _sendable(value: object) -> bool:
    try:
        _encode(value)
    except _UNSENDABLE:
        return False
    return True


def _culprit(body: msgspec.Struct) -> str | None:
    """The field that cannot be encoded."""
    name = next((name for name in body.__struct_fields__ if not _sendable(getattr(body, name))), None)
    if name == "jobs":
        items: Sequence[msgspec.Struct] = getattr(body, name)
        at = next(at for at, item in enumerate(items) if not _sendable(item))
        return f"jobs[{at}].{_culprit(items[at])}" if isinstance(items[at], msgspec.Struct) else f"jobs[{at}]"
    return name


def segment(field: str, value: str) -> str:
    """A job's id or a queue's name as a path segment. Raises BadRequest."""
    if not value:
        raise BadRequest(field, "is empty")
    try:
        # Clients and proxies remove segments of dots.
        return quote(value, safe="") if value.strip(".") else value.replace(".", "%2E")
    except UnicodeEncodeError:
        raise BadRequest(field, "contains a lone surrogate, which UTF-8 cannot encode") from None


_UNDONE = re.compile(r"[/\\%?#;]")
"""Characters that proxies decode in a path and then interpret as path syntax, or encode again."""


_NAMED = {"queues": ("queue", "name"), "schedules": ("name", "name"), "workers": ("worker", "name")}
"""Collections of named things: the field that an error names, and the query parameter."""


def place(collection: str, value: str, operation: str = "") -> str:
    """The path of a job, a queue or a task, or of an operation on it. Raises BadRequest.

    A name that a client or a proxy would interpret as path syntax goes into the query, which nobody rewrites (protocol.md, "Ids").
    """
    field, parameter = _NAMED.get(collection, ("id", "id"))
    at = segment(field, value)
    if _UNDONE.search(value) or value in (".", ".."):
        return f"/{collection}/-{operation}?{parameter}={at}"
    return f"/{collection}/{at}{operation}"


def key_place(queue: str, key: str, operation: str) -> str:
    """The path of an operation on a key of a queue. Raises BadRequest."""
    at = segment("key", key)
    # An invalid name is sent unchanged, and the server refuses it.
    within = f"/queues/{segment('queue', queue)}/keys"
    if _UNDONE.search(key) or key in (".", ".."):
        return f"{within}/-{operation}?key={at}"
    return f"{within}/{at}{operation}"


def query(path: str, **parameters: object) -> str:
    """A path with those parameters that are not None; a list is given as one parameter for each of its items."""
    given = {name: value for name, value in parameters.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, float) and not isfinite(value):
            raise BadRequest(name, f"{value} is not a finite number")
    return f"{path}{'&' if '?' in path else '?'}{urlencode(given, doseq=True, errors='replace')}" if given else path


def instant(field: str, time: datetime | None) -> str | None:
    """A time in a query. Raises BadRequest for one without a time zone, as the server does for times in bodies."""
    if time is None:
        return None
    if time.tzinfo is None:
        raise BadRequest(field, "has no time zone; give it one, such as UTC")
    return time.isoformat()


def once(
    method: str, target: str, decode: Decode[T], body: bytes | None = None, *, idempotent: bool = True, ids: tuple[str, ...] = ()
) -> Call[T]:
    """A call that is never held."""
    request = Request(method, target, body, 0.0, short=target in SHORTENED)
    return Call(request, decode, idempotent, changes=method != "GET", ids=ids)


def shared(target: str, decode: Decode[T], body: bytes, batch: str, job_id: str | None = None, ids: tuple[str, ...] = ()) -> Call[T]:
    """A call that is never held, and can share a request with others of its kind."""
    request = Request("POST", target, body, 0.0, batch, job_id)
    return Call(request, decode, changes=True, ids=ids)


def check_wait(wait: float) -> float:
    """The wait, checked; it can be infinite. Raises BadRequest."""
    found = as_float(wait)
    if not found >= 0:
        raise BadRequest("wait", f"{wait!r} is out of range; 0 or more seconds is allowed")
    return found
