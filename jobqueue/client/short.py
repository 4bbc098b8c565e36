"""Short answers to batches: the clients ask for them and fill in what they know (docs/protocol.md, "Batches").

For an item that was done as requested, a short answer has the id and the values that the client could not know. Every other item is
complete, and so is everything that an older server answers, since it ignores the request for short answers. Both forms are read here.
Raises as `reading` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec
from msgspec import UNSET, Raw, UnsetType

from jobqueue.client import reading
from jobqueue.client.sending import Decode
from jobqueue.client.types import Conclude, Concluded, Enqueued, NewJob, WorkOutcome
from jobqueue.errors import QueueError
from jobqueue.model import CONCLUDED, DEFAULT_QUEUE, FAILED, QUEUED, SUCCEEDED

FAILED_ITEM = b'{"error":'
"""How an item that was refused begins."""

_OF_SHORT_ENQUEUES = b'{"created_at":'
"""How our servers begin a short answer to enqueues."""

_OF_A_WHOLE_ENQUEUED = b'"created":'
_OF_A_WHOLE_CONCLUDED = b'"status":'
"""What only a complete answer contains. Inside a string its quotes would be escaped."""


class _Sent(msgspec.Struct, frozen=True, gc=False):
    """The fields of a job that an answer repeats from the request."""

    queue: str = DEFAULT_QUEUE
    type: str | None = None
    priority: int = 5
    key: str | None = None
    tags: tuple[str, ...] = ()


class _Entry(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A job that was made, in a batch where all were. An item with more fields is decoded separately."""

    id: str


class _AllMade(msgspec.Struct):
    created_at: datetime
    jobs: list[_Entry]


class _Id(msgspec.Struct):
    id: str


class _Results(msgspec.Struct):
    jobs: list[Raw]
    created_at: datetime | UnsetType = UNSET


class _Done(msgspec.Struct, frozen=True, gc=False):
    """An attempt that ended as its worker reported."""

    id: str
    attempts: int = 1
    run_at: datetime | None = None


class _DoneAlone(_Done, frozen=True, gc=False, forbid_unknown_fields=True):
    """The same, in a batch where all attempts did."""


class _AllDone(msgspec.Struct):
    jobs: list[_DoneAlone]


_decode_time = msgspec.json.Decoder(datetime).decode
_decode_all_made = msgspec.json.Decoder(_AllMade).decode
_decode_id = msgspec.json.Decoder(_Id).decode
_decode_results = msgspec.json.Decoder(_Results).decode
_decode_done = msgspec.json.Decoder(_Done).decode
_decode_all_done = msgspec.json.Decoder(_AllDone).decode
_OUTCOMES = {"succeeded": SUCCEEDED, "failed": FAILED}


# Enqueue.


class Made(msgspec.Struct, frozen=True, gc=False):
    """An item of a short answer, about a job that was made as it was sent. It stands where the answer to the job's own call has its body:
    decoded once, with all items, and with the creation time, which the answer has only once.
    """

    id: str
    created_at: datetime


def all_made(body: bytes) -> list[Made] | None:
    """The items of a short answer in which every job was made; None for any other answer."""
    if not body.startswith(_OF_SHORT_ENQUEUES):
        return None
    try:
        whole = _decode_all_made(body)
    except (ValueError, RecursionError):
        return None
    at = whole.created_at
    return [Made(entry.id, at) for entry in whole.jobs]


def parts(items: Sequence[bytes], created_at: Raw) -> list[bytes | Made]:
    """The items of any short answer, each in the form of the answer to its own call. Raises ValueError."""
    at = _decode_time(created_at)
    return [item if item.startswith(FAILED_ITEM) or _OF_A_WHOLE_ENQUEUED in item else _made(item, at) for item in items]


def _made(item: bytes, created_at: datetime) -> bytes | Made:
    try:
        return Made(_decode_id(item).id, created_at)
    except (ValueError, RecursionError):
        return item  # its call reports that it cannot be read


