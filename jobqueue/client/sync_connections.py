"""Client's connections: plain sockets carry the bytes, `Exchange` says what they mean. As `async_connections.py` does for asyncio.

The pool has no lock: what threads share is a deque, whose `append` and `pop` are whole by themselves, and a connection out of it is
one thread's until it is put back. So a fork, at whatever moment, leaves nothing locked; which process a pool belongs to is for
`SyncTransport` to know.
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

from jobqueue.client.exchange import Answer, Exchange, Lost, NotConnected
from jobqueue.client.route import Route
from jobqueue.client.sending import Request

IDLE_SECONDS = 15.0
"""How long a connection is kept that nobody uses: less than servers and proxies keep it."""

IDLE_CONNECTIONS_MAX = 1_000
"""Connections kept when no thread uses them."""

READ_BYTES = 1 << 16
"""How much is read at once, at most."""

BODY_OF_AN_ERROR_BYTES_MAX = 1 << 18
"""What is read of an answer that is not the stream that was asked for."""


class Connection:
    """One connection, on which one request at a time is answered. After an error there is only to close it.

    The socket does not block; whoever has to wait asks the system, up to a deadline by time.monotonic. A time-out of the socket's own
    would be per read, and a server that drips would be waited for without end.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._exchange = Exchange()
        self._socket = sock
        self._secured: ssl.SSLSocket | None = None
        self._ready = _Ready(sock)
        self._ended: Answer | None = None
        """Of a stream, once it has ended."""
        self._failed: Exception | None = None
        self.idle_since = 0.0
        """When its last answer came."""

    def __del__(self) -> None:
        # A client that nobody closed: as a file would be.
        self._socket.close()

    def secure(self, context: ssl.SSLContext, server_name: str, deadline: float) -> None:
        """Go on in TLS. Raises OSError."""
        self._socket.settimeout(max(0.001, deadline - time.monotonic()))
        self._socket = self._secured = context.wrap_socket(self._socket, server_hostname=server_name, suppress_ragged_eofs=False)
        self._socket.setblocking(False)

    @property
    def reusable(self) -> bool:
        """Whether it may be used for another request."""
        return self._exchange.reusable

    @property
    def is_silent(self) -> bool:
        """Whether nothing came while nobody asked: not even its end."""
        return not self._ready.read(0.0)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def wake(self) -> None:
        """From another thread: have the one that waits for a stream find its end."""
        with suppress(OSError):
            # Not SSLSocket's, which takes the TLS away under the thread that reads.
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def exchange(self, request: bytes, deadline: float, *, connect: bool = False) -> Answer:
        """The answer to a request. Raises Lost, OSError."""
        self._exchange.begin(connect=connect)
        answer = self._send(request, deadline)
        while answer is None:
            answer = self._receive(deadline)
        return answer

    def begin_stream(self, request: bytes, deadline: float) -> tuple[int, Mapping[str, str], bytes]:
        """Ask for a stream: status and headers of the answer, and if it is not 200 its body. Raises Lost, OSError."""
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
        return answer

    def chunk(self, seconds: float) -> bytes:
        """What came next of a stream, within so many seconds; b"" at its end. Raises Lost, OSError."""
        deadline = time.monotonic() + seconds
        while self._ended is None:
            if taken := self._exchange.take():
                return taken
            if self._failed is not None:
                raise self._failed
            try:
                self._ended = self._receive(deadline)
            except (Lost, OSError) as error:
                # What came whole before it is told first.
                self._failed = error
        body, self._ended = self._ended.body, self._ended._replace(body=b"")
        return body

    # Bytes.

    def _send(self, request: bytes, deadline: float) -> Answer | None:
        """Write it all, or have an answer before that: the rest would stand where the next request should, so it is the last."""
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
                # It may have answered before it closed.
                self._exchange.spoil()
                return None
            if sent == len(request):
                return None

    def _receive(self, deadline: float) -> Answer | None:
        """Wait for something to come, and read it."""
        if (self._secured is None or not self._secured.pending()) and not self._ready.read(deadline - time.monotonic()):
            raise TimeoutError("the time for it passed without a whole answer")
        return self._read()

    def _read(self) -> Answer | None:
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except ssl.SSLEOFError:
            # Cut without the end that TLS has: whatever ends with the connection is not known to be whole.
            raise Lost("the connection was closed without an end of its TLS") from None
        if data:
            return self._exchange.feed(data)
        answer = self._exchange.end()
        if answer is None:
            raise Lost("the connection was closed")
        return answer


