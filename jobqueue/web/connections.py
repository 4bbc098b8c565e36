"""Connections: how many there may be, how a request is served at once, and what is answered to what is not HTTP.

**The caps**, in all and for one address. Over one, a few more connections are accepted and answered 429 on everything but the public
routes, so that a health check still gets through a full server; beyond those, connections are cut at once. So the server never runs out
of file descriptors, which would make the accept loop spin.

**Known heads.** A request whose head was met before, which is what nearly all are, is not parsed at all: `heads.py` says why that is sound.

**Serving at once.** aiohttp wakes a task for every request, which makes another one: three turns of the loop, half of what a small request
costs. A request that arrives whole on an idle connection is instead run right where it was parsed, to its end or to its first
suspension. Most end there: an enqueue or a conclude in memory never suspends. One that does (a held dequeue, a commit, a slow reader) is
handed, half run, to aiohttp's own task, which carries on with it as if it had begun it (`resuming.py`): from then on cancellation on
disconnect and shutdown are aiohttp's. Python 3.12 calls this an eager task; here it also works on 3.11 and spares the
task altogether when none is needed.

What this uses of aiohttp beyond its documented face, pinned by tests/web/test_connections.py: `RequestHandler._messages`, `_waiter`,
`_parser.message_consumed()`, `_buffer_paused`, `_reading_paused`, `_paused`, `_request_count` and `_next_keepalive_close_time`.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from jobqueue.errors import BadRequest
from jobqueue.web.addresses import Addresses, address_of
from jobqueue.web.answers import Answer
from jobqueue.web.heads import NO_FIELDS, STRANGE_MAX, UNKNOWN, Head, Heads, head_of
from jobqueue.web.problems import problem
from jobqueue.web.request import Request
from jobqueue.web.resuming import Serving, resumed

OVER_MAX = 8
"""Connections accepted beyond the cap, for health checks."""

OVER_SECONDS = 2.0
"""How long one of those may stay."""

FIELD_BYTES_MAX = 16_384
"""The longest header line. aiohttp's own 8,190 would answer a long token 400 where 401 is meant."""

_GONE = getattr(select, "POLLRDHUP", 0)
"""What to ask poll(2) for; it tells of errors and hang-ups (RST) unasked."""

_logger = logging.getLogger("jobqueue.web")

Handler = Callable[[Request], Coroutine[Any, Any, Answer]]


async def _drained(answer: Answer, request: Request) -> web.StreamResponse:
    """The answer, once the client has read enough of it. Raises ConnectionError when it does not."""
    await answer.wait_drained(request)
    return answer


