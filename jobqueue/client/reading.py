"""How answers are read: a decoder for each type, built at import. They raise ValueError, including msgspec's subclasses, and
RecursionError.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw

from jobqueue.client.log_types import LogPage, LogState
from jobqueue.client.problems import Problem, error_of
from jobqueue.client.sending import Decode
from jobqueue.client.types import Concluded, Enqueued, Extended, Job, JobInfo, Key, LeasedJob, Page, Queue, Stats, Token
from jobqueue.errors import QueueError

T = TypeVar("T")


class _Results(msgspec.Struct, Generic[T]):
    jobs: list[T]


class _Healthy(msgspec.Struct):
    status: str


class _FailedItem(msgspec.Struct):
    error: Problem


class _Queues(msgspec.Struct):
    queues: list[Queue]
    cursor: str | None = None


class _Keys(msgspec.Struct):
    keys: list[Key]
    cursor: str | None


class _Purged(msgspec.Struct):
    purged: int


class _Retried(msgspec.Struct):
    retried: int


_raw_results = msgspec.json.Decoder(_Results[Raw]).decode
_failed_item = msgspec.json.Decoder(_FailedItem).decode


def failed_item(item: bytes | Raw) -> QueueError:
    """The error of a batch's item that was refused."""
    return error_of(_failed_item(item).error)


def _batch(kind: type[T]) -> Decode[list[T | QueueError]]:
    """Results in order, with an error for each item that failed. Decoded in one step if none failed, otherwise one by one."""
    whole = msgspec.json.Decoder(_Results[kind]).decode  # type: ignore[valid-type] # kind is a variable to mypy, a type to msgspec
    one = msgspec.json.Decoder(kind).decode

    def item(raw: Raw) -> T | QueueError:
        try:
            return one(raw)
        except msgspec.ValidationError:
            return failed_item(raw)

    def decode(body: bytes) -> list[T | QueueError]:
        try:
            results: list[T | QueueError] = whole(body).jobs
        except msgspec.ValidationError:
            results = [item(raw) for raw in _raw_results(body).jobs]
        return results

    return decode


enqueued = msgspec.json.Decoder(Enqueued).decode
log_state = msgspec.json.Decoder(LogState).decode
log_page = msgspec.json.Decoder(LogPage).decode
concluded = msgspec.json.Decoder(Concluded).decode
extended = msgspec.json.Decoder(Extended).decode
extended_batch = _batch(Extended)
job_info = msgspec.json.Decoder(JobInfo).decode
job_info_batch = _batch(JobInfo)
job = msgspec.json.Decoder(Job).decode
page = msgspec.json.Decoder(Page).decode
queue = msgspec.json.Decoder(Queue).decode
key = msgspec.json.Decoder(Key).decode
token = msgspec.json.Decoder(Token).decode
stats = msgspec.json.Decoder(Stats).decode
document = msgspec.json.Decoder(dict[str, Any]).decode

_leased = msgspec.json.Decoder(LeasedJob).decode
_leased_batch = msgspec.json.Decoder(_Results[LeasedJob]).decode
_queues = msgspec.json.Decoder(_Queues).decode
_keys = msgspec.json.Decoder(_Keys).decode
_purged = msgspec.json.Decoder(_Purged).decode
_healthy = msgspec.json.Decoder(_Healthy).decode
_retried = msgspec.json.Decoder(_Retried).decode


def leased(body: bytes) -> LeasedJob | None:
    """The job, or None for an answer without a body (204)."""
    return _leased(body) if body else None


def leased_batch(body: bytes) -> list[LeasedJob]:
    """The jobs."""
    return _leased_batch(body).jobs


def queues(body: bytes) -> tuple[list[Queue], str | None]:
    """A page of queues, and the cursor of the next page; None from a server that does not split the list."""
    page = _queues(body)
    return page.queues, page.cursor


def keys(body: bytes) -> tuple[list[Key], str | None]:
    """A page of keys, and the cursor of the next page."""
    page = _keys(body)
    return page.keys, page.cursor


def purged(body: bytes) -> int:
    """How many."""
    return _purged(body).purged


def deleted(body: bytes) -> int:
    """How many jobs were deleted with a queue; 0 for an answer without a body (204)."""
    return purged(body) if body else 0


def retried(body: bytes) -> int:
    """How many."""
    return _retried(body).retried


def nothing(body: bytes) -> None:
    """For an answer without a body (204). An answer with a body does not come from jobqueue."""
    if body:
        raise ValueError("a body where there should be none")


def yes(body: bytes) -> bool:
    """For an answer whose status means yes. It must be JSON, which distinguishes it from some other server's page."""
    _healthy(body)
    return True


def text(body: bytes) -> str:
    """The body as text."""
    return body.decode()
