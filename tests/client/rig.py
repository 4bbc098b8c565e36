"""Both clients behind one face, and a proxy that loses what it is told to lose.

A test is written once, awaits every operation, and runs with either client; Client does its work in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from jobqueue import AsyncClient, Client, Retrying
from tests.messages import Reader, Request

GUARD = 10.0
"""Seconds after which a test that waits in vain gives up."""

CLIENTS = (AsyncClient, Client)


class Told:
    """An iteration of events, one at a time, each awaited."""

    def __init__(self, events: Any) -> None:
        self.events = events

    async def next(self) -> Any:
        """The next event, None at the end."""
        async with asyncio.timeout(GUARD):
            if hasattr(self.events, "__anext__"):
                return await anext(self.events, None)
            return await asyncio.to_thread(next, self.events, None)


class Face:
    """One client, every operation of which is awaited. pauses: the seconds it paused before it sent again, none of which pass."""

    def __init__(self, kind: type[AsyncClient] | type[Client], *where: str, **options: Any) -> None:
        self.kind = kind
        self.pauses: list[float] = []
        options.setdefault("retrying", Retrying(random=lambda: 1.0))
        options.setdefault("sleep", self._slept if kind is AsyncClient else self.pauses.append)
        self.client: Any = kind(*where, **options)

    async def _slept(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def listen(self, **asked: Any) -> Told:
        """Events, from the first `next` on."""
        return Told(self.client.events(**asked))

    @property
    def schedules(self) -> Part:
        """`client.schedules`."""
        return Part(self, self.client.schedules)

    @property
    def groups(self) -> Part:
        """`client.groups`."""
        return Part(self, self.client.groups)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self.call(getattr(self.client, name), name)

    def call(self, operation: Callable[..., Any], name: str = "") -> Callable[..., Any]:
        """An operation of the client, or of a part of it, to be awaited."""

        async def call(*args: Any, **fields: Any) -> Any:
            async with asyncio.timeout(GUARD):
                if self.kind is Client:
                    return await asyncio.to_thread(
                        lambda: list(operation(*args, **fields)) if name in ("all_jobs", "logs") else operation(*args, **fields)
                    )
                if name in ("all_jobs", "logs"):
                    return [job async for job in operation(*args, **fields)]
                return await operation(*args, **fields)

        return call


class Part:
    """A part of a client, every operation of which is awaited."""

    def __init__(self, face: Face, part: Any) -> None:
        self._face = face
        self._part = part

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self._face.call(getattr(self._part, name))


def canned(status: int, body: bytes = b"", *headers: str) -> bytes:
    """An answer as bytes."""
    lines = [f"HTTP/1.1 {status} Any", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


PASS, DROP, SWALLOW, STALL, KEEP, HOLD = "pass", "drop", "swallow", "stall", "keep", "hold"
"""What to do with a request: answer it; cut it off before the server sees it; let the server do it and lose the answer; never answer;
let the server do it, keep the answer, and say nothing; let the server do it, and answer once `stalled` is set."""


@dataclass
class Proxy:
    """Stands before a server. plan: what to do with the next requests, an action or an answer of one's own each; PASS when it is used up.

    prefix is taken off every path. Each request is passed on by a connection of its own. A stream is passed on as it comes, until cut()
    closes it. An answer of one's own that says Connection: close is followed by that.
    """

    upstream: str
    plan: list[str | bytes] = field(default_factory=list)
    prefix: str = ""
    seen: list[Request] = field(default_factory=list)
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    kept: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""
    serving: set[asyncio.Task[None]] = field(default_factory=set)
    streams: set[asyncio.StreamWriter] = field(default_factory=set)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = Reader()
        try:
            with contextlib.suppress(ConnectionError):
                while True:
                    while (asked := received.request()) is None:
                        await some(reader, received)
                    if not await self._answer(asked, writer):
                        break
        finally:
            await closed(writer)

    async def _answer(self, asked: Request, writer: asyncio.StreamWriter) -> bool:
        self.seen.append(asked)
        action = self.plan.pop(0) if self.plan else PASS
        if action == DROP:
            return False
        if action == STALL:
            await self.stalled.wait()
            return False
        if isinstance(action, bytes):
            answer = action
        else:
            head = asked.head.replace(f" {self.prefix}".encode(), b" ", 1) if self.prefix else asked.head
            if asked.headers.get("accept") == "text/event-stream":
                return await self._piped(head, writer)
            answer = await self._passed_on(head + asked.body)
        if action == SWALLOW:
            return False
        if action in (KEEP, HOLD):
            self.kept.set()
            await self.stalled.wait()
            if action == KEEP:
                return False
        writer.write(answer)
        await writer.drain()
        return b"\r\nConnection: close\r\n" not in answer

    async def _piped(self, request: bytes, writer: asyncio.StreamWriter) -> bool:
        parts = urlsplit(self.upstream)
        reader, upstream = await asyncio.open_connection(parts.hostname, parts.port)
        self.streams.add(writer)
        try:
            upstream.write(request)
            while chunk := await reader.read(1 << 16):
                writer.write(chunk)
                await writer.drain()
        finally:
            self.streams.discard(writer)
            await closed(upstream)
        return False

    def cut(self) -> None:
        """Close every stream that is being passed on."""
        for writer in self.streams:
            writer.close()

    async def _passed_on(self, request: bytes) -> bytes:
        parts = urlsplit(self.upstream)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(request)
            received, answer = Reader(), b""
            while received.reply() is None:
                answer += await some(reader, received)
            return answer
        finally:
            await closed(writer)


async def some(stream: asyncio.StreamReader, received: Reader) -> bytes:
    """Feed what comes next, and return it. Raises ConnectionError at the end."""
    data = await stream.read(1 << 16)
    if not data:
        raise ConnectionResetError("the connection ended")
    received.feed(data)
    return data


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def proxied(upstream: str, *plan: str | bytes, prefix: str = "") -> AsyncIterator[Proxy]:
    """A proxy that listens for as long as the context lasts."""
    proxy = Proxy(upstream, list(plan), prefix)
    listener = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}{prefix}"
    try:
        yield proxy
    finally:
        listener.close()
        for task in proxy.serving:
            task.cancel()
        await asyncio.gather(*proxy.serving, return_exceptions=True)


def waiting(face: Face) -> int:
    """How many calls of a client wait for company."""
    shares = face.client._sharing
    lines = shares._lines if face.kind is AsyncClient else shares[os.getpid()]._lines if shares else {}
    return sum(len(line.waiting) for line in lines.values())


async def together(face: Face, proxy: Proxy, calls: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """What calls come to of which the first is held until all others wait for it; exceptions among them."""
    async with asyncio.timeout(GUARD):
        tasks = [asyncio.ensure_future(calls[0]())]
        await proxy.kept.wait()
        for count, call in enumerate(calls[1:], 1):
            tasks.append(asyncio.ensure_future(call()))
            while waiting(face) < count:  # noqa: ASYNC110 # a thread may come to wait, which no event of ours tells
                await asyncio.sleep(0)
        proxy.stalled.set()
        return await asyncio.gather(*tasks, return_exceptions=True)
