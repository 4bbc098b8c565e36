"""The heads of requests, and how one that was met before is known again without parsing it.

A producer or a worker sends the same header lines with every request, and parsing them anew costs a fifth of what a small request does. So
what aiohttp made of a header section that came twice is from then on found by the section's bytes, whoever sends them; only the request
line before it is read here.

Why that is sound. What aiohttp makes of a section is a function of its bytes, as long as the parser stands before a new request when they
come and the request line is of the plainest form (`_LINE`): that is all that is asked of the bytes, and whoever sends other ones is
parsed. So nothing of HTTP is judged here: a section is only ever kept that aiohttp let pass, of a request that holds no surprise (HTTP/1.1,
kept alive, a Content-Length or no body, no upgrade). The parser is left out of a request that is known, and does not notice: it still
stands before a new one. Whether it does is counted in bytes (`Heads.learn`): after anything that is not plain it is taken not to.

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

UNKNOWN = -1
"""How many bytes of a request are still to come, where that cannot be told: no more is known by its bytes on that connection."""

_LINE = re.compile(rb"(GET|POST|PUT|DELETE) (/(?!/)[A-Za-z0-9._~:/?&=%+@,;*-]{0,1000}) HTTP/1\.1")

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
    """A request's first line and headers. path: the request target as it came; url: aiohttp's, where it made one."""

    method: str
    path: str
    fields: Fields
    version: HttpVersion = HttpVersion11
    should_close: bool = False
    url: URL | None = None

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """Every header."""
        return self.fields.headers

    def message(self) -> RawRequestMessage:
        """As aiohttp has it."""
        url = URL(self.path, encoded=True) if self.url is None else self.url
        fields = self.fields
        return RawRequestMessage(
            self.method, self.path, self.version, fields.headers, fields.raw_headers, self.should_close, None, False, False, url
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
    """Header sections by their bytes, from the end of the request line to the empty line, with the length of the body they tell of.

    usual: methods and paths of request lines that need not be looked at twice.
    """

    def __init__(self, usual: Iterable[tuple[str, str]] = ()) -> None:
        self._sections: dict[bytes, tuple[Fields, int]] = {}
        self._once: set[int] = set()
        self._lines = {f"{method} {path} HTTP/1.1".encode(): (method, path) for method, path in usual}

    def __len__(self) -> int:
        return len(self._sections)

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and the body of what is exactly one request and has a known head, else None."""
        end = data.find(b"\r\n\r\n")
        start = data.find(b"\r\n")
        known = self._sections.get(data[start:end])
        if known is None:
            return None
        fields, length = known
        if len(data) != end + 4 + length:
            return None
        line = data[:start]
        usual = self._lines.get(line)
        if usual is not None:
            return Head(usual[0], usual[1], fields), data[end + 4 :]
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        return Head(match[1].decode(), match[2].decode(), fields), data[end + 4 :]

    def learn(self, data: bytes, message: object, payload: StreamReader) -> int:
        """Note the header section of a request that aiohttp parsed out of `data`, which must begin where its parser stood before a request.

        How many bytes of the request are still to come, 0 when it stands before a new one again, or UNKNOWN.
        """
        start, end = data.find(b"\r\n"), data.find(b"\r\n\r\n")
        if not isinstance(message, RawRequestMessage) or _LINE.fullmatch(data[: max(0, start)]) is None or end < 0:
            return UNKNOWN
        if message.version is not HttpVersion11 or message.should_close or message.upgrade or message.chunked or message.compression:
            return UNKNOWN
        length = message.headers.get(hdrs.CONTENT_LENGTH, "0")
        if not (length.isascii() and length.isdigit()):
            return UNKNOWN
        missing = end + 4 + int(length) - len(data)
        if missing < 0 or payload.is_eof() is not (missing == 0):
            return UNKNOWN
        section = data[start:end]
        if len(section) <= SECTION_BYTES_MAX:
            self._note(section, message, int(length))
        return missing

    def _note(self, section: bytes, message: RawRequestMessage, length: int) -> None:
        """Keep a section that came before."""
        mark = hash(section)
        if mark in self._once:
            if len(self._sections) >= SECTIONS_MAX:
                self._sections.clear()
            self._sections[section] = fields_of(message.headers, message.raw_headers), length
            return
        if len(self._once) >= ONCE_MAX:
            self._once.clear()
        self._once.add(mark)
