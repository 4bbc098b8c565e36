"""A server's connections: created, counted, drained, cut."""

from __future__ import annotations

import asyncio
import select
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from jobqueue.errors import QueueError
from jobqueue.http.addresses import Addresses
from jobqueue.http.answers import Answer
from jobqueue.http.connections import Connection, Parser
from jobqueue.http.heads import Heads
from jobqueue.http.plain import Plain
from jobqueue.http.request import Request

UNREAD_BYTES_MAX = 128 * 1024 * 1024
"""Bytes of requests that have not fully arrived or are not served yet, over all connections."""

UNSENT_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of answers that the kernel has not taken yet, over all connections."""

CANCELS_PER_TURN = 100
"""Requests of disconnected clients that are ended in one turn of the loop. When many clients disconnect at once, the rest follows in later
turns, the same number in each."""

_GONE = getattr(select, "POLLRDHUP", 0)
"""The events to ask poll(2) for; it always reports errors and hang-ups (RST)."""

if sys.platform == "linux":
    import fcntl
    import termios

    def _unacknowledged_bytes(fd: int) -> int:
        # SIOCOUTQ, see tcp(7): bytes that are unsent or not acknowledged.
        return int.from_bytes(fcntl.ioctl(fd, termios.TIOCOUTQ, b"\0\0\0\0"), sys.byteorder)

else:

    def _unacknowledged_bytes(fd: int) -> int:
        return 0


Handler = Callable[[Request], Coroutine[Any, Any, Answer]]


class Server:
    """Makes a Connection for every accepted socket: a protocol factory, for loop.create_server.

    handler: answers a request; with `at_once`, it must not need the current task before it first suspends. refused: makes the answer to
    data that is not a request. parser: of the fast way; without one, every request is served the plain way. request_seconds: how long a
    request can take to arrive, from its first byte; idle_seconds: how long a connection can be without a request; write_seconds: how long a
    client can take to read an answer. usual: methods and paths that most requests have.
    """

    def __init__(
        self,
        handler: Handler,
        refused: Callable[[QueueError], Answer],
        *,
        parser: Parser | None,
        connections_max: int,
        idle_seconds: float,
        write_seconds: float,
        request_seconds: float = 30.0,
        connections_per_address_max: int | None = None,
        usual: Iterable[tuple[str, str]] = (),
        at_once: bool = True,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.handler = handler
        self.refused = refused
        self.parser = parser
        self.plain = Plain(self)
        self.at_once = at_once
        self.connections_max = connections_max
        self.idle_seconds = idle_seconds
        self.write_seconds = write_seconds
        self.request_seconds = request_seconds
        self.addresses = Addresses(connections_max if connections_per_address_max is None else connections_per_address_max)
        self.heads = Heads(usual)
        self.open: set[Connection] = set()
        self.requests_count = 0
        self.unread_bytes = 0
        self.unread_bytes_max = UNREAD_BYTES_MAX
        self.unsent_bytes = 0
        self.unsent_bytes_max = UNSENT_BYTES_MAX
        self.poll = select.poll()
        self._slow: set[Connection] = set()
        """Connections with unsent bytes."""
        self._abandoned: deque[asyncio.Task[None]] = deque()
        self._cancelled = 0
        """How many requests were cancelled in this turn."""
        self._ended: asyncio.Future[None] | None = None

    def __call__(self) -> Connection:
        """Make the protocol of a new connection."""
        return Connection(self, self._loop)

    def made(self, connection: Connection) -> None:
        """Count a connection."""
        self.open.add(connection)
        self.addresses.add(connection.address)

    def lost(self, connection: Connection) -> None:
        """Remove a connection from the count."""
        if connection in self.open:
            self.open.remove(connection)
            self.addresses.remove(connection.address)
        if not self.open and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def unsent(self, connection: Connection, count: int) -> None:
        """Count bytes of an answer that the kernel did not take. Over the limit, the connection with the most is cut off, without an error
        answer.
        """
        self._slow.add(connection)
        self.unsent_bytes += count
        if self.unsent_bytes > self.unsent_bytes_max:
            worst = max(self._slow, key=lambda each: each.unsent_bytes)
            self._slow.discard(worst)
            if worst.transport is not None:
                worst.transport.abort()

    def sent(self, connection: Connection, count: int) -> None:
        """Stop counting them: all are sent, or never will be."""
        self.unsent_bytes -= count
        self._slow.discard(connection)

    def abandoned(self, task: asyncio.Task[None]) -> None:
        """Cancel the work for a client that has gone: now or, if many clients go at once, in one of the next turns.

        Until then it cannot hand out anything: its connection has no transport any more.
        """
        self._abandoned.append(task)
        if not self._cancelled:
            self._loop.call_soon(self._cancel_more)
        self._cancel()

    def _cancel(self) -> None:
        while self._abandoned and self._cancelled < CANCELS_PER_TURN:
            self._cancelled += 1
            self._abandoned.popleft().cancel()

    def _cancel_more(self) -> None:
        self._cancelled = 0
        if self._abandoned:
            self._loop.call_soon(self._cancel_more)
            self._cancel()

    def hung_up(self, fd: int) -> bool:
        """Whether a FIN or RST has arrived on a descriptor."""
        if not _GONE:
            return False
        self.poll.register(fd, _GONE)
        gone = self.poll.poll(0)
        self.poll.unregister(fd)
        return bool(gone)

    def unacknowledged(self, fd: int) -> bool:
        """Whether the client's kernel has not yet acknowledged all that was written to a descriptor. Only Linux reports this."""
        return _unacknowledged_bytes(fd) > 0

    async def drained(self) -> None:
        """Close idle connections at once, and the others after their answers, which must announce the close. Returns when none is left."""
        self._ended = self._loop.create_future()
        for connection in list(self.open):
            connection.close_soon()
        if self.open:
            await self._ended

    def abort(self) -> None:
        """Cut every connection."""
        for connection in list(self.open):
            if connection.transport is not None:
                connection.transport.abort()

    async def shutdown(self) -> None:
        """Cut every connection, and wait until that is done."""
        self._ended = self._loop.create_future()
        self.abort()
        if self.open:
            await self._ended
        for task in self._abandoned:
            task.cancel()
        self._abandoned.clear()
