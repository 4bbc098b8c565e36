"""The load: some keep-alive connections, each with one request outstanding, over raw protocols of the event loop.

It costs the client about a tenth of what it costs the server, so the server is what is busy. It need not be faster than that: CPU is read
from the server's own clock, and a slow client would only add to the wake-ups that both sides of a comparison pay for.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence

from bench.process import BenchError, Server
from bench.wire import parse

CONNECTIONS = 32


class _Run:
    """One stretch of load: what is left to send, what came back."""

    def __init__(self, requests: Sequence[bytes], expect: int) -> None:
        self.left: Iterator[bytes] = iter(requests)
        self.missing = len(requests)
        self.expect = expect
        self.bodies: list[bytes] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(BenchError(reason))

    def answered(self, status: int, body: bytes) -> None:
        if status != self.expect:
            self.fail(f"expected {self.expect}, got {status}: {body[:300]!r}")
            return
        self.bodies.append(body)
        self.missing -= 1
        if not self.missing and not self.done.done():
            self.done.set_result(None)


class _Connection(asyncio.Protocol):
    """One connection: as soon as an answer is whole, the next request goes out."""

    run: _Run | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.buffer = bytearray()

    def start(self, run: _Run) -> None:
        self.run = run
        self.next()

    def next(self) -> None:
        assert self.run is not None
        data = next(self.run.left, None)
        if data is not None:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        run = self.run
        assert run is not None
        self.buffer += data
        answer = parse(self.buffer)
        if answer is None:
            return
        if len(self.buffer) > answer.end:
            run.fail("an answer that nobody asked for")
        self.buffer.clear()
        run.answered(answer.status, answer.body)
        self.next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.run is not None:
            self.run.fail(f"the server closed a connection: {exc}")


class Load:
    """Open connections to one server."""

    def __init__(self, server: Server, connections: list[_Connection]) -> None:
        self.server = server
        self._connections = connections

    async def send(self, requests: Sequence[bytes], expect: int) -> list[bytes]:
        """Send all requests; the answers' bodies, in no order. Raises BenchError at the first answer of another status."""
        run = _Run(requests, expect)
        for connection in self._connections:
            connection.start(run)
        await run.done
        return run.bodies

    async def cost(self, requests: Sequence[bytes], expect: int) -> tuple[float, list[bytes]]:
        """Send all requests; nanoseconds of server CPU per request, and the answers' bodies."""
        before = self.server.cpu_ns()
        bodies = await self.send(requests, expect)
        return (self.server.cpu_ns() - before) / len(requests), bodies


@contextlib.asynccontextmanager
async def load_on(server: Server, connections: int = CONNECTIONS, *, others: Sequence[Server] = ()) -> AsyncIterator[Load]:
    """A Load on a server, its connections open for as long as the context lasts. others: who share the connections evenly with it."""
    loop = asyncio.get_running_loop()
    servers = (server, *others)
    opened: list[_Connection] = []
    try:
        for number in range(connections):
            _, connection = await loop.create_connection(_Connection, "127.0.0.1", servers[number % len(servers)].port)
            opened.append(connection)
        yield Load(server, opened)
    finally:
        for connection in opened:
            connection.run = None
            connection.transport.close()
