"""AsyncClient's connections: asyncio transfers the bytes, `Exchange` interprets them. `sync_connections.py` is the same for threads."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

from msgspec.structs import replace

from jobqueue.client.exchange import Answer, Exchange, Lost, NotConnected
from jobqueue.client.route import Route
from jobqueue.client.sending import Request

IDLE_SECONDS = 15.0
"""How long an unused connection is kept: less than servers and proxies keep it."""

LOOKUPS_MAX = 4
"""Names looked up at the same time, in separate threads: the loop's executor may be busy with the program's own work."""

UNTAKEN_BYTES_MAX = 1 << 18
"""For a stream: how much is read ahead of what was taken."""

CLOSE_SECONDS = 1.0
"""How long closing waits for the loop to release what was closed."""


class Connection(asyncio.Protocol):
    """One connection, on which one request at a time is answered. After an error it can only be aborted."""

    def __init__(self, opened: set[Connection], none_open: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
        self._exchange = Exchange()
        self._opened = opened
        self._none_open = none_open
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer | None] | None = None
        self._error: Exception | None = None
        self._answer: Answer | None = None
        """For a stream, once it has ended."""
        self._streaming = False
        self.idle_since = 0.0
        """When its last answer arrived, by the loop's clock."""

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make writes leave at once, not at the end of the loop's turn: the server can begin while this side is still busy."""
        self._transport = cast(asyncio.Transport, transport)
        self._opened.add(self)
        if transport.get_extra_info("sslcontext") is None:
            self._transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer. Bytes without a request make the connection unusable, since their meaning is unknown."""
        try:
            answer = self._exchange.feed(data)
        except Lost as error:
            self._fail(error)
            return
        if answer is not None:
            self._answer = answer
            self._wake(answer)
        elif self._streaming and self._exchange.head is not None:
            if self._transport is not None and self._exchange.untaken > UNTAKEN_BYTES_MAX:
                self._transport.pause_reading()
            self._wake(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol. The end of the connection can also be the end of the answer."""
        self._transport = None
        self._opened.discard(self)
        if not self._opened:
            self._none_open.set()
        if exc is not None:
            self._fail(exc)
            return
        try:
            answer = self._exchange.end()
        except Lost as error:
            self._fail(error)
            return
        if answer is not None:
            self._answer = answer
            self._wake(answer)

    def _wake(self, answer: Answer | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(answer)

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        if self._streaming and self._exchange.untaken:
            # Data that arrived completely before it is returned first.
            self._wake(None)
        elif self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(self._error)
        self.abort()

    # Called by the owner of the connection.

    @property
    def reusable(self) -> bool:
        """Whether it can be used for another request."""
        return self._transport is not None and self._exchange.reusable and not self._transport.is_closing()

    def abort(self) -> None:
        """Close it at once."""
        if self._transport is not None:
            self._transport.abort()

    def _written(self, request: bytes, streaming: bool = False, connect: bool = False) -> asyncio.Transport:
        transport = self._transport
        if self._error is not None:
            raise self._error
        if transport is None or transport.is_closing():
            raise Lost("the connection was closed before the request was sent")
        self._streaming = streaming
        self._exchange.begin(streaming=streaming, connect=connect)
        return transport

    async def _woken(self, transport: asyncio.Transport | None, request: bytes, deadline: float) -> Answer | None:
        """Write the request, if there is one, and wait for an answer. Raises Lost, OSError."""
        waiting = self._waiting = self._loop.create_future()
        # Not asyncio.timeout, which takes longer than everything else here.
        timer = self._loop.call_at(deadline, self._too_late)
        try:
            if transport is not None:
                transport.write(request)
            found: Answer | None = await waiting
            return found
        finally:
            timer.cancel()
            self._waiting = None

    def _too_late(self) -> None:
        self._fail(TimeoutError("timed out without a complete answer"))

    async def exchange(self, request: bytes, deadline: float, *, connect: bool = False) -> Answer:
        """The answer to a request. Raises Lost, OSError."""
        transport = self._written(request, connect=connect)
        answer = await self._woken(transport, request, deadline)
        assert answer is not None  # only streams are woken without an answer
        if transport.get_write_buffer_size():
            # The server answered before it had read everything: the rest of the body would be read as the next request.
            transport.abort()
        return answer

    async def begin_stream(self, request: bytes, deadline: float) -> tuple[int, Mapping[str, str], bytes]:
        """Request a stream. Returns status and headers of the answer, and its body if the status is not 200. Raises Lost, OSError."""
        await self._woken(self._written(request, streaming=True), request, deadline)
        head = self._exchange.head
        assert head is not None
        if head[0] == 200:
            return *head, b""
        while self._answer is None:
            if self._error is not None:
                raise self._error
            await self._woken(None, b"", deadline)
            if self._exchange.untaken > UNTAKEN_BYTES_MAX:
                raise Lost(f"the answer {head[0]} has more than {UNTAKEN_BYTES_MAX} bytes")
        ended = self._answer
        return ended.status, ended.headers, ended.body

    async def chunk(self, seconds: float) -> bytes:
        """The next bytes of a stream, within this many seconds; b"" at its end. Raises Lost, OSError."""
        deadline = self._loop.time() + seconds
        while True:
            if self._answer is not None:
                body, self._answer = self._answer.body, replace(self._answer, body=b"")
                return body
            if taken := self._exchange.take():
                if self._transport is not None:
                    self._transport.resume_reading()
                return taken
            if self._error is not None:
                raise self._error
            await self._woken(None, b"", deadline)

    async def secure(self, context: ssl.SSLContext, server_name: str) -> None:
        """Switch to TLS. Raises OSError."""
        assert self._transport is not None
        made = await self._loop.start_tls(self._transport, self, context, server_hostname=server_name)
        if made is None:
            raise ConnectionResetError("the connection was closed within the TLS handshake")
        self._transport = made


class Connections:
    """The connections to one server, opened as calls need them, without a limit that could make an extend wait behind held dequeues.

    Belongs to the loop in which it is created.
    """

    def __init__(self, route: Route, ssl_context: ssl.SSLContext | None) -> None:
        self._loop = asyncio.get_running_loop()
        self.route = route
        self._ssl_context = ssl_context
        self._idle: deque[Connection] = deque()
        self._opened: set[Connection] = set()
        self._none_open = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._lookups: ThreadPoolExecutor | None = None

    async def exchange(self, request: Request, seconds: float, connect_seconds: float) -> Answer:
        """Send a request and return its answer within this many seconds, of which connecting can take some.

        Raises NotConnected before anything was sent, after that Lost or OSError.
        """
        deadline = self._loop.time() + seconds
        connection = self._idle_one() or await self._connected(min(seconds, connect_seconds))
        try:
            answer = await connection.exchange(self.route.request(request.method, request.target, request.body, request.short), deadline)
        except BaseException:
            # An answer that nobody waits for may still be on its way.
            connection.abort()
            raise
        if connection.reusable:
            connection.idle_since = self._loop.time()
            self._idle.append(connection)
            if self._timer is None:
                self._timer = self._loop.call_later(IDLE_SECONDS, self._close_idle)
        else:
            connection.abort()
        return answer

    async def connection(self, seconds: float) -> Connection:
        """A new connection for a stream; the caller must abort it in the end. Raises NotConnected."""
        return await self._connected(seconds)

    # Opening connections.

    async def _connected(self, seconds: float) -> Connection:
        """A new connection. The addresses are tried one after the other, each for its share of the time. Raises NotConnected."""
        deadline = self._loop.time() + seconds
        error: Exception | None = None
        try:
            async with asyncio.timeout_at(deadline):
                addresses = await self._addresses()
        except OSError as failed:
            raise NotConnected(f"{self.route.host}: {str(failed) or 'the name could not be looked up in time'}") from failed
        for at, address in enumerate(addresses):
            share = (deadline - self._loop.time()) / (len(addresses) - at)
            try:
                async with asyncio.timeout(share):
                    return await self._connected_to(address)
            except (OSError, Lost) as failed:
                error = failed
        said = str(error) if error is not None and str(error) else f"no connection within {seconds:g} s"
        raise NotConnected(said) from error

    async def _addresses(self) -> list[Any]:
        route = self.route
        try:
            return socket.getaddrinfo(route.host, route.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            if self._lookups is None:
                self._lookups = ThreadPoolExecutor(LOOKUPS_MAX, "jobqueue-lookup")
            look_up = partial(socket.getaddrinfo, route.host, route.port, type=socket.SOCK_STREAM)
            return await self._loop.run_in_executor(self._lookups, look_up)

    async def _connected_to(self, address: Any) -> Connection:
        family, kind, protocol, _, place = address
        route, loop = self.route, self._loop
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(sock, place)
        except BaseException:
            sock.close()
            raise
        tls = None if route.server_name is None or route.connect is not None else self._context()
        _, connection = await loop.create_connection(
            lambda: Connection(self._opened, self._none_open, loop), sock=sock, ssl=tls, server_hostname=route.server_name if tls else None
        )
        if route.connect is not None:
            try:
                answer = await connection.exchange(route.connect, loop.time() + 86_400, connect=True)
                if not 200 <= answer.status < 300:
                    raise Lost(f"the proxy {route.host}:{route.port} answered {answer.status} where it should connect")
                assert route.server_name is not None
                await connection.secure(self._context(), route.server_name)
            except BaseException:
                connection.abort()
                raise
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            self._ssl_context = ssl.create_default_context()
        return self._ssl_context

    # Keeping connections.

    def _idle_one(self) -> Connection | None:
        """The most recently used one, so that surplus connections become idle."""
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.idle_since + IDLE_SECONDS > self._loop.time():
                return connection
            connection.abort()
        return None

    def _close_idle(self) -> None:
        """Close connections that were idle for too long, and schedule the next check."""
        self._timer = None
        now = self._loop.time()
        while self._idle:
            since = self._idle[0].idle_since
            if since + IDLE_SECONDS > now:
                self._timer = self._loop.call_at(since + IDLE_SECONDS, self._close_idle)
                return
            self._idle.popleft().abort()

    async def close(self) -> None:
        """Close all connections; calls under way fail."""
        if self._timer is not None:
            self._timer.cancel()
        if self._lookups is not None:
            self._lookups.shutdown(wait=False, cancel_futures=True)
        self._idle.clear()
        self._none_open.clear()
        for connection in list(self._opened):
            connection.abort()
        if self._opened:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._none_open.wait()
            except TimeoutError:
                pass
