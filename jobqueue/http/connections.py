"""Connections: one guard in front of both ways of serving, with every bound and every deadline.

A `Connection` owns its socket's transport. It finds where each request begins and ends, hands them on one at a time, and writes their
answers. Beneath it is one of two ways. *Plain* is aiohttp's documented `web.Server` (`plain.py`): it is given a whole head, calls the
handler in a task, and reads the body. *Fast* needs none of that for ordinary requests: their heads are known (`heads.py`) or parsed by
aiohttp's parser alone (`fast.py`), their bodies have a length, and they are run right here. What is not ordinary goes the plain way there
too. So what holds here holds for every request, whichever way it is served:

- **Connections**, in all and for one address. Over a cap, a few more are accepted and answered 429 on everything but the public routes,
  so that a health check still gets through a full server; beyond those, connections are cut at once. So the server never runs out of file
  descriptors, which would make the accept loop spin.
- **One deadline for a whole request**, set once, when its first byte arrives. No later byte moves it.
- **A head** has at most HEAD_BYTES_MAX bytes, from its first to its empty line. aiohttp never sees a part of one.
- **Unread bytes** (heads and bodies that have not arrived whole, requests behind the one being served) are counted over all connections;
  the connection that goes over the bound is refused. What stands behind a request is not read beyond AHEAD_BYTES_MAX.
- **Unsent bytes**: a connection has one answer under way at a time, and serves nothing before the kernel has taken it. Over all
  connections they are counted; over the bound, the one with most is cut off.
- **Silence**: a connection without a request, and one whose client does not read its answer, is closed after a time.

How a request is then served is `serving.py`'s, what comes before any request `peers.py`'s.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, Protocol, cast

from jobqueue.errors import BadRequest, CallerError, QueueError, TooManyConnections
from jobqueue.http.answers import Answer
from jobqueue.http.body import AHEAD_BYTES_MAX, Stream, late
from jobqueue.http.framing import Chunked, Counted
from jobqueue.http.heads import EXPECT, HOST, HTTP_11, NO_FIELDS, TRANSFER_ENCODING, Head, Heads
from jobqueue.http.peers import BEHIND, BODY
from jobqueue.http.request import ClientGone, Request
from jobqueue.http.serving import Handles, ServingPeer

HEAD_BYTES_MAX = 32_768
"""The longest head: request line (8,190 bytes at most), header lines (16,384 the longest of them), empty line."""

HEAD_LINES_MAX = 128
"""Header lines of a head."""

PART_SECONDS = 0.1
"""How long the rest of a small body is waited for before its request is begun. What comes later is read with the request's deadline."""

PART_BYTES_MAX = 65_536
"""The longest request that is waited for so."""

LINGER_SECONDS = 2.0
"""How long a connection that is given up is still read from: closed at once, the kernel would take back the answer it just sent."""

SERVED_PER_TURN = 32
"""Requests of one connection served in one turn of the loop."""

STRANGE_MAX = 64
"""Requests in a row whose heads are not known, after which a connection does without the looking up."""

_LINE_BEGINS = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}(?: [^\r\n]*(?:\r(?:\n.*)?)?)?", re.DOTALL)
"""What a part of a head may look like: a method, then a line that ends in CR LF."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\n"

_logger = logging.getLogger("jobqueue.http")


class HttpVersionNotSupported(CallerError):
    """HTTP/0.9 or HTTP/2 spoken at the wrong place."""

    code = "http_version"


class Parser(Protocol):
    """Parses heads for the fast way."""

    def parse(self, raw: bytes) -> Head | None:
        """What a whole head says; None unless it is that of an ordinary request, whose body has a length."""


class Below(Protocol):
    """A plain way beneath one connection."""

    def head(self, raw: bytes) -> None:
        """Take a whole head, and have the handler called for it."""

    def body(self, data: bytes) -> None:
        """Take some of that request's body."""

    def lost(self, error: BaseException | None) -> None:
        """The client has gone."""


