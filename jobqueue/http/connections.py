"""Connections: one guard in front of both ways of serving, with every limit and every deadline.

A `Connection` owns its socket's transport. It finds where each request begins and ends, passes the requests on one at a time, and writes
their answers. There are two ways to serve a request. *Plain* is aiohttp's documented `web.Server` (`plain.py`): it gets a whole head, calls
the handler in a task, and reads the body. *Fast* does without that for ordinary requests: their heads are known (`heads.py`) or parsed by
aiohttp's parser alone (`fast.py`), their bodies have a length, and they are run in this module. With the fast way, requests that are not
ordinary are still served the plain way. The following holds for every request, whichever way it is served:

- **Connections** are limited, in total and for one address. Over a limit, a few more are accepted and answered 429 on everything except the
  public routes, so that a health check still works on a full server; beyond those, connections are cut at once. So the server never runs
  out of file descriptors, which would make the accept loop spin.
- **One deadline for a whole request**, set once, when its first byte arrives. Later bytes do not move it.
- **A head** has at most HEAD_BYTES_MAX bytes, from its first byte to its empty line. aiohttp never gets a part of a head.
- **Unread bytes** (heads and bodies that have not fully arrived, requests behind the one being served) are counted over all connections;
  the connection that exceeds the limit is refused. Data behind a request is read only up to AHEAD_BYTES_MAX.
- **Unsent bytes**: a connection sends one answer at a time, and serves nothing before the kernel has taken it. Unsent bytes are counted
  over all connections; over the limit, the connection with the most is cut off.
- **Silence**: a connection without a request, and one whose client does not read its answer, is closed after a time.

How a request is then served is in `serving.py`; what happens before any request is in `peers.py`.
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
"""The longest head: request line (8,190 bytes at most), header lines (the longest has at most 16,384 bytes), empty line."""

HEAD_LINES_MAX = 128
"""The most header lines in a head."""

PART_SECONDS = 0.1
"""How long to wait for the rest of a small body before its request is started. Data that arrives later is read until the request's
deadline."""

PART_BYTES_MAX = 65_536
"""The longest request for which this wait is done."""

LINGER_SECONDS = 2.0
"""How long a connection that is being closed is still read from: if it were closed at once, the kernel would discard the answer just
sent."""

SERVED_PER_TURN = 32
"""Requests of one connection served in one turn of the loop."""

STRANGE_MAX = 64
"""After this many requests in a row with unknown heads, the connection no longer looks heads up."""

_LINE_BEGINS = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}(?: [^\r\n]*(?:\r(?:\n.*)?)?)?", re.DOTALL)
"""The expected start of an incomplete head: a method, then a line that ends in CR LF."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\n"

_logger = logging.getLogger("jobqueue.http")


class HttpVersionNotSupported(CallerError):
    """HTTP/0.9 or HTTP/2 was sent where it is not supported."""

    code = "http_version"


class Parser(Protocol):
    """Parses heads for the fast way."""

    def parse(self, raw: bytes) -> Head | None:
        """The contents of a whole head; None unless it belongs to an ordinary request, whose body has a length."""


class Below(Protocol):
    """The plain way, below one connection."""

    def head(self, raw: bytes) -> None:
        """Take a whole head, and have the handler called for it."""

    def body(self, data: bytes) -> None:
        """Take some of that request's body."""

    def lost(self, error: BaseException | None) -> None:
        """The client has gone."""


class PlainWay(Protocol):
    """Serves the requests that the fast way does not serve."""

    def below(self, connection: Connection) -> Below:
        """The object that serves one connection."""


class Server(Handles, Protocol):
    """The state that all connections of a server share: see `server.Server`."""

    @property
    def heads(self) -> Heads:
        """The known heads."""

    @property
    def parser(self) -> Parser | None:
        """The parser of the fast way, if that way is in use."""

    @property
    def plain(self) -> PlainWay:
        """The plain way."""

    @property
    def refused(self) -> Callable[[QueueError], Answer]:
        """Makes the answer to data that is not a request."""


