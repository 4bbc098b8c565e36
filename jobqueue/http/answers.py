"""Answers written in one piece: status line, headers and body in a single `transport.write`.

Both ways of serving write their answers like this (`connections.py`, `plain.py`): aiohttp's own Response spends more time on headers than
the queue spends on a job, and does not report what promise 3 needs.

`deliver_now` and `deliver` implement that promise: they return whether the kernel took the whole answer while the client was still
connected. They need a write buffer limit of 0 on the transport (`connections.py` sets it): then a write is attempted at once, an error is
known when it returns, and "paused" means that some of it is not sent yet.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from http import HTTPStatus

import msgspec

from jobqueue.http.heads import HTTP_10
from jobqueue.http.request import ClientGone, Request

JSON = b"application/json"
PROBLEM = b"application/problem+json"

_HEAD = b"HTTP/1.1 %d %s\r\nContent-Type: %s\r\nDate: %s\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Length: "
_HEAD_EMPTY = b"HTTP/1.1 %d %s\r\nDate: %s\r\nCache-Control: no-store\r\n"
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class _Heads:
    """The part of an answer before its length, made once a second for each status and type."""

    __slots__ = ("_date", "known", "second")

    def __init__(self) -> None:
        self.second = 0
        self.known: dict[tuple[int, bytes], bytes] = {}
        self._date = b""

    def begin(self, second: int) -> None:
        """Drop those of an earlier second."""
        self.second = second
        self._date = formatdate(second, usegmt=True).encode()
        self.known.clear()

    def make(self, status: int, content_type: bytes) -> bytes:
        """Make one for this second."""
        if content_type:
            head = _HEAD % (status, _REASONS[status], content_type, self._date)
        else:
            head = _HEAD_EMPTY % (status, _REASONS[status], self._date)
        self.known[status, content_type] = head
        return head


_heads = _Heads()


class Answer(msgspec.Struct, eq=False, gc=False):
    """A complete answer. body b"" with content_type b"" is an answer without content (204).

    headers: further header lines, each ended by CR LF. close: end the connection after this answer. keep_alive: whether the connection
    serves another request after this answer; set when it is written.
    """

    status: int
    content: bytes = b""
    content_type: bytes = JSON
    headers: bytes = b""
    close: bool = False
    written: bool = False
    keep_alive: bool = False

    def add_header(self, line: bytes) -> None:
        """Add one header line, CR LF included, before the answer is written."""
        self.headers += line

    def write_now(self, request: Request) -> None:
        """Write the answer, once, without waiting for a slow reader. Raises ClientGone."""
        if self.written:
            return
        self.written = True
        transport = request.connection.transport
        if transport is None or transport.is_closing():
            raise ClientGone("the client has gone")
        heads, second = _heads, int(time.time())
        if second != heads.second:
            heads.begin(second)
        head = heads.known.get((self.status, self.content_type)) or heads.make(self.status, self.content_type)
        message = request.head
        lines = self.headers + request.notes
        # The rest of a body that has not fully arrived would be read as the next request.
        if self.close or message.should_close or (request.whole is None and not request.body.is_eof()):
            lines += b"Connection: close\r\n"
        else:
            self.keep_alive = True
            if message.version is HTTP_10:
                lines += b"Connection: keep-alive\r\n"
        content = self.content
        if not self.content_type:
            transport.write(b"%b%b\r\n" % (head, lines))
        elif message.method == "HEAD":
            transport.write(b"%b%d\r\n%b\r\n" % (head, len(content), lines))
        else:
            transport.write(b"%b%d\r\n%b\r\n%b" % (head, len(content), lines, content))

    def deliver_now(self, request: Request) -> bool | None:
        """Write the answer. Returns True if the kernel took all of it and the client had not hung up before; None if the kernel took a
        part.

        False means that the client did not get it. True does not mean that the client has read it: the lease covers that case. After None,
        `deliver` waits for the rest.
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
        """Wait until the kernel has taken the rest of an answer. Returns False if the client will not get all of it."""
        connection = request.connection
        try:
            await connection.drained()
        except ClientGone:
            return False
        return connection.transport is not None and not connection.transport.is_closing()