class PlainWay(Protocol):
    """Serves what the fast way does not."""

    def below(self, connection: Connection) -> Below:
        """What serves one connection."""


class Server(Handles, Protocol):
    """What all connections of a server share: see `server.Server`."""

    @property
    def heads(self) -> Heads:
        """Those that are known."""

    @property
    def parser(self) -> Parser | None:
        """Of the fast way, where that is open."""

    @property
    def plain(self) -> PlainWay:
        """The plain way."""

    @property
    def refused(self) -> Callable[[QueueError], Answer]:
        """The answer to what is no request."""


_PASSED_ON = Request(Head("", "", NO_FIELDS), cast(Any, None))
"""Stands for a request that was given to the plain way, until that calls the handler for it."""


class Connection(ServingPeer):
    """One client's connection."""

    __slots__ = ("_awaited", "_below", "_buffer", "_frame", "_held", "_strange", "_stream")

    server: Server

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop)
        self._buffer = b""
        """What has come and is not served yet: a part of a request, or what stands behind the one being served."""
        self._awaited: tuple[Head, int, int] | None = None
        """The head that the buffer begins with, where its body begins, and how long both are."""
        self._frame: Counted | Chunked | None = None
        self._stream: Stream | None = None
        self._held = 0
        """Bytes of the body that came after its request was begun."""
        self._below: Below | None = None
        self._strange = 0

    def __repr__(self) -> str:
        state = "lost" if self.transport is None else "closing" if self._closing else "idle" if self.idle else "busy"
        return f"<Connection from {self.address or 'nowhere'}, {state}>"

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget what has come."""
        self._keep(b"")
        self._forget_body()
        self._awaited = None
        super().connection_lost(exc)
        if self._below is not None:
            self._below.lost(exc)
            self._below = None

    def data_received(self, data: bytes) -> None:
        """Serve at once what can be."""
        if self._closing:
            return
        if self._half is not None:
            self._step_up()
        if self._request is not None:
            self._more(data)
            return
        if self._buffer:
            data = self._buffer + data
            awaited = self._awaited
            if awaited is not None and len(data) < awaited[2]:
                self._keep(data)
                return
        self._serve(data)

    # Finding requests.

    def _serve(self, data: bytes) -> None:
        """Serve what the data holds from its start, where a request begins; keep what is left."""
        at, served, size = 0, 0, len(data)
        self._keep(b"")
        while at < size and not self._closing:
            if served == SERVED_PER_TURN:
                self._loop.call_soon(self._go_on)
                break
            end = data.find(b"\r\n\r\n", at)
            if end < 0 or data[at] <= 13:
                # Empty lines before a request are skipped (RFC 9112, section 2.2).
                rest = data[at:].lstrip(b"\r\n")
                if len(rest) == size - at or not rest:
                    self._partial(rest)
                    return
                data, at, size = rest, 0, len(rest)
                continue
            if end + 4 - at > HEAD_BYTES_MAX:
                self._refuse_head()
                return
            head = self._head(data, at, end)
            if head is None:
                if not self._closing:
                    self._pass_on(data[at:], end + 4 - at)
                return
            stop = end + 4 + head.size
            if stop > size:
                self._incomplete(head, data[at:], end + 4 - at)
                return
            request = Request(head, self, data[end + 4 : stop])
            at = stop
            served += 1
            self._run(request, more=at < size)
            if self._request is not None:
                break
        self._keep(data[at:] if at < size and not self._closing else b"")
        if self._request is None and not self._closing:
            self._awaited = None
            self.deadline = 0.0

    def _head(self, data: bytes, at: int, end: int) -> Head | None:
        """The head of an ordinary request, where the fast way is open; None of any other."""
        if self._awaited is not None and at == 0:
            head, self._awaited = self._awaited[0], None
            return head
        server = self.server
        parser = server.parser
        if parser is not None and self._strange < STRANGE_MAX:
            known = server.heads.find(data, at, end)
            if known is not None:
                self._strange = 0
                return known
            self._strange += 1
        if data.startswith(_PREFACE, at):
            self.refuse(HttpVersionNotSupported("this is HTTP/2; speak HTTP/1.1 or HTTP/1.0"))
            return None
        if parser is None:
            return None
        raw = data[at : end + 4]
        parsed = parser.parse(raw)
        if parsed is None or not self.accepts(parsed):
            return None
        server.heads.learn(raw, parsed)
        return parsed

    def accepts(self, head: Head) -> bool:
        """Whether a head is as it should be. What some releases of aiohttp let pass is refused."""
        if head.version is HTTP_11 and len(head.headers.getall(HOST, ())) != 1:
            self.refuse(BadRequest(None, "not a valid HTTP request: it needs one Host header (RFC 9112, section 3.2)"))
            return False
        codings = head.headers.getall(TRANSFER_ENCODING, ())
        if codings and (head.version is not HTTP_11 or [coding.lower() for coding in codings] != ["chunked"]):
            self.refuse(BadRequest(None, "not a valid HTTP request: Transfer-Encoding can be chunked alone, and in HTTP/1.1 alone"))
            return False
        if len(head.headers) > HEAD_LINES_MAX:
            self.refuse(BadRequest(None, f"not a valid HTTP request: it has more than {HEAD_LINES_MAX} header lines"))
            return False
        return True

    def _partial(self, data: bytes) -> None:
        """No whole head has come."""
        self._keep(data)
        if not data or self._closing:
            return
        if len(data) > HEAD_BYTES_MAX:
            self._refuse_head()
        elif _LINE_BEGINS.fullmatch(data) is None:
            self.refuse(BadRequest(None, "not a valid HTTP request: it does not begin with a request line"))
        else:
            self._begins()

    def _begins(self) -> None:
        """A request has begun to arrive: set its deadline, once."""
        if not self.deadline:
            self.deadline = self._loop.time() + self.server.request_seconds
            self._expire_at(self.deadline)

    def _incomplete(self, head: Head, data: bytes, body_at: int) -> None:
        """A whole head, and not all of its body: wait a moment for the rest of a small one. data begins with the head."""
        self._keep(data)
        if self._closing:
            return
        self._begins()
        whole = body_at + head.size
        self._awaited = head, body_at, whole
        if whole > PART_BYTES_MAX or EXPECT in head.headers:
            self._begin_awaited()
        else:
            self._expire_at(min(self.deadline, self._loop.time() + PART_SECONDS))

    def _begin_awaited(self) -> None:
        """Begin the request whose head has come and whose body has not: its handler reads that as it arrives."""
        assert self._awaited is not None
        (head, body_at, whole), self._awaited = self._awaited, None
        data = self._buffer
        self._keep(b"")
        stream = self._stream = Stream(self)
        self._frame = Counted(whole - body_at)
        request = self._request = Request(head, self, None, stream)
        self.server.requests_count += 1
        self._take_body(data[body_at:])
        serving = self.server.handler(request)
        self._start(serving, request, serving)

    def _pass_on(self, data: bytes, body_at: int) -> None:
        """Give a whole head to the plain way; what is behind it when the handler is called (`passed_back`)."""
        below = self._below
        if below is None:
            below = self._below = self.server.plain.below(self)
        self._begins()
        self._request = _PASSED_ON
        self._keep(data[body_at:])
        if not self._closing:
            below.head(data[:body_at])

    def passed_back(self, request: Request, chunked: bool) -> bool:
        """The plain way is about to call the handler; whether it may. chunked: how the body comes, if it has no length."""
        if self._closing or self._request is not _PASSED_ON or not self.accepts(request.head):
            return False
        if chunked:
            first = Chunked()
            first.take(self._buffer)
            if first.broken:
                self.refuse(BadRequest(None, "not a valid HTTP request: its chunks cannot be read"))
                return False
        self._request = request
        self.server.requests_count += 1
        if chunked or request.head.size:
            self._frame = Chunked() if chunked else Counted(request.head.size)
        data = self._buffer
        self._keep(b"")
        self.resume_reading(BEHIND)
        self._more(data)
        return True

    def _more(self, data: bytes) -> None:
        """What comes while a request is served: its body first, then what stands behind it."""
        request = self._request
        if request is not _PASSED_ON and self._frame is not None and not self._frame.whole:
            data = data[self._take_body(data) :]
        if data:
            self._keep(self._buffer + data)
            if len(self._buffer) > AHEAD_BYTES_MAX:
                self.pause_reading(BEHIND)

    def _take_body(self, data: bytes) -> int:
        """Hand on what of the data belongs to the body being read; how much that was."""
        frame, request = self._frame, self._request
        assert frame is not None
        assert request is not None
        count, said = frame.take(data)
        if not frame.broken:
            self._held += count
            self.server.unread_bytes += count
        if self._stream is not None:
            self._stream.feed(said, frame.whole)
        elif self._below is not None and said:
            self._below.body(said)
        if frame.broken:
            request.head.should_close = True
            request.body.broke()
        if self.server.unread_bytes > self.server.unread_bytes_max:
            self._too_much()
        return count

    def _forget_body(self) -> None:
        self.server.unread_bytes -= self._held
        self._held = 0
        self._frame = self._stream = None
        self.resume_reading(BODY)

    def _keep(self, data: bytes) -> None:
        """Set aside what is not served yet."""
        if data is self._buffer:
            return
        server = self.server
        server.unread_bytes += len(data) - len(self._buffer)
        self._buffer = data
        if server.unread_bytes > server.unread_bytes_max and data:
            self._too_much()

    def _too_much(self) -> None:
        if not self._closing:
            bound = self.server.unread_bytes_max
            self.refuse(TooManyConnections(f"too many bytes of unfinished requests on all connections (limit {bound})"))

    def _next(self) -> None:
        if self._frame is not None:
            self._forget_body()
        if self._buffer:
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Serve what stood behind a request."""
        if self._request is None and self._awaited is None and self._buffer and not self._closing and self.transport is not None:
            self.resume_reading(BEHIND)
            self._serve(self._buffer)

    # Ending.

    @property
    def idle(self) -> bool:
        """Whether nothing is asked of it."""
        return self._request is None and not self._buffer

    def _refuse_head(self) -> None:
        self.refuse(BadRequest(None, f"not a valid HTTP request: its head has more than {HEAD_BYTES_MAX} bytes"))

    def refuse(self, error: QueueError) -> None:
        """Answer what is no request, and close: whatever follows cannot be trusted to be one. One log line, no traceback."""
        if self._closing or self.transport is None:
            return
        _logger.info("refused a request: %r", error.detail[:200])
        if self._request is not None and self._request is not _PASSED_ON:
            # Its answer may be under way.
            self._closing = True
            self.transport.abort()
            return
        answer = self.server.refused(error)
        try:
            answer.write_now(Request(Head("GET", "", NO_FIELDS), self, b""))
        except ClientGone:
            self.force_close()
        else:
            self._finish(linger=True)

    def _finish(self, linger: bool = False) -> None:
        """Serve nothing more. What is still to come is read and dropped for a while, so that the answer arrives."""
        linger = linger or bool(self._buffer) or (self._frame is not None and not self._frame.whole)
        self._closing = True
        self._request = self._awaited = None
        self._keep(b"")
        self._forget_body()
        transport = self.transport
        if transport is None:
            return
        if not linger:
            transport.close()
            return
        self.resume_reading(BEHIND)
        if transport.can_write_eof():
            transport.write_eof()
        self._expire_in(LINGER_SECONDS)

    def close_soon(self) -> None:
        """Close when what is being served is answered, or at once."""
        if self.idle:
            self.force_close()

    def _is_busy(self) -> bool:
        # Its handler reads the body by the same deadline.
        return self._request is not None and self._request is not _PASSED_ON and not self._closing

    def _expired(self) -> None:
        if self._awaited is not None:
            self._begin_awaited()
        elif self._buffer or self._request is not None:
            self.refuse(late(self.server.request_seconds))
        else:
            self.force_close()
