"""Answers written in one piece: status line, headers and body in a single `transport.write`.

aiohttp's own Response spends more on headers than a queue spends on a job (docs/decisions/0005-answers-in-one-write.md). This one keeps
to what every answer of this server has in common and leaves the rest to the ordinary Response. It stands on these parts of aiohttp, which
tests/http/test_answers.py pins: `RequestHandler` calls `prepare` and `write_eof` on what a handler returns and then
reads `keep_alive`; a second `prepare` writes nothing; ConnectionError from it means the client has gone.

`deliver_now` and `deliver` are promise 3: they say whether the kernel took the whole answer while the client was still there. They
need the transport's write buffer limit at 0 (`connections.py` sets it): then a write is attempted at once, an error is known when it
returns, and "paused" means that some of it is not sent yet.
"""

from __future__ import annotations

import asyncio
import time
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter

from jobqueue.http.request import Request

JSON = b"application/json"
PROBLEM = b"application/problem+json"

_HEAD = b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nDate: %s\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Length: "
_HEAD_EMPTY = b"HTTP/1.1 %d %s\r\nDate: %s\r\nCache-Control: no-store\r\n"
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class _Heads:
    """Everything of an answer before its length, made once a second for each status and type."""

    def __init__(self) -> None:
        self._second = 0
        self._date = b""
        self._heads: dict[tuple[int, bytes], bytes] = {}

    def get(self, status: int, content_type: bytes) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True).encode()
            self._heads.clear()
        head = self._heads.get((status, content_type))
        if head is None:
            if content_type:
                head = _HEAD % (status, _REASONS[status], content_type, self._date)
            else:
                head = _HEAD_EMPTY % (status, _REASONS[status], self._date)
            self._heads[status, content_type] = head
        return head


_heads = _Heads()


class Answer(web.StreamResponse):
    """A whole answer. body b"" with content_type b"" is an answer without content (204).

    headers: further header lines, each ended by CR LF. close: end the connection after this answer.
    """

    _written = False
    _keep = False

    def __init__(self, status: int, body: bytes = b"", content_type: bytes = JSON, headers: bytes = b"", *, close: bool = False) -> None:
        # StreamResponse.__init__ is left out on purpose: it builds the header map that this class exists to avoid.
        self.status_code = status
        self._content = body
        self._content_type_bytes = content_type
        self._header_lines = headers
        self.close = close

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.status_code

    @property
    def content(self) -> bytes:
        """The body."""
        return self._content

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection serves another request after this answer."""
        return self._keep

    def add_header(self, line: bytes) -> None:
        """Add one header line, CR LF included, before the answer is written."""
        self._header_lines += line

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write the answer, once. Raises ConnectionError when the client has gone."""
        assert isinstance(request, Request)
        if not self._written:
            self.write_now(request)
            if request.connection.writing_paused:
                await self.wait_drained(request)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""

    def write_now(self, request: Request) -> None:
        """Write the answer, once, without waiting for a slow reader. Raises ConnectionError when the client has gone."""
        if self._written:
            return
        self._written = True
        transport = request.connection.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        head = _heads.get(self.status_code, self._content_type_bytes)
        message = request.head
        lines = self._header_lines + request.notes
        # A body that was not read to its end would be taken for the next request.
        if self.close or message.should_close or (request.whole is None and not request.body.is_eof()):
            lines += b"Connection: close\r\n"
        else:
            self._keep = True
            if message.version[1] == 0:
                lines += b"Connection: keep-alive\r\n"
        content = self._content
        if not self._content_type_bytes:
            transport.write(b"%b%b\r\n" % (head, lines))
        elif message.method == "HEAD":
            transport.write(b"%b%d\r\n%b\r\n" % (head, len(content), lines))
        else:
            transport.write(b"%b%d\r\n%b\r\n%b" % (head, len(content), lines, content))

    async def wait_drained(self, request: Request) -> None:
        """Wait until the kernel has all of it; cut off a client that does not read."""
        transport = request.connection.transport
        assert transport is not None
        # Not asyncio.timeout, which needs a task: this may run outside one (connections.py).
        loop = asyncio.get_running_loop()
        timer = loop.call_later(request.connection.write_seconds, transport.abort)
        try:
            await StreamWriter(request.connection, loop).drain()
        finally:
            timer.cancel()
        if request.connection.transport is None:
            raise ConnectionResetError("the client did not read its answer, or has gone")

    def deliver_now(self, request: Request) -> bool | None:
        """Write the answer; True if the kernel took all of it and the client had not hung up before, None if it took a part.

        False means that nobody has it. True cannot mean that the client has read it: for that there is the lease. After None, `deliver`
        waits for the rest.
        """
        connection = request.connection
        if connection.has_hung_up():
            self._written = True
            connection.force_close()
            return False
        try:
            self.write_now(request)
        except ConnectionError:
            return False
        if connection.writing_paused:
            return None
        return connection.transport is not None and not connection.transport.is_closing()

    async def deliver(self, request: Request) -> bool:
        """Wait until the kernel has taken the rest of an answer; False when the client will not have it whole."""
        try:
            await self.wait_drained(request)
        except ConnectionError:
            return False
        transport = request.connection.transport
        return transport is not None and not transport.is_closing()