def _as_message(request: Request) -> tuple[Any, StreamReader]:
    """A request for aiohttp's task, which only carries it to `Server._make`."""
    return request.head, request.body


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_fd", "_half", "_missing", "_over_timer", "_server", "_strange", "address", "over", "write_seconds")

    def __init__(self, manager: Server, *, write_seconds: float, **kwargs: Any) -> None:
        super().__init__(manager, **kwargs)
        self._server = manager
        self._fd = -1
        self.write_seconds = write_seconds
        self.over = ""
        """Why it is one too many, if it is."""
        self.address = ""
        self._over_timer: asyncio.TimerHandle | None = None
        self._half: tuple[Serving, Any] | None = None
        self._missing = 0
        """How many bytes of a request the parser has yet to see: 0 where it stands before a new one, UNKNOWN where that cannot be told."""
        self._strange = 0
        """Requests in a row that were not known."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, and refuse it when there are far too many."""
        server = self._server
        sock = transport.get_extra_info("socket")
        self._fd = -1 if sock is None else sock.fileno()
        # Not an isinstance check: uvloop's transports are no subclasses of asyncio's.
        transport = cast(asyncio.Transport, transport)
        self.address = address_of(transport.get_extra_info("peername"))
        excess, of_one = len(server.open) - server.connections_max, server.addresses.excess(self.address)
        # At 0 a write is attempted at once and "paused" means "not all sent": see answers.py. TLS transports pause from their limit on,
        # not above it: at 0 they would pause with nothing to send, and nothing sent would ever resume them.
        transport.set_write_buffer_limits(high=0 if transport.get_extra_info("sslcontext") is None else 1)
        super().connection_made(transport)
        server.open.add(self)
        server.addresses.add(self.address)
        if max(excess, of_one) >= OVER_MAX:
            transport.abort()
        elif excess >= 0 or of_one >= 0:
            self.over = f"{'the server' if excess >= 0 else 'this address'} has as many connections as it may"
            self._over_timer = self._loop.call_later(OVER_SECONDS, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection; a held handler is cancelled, by aiohttp, or here if its task has not taken it over yet."""
        self._server.closed(self)
        self._fd = -1
        if self._over_timer is not None:
            self._over_timer.cancel()
        if self._half is not None:
            serving, self._half = self._half[0], None
            serving.close()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and serve at once what can be; the rest is left to the connection's task, in order."""
        waiter = self._waiter
        if waiter is None or self._messages or waiter.done():
            self._parse(data)
            return
        if not self._missing:
            known = self._server.heads.find(data)
            if known is not None and not (self._force_close or self._close):
                self._strange = 0
                self._request_count += 1
                request = Request(known[0], self)
                request.whole = known[1]
                if not self._served_at_once(request):
                    self._messages.append(_as_message(request))
                    waiter.set_result(None)
                return
            self._strange += 1
            if self._strange > STRANGE_MAX:
                self._missing = UNKNOWN
        # Without a waiter to wake, aiohttp only parses.
        self._waiter = None
        self._parse(data)
        self._waiter = waiter
        messages = self._messages
        while messages and not self._buffer_paused:
            message, payload = messages[0]
            if not isinstance(message, RawRequestMessage) or message.should_close or message.upgrade or not payload.is_eof():
                break
            request = Request(head_of(message), self)
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
            self._missing = self._server.heads.learn(data, *messages[-1]) if len(messages) == before + 1 else UNKNOWN

    def _served_at_once(self, request: Request) -> bool:
        """Serve a request outside any task. False if it suspended: `_half` has it then, for the task that aiohttp gives its message."""
        server = self._server
        serving = server.handler(request)
        try:
            waits_for = serving.send(None)
        except StopIteration as stop:
            if not self._written(stop.value, request):
                return False
        else:
            self._half = serving, waits_for
            self._slim(request)
            return False
        server.requests_count += 1
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return True

    def _slim(self, request: Request) -> None:
        """Let go of the headers and the body of a request that is held: 3 KiB of the 14 that it would cost.

        Its handler has read them; from here on only the method, the version and whether to keep the connection matter.
        """
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

    def has_hung_up(self) -> bool:
        """Whether the client's FIN or RST has arrived, even if the loop has not come to read it yet.

        A look at the socket, 2 µs: it closes the window between the loop's last look at the network and a hand-out, which is as long as
        everything else that the loop does in the same turn. A half-closed connection counts as hung up, as everywhere in aiohttp. Only
        Linux tells of a FIN behind unread requests; elsewhere the write and the lease have to do.
        """
        if self.transport is None or self.transport.is_closing():
            return True
        fd = self._fd
        if fd < 0 or not _GONE:
            return False
        poll = self._server.poll
        poll.register(fd, _GONE)
        gone = poll.poll(0)
        poll.unregister(fd)
        return bool(gone)

    @property
    def idle(self) -> bool:
        """Whether nothing is asked of it: its task waits for a request, or there has been none yet."""
        return not self._messages and (self._waiter is not None or self._request_count == 0)

    def take_half(self) -> tuple[Serving, Any] | None:
        """The request that was begun outside a task, once."""
        half, self._half = self._half, None
        return half

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what the parser refused, and close: whatever follows cannot be trusted to be a request. One log line, no traceback."""
        reason = " ".join((message or str(exc) or "the request cannot be read").split())[:200]
        _logger.info("refused a request that is not HTTP: %r", reason)
        return problem(BadRequest(None, f"not a valid HTTP request: {reason}"), close=True)


class Server(web.Server):
    """Makes a Connection of every accepted socket.

    handler must not need the current task before it first suspends. usual: methods and paths that most requests have.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        connections_max: int,
        idle_seconds: float,
        write_seconds: float,
        connections_per_address_max: int | None = None,
        usual: Iterable[tuple[str, str]] = (),
    ) -> None:
        super().__init__(cast(Any, self._in_task), request_factory=cast(Any, self._make), handler_cancellation=True)
        self.handler = handler
        self.connections_max = connections_max
        self.addresses = Addresses(connections_max if connections_per_address_max is None else connections_per_address_max)
        self.heads = Heads(usual)
        self.open: set[Connection] = set()
        self.poll = select.poll()
        self._ended: asyncio.Future[None] | None = None
        self._options: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": idle_seconds,
            "lingering_time": 2.0,
            "max_field_size": FIELD_BYTES_MAX,
            "write_seconds": write_seconds,
        }

    def _make(self, message: RawRequestMessage | Head, payload: StreamReader, protocol: Connection, writer: Any, task: Any) -> Request:
        request = Request(message if isinstance(message, Head) else head_of(message), protocol)
        request.body, request._task = payload, task
        return request

    async def drained(self) -> None:
        """Close idle connections at once and the others after their answers, which must say so; return when none is left."""
        self._ended = asyncio.get_running_loop().create_future()
        for connection in list(self.open):
            if connection.idle:
                connection.force_close()
        if self.open:
            await self._ended

    def abort(self) -> None:
        """Cut every connection."""
        for connection in list(self.open):
            if connection.transport is not None:
                connection.transport.abort()

    def closed(self, connection: Connection) -> None:
        """Forget a connection that is lost."""
        if connection in self.open:
            self.open.remove(connection)
            self.addresses.remove(connection.address)
        if not self.open and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def _in_task(self, request: Request) -> web.StreamResponse:
        half = request.connection.take_half()
        try:
            return await self.handler(request) if half is None else await resumed(*half)
        except asyncio.CancelledError:
            if request.connection.transport is not None:
                raise
        # The client has gone; any answer will do. A CancelledError let through here would be kept by the connection's task, which its
        # traceback refers to: a cycle for the collector, ten thousand of them when a crowd leaves.
        return Answer(204, content_type=b"", close=True)

    def __call__(self) -> web.RequestHandler:
        """A connection's protocol, for loop.create_server."""
        return Connection(self, loop=self._loop, **self._options)
