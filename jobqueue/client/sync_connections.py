"""Client's connections: plain sockets transfer the bytes, `Exchange` interprets them. `async_connections.py` is the same for asyncio.

The pool has no lock: threads share only a deque, whose `append` and `pop` are atomic, and a connection taken from it belongs to one thread
until it is put back. So a fork, at any moment, leaves nothing locked. `SyncTransport` tracks which process a pool belongs to.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress

from msgspec.structs import replace

from jobqueue.client.exchange import Answer, Exchange, Lost, NotConnected
from jobqueue.client.route import Route
from jobqueue.client.sending import Request

IDLE_SECONDS = 15.0
"""How long an unused connection is kept: less than servers and proxies keep it."""

IDLE_CONNECTIONS_MAX = 1_000
"""The number of connections kept while no thread uses them."""

READ_BYTES = 1 << 16
"""The most bytes to read at once."""

BODY_OF_AN_ERROR_BYTES_MAX = 1 << 18
"""How much is read of an answer that is not the requested stream."""


class Connection:
    """One connection, on which one request at a time is answered. After an error it can only be closed.

    The socket is non-blocking; waiting is done with the system's poll, up to a deadline by time.monotonic. The socket's own time-out would
    be per read, so a server that sends a byte at a time could make it wait for ever.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._exchange = Exchange()
        self._socket = sock
        self._secured: ssl.SSLSocket | None = None
        self._ready = _Ready(sock)
        self._ended: Answer | None = None
        """For a stream, once it has ended."""
        self._failed: Exception | None = None
        self.idle_since = 0.0
        """When its last answer arrived."""

    def __del__(self) -> None:
        # For a client that was not closed: like a file.
        self._socket.close()

    def secure(self, context: ssl.SSLContext, server_name: str, deadline: float) -> None:
        """Switch to TLS. Raises OSError."""
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        self._socket = self._secured = context.wrap_socket(self._socket, server_hostname=server_name, suppress_ragged_eofs=False)
        self._socket.setblocking(False)

    @property
    def reusable(self) -> bool:
        """Whether it can be used for another request."""
        return self._exchange.reusable

    @property
    def is_silent(self) -> bool:
        """Whether nothing arrived while no request was under way, not even the end of the connection."""
        return not self._ready.read(0.0)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def wake(self) -> None:
        """From another thread: make the thread that waits for a stream see its end."""
        with suppress(OSError):
            # Not SSLSocket's, which removes the TLS object while the other thread reads.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def exchange(self, request: bytes, deadline: float, *, connect: bool = False) -> Answer:
        """The answer to a request. Raises Lost, OSError."""
        self._exchange.begin(connect=connect)
        answer = self._send(request, deadline)
        while answer is None:
            answer = self._receive(deadline)
        return answer

    def begin_stream(self, request: bytes, deadline: float) -> tuple[int, Mapping[str, str], bytes]:
        """Request a stream. Returns status and headers of the answer, and its body if the status is not 200. Raises Lost, OSError."""
        self._exchange.begin(streaming=True)
        answer = self._send(request, deadline)
        while (head := self._exchange.head) is None:
            try:
                answer = self._receive(deadline)
            except (Lost, OSError) as error:
                if self._exchange.head is None:
                    raise
                self._failed = error
        if head[0] == 200:
            self._ended = answer
            return *head, b""
        while answer is None:
            if self._failed is not None:
                raise self._failed
            answer = self._receive(deadline)
            if self._exchange.untaken > BODY_OF_AN_ERROR_BYTES_MAX:
                raise Lost(f"the answer {head[0]} has more than {BODY_OF_AN_ERROR_BYTES_MAX} bytes")
        return answer.status, answer.headers, answer.body

    def chunk(self, seconds: float) -> bytes:
        """The next bytes of a stream, within this many seconds; b"" at its end. Raises Lost, OSError."""
        deadline = time.monotonic() + seconds
        while self._ended is None:
            if taken := self._exchange.take():
                return taken
            if self._failed is not None:
                raise self._failed
            try:
                self._ended = self._receive(deadline)
            except (Lost, OSError) as error:
                # Data that arrived completely before it is returned first.
                self._failed = error
        body, self._ended = self._ended.body, replace(self._ended, body=b"")
        return body

    # Bytes.

    def _send(self, request: bytes, deadline: float) -> Answer | None:
        """Write the whole request. If an answer arrives before that, it is the last on this connection, since the unsent rest would be read
        as the next request.
        """
        sent = 0
        while True:
            try:
                sent += self._socket.send(memoryview(request)[sent:] if sent else request)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                if self._ready.either(deadline - time.monotonic()):
                    answer = self._read()
                    if answer is not None:
                        self._exchange.spoil()
                        return answer
            except (BrokenPipeError, ConnectionResetError):
                # The server may have answered before it closed.
                self._exchange.spoil()
                return None
            if sent == len(request):
                return None

    def _receive(self, deadline: float) -> Answer | None:
        """Wait for data and read it."""
        if (self._secured is None or not self._secured.pending()) and not self._ready.read(deadline - time.monotonic()):
            raise TimeoutError("timed out without a complete answer")
        return self._read()

    def _read(self) -> Answer | None:
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except ssl.SSLEOFError:
            # Closed without TLS's closing message: an answer that ends with the connection cannot be known to be complete.
            raise Lost("the connection was closed without an end of its TLS") from None
        if data:
            return self._exchange.feed(data)
        answer = self._exchange.end()
        if answer is None:
            raise Lost("the connection was closed")
        return answer


