"""Calls that share a request: calls that are made while another of their kind is under way wait for its answer, and are then sent together.

A single call is sent at once and by itself: there is no timer, and no call waits for others to join it. Calls that are sent together are
one request of the batch operation of that kind, and each caller gets its own part of the answer, as if the server had answered it alone. So
each call still handles its own answer: its error, its retries, the pauses before them. If the batch as a whole fails (no answer, 429, 503),
each of its calls gets that result; if the batch was refused because of its content or size, each call is sent once more, alone. If a server
is too old for a batch operation, its calls are sent one by one from then on.

No input or output here; async_sharing.py and sync_sharing.py wait and send.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec import Raw

from jobqueue.client.exchange import Answer
from jobqueue.client.problems import ConnectionFailed
from jobqueue.client.sending import SHORTENED, Request
from jobqueue.client.short import FAILED_ITEM, Made, all_made, parts

SHARED_MAX = 1_000
"""The most calls that share a request: what a server's defaults allow in a batch."""

SHARED_BYTES_MAX = 1 << 19
"""The most bytes of their bodies, except for a single larger one: half of the original default limit of servers."""

_OK = 200
_REFUSED = (400, 413)
"""Answers to a batch whose cause can be one of its items, or the number of items."""

_UNKNOWN = (404, 405)
"""Answers of a server that does not have the batch operation. An error about an item would be inside that item."""


class _Results(msgspec.Struct):
    jobs: list[Raw]
    created_at: Raw = Raw()


class _Refusal(msgspec.Struct):
    status: int


class _Failed(msgspec.Struct):
    error: Raw


_decode_results = msgspec.json.Decoder(_Results).decode
_decode_failed = msgspec.json.Decoder(_Failed).decode
_decode_refusal = msgspec.json.Decoder(_Refusal).decode


class Bound:
    """How many calls can share a request: fewer after a server refused that many; 1 if it has no batches."""

    def __init__(self) -> None:
        self.most = SHARED_MAX

    def fitting(self, waiting: Sequence[Any]) -> int:
        """How many of the waiting objects, each with its `request`, are sent next; at least one."""
        room = SHARED_BYTES_MAX
        for count, one in enumerate(waiting[: self.most]):
            room -= len(one.request.body)
            if room < 0 and count:
                return count
        return min(len(waiting), self.most)

    def refused(self, count: int) -> None:
        """A batch of this many was refused."""
        self.most = max(1, min(self.most, count // 2))

    def unknown(self) -> None:
        """The server has no such batch."""
        self.most = 1


def together(requests: Sequence[Request]) -> Request:
    """One request for several of the same kind."""
    target = requests[0].batch
    return Request("POST", target, b'{"jobs":[%b]}' % b",".join(map(_item, requests)), 0.0, short=target in SHORTENED)


def _item(request: Request) -> bytes:
    """The request's body; with the id added if the id is in the path. The body of a call with an id always has other fields."""
    assert request.body is not None
    return request.body if request.job_id is None else b'{"id":%b,%b' % (msgspec.json.encode(request.job_id), request.body[1:])


def apart(answer: Answer, count: int, bound: Bound) -> list[Answer | None]:
    """The answer for each of `count` calls, taken from the answer to all of them; None: send that call once more, alone."""
    if answer.status in _REFUSED:
        bound.refused(count)
        return [None] * count
    if answer.status in _UNKNOWN:
        bound.unknown()
        return [None] * count
    if answer.status != _OK:
        return [answer] * count
    if (made := all_made(answer.body)) is not None and len(made) == count:
        # Nearly all answers to enqueues, in one step.
        # Only the call that sent the job sees a Made, and its decoder knows it.
        headers, whole = answer.headers, cast(list[bytes], made)
        return [Answer(_OK, headers, item) for item in whole]
    try:
        results = _decode_results(answer.body)
        items = [bytes(raw) for raw in results.jobs]
        found: list[Answer | None] = [_part(item, answer) for item in (parts(items, results.created_at) if results.created_at else items)]
    except (ValueError, RecursionError):
        found = []
    # If the answer cannot be parsed, each call reports that itself.
    return found if len(found) == count else [answer] * count


def _part(item: bytes | Made, answer: Answer) -> Answer:
    if isinstance(item, Made) or not item.startswith(FAILED_ITEM):
        return Answer(_OK, answer.headers, cast(bytes, item))
    error = bytes(_decode_failed(item).error)
    return Answer(_decode_refusal(error).status, answer.headers, error)


def own(error: Exception) -> Exception:
    """The error of a shared request for one of its calls. Each call gets its own object, since raising it adds a traceback to it."""
    if not isinstance(error, ConnectionFailed):
        return error
    made = ConnectionFailed(error.detail)
    made.sent = error.sent
    return made
