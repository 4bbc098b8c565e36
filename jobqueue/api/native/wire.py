"""What clients send to the native API: bodies and queries, decoded strictly. One decoder per type, built at import.

Payloads, results and errors stay the bytes that were sent: their syntax is checked once, and they are never parsed or re-encoded. They are
copied out of the body, because a msgspec.Raw keeps the whole body in memory. Times are RFC 3339, durations are in seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from jobqueue.api.native.complaints import bad_field
from jobqueue.api.native.headers import HeaderBody, headers_of
from jobqueue.api.native.lines import Line
from jobqueue.api.native.policies import BackoffBody, Int, PolicyBody, PolicyPatch
from jobqueue.api.native.unique import UniqueBody
from jobqueue.engine.events import Kind
from jobqueue.errors import BadRequest
from jobqueue.http.body import check_depth
from jobqueue.model import DEFAULT_QUEUE, JobChange, JobSpec, Outcome, Status

T = TypeVar("T")

Time = Annotated[datetime, Meta(tz=True)]
_SURROGATE = re.compile(rb"\\u[dD][89abAB]")
_PARAMETERS_MAX = 64


def seconds(time: datetime | None) -> float | None:
    """A time as seconds since the epoch."""
    return None if time is None else time.timestamp()


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A request body: unknown fields are refused."""


class EnqueueBody(JobSpec, forbid_unknown_fields=True, kw_only=True, gc=False):
    """POST /jobs/enqueue, and an item of POST /batch/enqueue: a JobSpec, once `spec` has been called.

    Decoded directly into the engine's type; `spec` converts the fields that have a different form in JSON, such as payload and run_at.
    """

    payload: Raw
    run_at: Time | None = None  # type: ignore[assignment]
    priority: Int = 5
    max_attempts: Int | None = None
    backoff: BackoffBody | None = None
    unique: UniqueBody | None = None
    # An empty tuple instead of an empty dict, which would have to be copied for each job.
    headers: dict[str, str | HeaderBody] = ()  # type: ignore[assignment]

    def spec(self) -> JobSpec:
        """This object, in the form that the backend takes."""
        spec: JobSpec = self
        spec.payload = payload = bytes(self.payload)
        if payload[:1] != b'"':
            check_depth("payload", payload)
        if self.run_at is not None:
            spec.run_at = self.run_at.timestamp()
        if type(self.headers) is dict:
            spec.headers = headers_of(self.headers)
        return spec


class EditBody(_Body, kw_only=True):
    """PATCH /jobs/{id}: some fields of a waiting job; missing fields stay as they are."""

    payload: Raw | UnsetType = UNSET
    queue: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    priority: Int | UnsetType = UNSET
    delay: float | UnsetType = UNSET
    run_at: Time | UnsetType = UNSET
    expires_in: float | UnsetType | None = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET

    def change(self, within: str = "") -> JobChange:
        """The change as the backend takes it. within: what comes before the field's name in an error. Raises BadRequest."""
        said = {name: getattr(self, name) for name in self.__struct_fields__}
        if self.payload is not UNSET:
            said["payload"] = payload = bytes(self.payload)
            check_depth(f"{within}payload", payload)
        if self.run_at is not UNSET:
            said["run_at"] = self.run_at.timestamp()
        return JobChange(**said)


class DequeueBody(_Body, kw_only=True):
    """POST /jobs/dequeue, sent as a body or a query."""

    queue: str | list[str] = DEFAULT_QUEUE
    wait: float | None = None
    lease_seconds: float | None = None
    worker: str | None = None
    attempt_id: str | None = None
    host: str | None = None
    concurrency: Int | None = None
    version: str | None = None
    started: Time | None = None


class BatchDequeueBody(DequeueBody, kw_only=True):
    """POST /batch/dequeue."""

    limit: Int = 1


class ConcludeBody(_Body, kw_only=True):
    """POST /jobs/{id}/conclude."""

    lease: str
    outcome: Literal["succeeded", "failed"]
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    retry: bool = True
    retry_delay: float | None = None
    log: tuple[Line, ...] = ()
    log_offset: Int | None = None
    late: bool = False
    traceback: str | None = None