def entered(job: NewJob, job_id: str, created_at: datetime) -> Enqueued:
    """The state of a job that was made and is queued."""
    sent: NewJob | _Sent = job
    if (
        job.tags
        or type(job.queue) is not str
        or type(job.priority) is not int
        or (job.type is not None and type(job.type) is not str)
        or (job.key is not None and type(job.key) is not str)
    ):
        sent = _as_json_has(job)
    return Enqueued(
        id=job_id,
        queue=sent.queue,
        type=sent.type,
        priority=sent.priority,
        status=QUEUED,
        created_at=created_at,
        run_at=None,
        expires_at=None,
        created=True,
        key=sent.key,
        tags=() if sent is job else tuple(sent.tags),
    )


def _as_json_has(job: NewJob) -> _Sent:
    """Its fields as they were sent: a list of tags becomes a tuple, and values that JSON writes as strings or integers become
    str or int.
    """
    fields = {name: getattr(job, name) for name in _Sent.__struct_fields__}
    return msgspec.convert(msgspec.to_builtins(fields), _Sent)


def enqueued_batch(jobs: Sequence[NewJob]) -> Decode[list[Enqueued | QueueError]]:
    """Decodes the answer to a batch of these jobs."""

    def decode(body: bytes) -> list[Enqueued | QueueError]:
        try:
            made = _decode_all_made(body)
        except msgspec.ValidationError:
            results = _decode_results(body)
            return [_enqueued_item(job, raw, results.created_at) for job, raw in zip(jobs, results.jobs, strict=True)]
        return [entered(job, entry.id, made.created_at) for job, entry in zip(jobs, made.jobs, strict=True)]

    return decode


def _enqueued_item(job: NewJob, raw: Raw, created_at: datetime | UnsetType) -> Enqueued | QueueError:
    item = bytes(raw)
    if item.startswith(FAILED_ITEM):
        return reading.failed_item(item)
    if created_at is UNSET or _OF_A_WHOLE_ENQUEUED in item:
        return reading.enqueued(item)
    return entered(job, _decode_id(item).id, created_at)


# Conclude.


def _concluded(said: WorkOutcome, done: _Done) -> Concluded:
    """The state of a job that ended as its worker reported."""
    outcome = _OUTCOMES.get(said) or _OUTCOMES[msgspec.to_builtins(said)]  # an Enum that is not a str was sent as its value
    return Concluded(id=done.id, status=CONCLUDED, outcome=outcome, attempts=done.attempts, run_at=done.run_at)


def concluded(said: WorkOutcome) -> Decode[Concluded]:
    """Decodes the answer for an attempt that was reported with this outcome, alone or with others."""

    def decode(body: bytes) -> Concluded:
        return reading.concluded(body) if _OF_A_WHOLE_CONCLUDED in body else _concluded(said, _decode_done(body))

    return decode


def concluded_batch(items: Sequence[Conclude]) -> Decode[list[Concluded | QueueError]]:
    """Decodes the answer to a batch of these."""

    def decode(body: bytes) -> list[Concluded | QueueError]:
        try:
            done = _decode_all_done(body).jobs
        except msgspec.ValidationError:
            return [_concluded_item(item, raw) for item, raw in zip(items, _decode_results(body).jobs, strict=True)]
        return [_concluded(item.outcome, each) for item, each in zip(items, done, strict=True)]

    return decode


def concluded_errors(count: int) -> Decode[list[QueueError | None]]:
    """Decodes the answer to a batch of this many, for a caller that needs only the errors: None for an attempt that was concluded."""

    def decode(body: bytes) -> list[QueueError | None]:
        try:
            found: list[QueueError | None] = [None] * len(_decode_all_done(body).jobs)
        except msgspec.ValidationError:
            found = [_concluded_error(bytes(raw)) for raw in _decode_results(body).jobs]
        if len(found) != count:
            raise ValueError(f"{len(found)} results for {count} items")
        return found

    return decode


def _concluded_error(answer: bytes) -> QueueError | None:
    if answer.startswith(FAILED_ITEM):
        return reading.failed_item(answer)
    # Read only to see that it is what it should be.
    (reading.concluded if _OF_A_WHOLE_CONCLUDED in answer else _decode_done)(answer)
    return None


def _concluded_item(item: Conclude, raw: Raw) -> Concluded | QueueError:
    answer = bytes(raw)
    if answer.startswith(FAILED_ITEM):
        return reading.failed_item(answer)
    return reading.concluded(answer) if _OF_A_WHOLE_CONCLUDED in answer else _concluded(item.outcome, _decode_done(answer))
