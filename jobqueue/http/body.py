"""Reading a request's body: bounded in bytes and time, and only JSON, before the request does anything or waits for anything.

Order of refusal: too large (413, before a byte is read if Content-Length exceeds the limit), too slow (408), encoded (415), of another type
(415), not UTF-8 (400). The rest goes to the msgspec decoders of `wire.py`; the values that they find are checked for depth.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from itertools import accumulate
from operator import add
from typing import Protocol

from jobqueue.errors import BadRequest, CallerError, TooLarge
from jobqueue.http.heads import CONTENT_ENCODING, CONTENT_TYPE, EXPECT, HTTP_11
from jobqueue.http.peers import BODY
from jobqueue.http.request import BodyBroken, Request
from jobqueue.limits import JSON_DEPTH_MAX

AHEAD_BYTES_MAX = 131_072
"""How much of a body can arrive before its reader takes it; beyond that, the connection is not read from."""

_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))
_MARKS = bytes.maketrans(b"[]{}", b"1010")
_WAYS = [list(accumulate((1 if octet >> bit & 1 else -1 for bit in range(7, -1, -1)), initial=0)) for octet in range(256)]
_STEPS = [way[-1] for way in _WAYS]
"""For each byte of eight brackets, with opening ones as 1 bits: the change of the nesting depth."""
_PEAKS = [max(way) for way in _WAYS]
"""For each such byte: the greatest depth in between."""


class RequestTimeout(CallerError):
    """The request did not fully arrive in time."""

    code = "request_timeout"


class UnsupportedMediaType(CallerError):
    """A body that is not plain JSON."""

    code = "unsupported_media_type"


class Paused(Protocol):
    """The part of a connection that is used here."""

    def pause_reading(self, why: int) -> None:
        """Stop reading, for a reason `why`, until that reason is gone."""

    def resume_reading(self, why: int) -> None:
        """Remove a reason to stop reading."""


class Stream:
    """The body of a request that was started before all of the body had arrived. `connections.py` feeds it. Its reader bounds it."""

    def __init__(self, connection: Paused) -> None:
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._eof = False
        self._reader: asyncio.Future[None] | None = None

    def feed(self, data: bytes, eof: bool) -> None:
        """Add data that has arrived."""
        if data:
            self._chunks.append(data)
            self._bytes += len(data)
        self._eof = eof
        if self._bytes > AHEAD_BYTES_MAX:
            self._connection.pause_reading(BODY)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def broke(self) -> None:
        """Does nothing: a body with a length cannot break."""

    def is_eof(self) -> bool:
        """Whether all of it has arrived, read or not."""
        return self._eof

    def read_nowait(self) -> bytes:
        """The data that has arrived and was not read yet."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._bytes = 0
        self._connection.resume_reading(BODY)
        return data

    async def readany(self) -> bytes:
        """The data that has arrived and was not read yet, at least one byte; b"" at the end."""
        while not self._chunks and not self._eof:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self.read_nowait()


def body_at_once(request: Request, bytes_max: int, any_type: bool = False) -> bytes | None:
    """The body, if it has fully arrived with the head, else None. b"" if there is none. Raises as read_body does."""
    body = request.whole
    if body is None:
        if not request.body.is_eof():
            return None
        body = request.body.read_nowait()
    if len(body) > bytes_max:
        raise _too_large(len(body), bytes_max)
    if body:
        _check(request, body, any_type)
    return body


async def read_body(request: Request, bytes_max: int, any_type: bool = False) -> bytes:
    """The body, b"" if there is none. Its declared type must be JSON, unless `any_type`.

    It must arrive before its connection's deadline, which is counted from the request's first byte. Raises TooLarge, RequestTimeout,
    UnsupportedMediaType, BadRequest, ClientGone.
    """
    body = await _read_slowly(request, bytes_max)
    if body:
        _check(request, body, any_type)
    return body