class ConcludeItem(ConcludeBody, kw_only=True):
    """An item of POST /batch/conclude."""

    id: str


class ExtendBody(_Body, kw_only=True):
    """POST /jobs/{id}/extend."""

    lease: str
    lease_seconds: float | None = None
    progress: float | None = None
    message: str | None = None
    log: tuple[Line, ...] = ()
    log_offset: Int | None = None


class ExtendItem(ExtendBody, kw_only=True):
    """An item of POST /batch/extend."""

    id: str


class ReleaseBody(_Body, kw_only=True):
    """POST /jobs/{id}/release."""

    lease: str
    delay: float = 0.0


class ReleaseItem(ReleaseBody, kw_only=True):
    """An item of POST /batch/release."""

    id: str


class KeysQuery(_Body, kw_only=True):
    """GET /queues/{name}/keys."""

    limit: Int | None = None
    cursor: str | None = None


class WaitQuery(_Body, kw_only=True):
    """GET /jobs/{id}."""

    wait: float = 0.0


class ListQuery(_Body, kw_only=True):
    """GET /jobs."""

    status: Status | None = None
    outcome: Outcome | None = None
    queue: str | None = None
    type: str | None = None
    key: str | None = None
    tag: str | None = None
    group: str | None = None
    parent: str | None = None
    worker: str | None = None
    error: str | None = None
    created_after: Time | None = None
    created_before: Time | None = None
    retrying: bool | None = None
    error_group: str | None = None
    order: Literal["created", "concluded"] = "created"
    waiting_for: bool = False
    limit: Int | None = None
    cursor: str | None = None


class ListPlace(_Body, kw_only=True):
    """The cursor of GET /jobs, unless the store has several partitions."""

    cursor: Int | None = None


class QueuesQuery(_Body, kw_only=True):
    """GET /queues."""

    limit: Int | None = None
    cursor: str | None = None
    changed_since: str | None = None


class EventsQuery(_Body, kw_only=True):
    """GET /events."""

    queue: list[str] = []
    type: list[str] = []
    event: list[Kind] = []


class Nothing(_Body, kw_only=True):
    """An operation that takes no parameters."""


class BatchBody(_Body, kw_only=True):
    """POST /batch/…: items are decoded one by one, so that an invalid one does not affect the others."""

    jobs: list[Raw]


class BatchEnqueueBody(_Body, kw_only=True):
    """POST /batch/enqueue if every item is valid."""

    jobs: list[EnqueueBody]


class BatchConcludeBody(_Body, kw_only=True):
    """POST /batch/conclude if every item is valid."""

    jobs: list[ConcludeItem]


class BatchExtendBody(_Body, kw_only=True):
    """POST /batch/extend if every item is valid."""

    jobs: list[ExtendItem]


class BatchReleaseBody(_Body, kw_only=True):
    """POST /batch/release if every item is valid."""

    jobs: list[ReleaseItem]


class Decoder:
    """Decodes one type of body strictly. Every failure is a BadRequest, which names the field if there is one."""

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._decode = msgspec.json.Decoder(kind).decode

    def __call__(self, body: bytes | Raw) -> Any:
        """The decoded body."""
        try:
            return self._decode(body)
        except _UNREADABLE as error:
            raise _complaint(error, body, self._kind) from None

    def tried(self, body: bytes | Raw) -> Any:
        """The decoded body, or its error as a BadRequest that is returned, not raised; for example for an item of a batch."""
        try:
            return self._decode(body)
        except _UNREADABLE as error:
            return _complaint(error, body, self._kind)


_UNREADABLE = (msgspec.DecodeError, RecursionError, ValueError)


def _complaint(error: Exception, body: bytes | Raw, kind: Any) -> BadRequest:
    """A decoder's exception as one of our errors."""
    if isinstance(error, msgspec.ValidationError):
        return bad_field(error, kind)
    if isinstance(error, msgspec.DecodeError):
        reason = "is empty; send a JSON object" if not body else f"is not valid JSON: {error}"
        if "truncated" in reason and _SURROGATE.search(body):
            # This is how msgspec reports a surrogate escape whose second half is missing at the end of a string.
            reason = "is not valid JSON: it is truncated or contains a lone surrogate"
        return BadRequest(None, f"the body {reason}")
    if isinstance(error, RecursionError):
        return BadRequest(None, "the body is nested too deep")
    # An integer of thousands of digits in one of our own fields.
    return BadRequest(None, f"the body contains a value that cannot be read: {error}")