class _Ready:
    """Whether a socket can be read or written, now or within a number of seconds."""

    def __init__(self, sock: socket.socket) -> None:
        self._descriptor = sock.fileno()
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(self._descriptor, select.POLLIN)

    def read(self, seconds: float) -> bool:
        """Whether there is something to read, including the end."""
        if self._poll is None:
            return bool(select.select([self._descriptor], [], [], max(0.0, seconds))[0])
        # In whole milliseconds that fit a C int; for longer waits the caller asks again.
        return bool(self._poll.poll(min(math.ceil(max(0.0, seconds) * 1_000), _MILLISECONDS_MAX)))

    def either(self, seconds: float) -> bool:
        """Wait until it can be written or read; returns whether it can be read. Raises TimeoutError."""
        if self._poll is None:
            readable, writable, _ = select.select([self._descriptor], [self._descriptor], [], max(0.0, seconds))
            found = [(0, (select.POLLIN if readable else 0))] if readable or writable else []
        else:
            self._poll.modify(self._descriptor, select.POLLIN | select.POLLOUT)
            found = self._poll.poll(min(math.ceil(max(0.0, seconds) * 1_000), _MILLISECONDS_MAX))
            self._poll.modify(self._descriptor, select.POLLIN)
        if not found:
            raise TimeoutError("timed out before the request was sent")
        return bool(found[0][1] & ~select.POLLOUT)


_MILLISECONDS_MAX = 2**31 - 1


class Connections:
    """The connections of one process to one server, opened as threads need them."""

    def __init__(self, route: Route, ssl_context: ssl.SSLContext | None) -> None:
        self.route = route
        self._ssl_context = ssl_context
        self._idle: deque[Connection] = deque()
        self._closed = False

    def exchange(self, request: Request, seconds: float, connect_seconds: float) -> Answer:
        """Send a request and return its answer within this many seconds, of which connecting can take some.

        Raises NotConnected before anything was sent, after that Lost or OSError.
        """
        now = time.monotonic()
        connection = self._idle_one(now) or self.connection(min(seconds, connect_seconds))
        try:
            answer = connection.exchange(self.route.request(request.method, request.target, request.body, request.short), now + seconds)
        except BaseException:
            connection.close()
            raise
        if connection.reusable and len(self._idle) < IDLE_CONNECTIONS_MAX:
            self._keep(connection)
        else:
            connection.close()
        return answer

    # Opening connections.

    def connection(self, seconds: float) -> Connection:
        """A new connection. The addresses are tried one after the other, each for its share of the time. Raises NotConnected."""
        route, deadline = self.route, time.monotonic() + seconds
        error: Exception | None = None
        try:
            addresses = socket.getaddrinfo(route.host, route.port, type=socket.SOCK_STREAM)
        except OSError as failed:
            raise NotConnected(f"{route.host}: {failed}") from failed
        for at, (family, kind, protocol, _, place) in enumerate(addresses):
            now = time.monotonic()
            until = now + max(0.001, (deadline - now) / (len(addresses) - at))
            sock = socket.socket(family, kind, protocol)
            connection = Connection(sock)
            try:
                sock.settimeout(until - now)
                sock.connect(place)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.setblocking(False)
                self._begin(connection, until)
            except (OSError, Lost) as failed:
                connection.close()
                error = failed
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise NotConnected(str(error) or f"no connection within {seconds:g} s") from error

    def _begin(self, connection: Connection, deadline: float) -> None:
        """Make the proxy connect, if there is one, and start TLS, if the server uses it."""
        route = self.route
        if route.connect is not None:
            answer = connection.exchange(route.connect, deadline, connect=True)
            if not 200 <= answer.status < 300:
                raise Lost(f"the proxy {route.host}:{route.port} answered {answer.status} where it should connect")
        if route.server_name is not None:
            if self._ssl_context is None:
                self._ssl_context = ssl.create_default_context()
            connection.secure(self._ssl_context, route.server_name, deadline)

    # Keeping connections.

    def _idle_one(self, now: float) -> Connection | None:
        """The most recently used one, so that surplus connections become idle."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.idle_since + IDLE_SECONDS > now and connection.is_silent:
                return connection
            connection.close()

    def _keep(self, connection: Connection) -> None:
        """Keep a connection that was used, and close the oldest if it was idle for too long."""
        now = connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if self._closed:
            self.close()
            return
        with suppress(IndexError):  # another thread may have taken it
            if self._idle[0].idle_since + IDLE_SECONDS < now:
                oldest = self._idle.popleft()
                if oldest.idle_since + IDLE_SECONDS < now:
                    oldest.close()
                else:
                    self._idle.appendleft(oldest)

    def close(self) -> None:
        """Close the connections that nobody uses, and the others when their answers have arrived."""
        self._closed = True
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()
