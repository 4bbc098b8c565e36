"""The heads of requests, and how a head that was seen before is recognised without parsing it.

A producer or a worker sends the same header lines with every request, and parsing them each time takes a fifth of the time of a small
request. So if a header section comes twice, the result of aiohttp's parser is kept and from then on found by the section's bytes, whichever
client sends them; only the request line before it is parsed here. If a whole head was seen before (producers whose jobs all have the same
size, workers that repeat a dequeue), not even that is needed: the head is found by its bytes, together with its parsed form.

Why this is correct. A connection gives aiohttp one whole head at a time, from its first byte to the empty line (`connections.py`), so what
aiohttp makes of a section depends only on its bytes, as long as the request line has the simplest form (`_LINE`). Nothing else is required
of the bytes: a section with other bytes is parsed. The only part that can differ are the digits of Content-Length, one to nine of 0 to 9,
which mean a number and nothing else. A section where the field contains anything else is never looked up and never kept. So no decision
about HTTP is made here: a section is kept only if aiohttp accepted it, in an ordinary request (HTTP/1.1, kept alive, a Content-Length or no
body, no upgrade).

For tokens in the headers, this reveals no more than the cache in auth.py, for the same reason: a dict compares only strings whose keyed
hashes are equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy, istr

SECTIONS_MAX = 1_024
"""Header sections kept after they came twice; all are dropped when there are more. At most about 4 KiB each."""

ONCE_MAX = 10_000
"""Sections that came once, remembered only by their hashes. So a section that never comes again costs almost nothing."""

SECTION_BYTES_MAX = 1_024
"""The longest section that is kept."""

WHOLE_MAX = 256
"""Whole heads kept, and sections with their digits; all are dropped when there are more."""

Version = tuple[int, int]
HTTP_10: Final = (1, 0)
HTTP_11: Final = (1, 1)
VERSIONS: Mapping[Version, Version] = {HTTP_10: HTTP_10, HTTP_11: HTTP_11}
"""Allows a version to be compared with `is`."""

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
_PREFER = istr("Prefer")

_LINE = re.compile(rb"(GET|POST|PUT|DELETE) (/(?!/)[A-Za-z0-9._~:/?&=%+@,;*-]{0,1000}) HTTP/1\.1")
_DIGITS_MAX = 9
_NUMBER = b"#"
"""Replaces the digits. A section where the field really contains this is not looked up: `_cut` accepts only digits."""


class Fields(msgspec.Struct, frozen=True, gc=False):
    """A header section: all of it, and the fields that every request needs. json: the declared type of the body is plain JSON; prefer: all
    preferences (RFC 7240), with commas between them.
    """

    headers: CIMultiDictProxy[str]
    host: str | None = None
    origin: str | None = None
    site: str | None = None
    authorization: str | None = None
    request_id: str | None = None
    traceparent: str | None = None
    json: bool = False
    prefer: str | None = None


NO_FIELDS = Fields(CIMultiDictProxy(CIMultiDict()))


class Head(msgspec.Struct, gc=False):
    """A request's first line and headers. path: the request target as sent. size: bytes of its body, if known.

    length: the digits of its Content-Length, if `fields` come from a request of another length, else empty. place: the route that it leads
    to, once found. asked: the parsed query, once somebody needed it. A head that comes again byte for byte is this same object.
    """

    method: str
    path: str
    fields: Fields
    version: Version = HTTP_11
    should_close: bool = False
    size: int = 0
    length: bytes = b""
    place: Any = None
    asked: Any = None

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """Every header."""
        if not self.length:
            return self.fields.headers
        own = CIMultiDict(self.fields.headers)
        own[CONTENT_LENGTH] = self.length.decode()
        return CIMultiDictProxy(own)


def fields_of(headers: CIMultiDictProxy[str]) -> Fields:
    """Make Fields of a parsed header section."""
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
        ",".join(headers.getall(_PREFER)) if _PREFER in headers else None,
    )


def head_of(method: str, path: str, version: Iterable[int], headers: CIMultiDictProxy[str], keep_alive: bool) -> Head:
    """The head of a request that aiohttp parsed.

    A request for a WebSocket is the last of its connection: how aiohttp continues after it differs between releases.
    """
    spoken: Version = tuple(version)  # type: ignore[assignment]
    upgrades = UPGRADE in headers and "websocket" in headers[UPGRADE].lower()
    return Head(method, path, fields_of(headers), VERSIONS.get(spoken, spoken), not keep_alive or upgrades)


class Heads:
    """Header sections by their bytes, from the end of the request line to the empty line, without the digits of Content-Length.

    usual: methods and paths of request lines that need no further check.
    """

    def __init__(self, usual: Iterable[tuple[str, str]] = ()) -> None:
        self._sections: dict[bytes, Fields] = {}
        self._once: set[int] = set()
        self._same: dict[bytes, tuple[Fields, int, bytes]] = {}
        """By sections, digits included: their fields, and the length as a number and as digits."""
        self._whole: dict[bytes, Head] = {}
        self._asked: set[int] = set()
        """The hashes of heads with a query that came once."""
        self.usual = tuple(usual)
        self._lines = {f"{method} {path} HTTP/1.1".encode(): (method, path) for method, path in self.usual}

    def __len__(self) -> int:
        return len(self._sections)

    @property
    def kept_whole(self) -> int:
        """The number of whole heads kept."""
        return len(self._whole)

    def find(self, data: bytes, at: int, end: int) -> Head | None:
        """The known head that begins at `at` and whose empty line is at `end`; None if it is not known."""
        whole = data[at:end]
        found = self._whole.get(whole)
        if found is not None:
            return found
        start = data.find(b"\r\n", at)
        section = data[start:end]
        same = self._same.get(section)
        if same is None:
            same = self._looked_up(section, data, start, end)
            if same is None:
                return None
        fields, size, length = same
        line = data[at:start]
        usual = self._lines.get(line)
        if usual is not None:
            return self._kept(whole, Head(usual[0], usual[1], fields, HTTP_11, False, size, length))
        match = _LINE.fullmatch(line)
        if match is None:
            return None
        head = Head(match[1].decode(), match[2].decode(), fields, HTTP_11, False, size, length)
        return self._kept_if_again(whole, head) if b"?" in line else head

    def _looked_up(self, section: bytes, data: bytes, start: int, end: int) -> tuple[Fields, int, bytes] | None:
        """Find a section whose digits may differ. The result is kept, since most requests have the same digits as some earlier one."""
        known, length = _cut(data, start, end)
        fields = self._sections.get(known)
        if fields is None:
            return None
        if len(self._same) >= WHOLE_MAX:
            self._same.clear()
        made = self._same[section] = fields, int(length) if length else 0, length
        return made

    def _kept(self, whole: bytes, head: Head) -> Head:
        if len(self._whole) >= WHOLE_MAX:
            self._whole.clear()
        self._whole[whole] = head
        return head

    def _kept_if_again(self, whole: bytes, head: Head) -> Head:
        """Keep a head with a query once it has come twice: many queries are different each time."""
        mark = hash(whole)
        if mark in self._asked:
            return self._kept(whole, head)
        if len(self._asked) >= WHOLE_MAX:
            self._asked.clear()
        self._asked.add(mark)
        return head

    def learn(self, raw: bytes, head: Head) -> None:
        """Remember the header section of a head, and what aiohttp made of it."""
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
    """A header section without the digits of its Content-Length, and these digits, empty if it has none.

    The returned section is empty if the field contains anything but digits: such a head must be parsed each time. No real section is empty.
    """
    at = data.find(b"\r\nContent-Length: ", start, end)
    if at < 0:
        at = data.find(b"\r\ncontent-length: ", start, end)
    if at < 0:
        return data[start:end], b""
    at += 18
    # bytes.isdigit is true only for 0 to 9, while str.isdigit accepts the digits of every script.
    digits = data[at : data.find(b"\r\n", at)]
    if not digits.isdigit() or len(digits) > _DIGITS_MAX:
        return b"", b""
    return data[start:at] + _NUMBER + data[at + len(digits) : end], digits
