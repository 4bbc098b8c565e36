"""A server's connections: made, counted, drained, cut."""

from __future__ import annotations

import asyncio
import select
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
"""Bytes of requests that have not arrived whole or are not served yet, over all connections."""

UNSENT_BYTES_MAX = 256 * 1024 * 1024
"""Bytes of answers that the kernel has not taken yet, over all connections."""

_GONE = getattr(select, "POLLRDHUP", 0)
"""What to ask poll(2) for; it tells of errors and hang-ups (RST) unasked."""

Handler = Callable[[Request], Coroutine[Any, Any, Answer]]


class Server:
    """Makes a Connection of every accepted socket: a protocol factory, for loop.create_server.

    handler: answers a request; where `at_once`, it must not need the current task before it first suspends. refused: the answer to what is
    no request. parser: of the fast way; without one, every request is served the plain way. request_seconds: how long a request may take
    to arrive, from its first byte; idle_seconds: how long a connection may ask nothing; write_seconds: how long a client may take to read
    an answer. usual: methods and paths that most requests have.
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
        """Those with unsent bytes."""
        self._ended: asyncio.Future[None] | None = None

    def __call__(self) -> Connection:
        """A connection's protocol."""
        return Connection(self, self._loop)

    def made(self, connection: Connection) -> None:
        """Count a connection."""
        self.open.add(connection)
        self.addresses.add(connection.address)

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        if connection in self.open:
            self.open.remove(connection)
            self.addresses.remove(connection.address)
        if not self.open and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def unsent(self, connection: Connection, count: int) -> None:
        """Count what the kernel did not take of an answer. Over the bound, whoever has most is cut off: it gets no answer for nothing."""
        self._slow.add(connection)
        self.unsent_bytes += count
        if self.unsent_bytes > self.unsent_bytes_max:
            worst = max(self._slow, key=lambda each: each.unsent_bytes)
            self._slow.discard(worst)
            if worst.transport is not None:
                worst.transport.abort()

    def sent(self, connection: Connection, count: int) -> None:
        """All of it is sent, or never will be."""
        self.unsent_bytes -= count
        self._slow.discard(connection)

    def hung_up(self, fd: int) -> bool:
        """Whether a FIN or RST has arrived on a descriptor."""
        if not _GONE:
            return False
        self.poll.register(fd, _GONE)
        gone = self.poll.poll(0)
        self.poll.unregister(fd)
        return bool(gone)

    async def drained(self) -> None:
        """Close idle connections at once and the others after their answers, which must say so; return when none is left."""
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