def check_length(body: bytes, field: str, items_max: int) -> None:
    """Raise BadRequest if a field of a body is a list of more than `items_max` items, before any item is decoded into its type.

    A list has a comma between two items, so for most bodies it is enough to count the commas. If a body has that many outside of the list,
    some field is repeated, perhaps the list itself. All other errors are left to the body's own decoder.
    """
    commas = body.count(b",")
    if commas < items_max:
        return
    alone, counter = _counters(field, items_max)
    try:
        items = getattr(alone(body), field)
    except _UNREADABLE:
        return
    if items is UNSET:
        return
    items = bytes(items)
    if commas - items.count(b",") >= items_max:
        raise BadRequest(None, f"the body has too many fields; give each field, such as {field}, once")
    try:
        counter(items)
    except msgspec.ValidationError as error:
        if "array` of at most length" in str(error):
            raise BadRequest(field, f"has more than {items_max} items") from None
    except _UNREADABLE:
        pass


@lru_cache(32)
def _counters(field: str, items_max: int) -> tuple[Callable[[bytes], Any], Callable[[bytes], Any]]:
    """A decoder of one field alone, left undecoded, and one that stops at the first item too many inside that field.

    msgspec counts while it reads only if a list is decoded into a struct. A struct with that many fields takes microseconds to make, even
    for an empty list, so only the last list is decoded, and not each one in a body that has 100,000 of them.
    """
    items = msgspec.defstruct(
        "Items",
        [(f"item{number}", Raw | UnsetType, UNSET) for number in range(items_max)],
        array_like=True,
        forbid_unknown_fields=True,
        gc=False,
    )
    alone = msgspec.defstruct("Body", [(field, Raw | UnsetType, UNSET)], gc=False)
    return msgspec.json.Decoder(alone).decode, msgspec.json.Decoder(items).decode


decode_enqueue = Decoder(EnqueueBody)
decode_edit = Decoder(EditBody)
decode_dequeue = Decoder(DequeueBody)
decode_batch_dequeue = Decoder(BatchDequeueBody)
decode_conclude = Decoder(ConcludeBody)
decode_conclude_item = Decoder(ConcludeItem)
decode_extend = Decoder(ExtendBody)
decode_extend_item = Decoder(ExtendItem)
decode_release = Decoder(ReleaseBody)
decode_release_item = Decoder(ReleaseItem)
decode_policy = Decoder(PolicyBody)
decode_policy_patch = Decoder(PolicyPatch)
decode_batch = Decoder(BatchBody)
decode_batch_enqueue = Decoder(BatchEnqueueBody)
decode_batch_extend = Decoder(BatchExtendBody)
decode_batch_release = Decoder(BatchReleaseBody)
decode_batch_conclude = Decoder(BatchConcludeBody)
decode_nothing = Decoder(Nothing)


def query_of(target: str) -> list[tuple[str, str]]:
    """The query parameters of a request target, decoded. Raises BadRequest."""
    try:
        return parse_qsl(target.partition("?")[2], keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS_MAX)
    except UnicodeDecodeError:
        raise BadRequest(None, "the query is not UTF-8 once its percent-encoding is undone") from None
    except ValueError:
        raise BadRequest(None, f"the query has more than {_PARAMETERS_MAX} parameters") from None


def decode_query(query: list[tuple[str, str]], kind: type[T], repeated: frozenset[str] = frozenset()) -> T:
    """Query parameters as `kind`; those in `repeated` can occur more than once. Raises BadRequest."""
    values: dict[str, Any] = {}
    for name, value in query:
        if name in repeated:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise BadRequest(name[:200], "is given more than once")
        else:
            values[name] = value
    try:
        decoded = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise bad_field(error, kind, query=True) from None
    for name in values:
        if getattr(decoded, name) is None:
            raise BadRequest(name, "must not be null; leave the parameter out")
    return decoded