_PASSED_ON = Request(Head("", "", NO_FIELDS), cast(Any, None))
"""A placeholder for a request that was given to the plain way, until the plain way calls its handler."""


class Connection(ServingPeer):
    """One client's connection."""

    __slots__ = ("_awaited", "_below", "_buffer", "_frame", "_held", "_passed", "_strange", "_stream")

    server: Server

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop)
        self._buffer = b""
        """Data that has arrived and is not served yet: a part of a request, or data behind the request being served."""
        self._awaited: tuple[Head, int, int] | None = None
        """The head at the start of the buffer, where its body begins, and the length of both together."""
        self._frame: Counted | Chunked | None = None
        self._stream: Stream | None = None
        self._held = 0
        """Bytes of the body that arrived after its request was started."""
        self._below: Below | None = None
        self._passed = b""
        """The head that was given to the plain way, if it can be learnt."""
        self._strange = 0

    def __repr__(self) -> str:
        state = "lost" if self.transport is None else "closing" if self._closing else "idle" if self.idle else "busy"
        return f"<Connection from {self.address or 'nowhere'}, {state}>"

    def connection_lost(self, exc: BaseException | None) -> None:
        """Drop all data that has arrived."""
        self._keep(b"")
        self._forget_body()
        self._awaited = None
        super().connection_lost(exc)
        if self._below is not None:
            self._below.lost(exc)
            self._below = None

    def data_received(self, data: bytes) -> None:
        """Serve at once what can be served."""
        if self._closing:
            return
        if self._half is not None:
            self._step_up()
        if self._request is not None:
            self._more(data)
            return
        if not self._buffer:
            # The most frequent case is known and complete: one request in one packet.
            end = data.find(b"\r\n\r\n")
            if end > 0 and self._strange < STRANGE_MAX:
                head = self.server.heads.find(data, 0, end)
                if head is not None and end + 4 + head.size == len(data):
                    self._strange = 0
                    self._run(Request(head, self, data[end + 4 :]), False)
                    return
        else:
            data = self._buffer + data
            awaited = self._awaited
            if awaited is not None and len(data) < awaited[2]:
                self._keep(data)
                return
        self._serve(data)

    # Finding requests.

    def _serve(self, data: bytes) -> None:
        """Serve the data, which begins with a request; keep the rest."""
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
        """The head of an ordinary request, if the fast way is in use; None for any other."""
        if self._awaited is not None and at == 0:
            head, self._awaited = self._awaited[0], None
            return head
        server = self.server
        if self._strange < STRANGE_MAX:
            known = server.heads.find(data, at, end)
            if known is not None:
                self._strange = 0
                return known
            self._strange += 1
        if data.startswith(_PREFACE, at):
            self.refuse(HttpVersionNotSupported("this is HTTP/2; speak HTTP/1.1 or HTTP/1.0"))
            return None
        parser = server.parser
        if parser is None:
            return None
        raw = data[at : end + 4]
        parsed = parser.parse(raw)
        if parsed is None or not self.accepts(parsed):
            return None
        server.heads.learn(raw, parsed)
        return parsed

    def accepts(self, head: Head) -> bool:
        """Whether a head is valid. Refuses what some releases of aiohttp accept."""
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
        """Handle data without a whole head."""
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
        """Handle a whole head without all of its body: wait a moment for the rest of a small one. `data` begins with the head."""
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
        """Start the request whose head has arrived and whose body has not: its handler reads the body as it arrives."""
        assert self._awaited is not None
        (head, body_at, whole), self._awaited = self._awaited, None
        data = self._buffer
        self._keep(b"")
        stream = self._stream = Stream(self)
        self._frame = Counted(whole - body_at)
        request = self._request = Request(head, self, None, stream)
        self.handed = None
        self.server.requests_count += 1
        self._take_body(data[body_at:])
        serving = self.server.handler(request)
        self._start(serving, request, serving)

    def _pass_on(self, data: bytes, body_at: int) -> None:
        """Give a whole head to the plain way. The data behind it follows when the handler is called (`passed_back`)."""
        below = self._below
        if below is None:
            below = self._below = self.server.plain.below(self)
        self._begins()
        self._request = _PASSED_ON
        self._keep(data[body_at:])
        if not self._closing:
            raw = data[:body_at]
            if self.server.parser is None and self._strange <= STRANGE_MAX:
                self._passed = raw
            below.head(raw)

    def passed_back(self, request: Request, chunked: bool) -> bool:
        """Called when the plain way is about to call the handler; returns whether it may. chunked: how the body is framed, if it has no
        length.
        """
        raw, self._passed = self._passed, b""
        if self._closing or self._request is not _PASSED_ON or not self.accepts(request.head):
            return False
        if raw:
            self.server.heads.learn(raw, request.head)
        if chunked:
            first = Chunked()
            first.take(self._buffer)
            if first.broken:
                self.refuse(BadRequest(None, "not a valid HTTP request: its chunks cannot be read"))
                return False
        self._request = request
        self.handed = None
        self.server.requests_count += 1
        if chunked or request.head.size:
            self._frame = Chunked() if chunked else Counted(request.head.size)
        data = self._buffer
        self._keep(b"")
        self.resume_reading(BEHIND)
        self._more(data)
        return True

    def _more(self, data: bytes) -> None:
        """Handle data that arrives while a request is served: first its body, then data behind it."""
        request = self._request
        if request is not _PASSED_ON and self._frame is not None and not self._frame.whole:
            data = data[self._take_body(data) :]
        if data:
            self._keep(self._buffer + data)
            if len(self._buffer) > AHEAD_BYTES_MAX:
                self.pause_reading(BEHIND)

    def _take_body(self, data: bytes) -> int:
        """Pass on the part of the data that belongs to the body being read. Returns how many bytes that was."""
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
        """Keep data that is not served yet."""
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
        """Serve the data behind a request."""
        if self._request is None and self._awaited is None and self._buffer and not self._closing and self.transport is not None:
            self.resume_reading(BEHIND)
            self._serve(self._buffer)

    # Ending.

    @property
    def idle(self) -> bool:
        """Whether no request is arriving or being served."""
        return self._request is None and not self._buffer

    def _refuse_head(self) -> None:
        self.refuse(BadRequest(None, f"not a valid HTTP request: its head has more than {HEAD_BYTES_MAX} bytes"))

    def refuse(self, error: QueueError) -> None:
        """Answer data that is not a request, and close: data after it cannot be parsed reliably. One log line, no traceback."""
        if self._closing or self.transport is None:
            return
        _logger.info("refused a request: %r", error.detail[:200])
        if self._request is not None and self._request is not _PASSED_ON:
            # The answer to the request may be partly sent.
            self._closing = True
            self.transport.abort()
            return
        self.handed = None
        answer = self.server.refused(error)
        try:
            answer.write_now(Request(Head("GET", "", NO_FIELDS), self, b""))
        except ClientGone:
            self.force_close()
        else:
            self._finish(linger=True)

    def _finish(self, linger: bool = False) -> None:
        """Serve no more requests. Data that still arrives is read and dropped for a while, so that the answer gets through."""
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
        """Close when the current request is answered, or at once if there is none."""
        if self.idle:
            self.force_close()

    def _is_busy(self) -> bool:
        # Its handler reads the body with the same deadline.
        return self._request is not None and self._request is not _PASSED_ON and not self._closing

    def _expired(self) -> None:
        if self._awaited is not None:
            self._begin_awaited()
        elif self._buffer or self._request is not None:
            self.refuse(late(self.server.request_seconds))
        else:
            self.force_close()
