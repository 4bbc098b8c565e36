"""How a connection serves its requests: known by their heads where that can be, and at once.

**Known heads.** A request whose head was met before, which is what nearly all are, is not parsed at all: `heads.py` says why that is sound.
Many clients write head and body one after the other, so for a body that is missing the rest is waited for a moment; then aiohttp is given
what has come, as it is of anything that is not known.

**Serving at once.** aiohttp wakes a task for every request, which makes another one: three turns of the loop, half of what a small request
costs. A request that arrives whole on an idle connection is instead run right where it was parsed, to its end or to its first
suspension. Most end there: an enqueue or a conclude in memory never suspends. One that does (a held dequeue, a commit, a slow reader) is
handed, half run, to aiohttp's own task, which carries on with it as if it had begun it (`resuming.py`): from then on cancellation on
disconnect and shutdown are aiohttp's. One that only lets others go first (`asyncio.sleep(0)`) goes on when the loop comes round. Python
3.12 calls this an eager task; here it also works on 3.11 and spares the task altogether when none is needed.

What this uses of aiohttp beyond its documented face, pinned by tests/http/test_connections.py: `RequestHandler._messages`, `_waiter`,
`_parser.message_consumed()`, `_buffer_paused`, `_reading_paused`, `_paused`, `_request_count`, `_keepalive_handle` and
`_next_keepalive_close_time`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from jobqueue.http.answers import Answer
from jobqueue.http.heads import NO_FIELDS, STRANGE_MAX, UNKNOWN, Head, Heads, head_of
from jobqueue.http.request import Request
from jobqueue.http.resuming import Serving

PART_SECONDS = 0.1
"""How long the rest of a known request may take. What comes later is read with the body's own time-out."""

PART_BYTES_MAX = 65_536
"""The longest request that is waited for so."""

Handler = Callable[[Request], Coroutine[Any, Any, Answer]]


class Manager(Protocol):
    """What all connections of a server share."""

    handler: Handler
    heads: Heads
    requests_count: int


async def _drained(answer: Answer, request: Request) -> web.StreamResponse:
    """The answer, once the client has read enough of it. Raises ConnectionError when it does not."""
    await answer.wait_drained(request)
    return answer


def _as_message(request: Request) -> tuple[Any, StreamReader]:
    """A request for aiohttp's task, which only carries it to the server's request factory."""
    return request.head, request.body


class _Few(list[Any]):
    """aiohttp's queue of requests, which holds one as a rule: a deque takes 650 bytes more, a list is as quick for few."""

    __slots__ = ()

    def popleft(self) -> Any:
        """The oldest."""
        return self.pop(0)


