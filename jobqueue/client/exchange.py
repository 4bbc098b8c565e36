"""The client's side of HTTP/1.1, without input or output: it makes the bytes of a request, and reads an answer from bytes.

An `Exchange` belongs to one connection, on which one request at a time is answered (RFC 9112). The owner of the connection calls `begin`
before it writes a request, `feed` with the bytes that arrive, and `end` when the peer has closed. The states and transitions:

    IDLE ──begin──▶ HEAD ──a head──▶ LENGTH | CHUNKS | CLOSE ──its end──▶ IDLE
                      ▲                                                     │
                      └─ a head of 1xx                        any error ──▶ OVER

An answer is returned only when all of it has arrived and all of it was understood. Everything else is a `BadAnswer`, which changes the
state to OVER, after which the connection is closed: a truncated head or body, bytes that are not HTTP, bytes without a request. Nothing is
guessed. Where RFC 9112 lets a recipient choose between repairing and refusing (a line that ends in LF alone, two lengths, a length together
with chunks), this refuses: if the two ends of a connection disagree about where an answer ends, they mistake one answer for another.

Everything has a limit: heads and trailers HEAD_BYTES_MAX, bodies BODY_BYTES_MAX. Time limits are up to the owner of the connection. Why
this is not h11 or httptools: docs/decisions/0014-one-exchange.md.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from enum import Enum

import msgspec

HEAD_BYTES_MAX = 1 << 16
"""The most bytes of an answer's head, including those of 1xx answers before it; of its trailers; and of one line between chunks."""

BODY_BYTES_MAX = 1 << 29
"""The most bytes of an answer's body, also after decompression. 1,000 jobs with the largest payload of a server's defaults are half of
that.
"""

LINES_KNOWN_MAX = 256
"""Parsed header lines to cache, since a server sends nearly all of them with every answer."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t -~\x80-\xff]*)")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[\t -~\x80-\xff]*)?")
_LENGTH_DIGITS_MAX = 18
_VERSION = b"HTTP/1."

_KNOWN_BYTES_MAX = 128
_NEVER_THE_SAME = frozenset({"location", "x-request-id"})
_known_lines: dict[bytes, tuple[str, str]] = {}
"""Shared by all exchanges of the process and all threads: the meaning of a line depends on its bytes alone."""

HEADS_KNOWN_MAX = 64
"""Whole heads to cache: within a second, a server's answers of one kind and length differ only in their bodies."""

_HEAD_KNOWN_BYTES_MAX = 512
_known_heads: dict[bytes, tuple[int, dict[str, str], bool, int]] = {}
"""Status, headers, whether the connection can be used again, and the length of the body. Shared like `_known_lines`; nobody changes them.
"""

_ENCODINGS = ("gzip", "x-gzip", "deflate")
_WITHOUT_BODY = (204, 304)

_NOT_HTTP = "the answer is not HTTP/1.1"


class Lost(Exception):
    """The connection gave no answer and can no longer be used. str() says why."""


class NotConnected(Lost):
    """No connection was made, so nothing was sent."""


class BadAnswer(Lost):
    """What arrived is not a complete HTTP/1.1 answer: it is truncated or invalid."""


