"""Connections: how many there may be, whether they live, and what is answered to what is not HTTP.

**The caps**, in all and for one address. Over one, a few more connections are accepted and answered 429 on everything but the public
routes, so that a health check still gets through a full server; beyond those, connections are cut at once. So the server never runs out
of file descriptors, which would make the accept loop spin.

How a request is served is `serving.py`'s.
"""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Callable, Iterable
from typing import Any, cast

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

from jobqueue.errors import BadRequest
from jobqueue.http.addresses import Addresses, address_of
from jobqueue.http.answers import Answer
from jobqueue.http.heads import Head, Heads, head_of
from jobqueue.http.request import Request
from jobqueue.http.resuming import resumed
from jobqueue.http.serving import Handler, ServingConnection

OVER_MAX = 8
"""Connections accepted beyond the cap, for health checks."""

OVER_SECONDS = 2.0
"""How long one of those may stay."""

FIELD_BYTES_MAX = 16_384
"""The longest header line. aiohttp's own 8,190 would answer a long token 400 where 401 is meant."""

_GONE = getattr(select, "POLLRDHUP", 0)
"""What to ask poll(2) for; it tells of errors and hang-ups (RST) unasked."""

_logger = logging.getLogger("jobqueue.http")


class Connection(ServingConnection):
    """One client's connection."""

    __slots__ = ("_fd", "_over_timer", "_server", "address", "over")

    def __init__(self, manager: Server, *, write_seconds: float, **kwargs: Any) -> None:
        super().__init__(manager, write_seconds=write_seconds, **kwargs)
        self._server = manager
        self._fd = -1
        self.over = ""
        """Why it is one too many, if it is."""
        self.address = ""
        self._over_timer: asyncio.TimerHandle | None = None

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
        """Forget the connection."""
        self._server.closed(self)
        self._fd = -1
        if self._over_timer is not None:
            self._over_timer.cancel()
        super().connection_lost(exc)

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

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer what the parser refused, and close: whatever follows cannot be trusted to be a request. One log line, no traceback."""
        reason = " ".join((message or str(exc) or "the request cannot be read").split())[:200]
        _logger.info("refused a request that is not HTTP: %r", reason)
        return self._server.refuse(BadRequest(None, f"not a valid HTTP request: {reason}"))


class Server(web.Server):
    """Makes a Connection of every accepted socket.

    handler must not need the current task before it first suspends; refuse makes the answer to what cannot be read as HTTP. usual:
    methods and paths that most requests have.
    """

    def __init__(
        self,
        handler: Handler,
        refuse: Callable[[BadRequest], Answer],
        *,
        connections_max: int,
        idle_seconds: float,
        write_seconds: float,
        connections_per_address_max: int | None = None,
        usual: Iterable[tuple[str, str]] = (),
    ) -> None:
        super().__init__(cast(Any, self._in_task), request_factory=cast(Any, self._make), handler_cancellation=True)
        self.handler = handler
        self.refuse = refuse
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