class _Ready:
    """Whether a socket can be read, or written, by now or within so many seconds."""

    def __init__(self, sock: socket.socket) -> None:
        self._descriptor = sock.fileno()
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(self._descriptor, select.POLLIN)

    def read(self, seconds: float) -> bool:
        """Whether there is something to read, the end included."""
        if self._poll is None:
            return bool(select.select([self._descriptor], [], [], max(0.0, seconds))[0])
        # As whole milliseconds that a C int holds; who waits for longer asks again.
        return bool(self._poll.poll(min(math.ceil(max(0.0, seconds) * 1_000), _MILLISECONDS_MAX)))

    def either(self, seconds: float) -> bool:
        """Wait until it can be written or read; whether it can be read. Raises TimeoutError."""
        if self._poll is None:
            readable, writable, _ = select.select([self._descriptor], [self._descriptor], [], max(0.0, seconds))
            found = [(0, (select.POLLIN if readable else 0))] if readable or writable else []
        else:
            self._poll.modify(self._descriptor, select.POLLIN | select.POLLOUT)
            found = self._poll.poll(min(math.ceil(max(0.0, seconds) * 1_000), _MILLISECONDS_MAX))
            self._poll.modify(self._descriptor, select.POLLIN)
        if not found:
            raise TimeoutError("the time for it passed before the request was sent")
        return bool(found[0][1] & ~select.POLLOUT)


_MILLISECONDS_MAX = 2**31 - 1


class Connections:
    """The connections of one process to one server, made as threads need them."""

    def __init__(self, route: Route, ssl_context: ssl.SSLContext | None) -> None:
        self.route = route
        self._ssl_context = ssl_context
        self._idle: deque[Connection] = deque()
        self._closed = False

    def exchange(self, request: Request, seconds: float, connect_seconds: float) -> Answer:
        """Send a request and have its answer within so many seconds, of which connecting may take some.

        Raises NotConnected before anything was sent, after that Lost or OSError.
        """
        now = time.monotonic()
        connection = self._idle_one(now) or self.connection(min(seconds, connect_seconds))
        try:
            answer = connection.exchange(self.route.request(request.method, request.target, request.body), now + seconds)
        except BaseException:
            connection.close()
            raise
        if connection.reusable and len(self._idle) < IDLE_CONNECTIONS_MAX:
            self._keep(connection)
        else:
            connection.close()
        return answer

    # Making them.

    def connection(self, seconds: float) -> Connection:
        """A new one. An address after the other is tried, each for its share of the time. Raises NotConnected."""
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
        """Have the proxy connect, if there is one, and begin TLS, if the server is asked by it."""
        route = self.route
        if route.connect is not None:
            answer = connection.exchange(route.connect, deadline, connect=True)
            if not 200 <= answer.status < 300:
                raise Lost(f"the proxy {route.host}:{route.port} answered {answer.status} where it should connect")
        if route.server_name is not None:
            if self._ssl_context is None:
                self._ssl_context = ssl.create_default_context()
            connection.secure(self._ssl_context, route.server_name, deadline)

    # Keeping them.

    def _idle_one(self, now: float) -> Connection | None:
        """The one that was used last, so that those too many grow old."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.idle_since + IDLE_SECONDS > now and connection.is_silent:
                return connection
            connection.close()

    def _keep(self, connection: Connection) -> None:
        """Keep one that was used, and let go of the oldest if it was idle for too long."""
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
        """Close those that nobody uses, and the others when their answers have come."""
        self._closed = True
        while self._idle:
            with suppress(IndexError):
                self._idle.pop().close()
