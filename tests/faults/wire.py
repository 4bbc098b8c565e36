"""HTTP/1.1 over a raw socket, so that a test can cut a connection in any way and at any moment, and send what is no HTTP at all."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from tests.messages import Reader
from tests.messages import Reply as Answer

__all__ = ["PATIENCE_SECONDS", "Answer", "Client", "call", "job_path", "lines_of", "request", "until"]

PATIENCE_SECONDS = 20.0
"""How long anything may take on a busy machine before a test gives up on it. No test passes sooner or later because of it."""

_LINGER_NOT = struct.pack("ii", 1, 0)


def request(method: str, path: str, body: object = None, headers: str = "", host: str = "Host: localhost\r\n") -> bytes:
    """A whole request. body: bytes as they are, or anything that JSON can write; headers: further lines, each ended by CR LF."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    if content and "content-type" not in headers.lower():
        headers += "Content-Type: application/json\r\n"
    return f"{method} {path} HTTP/1.1\r\n{host}{headers}Content-Length: {len(content)}\r\n\r\n".encode("latin-1") + content


def job_path(job_id: str, action: str = "") -> str:
    """The path of a job or of an operation on it."""
    return f"/jobs/{quote(job_id, safe='')}" + (f"/{action}" if action else "")


class Client:
    """One connection. Nothing is read but by `answer`, `closed` and `call`, one of them at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reader = Reader()

    @classmethod
    async def connect(cls, port: int, *, sip: bool = False) -> Client:
        """Connect. sip: with the smallest buffers and segments there are, so that the server's kernel does not take much of an answer."""
        sock = socket.socket()
        sock.setblocking(False)
        if sip:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock)

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.get_running_loop().sock_sendall(self._sock, data)

    def send_now(self, data: bytes) -> None:
        """Put bytes into the kernel without giving the loop a turn."""
        sent = self._sock.send(data)
        assert sent == len(data)

    async def _more(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                data = await asyncio.get_running_loop().sock_recv(self._sock, 262_144)
        except ConnectionResetError:
            return False
        self._reader.feed(data)
        return bool(data)

    async def sip(self, count: int) -> bytes:
        """Read at least one byte and not more than `count`, straight from the kernel."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            data = await asyncio.get_running_loop().sock_recv(self._sock, count)
        assert data, "the server closed the connection"
        return data

    async def answer(self) -> Answer:
        """The next answer. Raises ConnectionError if the connection ends before it does."""
        while (answer := self._reader.reply()) is None:
            if not await self._more():
                raise ConnectionError(f"closed after {self._reader.rest()[:200]!r}")
        return answer

    async def call(self, method: str, path: str, body: object = None, headers: str = "") -> Answer:
        """Send a request and read its answer."""
        await self.send(request(method, path, body, headers))
        return await self.answer()

    async def closed(self) -> bytes:
        """Wait until the server has closed the connection, in whichever way; what came before that."""
        while await self._more():
            pass
        return self._reader.rest()

    def fin(self) -> None:
        """Close as a client does that ends."""
        self._sock.close()

    def rst(self) -> None:
        """Close as a client does that crashed, or a middlebox that lost patience."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._sock.close()

    def half_close(self) -> None:
        """Say that nothing more will be sent, and go on reading."""
        self._sock.shutdown(socket.SHUT_WR)


async def call(port: int, method: str, path: str, body: object = None, headers: str = "") -> Answer:
    """One request on a connection of its own."""
    client = await Client.connect(port)
    try:
        return await client.call(method, path, body, headers)
    finally:
        client.fin()


async def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until `condition()`, which may be awaitable, is true. Fails with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        met = condition()
        if asyncio.iscoroutine(met):
            met = await met
        if met:
            return
        assert time.monotonic() < end, f"never happened: {what}"
        await asyncio.sleep(0.002)


def lines_of(text: str) -> Iterator[str]:
    """The lines of a log, without empty ones."""
    return (line for line in text.split("\n") if line)