class ServingConnection(web.RequestHandler):
    """One client's connection. write_seconds: how long the client may take to read an answer."""

    __slots__ = ("_half", "_missing", "_part", "_part_missing", "_part_timer", "_shared", "_stepped_back", "_strange", "write_seconds")

    def __init__(self, manager: Any, *, write_seconds: float, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self.write_seconds = write_seconds
        self._messages: Any = _Few()
        self._shared: Manager = manager
        self._half: tuple[Serving, Any] | None = None
        self._missing = 0
        """How many bytes of a request the parser has yet to see: 0 where it stands before a new one, UNKNOWN where that cannot be told."""
        self._strange = 0
        """Requests in a row that were not known."""
        self._part = b""
        """What has come of a known request."""
        self._part_missing = 0
        self._part_timer: asyncio.TimerHandle | None = None
        self._stepped_back: tuple[Serving, Request] | None = None
        """A request that lets others go first, until the loop comes round."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """A held handler is cancelled, by aiohttp, or here if its task has not taken it over yet."""
        self._take_part()
        for begun in (self._half, self._stepped_back):
            if begun is not None:
                begun[0].close()
        self._half = self._stepped_back = None
        super().connection_lost(exc)

    @property
    def idle(self) -> bool:
        """Whether nothing is asked of it: its task waits for a request, or there has been none yet."""
        return (
            not self._messages and not self._part and self._stepped_back is None and (self._waiter is not None or self._request_count == 0)
        )

    def data_received(self, data: bytes) -> None:
        """Serve at once what can be; the rest is left to the connection's task, in order."""
        if self._stepped_back is not None:
            self._step_up()
        if self._part:
            if len(data) > self._part_missing:
                # What else has come may be no HTTP, for which aiohttp would drop the request too if it came in one piece.
                self._parse_part()
            else:
                data = self._take_part() + data
        waiter = self._waiter
        if waiter is None or self._messages or waiter.done():
            self._parse(data)
        elif self._missing or not self._is_known(data, waiter):
            self._parse_and_serve(data, waiter)

    def _is_known(self, data: bytes, waiter: asyncio.Future[None]) -> bool:
        """Serve a request whose head is known, or wait for the rest of it; False for all else."""
        found = self._shared.heads.find(data)
        if self._force_close or self._close:
            return False
        if isinstance(found, int):
            if found > 0 and len(data) + found <= PART_BYTES_MAX:
                self._part, self._part_missing = data, found
                self._part_timer = self._loop.call_later(PART_SECONDS, self._parse_part)
                # To aiohttp the connection is still idle.
                self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                return True
            self._strange += 1
            if self._strange > STRANGE_MAX:
                self._missing = UNKNOWN
            return False
        self._strange = 0
        self._request_count += 1
        request = Request(found[0], cast(Any, self))
        request.whole = found[1]
        if not self._served_at_once(request):
            self._messages.append(_as_message(request))
            waiter.set_result(None)
        return True

    def _take_part(self) -> bytes:
        part, self._part = self._part, b""
        if self._part_timer is not None:
            self._part_timer.cancel()
            self._part_timer = None
        return part

    def _parse_part(self) -> None:
        """The rest of a known request does not come: leave it to aiohttp."""
        part, waiter = self._take_part(), self._waiter
        # Nothing can have been asked of it since: the part is the newest that has come. Without one it is being closed.
        if waiter is not None and not waiter.done():
            self._parse_and_serve(part, waiter)

    def _parse_and_serve(self, data: bytes, waiter: asyncio.Future[None]) -> None:
        """Have aiohttp parse, and serve at once what can be."""
        # Without a waiter to wake, aiohttp only parses.
        self._waiter = None
        self._parse(data)
        self._waiter = waiter
        messages = self._messages
        while messages and not self._buffer_paused:
            message, payload = messages[0]
            if not isinstance(message, RawRequestMessage) or message.should_close or message.upgrade or not payload.is_eof():
                break
            request = Request(head_of(message), cast(Any, self))
            request.body = payload
            if not self._served_at_once(request):
                messages[0] = _as_message(request)
                break
            messages.popleft()
            self._parser.message_consumed()  # type: ignore[union-attr] # there is one until the connection is lost
            if self._force_close or self._close:
                return
        if messages and not waiter.done():
            waiter.set_result(None)

    def _parse(self, data: bytes) -> None:
        """Have aiohttp parse, and keep count of where its parser stands."""
        missing, messages = self._missing, self._messages
        before = len(messages)
        super().data_received(data)
        if missing:
            self._missing = missing - len(data) if 0 < len(data) <= missing else UNKNOWN
        else:
            self._missing = self._shared.heads.learn(data, *messages[-1]) if len(messages) == before + 1 else UNKNOWN

    def _served_at_once(self, request: Request) -> bool:
        """Serve a request outside any task. False if it suspended: `_half` has it then, for the task that aiohttp gives its message."""
        serving = self._shared.handler(request)
        try:
            waits_for = serving.send(None)
        except StopIteration as stop:
            return self._is_done(stop.value, request)
        # Not when another request is behind it, whose answer would overtake its own.
        if waits_for is None and len(self._messages) <= 1:
            self._stepped_back = serving, request
            self._loop.call_soon(self._step_up)
            return True
        self._half = serving, waits_for
        self._slim(request)
        return False

    def _is_done(self, answer: Answer, request: Request) -> bool:
        if not self._written(answer, request):
            return False
        self._shared.requests_count += 1
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return True

    def _step_up(self) -> None:
        """Go on with a request that let others go first: they have, by the time the loop calls this."""
        if self._stepped_back is None:
            return
        (serving, request), self._stepped_back = self._stepped_back, None
        try:
            waits_for = serving.send(None)
        except StopIteration as stop:
            if self._is_done(stop.value, request):
                return
        except BaseException:
            self.force_close()
            raise
        else:
            self._half = serving, waits_for
            self._slim(request)
        self._messages.append(_as_message(request))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _slim(self, request: Request) -> None:
        """Let go of what a request that is held has no use for: 4 KiB of the 14 that it would cost.

        Its handler has read headers and body; from here on only the method, the version and whether to keep the connection matter. The
        timer for idle connections is aiohttp's, which sets it again when it has none.
        """
        if self._keepalive_handle is not None:
            self._keepalive_handle.cancel()
            self._keepalive_handle = None
        head = request.head
        request.head, request.body, request.whole = Head(head.method, head.path, NO_FIELDS, head.version), EMPTY_PAYLOAD, None
        request.__dict__.pop("_message", None)

    def _written(self, answer: Answer, request: Request) -> bool:
        """Write a finished answer. False when the client is slow to read it: `_half` waits for it then."""
        try:
            answer.write_now(request)
        except ConnectionError:
            self.force_close()
            return True
        if self._paused:
            serving = _drained(answer, request)
            self._half = serving, serving.send(None)
            return False
        if not answer.keep_alive:
            self.close()
            if self.transport is not None:
                self.transport.close()
        return True

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Resume when paused. aiohttp calls this for every body read, and parses an empty chunk each time."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def take_half(self) -> tuple[Serving, Any] | None:
        """The request that was begun outside a task, once."""
        half, self._half = self._half, None
        return half