def _check(request: Request, body: bytes, any_type: bool) -> None:
    if not request.head.fields.json:
        _check_headers(request.head.fields.headers, any_type)
    if not body.isascii():
        _check_utf8(body)


def _check_headers(headers: Mapping[str, str], any_type: bool) -> None:
    kind = headers.get(CONTENT_TYPE, "")
    if kind != "application/json" and not any_type:
        _check_type(kind)
    encoding = headers.get(CONTENT_ENCODING)
    if encoding is not None and encoding.lower() != "identity":
        raise UnsupportedMediaType(f"Content-Encoding {encoding[:40]!r} is not supported; send the body uncompressed")


def _too_large(size: int, bytes_max: int) -> TooLarge:
    return TooLarge(None, f"the body has {size} bytes or more; {bytes_max} are allowed")


async def _read_slowly(request: Request, bytes_max: int) -> bytes:
    """Read a body that has not fully arrived with its head."""
    connection, size = request.connection, request.head.size
    if size > bytes_max:
        raise _too_large(size, bytes_max)
    expects = request.head.version is HTTP_11 and request.head.headers.get(EXPECT, "").lower() == "100-continue"
    if expects and connection.transport is not None:
        connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = bytearray()
    try:
        async with asyncio.timeout_at(connection.deadline):
            while chunk := await request.body.readany():
                body += chunk
                if len(body) > bytes_max:
                    raise _too_large(len(body), bytes_max)
    except TimeoutError:
        raise late(connection.request_seconds) from None
    except BodyBroken as error:
        raise BadRequest(None, f"the body cannot be read: {error}") from None
    return bytes(body)


def late(seconds: float) -> RequestTimeout:
    """The error for a request that did not fully arrive in the time allowed."""
    return RequestTimeout(f"the request did not arrive completely within {seconds:g} seconds of its first byte")


def _check_type(value: str) -> None:
    kind, *parameters = (part.strip() for part in value.split(";"))
    if kind.lower() != "application/json":
        raise UnsupportedMediaType(
            f"Content-Type is {kind[:60]!r}; send application/json" if kind else "Content-Type is missing; send application/json"
        )
    for parameter in parameters:
        name, _, charset = parameter.partition("=")
        if name.strip().lower() == "charset" and charset.strip().strip('"').lower() not in ("utf-8", "utf8"):
            raise BadRequest("Content-Type", f"names the charset {charset[:40]!r}; JSON is UTF-8 (RFC 8259)")


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(None, f"the body is not UTF-8: {error.reason} at byte {error.start}") from None


def check_depth(field: str, body: bytes) -> None:
    """Raise BadRequest if a payload, result or error is nested deeper than `limits.JSON_DEPTH_MAX`. It must be grammatical JSON.

    A value with no more opening brackets than that cannot be too deep. For any other, the strings are cut out, and the rest is read eight
    brackets at a time. This takes 15 ms for 1 MiB, whatever it contains; a loop over its bytes takes 100 ms, and a recursive parser could
    overflow the stack.
    """
    if body[:1] == b'"' or body.count(b"[") + body.count(b"{") <= JSON_DEPTH_MAX:
        return
    if _deepest(body) > JSON_DEPTH_MAX:
        raise BadRequest(field, f"is nested deeper than {JSON_DEPTH_MAX} levels")


def _deepest(body: bytes) -> int:
    """The nesting depth of grammatical JSON."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Quotes are removed in pairs with nothing between them: if a string ends and the next one begins there, the rest is not affected.
    marks = body.translate(_MARKS, _NO_MARKS).replace(b'""', b"")
    if b'"' in marks:
        marks = b"".join(marks.split(b'"')[::2])
    marks += b"0" * (-len(marks) % 8)
    octets = int(marks or b"0", 2).to_bytes(len(marks) // 8)
    before = accumulate(map(_STEPS.__getitem__, octets), initial=0)
    return max(map(add, before, map(_PEAKS.__getitem__, octets)), default=0)
