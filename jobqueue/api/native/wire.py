"""What the native API is sent: bodies and queries, decoded strictly. One decoder per type, built at import.

Payloads, results and errors stay the bytes they came as: checked for grammar once, never parsed, never re-encoded. They are copied out
of the body, because a msgspec.Raw keeps the whole of it alive. Times are RFC 3339, durations seconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType, inspect

from jobqueue.engine.events import Kind
from jobqueue.errors import BadRequest
from jobqueue.http.body import check_depth
from jobqueue.model import DEFAULT_QUEUE, Backoff, JobSpec, Outcome, PerKey, PolicyChange, QueuePolicy, Rate, Status

T = TypeVar("T")

Time = Annotated[datetime, Meta(tz=True)]
_Int = Annotated[int, Meta(ge=-(2**62), le=2**62)]
_PATH = re.compile(r"(.*) - at `(?:key in )?\$\.?(.*)`", re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89abAB]")
_PARAMETERS_MAX = 64
_REASON_CHARS_MAX = 400
"""Of a decoder's complaint, which may repeat what it was sent."""
_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)

_WORD = re.compile(r"Invalid enum value (.*)", re.DOTALL)
_WORD_CHARS_MAX = 100
_INDEX = re.compile(r"\[\d+\]")


class _Body(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A request body: unknown fields are refused."""


class BackoffBody(Backoff, frozen=True, forbid_unknown_fields=True, gc=False):
    """Parts of a backoff; what is missing is as `Backoff` has it."""


class RateBody(Rate, frozen=True, forbid_unknown_fields=True, gc=False):
    """A rate; without a burst, one at a time."""

    limit: _Int
    burst: _Int = 1


class PerKeyBody(PerKey, frozen=True, forbid_unknown_fields=True, gc=False):
    """What holds for each key; what is missing is as `PerKey` has it."""

    concurrency: _Int | None = None
    rate: RateBody | None = None
    max_jobs: _Int | None = None


class EnqueueBody(JobSpec, forbid_unknown_fields=True, kw_only=True, gc=False):
    """POST /jobs/enqueue, and an item of POST /batch/enqueue: a JobSpec, once `spec` has been called.

    Decoded straight into the form the engine takes; payload and run_at are the two that JSON has otherwise.
    """

    payload: Raw
    run_at: Time | None = None  # type: ignore[assignment]
    priority: _Int = 5
    max_attempts: _Int | None = None
    backoff: BackoffBody | None = None

    def spec(self) -> JobSpec:
        """This very object as the backend takes it."""
        spec: JobSpec = self
        spec.payload = payload = bytes(self.payload)
        check_depth("payload", payload)
        if self.run_at is not None:
            spec.run_at = self.run_at.timestamp()
        return spec


class DequeueBody(_Body, kw_only=True):
    """POST /jobs/dequeue, as a body or a query."""

    queue: str | list[str] = DEFAULT_QUEUE
    wait: float | None = None
    lease_seconds: float | None = None
    worker: str | None = None
    attempt_id: str | None = None


class BatchDequeueBody(DequeueBody, kw_only=True):
    """POST /batch/dequeue."""

    limit: _Int = 1


class ConcludeBody(_Body, kw_only=True):
    """POST /jobs/{id}/conclude."""

    lease: str
    outcome: Literal["succeeded", "failed"]
    result: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    retry: bool = True
    retry_delay: float | None = None


class ConcludeItem(ConcludeBody, kw_only=True):
    """An item of POST /batch/conclude."""

    id: str


class ExtendBody(_Body, kw_only=True):
    """POST /jobs/{id}/extend."""

    lease: str
    lease_seconds: float | None = None
    progress: float | None = None
    message: str | None = None


class ExtendItem(ExtendBody, kw_only=True):
    """An item of POST /batch/extend."""

    id: str


class ReleaseBody(_Body, kw_only=True):
    """POST /jobs/{id}/release."""

    lease: str
    delay: float = 0.0


class PolicyBody(_Body, kw_only=True):
    """PUT /queues/{name}: the whole policy; what is missing is as the server's defaults have it."""

    lease_seconds: float | None = None
    max_attempts: _Int | None = None
    backoff: BackoffBody | None = None
    max_jobs: _Int | None = None
    paused: bool = False
    concurrency: _Int | None = None
    rate: RateBody | None = None
    per_key: PerKeyBody | None = None
    fair: bool = False
    weights: dict[str, float] = {}

    def policy(self, default: QueuePolicy) -> QueuePolicy:
        """What the backend is asked for."""
        return QueuePolicy(
            lease_seconds=default.lease_seconds if self.lease_seconds is None else self.lease_seconds,
            max_attempts=default.max_attempts if self.max_attempts is None else self.max_attempts,
            backoff=default.backoff if self.backoff is None else self.backoff,
            max_jobs=self.max_jobs,
            paused=self.paused,
            concurrency=self.concurrency,
            rate=self.rate,
            per_key=self.per_key,
            fair=self.fair,
            weights=self.weights,
        )


class PolicyPatch(_Body, kw_only=True):
    """PATCH /queues/{name}: some fields of a policy; what is missing stays as it is."""

    lease_seconds: float | UnsetType = UNSET
    max_attempts: _Int | UnsetType = UNSET
    backoff: BackoffBody | UnsetType = UNSET
    max_jobs: _Int | UnsetType | None = UNSET
    paused: bool | UnsetType = UNSET
    concurrency: _Int | UnsetType | None = UNSET
    rate: RateBody | UnsetType | None = UNSET
    per_key: PerKeyBody | UnsetType | None = UNSET
    fair: bool | UnsetType = UNSET
    weights: dict[str, float] | UnsetType = UNSET

    def change(self) -> PolicyChange:
        """What the backend is asked for."""
        return PolicyChange(**{name: getattr(self, name) for name in self.__struct_fields__})


class KeysQuery(_Body, kw_only=True):
    """GET /queues/{name}/keys."""

    limit: _Int | None = None
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
    waiting_for: bool = False
    limit: _Int | None = None
    cursor: _Int | None = None


class QueuesQuery(_Body, kw_only=True):
    """GET /queues."""

    limit: _Int | None = None
    cursor: str | None = None


class EventsQuery(_Body, kw_only=True):
    """GET /events."""

    queue: list[str] = []
    type: list[str] = []
    event: list[Kind] = []


class Nothing(_Body, kw_only=True):
    """An operation that takes no parameters."""


class BatchBody(_Body, kw_only=True):
    """POST /batch/…: items are decoded one by one, so that a bad one harms no other."""

    jobs: list[Raw]


class BatchEnqueueBody(_Body, kw_only=True):
    """POST /batch/enqueue when every item is as it should be."""

    jobs: list[EnqueueBody]


class BatchConcludeBody(_Body, kw_only=True):
    """POST /batch/conclude when every item is as it should be."""

    jobs: list[ConcludeItem]


class BatchExtendBody(_Body, kw_only=True):
    """POST /batch/extend when every item is as it should be."""

    jobs: list[ExtendItem]


class Decoder:
    """Decodes one type of body strictly; every failure is a BadRequest that names the field, where there is one."""

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
        """The decoded body, or what is wrong with it as a BadRequest that was never raised: of an item of a batch, say."""
        try:
            return self._decode(body)
        except _UNREADABLE as error:
            return _complaint(error, body, self._kind)


_UNREADABLE = (msgspec.DecodeError, RecursionError, ValueError)


def _complaint(error: Exception, body: bytes | Raw, kind: Any) -> BadRequest:
    """What a decoder raised, as one of ours."""
    if isinstance(error, msgspec.ValidationError):
        return bad_field(error, kind)
    if isinstance(error, msgspec.DecodeError):
        reason = "is empty; send a JSON object" if not body else f"is not valid JSON: {error}"
        if "truncated" in reason and _SURROGATE.search(body):
            # msgspec reports an escape whose other half is missing at the end of a string so.
            reason = "is not valid JSON: it is truncated or holds a lone surrogate"
        return BadRequest(None, f"the body {reason}")
    if isinstance(error, RecursionError):
        return BadRequest(None, "the body is nested too deep")
    # An integer of thousands of digits in one of our own fields.
    return BadRequest(None, f"the body holds a value that cannot be read: {error}")


def check_length(body: bytes, field: str, items_max: int) -> None:
    """Raise BadRequest when a field of a body is a list of more than `items_max`: before any of them is decoded into what it stands for.

    A list has a comma between two items, so most bodies need no more than their commas counted. A body in which there are as many outside
    of the list gives something too often, the list perhaps. What else is wrong with a body is for its own decoder to say.
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
        raise BadRequest(None, f"the body has too many fields; give {field} and each of the others once")
    try:
        counter(items)
    except msgspec.ValidationError as error:
        if "array` of at most length" in str(error):
            raise BadRequest(field, f"has more than {items_max} items") from None
    except _UNREADABLE:
        pass


@lru_cache(32)
def _counters(field: str, items_max: int) -> tuple[Callable[[bytes], Any], Callable[[bytes], Any]]:
    """A decoder of one field alone, left as it came, and one that gives up at the first item too many of what is in it.

    msgspec counts while it reads only where a list stands for a struct. Making one of that many fields takes microseconds, even of an empty
    list, so it is made of the last list only, not of each in a body that has 100,000 of them.
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


@lru_cache(64)
def _choices(kind: Any) -> dict[str, str]:
    """The words that each field of a type may have where it may not have any, by the field's path, `[...]` for any item.

    Made at the first wrong word, so that no other request pays for it.
    """
    found: dict[str, str] = {}

    def walk(node: inspect.Type, path: str) -> None:
        match node:
            case inspect.EnumType(cls):
                found[path] = ", ".join(str(member.value) for member in cls)
            case inspect.LiteralType(values):
                found[path] = ", ".join(map(str, values))
            case inspect.UnionType(types):
                for each in types:
                    walk(each, path)
            case inspect.StructType(fields=fields):
                for field in fields:
                    walk(field.type, f"{path}.{field.encode_name}" if path else field.encode_name)
            case inspect.ListType(item_type=item) | inspect.DictType(value_type=item):
                walk(item, f"{path}[...]")
            case _:
                pass

    walk(inspect.type_info(kind), "")
    return found


def bad_field(error: msgspec.ValidationError, kind: Any = None) -> BadRequest:
    """A decoder's complaint as one of ours: field and reason. kind: the type it decodes, for the words that it allows."""
    text = str(error)
    path = ""
    match = _PATH.fullmatch(text)
    if match is not None:
        text, path = match[1], match[2]
    match = _FIELD.fullmatch(text)
    if match is not None:
        path = f"{path}.{match[2]}" if path else match[2]
        text = "is unknown" if match[1] == "contains unknown" else "is missing"
    match = _WORD.fullmatch(text)
    if match is not None and kind is not None:
        allowed = _choices(kind).get(_INDEX.sub("[...]", path))
        if allowed is not None:
            text = f"{match[1][:_WORD_CHARS_MAX]} is none of {allowed}"
    return BadRequest(path[:200] or None, (text if path else f"the body: {text}")[:_REASON_CHARS_MAX])


decode_enqueue = Decoder(EnqueueBody)
decode_dequeue = Decoder(DequeueBody)
decode_batch_dequeue = Decoder(BatchDequeueBody)
decode_conclude = Decoder(ConcludeBody)
decode_conclude_item = Decoder(ConcludeItem)
decode_extend = Decoder(ExtendBody)
decode_extend_item = Decoder(ExtendItem)
decode_release = Decoder(ReleaseBody)
decode_policy = Decoder(PolicyBody)
decode_policy_patch = Decoder(PolicyPatch)
decode_batch = Decoder(BatchBody)
decode_batch_enqueue = Decoder(BatchEnqueueBody)
decode_batch_extend = Decoder(BatchExtendBody)
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
    """Query parameters as `kind`; those in `repeated` may come more than once. Raises BadRequest."""
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
        raise bad_field(error, kind) from None
    for name in values:
        if getattr(decoded, name) is None:
            raise BadRequest(name, "null is not a value here; leave the parameter out")
    return decoded
