"""Answers written in one piece: status line, headers and body in a single `transport.write`.

Both ways of serving write them so (`connections.py`, `plain.py`): aiohttp's own Response spends more on headers than a queue spends on a
job, and cannot tell what promise 3 needs.

`deliver_now` and `deliver` are that promise: they say whether the kernel took the whole answer while the client was still there. They
need the transport's write buffer limit at 0 (`connections.py` sets it): then a write is attempted at once, an error is known when it
returns, and "paused" means that some of it is not sent yet.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus

from jobqueue.http.heads import HTTP_10
from jobqueue.http.request import ClientGone, Request

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


class Answer:
    """A whole answer. body b"" with content_type b"" is an answer without content (204).

    headers: further header lines, each ended by CR LF. close: end the connection after this answer.
    """

    __slots__ = ("_content", "_content_type_bytes", "_header_lines", "close", "keep_alive", "status_code", "written")

    def __init__(self, status: int, body: bytes = b"", content_type: bytes = JSON, headers: bytes = b"", *, close: bool = False) -> None:
        self.status_code = status
        self._content = body
        self._content_type_bytes = content_type
        self._header_lines = headers
        self.close = close
        self.written = False
        self.keep_alive = False
        """Whether the connection serves another request after this answer, once it is written."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.status_code

    @property
    def content(self) -> bytes:
        """The body."""
        return self._content

    def add_header(self, line: bytes) -> None:
        """Add one header line, CR LF included, before the answer is written."""
        self._header_lines += line

    def write_now(self, request: Request) -> None:
        """Write the answer, once, without waiting for a slow reader. Raises ClientGone."""
        if self.written:
            return
        self.written = True
        transport = request.connection.transport
        if transport is None or transport.is_closing():
            raise ClientGone("the client has gone")
        head = _heads.get(self.status_code, self._content_type_bytes)
        message = request.head
        lines = self._header_lines + request.notes
        # A body that has not arrived to its end would be taken for the next request.
        if self.close or message.should_close or (request.whole is None and not request.body.is_eof()):
            lines += b"Connection: close\r\n"
        else:
            self.keep_alive = True
            if message.version is HTTP_10:
                lines += b"Connection: keep-alive\r\n"
        content = self._content
        if not self._content_type_bytes:
            transport.write(b"%b%b\r\n" % (head, lines))
        elif message.method == "HEAD":
            transport.write(b"%b%d\r\n%b\r\n" % (head, len(content), lines))
        else:
            transport.write(b"%b%d\r\n%b\r\n%b" % (head, len(content), lines, content))

    def deliver_now(self, request: Request) -> bool | None:
        """Write the answer; True if the kernel took all of it and the client had not hung up before, None if it took a part.

        False means that nobody has it. True cannot mean that the client has read it: for that there is the lease. After None, `deliver`
        waits for the rest.
        """
        connection = request.connection
        if connection.has_hung_up():
            self.written = True
            connection.force_close()
            return False
        try:
            self.write_now(request)
        except ClientGone:
            return False
        if connection.writing_paused:
            return None
        return connection.transport is not None and not connection.transport.is_closing()

    async def deliver(self, request: Request) -> bool:
        """Wait until the kernel has taken the rest of an answer; False when the client will not have it whole."""
        connection = request.connection
        try:
            await connection.drained()
        except ClientGone:
            return False
        return connection.transport is not None and not connection.transport.is_closing()
