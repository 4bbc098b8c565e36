"""Requests (backend/requests) and their answers as servers send them to each other: fields by name, jobs by position."""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from typing import Any, get_args, get_origin

import msgspec

from jobqueue.backend.requests.every import ALL
from jobqueue.backend.requests.request import R, Request, answer_of
from jobqueue.backend.store import messages as m
from jobqueue.backend.store.shapes import JobRow, job_of, job_row
from jobqueue.model import Job

MADE = tuple[Job, bool]
"""A job, and whether it was made."""

encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(reduce(or_, ALL)).decode


def op_of(request: Request[Any]) -> int:
    """The message type for a request."""
    return m.ASK_CHANGE if request.changes else m.ASK_HELD if request.held else m.ASK


def decode_request(data: msgspec.Raw) -> Request[Any]:
    """A request. Raises msgspec.ValidationError."""
    request: Request[Any] = _decode(data)
    return request


def encode_answer(request: Request[Any], answer: Any) -> msgspec.Raw:
    """Encode an answer."""
    kind = answer_of(type(request))
    if kind is Job:
        answer = job_row(answer)
    elif kind == MADE:
        answer = job_row(answer[0]), answer[1]
    elif _is_jobs(kind):
        answer = [job_row(job) for job in answer]
    return msgspec.Raw(encode(answer))


def decode_answer(request: Request[R], data: msgspec.Raw) -> R:
    """The answer. Raises msgspec.ValidationError."""
    kind = answer_of(type(request))
    answer: Any = _decoder(kind).decode(data)
    if kind is Job:
        answer = job_of(answer)
    elif kind == MADE:
        answer = job_of(answer[0]), answer[1]
    elif _is_jobs(kind):
        answer = [job_of(row) for row in answer]
    return answer  # type: ignore[no-any-return] # the decoder has checked it


def _is_jobs(kind: Any) -> bool:
    return get_origin(kind) is list and get_args(kind) == (Job,)


@cache
def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    if kind == MADE:
        return msgspec.msgpack.Decoder(tuple[JobRow, bool])
    return msgspec.msgpack.Decoder(JobRow if kind is Job else list[JobRow] if _is_jobs(kind) else kind)
