"""HTTP/1.1 messages as tests read them: bytes are fed in, whole messages come out. No socket, no loop, no clock.

Every test that reads bare bytes reads them here, so that all are equally strict about what the server writes. A message must be one of
HTTP/1.1, name no header twice, and have its length in Content-Length: neither the server nor a client of ours uses chunks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

HEAD_END = b"\r\n\r\n"


class Reply(NamedTuple):
    """An answer as it came: headers by lower-case name, the body's bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The code of a problem, None if it is none."""
        return self.json["code"] if self.headers.get("content-type") == "application/problem+json" else None


class Request(NamedTuple):
    """A request as it came: headers by lower-case name, and the whole head as it was written."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    head: bytes


def _head(head: bytes) -> tuple[str, dict[str, str]]:
    """The first line of a head that ends with an empty line, and its headers."""
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        assert colon, f"no header: {line!r}"
        assert name.lower() not in headers, f"{name} is there twice"
        headers[name.lower()] = value.strip()
    return first, headers


class Reader:
    """What one end of a connection has received and nobody has read yet."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Bytes came."""
        self._buffer += data

    def take(self, count: int) -> bytes:
        """The next bytes, whatever they are; not more than there are."""
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def rest(self) -> bytes:
        """All of it."""
        return self.take(len(self._buffer))

    def line(self) -> bytes | None:
        """The next line without its end, LF or CR LF; None while it is not whole."""
        end = self._buffer.find(b"\n")
        return None if end < 0 else self.take(end + 1)[:-1].removesuffix(b"\r")

    def head(self) -> tuple[str, dict[str, str]] | None:
        """The first line and the headers of the next message, None while its head is not whole; for one whose body has no length."""
        found = self._peek()
        if found is None:
            return None
        self.take(found[0])
        return found[1:]

    def reply(self, head: bool = False) -> Reply | None:
        """The next answer, None while it is not whole. head: to a HEAD, which may have a length and has no body."""
        found = self._peek()
        if found is None:
            return None
        size, first, headers = found
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1", first
        # 1xx, 204 and 304 have no body either (RFC 9112, section 6.3).
        bodiless = head or status[0] == "1" or status in ("204", "304")
        body = self._body(size, 0 if bodiless else int(headers["content-length"]))
        return None if body is None else Reply(int(status), headers, body)

    def request(self) -> Request | None:
        """The next request, None while it is not whole."""
        found = self._peek()
        if found is None:
            return None
        size, first, headers = found
        head = bytes(self._buffer[:size])
        body = self._body(size, int(headers.get("content-length", "0")))
        return None if body is None else Request(*first.split(" ")[:2], headers, body, head)

    def _peek(self) -> tuple[int, str, dict[str, str]] | None:
        """The head's length, its first line and its headers; None while it is not whole."""
        end = self._buffer.find(HEAD_END)
        if end < 0:
            return None
        size = end + len(HEAD_END)
        return size, *_head(bytes(self._buffer[:size]))

    def _body(self, start: int, length: int) -> bytes | None:
        """Take a head of `start` bytes and its body, if that is whole; the body."""
        if len(self._buffer) < start + length:
            return None
        return self.take(start + length)[start:]
