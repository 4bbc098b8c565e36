"""Reading a request's body: bounded in bytes and time, JSON only, before anything is done or waited for.

Order of refusal: too large (413, before a byte is read if Content-Length says so), too slow (408), encoded (415), of another
type (415), not UTF-8 (400). What is left goes to the msgspec decoders of `wire.py`; what they find is checked for depth.
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
"""What may arrive of a body ahead of its reader before its connection is read no further."""

_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))
_MARKS = bytes.maketrans(b"[]{}", b"1010")
_WAYS = [list(accumulate((1 if octet >> bit & 1 else -1 for bit in range(7, -1, -1)), initial=0)) for octet in range(256)]
_STEPS = [way[-1] for way in _WAYS]
"""By how much eight brackets, opening ones as ones, take the nesting deeper."""
_PEAKS = [max(way) for way in _WAYS]
"""How deep they take it in between."""


class RequestTimeout(CallerError):
    """The request did not arrive whole in time."""

    code = "request_timeout"


class UnsupportedMediaType(CallerError):
    """A body that is not plain JSON."""

    code = "unsupported_media_type"


class Paused(Protocol):
    """A connection, as far as this goes."""

    def pause_reading(self, why: int) -> None:
        """Read no further for a reason, until that is gone."""

    def resume_reading(self, why: int) -> None:
        """A reason to read no further is gone."""


class Stream:
    """The body of a request that was begun before all of it had arrived, as `connections.py` feeds it. Bounded by its reader."""

    def __init__(self, connection: Paused) -> None:
        self._connection = connection
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._eof = False
        self._reader: asyncio.Future[None] | None = None

    def feed(self, data: bytes, eof: bool) -> None:
        """More has arrived."""
        if data:
            self._chunks.append(data)
            self._bytes += len(data)
        self._eof = eof
        if self._bytes > AHEAD_BYTES_MAX:
            self._connection.pause_reading(BODY)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def broke(self) -> None:
        """A body that has a length cannot."""

    def is_eof(self) -> bool:
        """Whether all of it has arrived, read or not."""
        return self._eof

    def read_nowait(self) -> bytes:
        """What has arrived and was not read."""
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._bytes = 0
        self._connection.resume_reading(BODY)
        return data

    async def readany(self) -> bytes:
        """What has arrived and was not read, at least a byte; b"" at the end."""
        while not self._chunks and not self._eof:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self.read_nowait()


def body_at_once(request: Request, bytes_max: int, any_type: bool = False) -> bytes | None:
    """The body if it has arrived whole with the head, else None. b"" when there is none. Raises as read_body does."""
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
    """The body, b"" when there is none; JSON by its declared type, unless `any_type` will do.

    It has until its connection's deadline, which is counted from the request's first byte. Raises TooLarge, RequestTimeout,
    UnsupportedMediaType, BadRequest, ClientGone.
    """
    body = await _read_slowly(request, bytes_max)
    if body:
        _check(request, body, any_type)
    return body


def _check(request: Request, body: bytes, any_type: bool) -> None:
    if not request.head.fields.json:
        _check_headers(request.head.headers, any_type)
    if not body.isascii():
        _check_utf8(body)


def _check_headers(headers: Mapping[str, str], any_type: bool) -> None:
    kind = headers.get(CONTENT_TYPE, "")
    if kind != "application/json" and not any_type:
        _check_type(kind)
    encoding = headers.get(CONTENT_ENCODING)
    if encoding is not None and encoding.lower() != "identity":
        raise UnsupportedMediaType(f"Content-Encoding {encoding[:40]!r} is not supported; send the body as it is")


def _too_large(size: int, bytes_max: int) -> TooLarge:
    return TooLarge(None, f"the body has {size} bytes or more; {bytes_max} are allowed")


async def _read_slowly(request: Request, bytes_max: int) -> bytes:
    """A body that has not arrived whole with its head."""
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
    """The error of a request that did not arrive whole in the time it has."""
    return RequestTimeout(f"the request did not arrive whole within {seconds:g} seconds of its first byte")


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
    """Raise BadRequest when a payload, result or error is nested deeper than `limits.JSON_DEPTH_MAX`. It must be grammatical JSON.

    One with no more opening brackets than that cannot be. Of any other the strings are cut out and the rest is read eight brackets at a
    time, which takes 15 ms for 1 MiB, whatever is in it; a loop over its bytes takes 100, and a recursive parser may take the stack.
    """
    if body[:1] == b'"' or body.count(b"[") + body.count(b"{") <= JSON_DEPTH_MAX:
        return
    if _deepest(body) > JSON_DEPTH_MAX:
        raise BadRequest(field, f"is nested deeper than {JSON_DEPTH_MAX} levels")


def _deepest(body: bytes) -> int:
    """How deep grammatical JSON is nested."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Quotes go in pairs with nothing between them: that a string ends and the next one begins there changes nothing for what is around.
    marks = body.translate(_MARKS, _NO_MARKS).replace(b'""', b"")
    if b'"' in marks:
        marks = b"".join(marks.split(b'"')[::2])
    marks += b"0" * (-len(marks) % 8)
    octets = int(marks or b"0", 2).to_bytes(len(marks) // 8)
    before = accumulate(map(_STEPS.__getitem__, octets), initial=0)
    return max(map(add, before, map(_PEAKS.__getitem__, octets)), default=0)
