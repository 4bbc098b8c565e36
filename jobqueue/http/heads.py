"""The heads of requests, and how one that was met before is known again without parsing it.

A producer or a worker sends the same header lines with every request, and parsing them anew costs a fifth of what a small request does. So
what aiohttp made of a header section that came twice is from then on found by the section's bytes, whoever sends them; only the request
line before it is read here.

Why that is sound. What aiohttp makes of a section is a function of its bytes, as long as the parser stands before a new request when they
come and the request line is of the plainest form (`_LINE`): that is all that is asked of the bytes, and whoever sends other ones is
parsed. The one thing that may differ are the digits of Content-Length, up to nine of them, which stand for a number and nothing else. So
nothing of HTTP is judged here: a section is only ever kept that aiohttp let pass, of a request that holds no surprise (HTTP/1.1, kept
alive, a Content-Length or no body, no upgrade). The parser is left out of a request that is known, and does not notice: it still stands
before a new one. Whether it does is counted in bytes (`Heads.learn`): after anything that is not plain it is taken not to.

A token among the headers gives no more away by this than by the cache in auth.py, whose argument holds here: a dict compares only
strings whose keyed hashes are equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import hdrs
from aiohttp.http import HttpVersion, HttpVersion11, RawRequestMessage
from aiohttp.streams import StreamReader
from multidict import CIMultiDict, CIMultiDictProxy, istr
from yarl import URL

SECTIONS_MAX = 1_024
"""Header sections kept, of those that came twice; all are dropped when there are more. At most about 4 KiB each."""

ONCE_MAX = 10_000
"""Sections remembered, by their hashes alone, that came once. What never comes again then costs next to nothing."""

SECTION_BYTES_MAX = 1_024
"""The longest that is kept."""

STRANGE_MAX = 64
"""Requests in a row that are not known, after which a connection does without the looking up."""

UNKNOWN = -1
"""How many bytes of a request are still to come, where that cannot be told: no more is known by its bytes on that connection."""

_LINE = re.compile(rb"(GET|POST|PUT|DELETE) (/(?!/)[A-Za-z0-9._~:/?&=%+@,;*-]{0,1000}) HTTP/1\.1")

_NUMBER = b"\0"
"""In place of digits. aiohttp lets no header pass that holds one."""

_HOST = istr("Host")
_ORIGIN = istr("Origin")
_SITE = istr("Sec-Fetch-Site")
_REQUEST_ID = istr("X-Request-ID")
_TRACEPARENT = istr("traceparent")


class Fields(msgspec.Struct, frozen=True, gc=False):
    """A header section: all of it, and those fields that every request is asked for. json: the body is said to be plain JSON."""

    headers: CIMultiDictProxy[str]
    raw_headers: tuple[tuple[bytes, bytes], ...] = ()
    host: str | None = None
    origin: str | None = None
    site: str | None = None
    authorization: str | None = None
    request_id: str | None = None
    traceparent: str | None = None
    json: bool = False


NO_FIELDS = Fields(CIMultiDictProxy(CIMultiDict()))


class Head(msgspec.Struct, gc=False):
    """A request's first line and headers. path: the request target as it came; url: aiohttp's, where it made one.

    length: the digits of its Content-Length, where `fields` are those of a request of another length, else empty.
    """

    method: str
    path: str
    fields: Fields
    version: HttpVersion = HttpVersion11
    should_close: bool = False
    url: URL | None = None
    length: bytes = b""

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """Every header."""
        if not self.length:
            return self.fields.headers
        own = CIMultiDict(self.fields.headers)
        own[hdrs.CONTENT_LENGTH] = self.length.decode()
        return CIMultiDictProxy(own)

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Every header as bytes."""
        raw = self.fields.raw_headers
        if not self.length:
            return raw
        return tuple((name, self.length if name.lower() == b"content-length" else value) for name, value in raw)

    def message(self) -> RawRequestMessage:
        """As aiohttp has it."""
        url = URL(self.path, encoded=True) if self.url is None else self.url
        return RawRequestMessage(
            self.method, self.path, self.version, self.headers, self.raw_headers, self.should_close, None, False, False, url
        )


