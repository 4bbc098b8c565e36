"""The heads of requests, and how one that was met before is known again without parsing it.

A producer or a worker sends the same header lines with every request, and parsing them anew costs a fifth of what a small request does. So
what aiohttp made of a header section that came twice is from then on found by the section's bytes, whoever sends them; only the request
line before it is read here.

Why that is sound. A connection gives aiohttp one whole head at a time, from its first byte to the empty line (`connections.py`), so what
aiohttp makes of a section is a function of its bytes, as long as the request line is of the plainest form (`_LINE`). That is all that is
asked of the bytes, and whoever sends other ones is parsed. The one thing that may differ are the digits of Content-Length, one to nine of
0 to 9, which stand for a number and nothing else; a section where the field holds anything else is never looked up and never kept. So
nothing of HTTP is judged here: a section is only ever kept that aiohttp let pass, of a request that holds no surprise (HTTP/1.1, kept
alive, a Content-Length or no body, no upgrade).

A token among the headers gives no more away by this than by the cache in auth.py, whose argument holds here: a dict compares only
strings whose keyed hashes are equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy, istr

SECTIONS_MAX = 1_024
"""Header sections kept, of those that came twice; all are dropped when there are more. At most about 4 KiB each."""

ONCE_MAX = 10_000
"""Sections remembered, by their hashes alone, that came once. What never comes again then costs next to nothing."""

SECTION_BYTES_MAX = 1_024
"""The longest that is kept."""

Version = tuple[int, int]
HTTP_10: Final = (1, 0)
HTTP_11: Final = (1, 1)
VERSIONS: Mapping[Version, Version] = {HTTP_10: HTTP_10, HTTP_11: HTTP_11}
"""So that a version can be compared by `is`."""

ACCEPT = istr("Accept")
AUTHORIZATION = istr("Authorization")
CONTENT_ENCODING = istr("Content-Encoding")
CONTENT_LENGTH = istr("Content-Length")
CONTENT_TYPE = istr("Content-Type")
EXPECT = istr("Expect")
HOST = istr("Host")
TRANSFER_ENCODING = istr("Transfer-Encoding")
UPGRADE = istr("Upgrade")
_ORIGIN = istr("Origin")
_SITE = istr("Sec-Fetch-Site")
_REQUEST_ID = istr("X-Request-ID")
_TRACEPARENT = istr("traceparent")

_LINE = re.compile(rb"(GET|POST|PUT|DELETE) (/(?!/)[A-Za-z0-9._~:/?&=%+@,;*-]{0,1000}) HTTP/1\.1")
_DIGITS_MAX = 9
_NUMBER = b"#"
"""In place of digits. A section where the field really holds this is not looked up: `_cut` takes digits alone."""


class Fields(msgspec.Struct, frozen=True, gc=False):
    """A header section: all of it, and those fields that every request is asked for. json: the body is said to be plain JSON."""

    headers: CIMultiDictProxy[str]
    host: str | None = None
    origin: str | None = None
    site: str | None = None
    authorization: str | None = None
    request_id: str | None = None
    traceparent: str | None = None
    json: bool = False


NO_FIELDS = Fields(CIMultiDictProxy(CIMultiDict()))


class Head(msgspec.Struct, gc=False):
    """A request's first line and headers. path: the request target as it came. size: bytes of its body, where they are known.

    length: the digits of its Content-Length, where `fields` are those of a request of another length, else empty.
    """

    method: str
    path: str
    fields: Fields
    version: Version = HTTP_11
    should_close: bool = False
    size: int = 0
    length: bytes = b""

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """Every header."""
        if not self.length:
            return self.fields.headers
        own = CIMultiDict(self.fields.headers)
        own[CONTENT_LENGTH] = self.length.decode()
        return CIMultiDictProxy(own)


def fields_of(headers: CIMultiDictProxy[str]) -> Fields:
    """A parsed header section."""
    get = headers.get
    return Fields(
        headers,
        get(HOST),
        get(_ORIGIN),
        get(_SITE),
        get(AUTHORIZATION),
        get(_REQUEST_ID),
        get(_TRACEPARENT),
        get(CONTENT_TYPE) == "application/json" and CONTENT_ENCODING not in headers,
    )


def head_of(method: str, path: str, version: Iterable[int], headers: CIMultiDictProxy[str], keep_alive: bool) -> Head:
    """The head of a request that aiohttp parsed.

    One that asks for a WebSocket is its connection's last: how aiohttp goes on after it has changed from release to release.
    """
    spoken: Version = tuple(version)  # type: ignore[assignment]
    upgrades = UPGRADE in headers and "websocket" in headers[UPGRADE].lower()
    return Head(method, path, fields_of(headers), VERSIONS.get(spoken, spoken), not keep_alive or upgrades)


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

    def find(self, data: bytes, at: int, end: int) -> Head | None:
        """The known head that begins at `at` and whose empty line is at `end`; None of any other."""
        start = data.find(b"\r\n", at)
        section, length = _cut(data, start, end)
        fields = self._sections.get(section)
        if fields is None:
            return None
        line = data[at:start]
        size = int(length) if length else 0
        usual = self._lines.get(line)
        if usual is not None:
            return Head(usual[0], usual[1], fields, HTTP_11, False, size, length)
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        return Head(match[1].decode(), match[2].decode(), fields, HTTP_11, False, size, length)

    def learn(self, raw: bytes, head: Head) -> None:
        """Note the header section of a head that aiohttp made this of."""
        start, end = raw.find(b"\r\n"), len(raw) - 4
        if end - start > SECTION_BYTES_MAX or head.version is not HTTP_11 or head.should_close or _LINE.fullmatch(raw[:start]) is None:
            return
        headers = head.headers
        if TRANSFER_ENCODING in headers or EXPECT in headers or UPGRADE in headers or len(headers.getall(HOST, ())) != 1:
            return
        section, length = _cut(raw, start, end)
        if not section or length.decode() != headers.get(CONTENT_LENGTH, ""):
            return
        mark = hash(section)
        if mark in self._once:
            if len(self._sections) >= SECTIONS_MAX:
                self._sections.clear()
            self._sections[section] = head.fields
            return
        if len(self._once) >= ONCE_MAX:
            self._once.clear()
        self._once.add(mark)


def _cut(data: bytes, start: int, end: int) -> tuple[bytes, bytes]:
    """A header section without the digits of its Content-Length, and these, empty when it has none.

    The section is empty, which none is, when the field holds anything but digits: such a one must be parsed, each time.
    """
    at = data.find(b"\r\nContent-Length: ", start, end)
    if at < 0:
        at = data.find(b"\r\ncontent-length: ", start, end)
    if at < 0:
        return data[start:end], b""
    at += 18
    # bytes.isdigit is true of 0 to 9 alone, where str.isdigit takes the digits of every script.
    digits = data[at : data.find(b"\r\n", at)]
    if not digits.isdigit() or len(digits) > _DIGITS_MAX:
        return b"", b""
    return data[start:at] + _NUMBER + data[at + len(digits) : end], digits
