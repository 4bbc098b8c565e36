"""AsyncClient's connections: aiohttp opens, keeps and closes them; a request and its answer pass over them without its session.

A session makes a request, a response, a writer, a timer and half a dozen turns out of every call: 150 µs of CPU where all else of a small
call takes 50, and a pickup waits for it twice. A call here is one write, and an answer that comes whole, with a head that was met
before, is found by its bytes. Everything else is left to aiohttp's own parser, and read as its session reads it
(docs/decisions/0011-calls-without-a-session.md).

What this uses of aiohttp beyond its documented face, pinned by tests/client/test_connections.py: `BaseConnector._factory`, which makes
the connections, `connect` with a `ClientRequest`, and `ResponseHandler` with its queue of messages.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from functools import partial
from typing import Any, cast

from aiohttp import ClientConnectionError, ClientRequest, ClientTimeout, ServerDisconnectedError, TCPConnector, hdrs
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection as Held
from aiohttp.http import HttpProcessingError, HttpVersion11, RawResponseMessage
from multidict import CIMultiDictProxy
from yarl import URL

from jobqueue.client.endpoint import Endpoint
from jobqueue.client.problems import Answer
from jobqueue.client.sending import Request

HEADS_MAX = 64
"""Heads kept; all are dropped when there are more."""

HEAD_BYTES_MAX = 2_048
"""The longest that is kept."""

IDLE_SECONDS = 15.0
"""How long a connection is kept that nobody uses: as in aiohttp, and less than servers and proxies keep it."""

_VARYING = re.compile(rb"\r\n(?:Content-Length: ([0-9]{1,9})|(?:Date|Location|X-Request-ID): [!-~][ -~]*)(?=\r\n)")

_WITHOUT_LENGTH, _WITHOUT_BODY = 204, 304


class Heads:
    """Heads of answers by their bytes, but for the lines of `_VARYING`, which differ from answer to answer and steer nothing.

    Why that is sound. What aiohttp makes of a head is a function of its bytes, and a head is only kept that it let pass, of an answer that
    holds no surprise: HTTP/1.1, kept alive, neither chunked nor encoded, with one Content-Length, or without any and a 204. Lines of the
    plainest form that are left out of a head leave the meaning of the others as it is; the length is read anew each time.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, CIMultiDictProxy[str]]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, data: bytes) -> Answer | None:
        """The answer, if `data` is exactly one with a known head. Its headers lack those that vary."""
        end = data.find(b"\r\n\r\n") + 2
        parts = _VARYING.split(data[:end])
        known = self._known.get(b"".join(parts[::2]))
        if known is None or len(data) != end + 2 + _length(parts, known[0]):
            return None
        return Answer(known[0], known[1], data[end + 2 :])

    def learn(self, data: bytes, message: RawResponseMessage, body: bytes) -> None:
        """Keep the head of an answer, if it is plain and `data`, with which it began, was all of it."""
        end = data.find(b"\r\n\r\n") + 2
        if message.version is not HttpVersion11 or message.should_close or message.upgrade or message.chunked or message.compression:
            return
        parts = _VARYING.split(data[:end])
        length = _length(parts, message.code)
        if not 2 <= end <= HEAD_BYTES_MAX or length != len(body) or len(data) != end + 2 + length or message.code == _WITHOUT_BODY:
            return
        # The first head may have been that of a 103, whose answer came later.
        if (message.code == _WITHOUT_LENGTH) is (hdrs.CONTENT_LENGTH in message.headers) or data[9:12] != b"%d" % message.code:
            return
        if len(self._known) >= HEADS_MAX:
            self._known.clear()
        steady = message.headers.copy()
        for name in (hdrs.DATE, hdrs.LOCATION, hdrs.CONTENT_LENGTH, "X-Request-ID"):
            steady.popall(name, None)
        self._known[b"".join(parts[::2])] = message.code, CIMultiDictProxy(steady)


def _length(parts: list[bytes], status: int) -> int:
    """The length of the body that a head tells of, cut at its varying lines; -1 where that cannot be told from one plain line."""
    lengths = [length for length in parts[1::2] if length]
    if len(lengths) == 1:
        return int(lengths[0])
    return 0 if status == _WITHOUT_LENGTH and not lengths else -1