def fields_of(headers: CIMultiDictProxy[str], raw_headers: Any) -> Fields:
    """A parsed header section."""
    get = headers.get
    return Fields(
        headers,
        raw_headers,
        get(_HOST),
        get(_ORIGIN),
        get(_SITE),
        get(hdrs.AUTHORIZATION),
        get(_REQUEST_ID),
        get(_TRACEPARENT),
        get(hdrs.CONTENT_TYPE) == "application/json" and hdrs.CONTENT_ENCODING not in headers,
    )


def head_of(message: RawRequestMessage) -> Head:
    """The head of a request that aiohttp parsed."""
    fields = fields_of(message.headers, message.raw_headers)
    return Head(message.method, message.path, fields, message.version, bool(message.should_close), message.url)


class Heads:
    """Header sections by their bytes, from the end of the request line to the empty line, without the digits of Content-Length.

    usual: methods and paths of request lines that need not be looked at twice.
    """

    def __init__(self, usual: Iterable[tuple[str, str]] = ()) -> None:
        self._sections: dict[bytes, Fields] = {}
        self._once: set[int] = set()
        self._lines = {f"{method} {path} HTTP/1.1".encode(): (method, path) for method, path in usual}

    def __len__(self) -> int:
        return len(self._sections)

    def find(self, data: bytes) -> tuple[Head, bytes] | int:
        """The head and the body of what is exactly one request and has a known head; of a part of one, how many bytes are missing.

        UNKNOWN of anything else.
        """
        start, end = data.find(b"\r\n"), data.find(b"\r\n\r\n")
        section, length = _cut(data, start, end)
        fields = self._sections.get(section)
        if fields is None or end < 0:
            return UNKNOWN
        missing = end + 4 + (int(length) if length else 0) - len(data)
        if missing:
            return max(missing, UNKNOWN)
        line = data[:start]
        usual = self._lines.get(line)
        if usual is not None:
            return Head(usual[0], usual[1], fields, length=length), data[end + 4 :]
        match = _LINE.fullmatch(line)
        if match is None:
            return UNKNOWN
        return Head(match[1].decode(), match[2].decode(), fields, length=length), data[end + 4 :]

    def learn(self, data: bytes, message: object, payload: StreamReader) -> int:
        """Note the header section of a request that aiohttp parsed out of `data`, which must begin where its parser stood before a request.

        How many bytes of the request are still to come, 0 when it stands before a new one again, or UNKNOWN.
        """
        start, end = data.find(b"\r\n"), data.find(b"\r\n\r\n")
        if not isinstance(message, RawRequestMessage) or _LINE.fullmatch(data[: max(0, start)]) is None or end < 0:
            return UNKNOWN
        if message.version is not HttpVersion11 or message.should_close or message.upgrade or message.chunked or message.compression:
            return UNKNOWN
        if hdrs.EXPECT in message.headers:
            # Its client waits for a word before it sends the rest.
            return UNKNOWN
        section, length = _cut(data, start, end)
        if length.decode() != message.headers.get(hdrs.CONTENT_LENGTH, ""):
            return UNKNOWN
        missing = end + 4 + int(length or b"0") - len(data)
        if missing < 0 or payload.is_eof() is not (missing == 0):
            return UNKNOWN
        if len(section) <= SECTION_BYTES_MAX:
            self._note(section, message)
        return missing

    def _note(self, section: bytes, message: RawRequestMessage) -> None:
        """Keep a section that came before."""
        mark = hash(section)
        if mark in self._once:
            if len(self._sections) >= SECTIONS_MAX:
                self._sections.clear()
            self._sections[section] = fields_of(message.headers, message.raw_headers)
            return
        if len(self._once) >= ONCE_MAX:
            self._once.clear()
        self._once.add(mark)


def _cut(data: bytes, start: int, end: int) -> tuple[bytes, bytes]:
    """A header section without the digits of its Content-Length, and these, empty when it has none or they are no plain number.

    What stands in for them is no header's: the section is neither that of a request without the field nor of one where it is empty.
    """
    at = data.find(b"\r\nContent-Length: ", start, end)
    if at < 0:
        at = data.find(b"\r\ncontent-length: ", start, end)
    if at >= 0:
        at += 18
        digits = data[at : data.find(b"\r\n", at)]
        if digits.isdigit() and len(digits) <= 9:
            return data[start:at] + _NUMBER + data[at + len(digits) : end], digits
    return data[start:end], b""
