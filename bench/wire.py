"""Requests as bytes, built before the clock starts, and answers parsed no further than needed."""

from __future__ import annotations

import json
import re
import socket
from typing import Any, NamedTuple

from bench.process import BenchError

PAYLOAD = "p" * 198
"""200 bytes as JSON text, quotes included."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_BODILESS = (204, 304)


class Answer(NamedTuple):
    """One answer, and where in the buffer it ends."""

    status: int
    body: bytes
    end: int


def request(method: str, path: str, body: Any = None, token: str | None = None, more: str | None = None) -> bytes:
    """One HTTP/1.1 request with the headers a plain client sends; more: a further line."""
    content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1:8080", "User-Agent: bench/1", "Accept: */*"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    if more is not None:
        lines.append(more)
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def parse(buffer: bytes | bytearray) -> Answer | None:
    """The answer at the buffer's start, None while it is not complete."""
    head_end = buffer.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    status = int(buffer[9:12])
    found = _LENGTH.search(buffer, 0, head_end)
    if found is None and status not in _BODILESS:
        raise BenchError(f"an answer without a Content-Length: {bytes(buffer[:200])!r}")
    end = head_end + 4 + (0 if found is None else int(found[1]))
    if len(buffer) < end:
        return None
    return Answer(status, bytes(buffer[head_end + 4 : end]), end)


class Blocking:
    """One keep-alive connection, used one request at a time, for measuring latency without an event loop in the way."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Send a request."""
        self._socket.sendall(data)

    def receive(self) -> Answer:
        """Wait for the answer of the request sent before."""
        buffer = self._socket.recv(65_536)
        while (answer := parse(buffer)) is None:
            more = self._socket.recv(65_536)
            if not more:
                raise BenchError(f"the server closed the connection after {buffer[:200]!r}")
            buffer += more
        return answer

    def receive_some(self) -> bytes:
        """What there is, of an answer that is not HTTP's; waits for its first bytes."""
        return self._socket.recv(65_536)

    def fileno(self) -> int:
        """For waiting until one of many has an answer."""
        return self._socket.fileno()

    def ask(self, data: bytes, expect: int | None = None) -> Answer:
        """Send a request and wait for its answer, whose status must be `expect` if that is given."""
        self.send(data)
        answer = self.receive()
        if expect is not None and answer.status != expect:
            raise BenchError(f"expected {expect}, got {answer.status} {answer.body[:300]!r} to {data[:300]!r}")
        return answer

    def close(self) -> None:
        """Close it."""
        self._socket.close()