class Answer(msgspec.Struct, frozen=True):
    """An answer. headers: by names in lower case; repeated values are joined by commas."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class State(Enum):
    """What an exchange is waiting for."""

    IDLE = "nothing"
    HEAD = "a head"
    LENGTH = "the rest of a body of known length"
    CHUNKS = "chunks"
    CLOSE = "a body up to the connection's end"
    OVER = "nothing any more"


def request_bytes(method: str, target: str, lines: str, body: bytes | None) -> bytes:
    """A request's bytes. target: in the form that the receiver expects; lines: all header lines except the length, each ending
    with CR LF.
    """
    if body is None and method in ("GET", "CONNECT"):
        return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("ascii")
    body = body or b""
    return f"{method} {target} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body


class Exchange:
    """The requests on one connection and their answers, one after the other."""

    __slots__ = ("_body", "_chunk", "_connect", "_head", "_head_bytes", "_keep", "_missing", "_rest", "_spoilt", "_streaming", "state")

    def __init__(self) -> None:
        self.state = State.IDLE
        self._keep = True
        self._spoilt = False
        self._reset(False, False)

    def __repr__(self) -> str:
        return f"<Exchange waits for {self.state.value}>"

    def _reset(self, streaming: bool, connect: bool) -> None:
        self._streaming = streaming
        self._connect = connect
        self._head: tuple[int, dict[str, str]] | None = None
        self._head_bytes = 0
        self._rest = b""
        """Received bytes that cannot be parsed yet: part of a head, of a line between chunks, or of a trailer."""
        self._body: bytearray | None = None
        """The part of the body that has arrived, if it did not arrive all at once."""
        self._missing = 0
        """Bytes left until the end of the body or of the chunk."""
        self._chunk = _SIZE

    @property
    def reusable(self) -> bool:
        """Whether the connection can be used for another request."""
        return self.state is State.IDLE

    @property
    def head(self) -> tuple[int, Mapping[str, str]] | None:
        """Status and headers, once they have arrived. For streams: `feed` returns an answer only when it is complete."""
        return self._head

    def begin(self, *, streaming: bool = False, connect: bool = False) -> None:
        """A request is about to be written. streaming: its body is read with `take` as it arrives; connect: the request is a CONNECT.
        Raises Lost.
        """
        if self.state is not State.IDLE:
            raise Lost("the connection was closed before the request was sent")
        self._reset(streaming, connect)
        self.state = State.HEAD

    @property
    def untaken(self) -> int:
        """Bytes of the body that have arrived and were neither taken nor returned."""
        return len(self._body or b"")

    def spoil(self) -> None:
        """The request was not sent completely: its answer must be the last on this connection."""
        self._spoilt = True
        if self.state is State.IDLE:
            self.state = State.OVER

    def take(self) -> bytes:
        """For a stream: the part of the body that has arrived since the last call."""
        taken, self._body = bytes(self._body or b""), None
        return taken

    def feed(self, data: bytes) -> Answer | None:
        """Process bytes that have arrived; returns the answer if they complete it. Raises BadAnswer."""
        if self.state is State.HEAD:
            data = self._read_head(data)
        if self.state is State.LENGTH:
            return self._by_length(data)
        if self.state is State.CHUNKS:
            return self._by_chunks(data)
        if self.state is State.CLOSE:
            self._add(data)
        elif data:
            raise self._bad("bytes came that nobody asked for")
        return None

    def end(self) -> Answer | None:
        """The peer has closed; returns the answer if closing is how it ends. Raises BadAnswer if an answer is truncated or missing."""
        state, self.state = self.state, State.OVER
        if state is State.CLOSE:
            return self._finished(b"")
        if state in (State.IDLE, State.OVER):
            return None
        if state is not State.HEAD:
            raise BadAnswer("the connection was closed within the body of the answer")
        raise BadAnswer("the connection was closed " + ("within the head of the answer" if self._rest else "without an answer"))

    def _bad(self, why: str) -> BadAnswer:
        self.state = State.OVER
        return BadAnswer(why)

    # The head.

    def _read_head(self, data: bytes) -> bytes:
        """Read the head, and the heads of 1xx answers before it. Returns the bytes after it, or b"" if it is not complete."""
        if self._rest:
            data = self._rest + data
        end = data.find(b"\r\n\r\n") + 4
        known = _known_heads.get(data[:end])
        if known is not None and not (self._streaming or self._connect or self._head_bytes):
            self._rest = b""
            status, headers, self._keep, self._missing = known
            self._head = status, headers
            self.state = State.LENGTH
            return data[end:]
        while True:
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                self._rest = data
                self._check_part(data)
                return b""
            if self._head_bytes + end > HEAD_BYTES_MAX:
                raise self._bad(f"the head of the answer has more than {HEAD_BYTES_MAX} bytes")
            lines = data[: end - 4].split(b"\r\n")
            line = _STATUS_LINE.fullmatch(lines[0])
            if line is None:
                raise self._bad(f"{_NOT_HTTP}: {lines[0][:40]!r}")
            status = int(line[2])
            if status >= 200:
                break
            if status == 101:
                raise self._bad("the server changed to a protocol that nobody asked for")
            self._headers(lines)
            self._head_bytes += end
            data = data[end:]
        self._rest = b""
        headers = self._headers(lines)
        self._head = status, headers
        self._frame(status, headers, line[1] == b"1")
        if end <= _HEAD_KNOWN_BYTES_MAX and not self._head_bytes:
            self._remember(data[:end], status, headers)
        return data[end:]

    def _remember(self, head: bytes, status: int, headers: dict[str, str]) -> None:
        """Cache a head that can come again and whose body has a known length."""
        if self.state is not State.LENGTH or self._streaming or self._connect or not _NEVER_THE_SAME.isdisjoint(headers):
            return
        if len(_known_heads) >= HEADS_KNOWN_MAX:
            _known_heads.clear()
        _known_heads[head] = status, headers, self._keep, self._missing

    def _headers(self, lines: list[bytes]) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in lines[1:]:
            name, value = _known_lines.get(line) or self._learned(line)
            found[name] = value if name not in found else f"{found[name]}, {value}"
        return found

    def _learned(self, line: bytes) -> tuple[str, str]:
        field = _FIELD.fullmatch(line)
        if field is None:
            raise self._bad(f"{_NOT_HTTP}: {line[:40]!r} is no header line")
        name, value = field[1].decode().lower(), field[2].decode("latin-1").rstrip(" \t")
        if name not in _NEVER_THE_SAME and len(line) <= _KNOWN_BYTES_MAX:
            if len(_known_lines) >= LINES_KNOWN_MAX:
                _known_lines.clear()
            _known_lines[line] = name, value
        return name, value

    def _check_part(self, part: bytes) -> None:
        """Check a partial head, to report at once what can never become a valid one, instead of when the time is up."""
        if not part.startswith(_VERSION[: len(part)]) or re.search(rb"(?<!\r)\n", part) is not None:
            raise self._bad(f"{_NOT_HTTP}: {part[:40]!r}")
        if self._head_bytes + len(part) > HEAD_BYTES_MAX:
            raise self._bad(f"the head of the answer has more than {HEAD_BYTES_MAX} bytes")

    def _frame(self, status: int, headers: dict[str, str], modern: bool) -> None:
        """Determine how the body ends (RFC 9112, section 6.3), and whether the connection can be used after it."""
        connection = headers.get("connection")
        if connection is None:
            self._keep = modern
        else:
            tokens = [token.strip() for token in connection.lower().split(",")]
            self._keep = "close" not in tokens and (modern or "keep-alive" in tokens)
        length, coding = headers.get("content-length"), headers.get("transfer-encoding")
        # In Latin-1, only 0 to 9 are decimal.
        if length is not None and not (length.isdecimal() and len(length) <= _LENGTH_DIGITS_MAX):
            raise self._bad(f"the length of the answer is {length[:40]!r}")
        if self._connect and status < 300:
            self._keep = True
            self.state = State.LENGTH
        elif status in _WITHOUT_BODY:
            if status == 204 and (coding is not None or int(length or 0)):
                raise self._bad("a 204 has a body")
            self.state = State.LENGTH
        elif coding is not None:
            if length is not None or coding.lower() != "chunked" or not modern:
                raise self._bad(f"the body of the answer is sent as {coding[:40]!r}" + ("" if length is None else " and with a length"))
            self.state = State.CHUNKS
        elif length is not None:
            self._missing = int(length)
            if self._missing > BODY_BYTES_MAX and not self._streaming:
                raise self._too_large()
            self.state = State.LENGTH
        else:
            self._keep = False
            self.state = State.CLOSE
        if self._streaming and headers.get("content-encoding", "identity").lower() != "identity":
            raise self._bad("a stream is encoded, which nobody asked for")

    # The body.

    def _by_length(self, data: bytes) -> Answer | None:
        missing = self._missing = self._missing - len(data)
        if missing > 0:
            self._add(data)
            return None
        if missing < 0:
            self._keep = False
            data = data[:missing]
        return self._finished(data)

    def _by_chunks(self, data: bytes) -> Answer | None:
        """Chunks: each is a line with its size, its bytes and an empty line. At the end: a chunk of size 0, trailers, an empty line."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        at = 0
        while at < len(data):
            if self._chunk == _BYTES:
                piece = data[at : at + self._missing]
                self._add(piece)
                at += len(piece)
                self._missing -= len(piece)
                if not self._missing:
                    self._chunk = _GAP
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                self._rest = data[at:]
                if len(self._rest) > HEAD_BYTES_MAX or (self._chunk == _GAP and self._rest != b"\r"):
                    raise self._bad("the chunks of the answer cannot be read")
                break
            if self._after_line(data[at:end]):
                if end + 2 < len(data):
                    self._keep = False
                return self._finished(b"")
            at = end + 2
        return None

    def _after_line(self, line: bytes) -> bool:
        """Process a complete line outside of the chunks' bytes. Returns whether it was the last."""
        if self._chunk == _SIZE:
            size = _CHUNK_LINE.fullmatch(line)
            if size is None:
                raise self._bad(f"the chunks of the answer cannot be read: {line[:40]!r}")
            self._missing = int(size[1], 16)
            self._head_bytes = 0
            self._chunk = _BYTES if self._missing else _TRAILER
        elif self._chunk == _GAP:
            if line:
                raise self._bad("a chunk of the answer is longer than it says")
            self._chunk = _SIZE
        elif not line:
            return True
        else:
            self._head_bytes += len(line) + 2
            if self._head_bytes > HEAD_BYTES_MAX or _FIELD.fullmatch(line) is None:
                raise self._bad("the trailers of the answer cannot be read")
        return False

    def _add(self, data: bytes) -> None:
        if self._body is None:
            self._body = bytearray(data)
        else:
            self._body += data
        if len(self._body) > BODY_BYTES_MAX:
            raise self._too_large()

    def _too_large(self) -> BadAnswer:
        return self._bad(f"the body of the answer has more than {BODY_BYTES_MAX} bytes")

    def _finished(self, data: bytes) -> Answer:
        """The answer, completed by these bytes."""
        assert self._head is not None
        status, headers = self._head
        if self._body:
            self._body += data
            data = bytes(self._body)
            self._body = None
        encoding = headers.get("content-encoding")
        if encoding is not None and data:
            data = self._decompressed(encoding.lower(), data)
        self.state = State.IDLE if self._keep and not self._spoilt else State.OVER
        return Answer(status, headers, data)

    def _decompressed(self, encoding: str, data: bytes) -> bytes:
        if encoding == "identity":
            return data
        if encoding not in _ENCODINGS:
            raise self._bad(f"the body of the answer is encoded as {encoding[:40]!r}")
        unpacking = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)
        try:
            plain = unpacking.decompress(data, BODY_BYTES_MAX)
        except zlib.error as error:
            raise self._bad(f"the body of the answer cannot be decompressed: {error}") from None
        if unpacking.unconsumed_tail:
            raise self._too_large()
        if not unpacking.eof:
            raise self._bad("the body of the answer ends within its compression")
        return plain


_SIZE, _BYTES, _GAP, _TRAILER = range(4)
"""The next part of a chunked body: the line with a size, the bytes, the empty line after them, trailers."""
