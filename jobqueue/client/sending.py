"""What a call consists of, and how what a caller gives becomes a request. No input or output here.

Values that JSON cannot carry are refused here, by field; all else is for the server to judge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import msgspec
from msgspec import UNSET, UnsetType

from jobqueue.client.endpoint import as_float
from jobqueue.errors import BadRequest
from jobqueue.model import Backoff, PerKey, Rate

T = TypeVar("T")

Decode = Callable[[bytes], T]


class Request(NamedTuple):
    """What goes over the wire. target: path and query behind the base URL; wait: seconds the server may hold it."""

    method: str
    target: str
    body: bytes | None
    wait: float


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One operation. `make` makes the request that is held so many seconds.

    idempotent: sent twice it has the effect of once, so it may be sent again when the answer was lost. wait: how long the caller waits in
    all, which may take several requests; `done` says whether an answer ends the wait. changes: it changes something, so whoever gets no
    answer has to know that it may have; ids: of the jobs that it brings in.
    """

    make: Callable[[float], Request]
    decode: Decode[T]
    idempotent: bool = True
    wait: float = 0.0
    done: Callable[[T], bool] = bool
    changes: bool = False
    ids: tuple[str, ...] = ()


# Bodies, but for those of types.py.


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


class ExtendOne(msgspec.Struct, frozen=True, omit_defaults=True):
    """POST /jobs/{id}/extend."""

    lease: str
    lease_seconds: float | None = None
    progress: float | None = None
    message: str | None = None


class Dequeue(msgspec.Struct, frozen=True, omit_defaults=True):
    """POST /jobs/dequeue; with a limit, POST /batch/dequeue."""

    queue: str | Sequence[str]
    wait: float
    attempt_id: str
    lease_seconds: float | None = None
    worker: str | None = None
    limit: int | None = None


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """PUT /queues/{name}."""

    lease_seconds: float | None = None
    max_attempts: int | None = None
    backoff: Backoff | None = None
    max_jobs: int | None = None
    paused: bool = False
    concurrency: int | None = None
    rate: Rate | None = None
    per_key: PerKey | None = None
    fair: bool = False
    weights: Mapping[str, float] | None = None


class PolicyChange(msgspec.Struct, frozen=True):
    """PATCH /queues/{name}. Here null is a value."""

    lease_seconds: float | UnsetType = UNSET
    max_attempts: int | UnsetType = UNSET
    backoff: Backoff | UnsetType = UNSET
    max_jobs: int | UnsetType | None = UNSET
    paused: bool | UnsetType = UNSET
    concurrency: int | UnsetType | None = UNSET
    rate: Rate | UnsetType | None = UNSET
    per_key: PerKey | UnsetType | None = UNSET
    fair: bool | UnsetType = UNSET
    weights: Mapping[str, float] | UnsetType = UNSET


KEYS_PAGE = 1_000
"""Keys asked for at once."""


class Items(msgspec.Struct, frozen=True):
    """POST /batch/…, but for dequeue."""

    jobs: Sequence[Any]


_encode = msgspec.json.Encoder().encode
_UNSENDABLE = (TypeError, ValueError, RecursionError, OverflowError)


# Encoding.


def encoded(body: msgspec.Struct) -> bytes:
    """A body as JSON. Raises BadRequest, also for a number that JSON has not: null, which it would say, means the default."""
    try:
        text = _encode(body)
    except _UNSENDABLE as error:
        raise BadRequest(_culprit(body), f"cannot be sent as JSON: {error}") from None
    # Of what is sent, nothing else is null but what stands in a payload, a result or an error: what is None is left out.
    if b"null" in text:
        _check_numbers(body, "")
    return text


def _check_numbers(body: msgspec.Struct, where: str) -> None:
    """Every number of a body, those of what it holds included; but for the caller's own JSON, in which msgspec says null for them."""
    for name in body.__struct_fields__:
        value = getattr(body, name)
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
    """A job's id or a queue's name as a segment of a path. Raises BadRequest."""
    if not value:
        raise BadRequest(field, "is empty")
    try:
        # Clients and proxies resolve dots away.
        return quote(value, safe="") if value.strip(".") else value.replace(".", "%2E")
    except UnicodeEncodeError:
        raise BadRequest(field, "holds a lone surrogate, which UTF-8 cannot carry") from None


_UNDONE = re.compile(r"[/\\%?#;]")
"""What proxies decode in a path and then take for a part of its grammar, or encode once more."""


def place(collection: str, value: str, operation: str = "") -> str:
    """The path of a job or a queue, or of an operation on it. Raises BadRequest.

    What a client or a proxy would take for a part of the path goes into the query, which nobody rewrites (protocol.md, "Ids").
    """
    field, parameter = ("id", "id") if collection == "jobs" else ("queue", "name")
    at = segment(field, value)
    if _UNDONE.search(value) or value in (".", ".."):
        return f"/{collection}/-{operation}?{parameter}={at}"
    return f"/{collection}/{at}{operation}"


def key_place(queue: str, key: str, operation: str) -> str:
    """The path of an operation on a key of a queue. Raises BadRequest."""
    at = segment("key", key)
    # A name that is not one is for the server to refuse, and goes there whole.
    within = f"/queues/{segment('queue', queue)}/keys"
    if _UNDONE.search(key) or key in (".", ".."):
        return f"{within}/-{operation}?key={at}"
    return f"{within}/{at}{operation}"


def query(path: str, **parameters: object) -> str:
    """A path with those parameters that are not None; a list is given once for each of what it holds."""
    given = {name: value for name, value in parameters.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, float) and not isfinite(value):
            raise BadRequest(name, f"{value} is not a finite number")
    return f"{path}{'&' if '?' in path else '?'}{urlencode(given, doseq=True, errors='replace')}" if given else path


def once(
    method: str, target: str, decode: Decode[T], body: bytes | None = None, *, idempotent: bool = True, ids: tuple[str, ...] = ()
) -> Call[T]:
    """A call that is never held."""
    request = Request(method, target, body, 0.0)
    return Call(lambda _: request, decode, idempotent, changes=method != "GET", ids=ids)


def check_wait(wait: float) -> float:
    """The wait, if it is one; it may be infinite. Raises BadRequest."""
    found = as_float(wait)
    if not found >= 0:
        raise BadRequest("wait", f"{wait!r} is out of range; 0 or more seconds is allowed")
    return found