class Connection(ResponseHandler):
    """One connection, on which one request at a time is answered."""

    def __init__(self, heads: Heads, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._heads = heads
        self._waiting: asyncio.Future[Answer | None] | None = None
        """For the first bytes of an answer: the answer, if these are all of it and plain."""
        self._first = b""
        self.idle_since = 0.0
        """When its last answer came, by the loop's clock."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Have what is written leave at once, not when the loop comes round: the server begins while this side is still busy."""
        super().connection_made(transport)
        if transport.get_extra_info("sslcontext") is None:
            cast(asyncio.Transport, transport).set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer. Those that nobody asked for make the connection useless: what they are would be anyone's guess."""
        if self._waiting is not None:
            answer = self._heads.find(data)
            if answer is None:
                self._first = data
                self.set_response_params(read_until_eof=True)
                super().data_received(data)
            self._begin(answer)
        elif self._parser is not None:
            super().data_received(data)
        else:
            self.force_close()
            if self.transport is not None:
                self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        """See ResponseHandler; who waits is told why by reading on."""
        super().connection_lost(exc)
        self._begin(None)

    async def exchange(self, request: bytes, seconds: float) -> Answer:
        """The answer to a request. Raises ClientError, HttpProcessingError; after that, and when cancelled, there is only to close it."""
        transport, loop = self.transport, self._loop
        if transport is None or transport.is_closing():
            raise ServerDisconnectedError
        self._waiting = loop.create_future()
        # Not asyncio.timeout, which takes longer than all else here.
        timer = loop.call_later(seconds, self._too_late)
        try:
            transport.write(request)
            answer = await self._waiting or await self._parsed()
        finally:
            timer.cancel()
        if self.transport is not None and transport.get_write_buffer_size():
            # Answered before it had read all: the rest of the body would stand where the next request should.
            self.force_close()
        return answer

    def _too_late(self) -> None:
        """Have whoever waits, for the beginning or the rest, raise aiohttp's error for it."""
        self._on_read_timeout()
        self._begin(None)

    def _begin(self, answer: Answer | None) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def _parsed(self) -> Answer:
        """The answer as aiohttp's parser has it."""
        while True:
            message, payload = await self.read()
            if message.code >= 200 or message.code == 101:
                break
        body = await payload.read()
        self._heads.learn(self._first, message, body)
        self._parser, self._first = None, b""
        return Answer(message.code, message.headers, body)


class Connections:
    """The connections to one server, made as calls need them: no bound keeps an extend waiting behind the dequeues that are held.

    Belongs to the loop that runs when it is made. aiohttp's connector has them all as being used; which are idle is kept here, since
    asking it takes four times as long as all else about sending.
    """

    def __init__(self, endpoint: Endpoint, ssl_context: ssl.SSLContext | None) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._connector = TCPConnector(limit=0, ssl=ssl_context or True)
        cast(Any, self._connector)._factory = partial(Connection, Heads(), loop)
        url = URL(endpoint.url, encoded=True)
        # Never sent: it says where to connect to, and what lines a request of aiohttp's has.
        self._to = ClientRequest("GET", url, headers=endpoint.headers, loop=loop)
        self._prefix = url.raw_path.rstrip("/")
        lines = "".join(f"{name}: {value}\r\n" for name, value in self._to.headers.items())
        self._lines = f" HTTP/1.1\r\n{lines}"
        self._idle: deque[Held] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def _encoded(self, request: Request) -> bytes:
        body = request.body or b""
        length = "" if request.method == "GET" else f"Content-Length: {len(body)}\r\n"
        return f"{request.method} {self._prefix}{request.target}{self._lines}{length}\r\n".encode() + body

    async def exchange(self, request: Request, seconds: float, connect_seconds: float) -> Answer:
        """Send a request and have its answer within so many seconds, of which connecting may take some. Raises ClientError or OSError."""
        held = self._idle_one()
        if held is None:
            started = self._loop.time()
            async with asyncio.timeout(seconds):
                held = await self._connector.connect(self._to, [], ClientTimeout(sock_connect=connect_seconds))
            seconds -= self._loop.time() - started
        connection = cast(Connection, held.protocol)
        try:
            answer = await connection.exchange(self._encoded(request), seconds)
        except BaseException as error:
            # An answer that nobody waits for may still be on its way.
            held.close()
            if isinstance(error, HttpProcessingError):
                raise ClientConnectionError(f"what was answered is not HTTP: {error}") from error
            raise
        if connection.should_close or not connection.is_connected():
            held.close()
        else:
            connection.idle_since = self._loop.time()
            self._idle.append(held)
            if self._timer is None:
                self._timer = self._loop.call_later(IDLE_SECONDS, self._close_idle)
        return answer

    def _idle_one(self) -> Held | None:
        """The one that was used last, so that those too many grow old."""
        while self._idle:
            held = self._idle.pop()
            connection = cast(Connection, held.protocol)
            if connection.is_connected() and connection.idle_since + IDLE_SECONDS > self._loop.time():
                return held
            held.close()
        return None

    def _close_idle(self) -> None:
        """Close those that were idle for too long, and look again when the next may have been."""
        self._timer = None
        now = self._loop.time()
        while self._idle:
            since = cast(Connection, self._idle[0].protocol).idle_since
            if since + IDLE_SECONDS > now:
                self._timer = self._loop.call_at(since + IDLE_SECONDS, self._close_idle)
                return
            self._idle.popleft().close()

    async def close(self) -> None:
        """Close them all; calls on their way fail."""
        if self._timer is not None:
            self._timer.cancel()
        while self._idle:
            self._idle.pop().close()
        await self._connector.close()
