"""The fast way: heads are parsed by aiohttp's parser, without the rest of aiohttp.

`aiohttp.http.HttpRequestParser` is not in aiohttp's documentation, so a release can change it. At the start, `Parser` checks that it exists
and works as expected, and reports what does not. If the check fails, every request is served the plain way, which is slower and depends
only on documented behaviour. So a release of aiohttp can make the server slower, but never break it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from aiohttp import web

from jobqueue.http.answers import Answer
from jobqueue.http.heads import CONTENT_LENGTH, TRANSFER_ENCODING, Head, head_of
from jobqueue.http.plain import FIELD_BYTES_MAX
from jobqueue.http.request import Request
from jobqueue.http.server import Server

AUTO, FAST, PLAIN = "auto", "fast", "plain"
WAYS = (AUTO, FAST, PLAIN)

TRIAL_SECONDS = 5.0

_READ_BYTES = 65_536
_logger = logging.getLogger("jobqueue.http")


class CannotServeFast(Exception):
    """The installed aiohttp does not have what the fast way needs. str() names what is missing."""


class _Nothing(asyncio.Protocol):
    """The protocol that the parser would ask to pause and resume reading, if it were given a body."""

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Parser:
    """aiohttp's parser. A new one is made for each head, so that no state is carried from one request to the next. Raises
    CannotServeFast.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._protocol = _Nothing()
        try:
            from aiohttp.http import HttpRequestParser
        except ImportError:
            raise CannotServeFast("aiohttp.http.HttpRequestParser is not there") from None
        self._make: Any = HttpRequestParser
        try:
            self._try()
        except CannotServeFast:
            raise
        except Exception as error:
            raise CannotServeFast(f"aiohttp.http.HttpRequestParser behaves differently: {error!r}") from None

    def _messages(self, raw: bytes) -> Any:
        parser = self._make(
            self._protocol,
            self._loop,
            _READ_BYTES,
            max_field_size=FIELD_BYTES_MAX,
            payload_exception=web.RequestPayloadError,
            auto_decompress=False,
        )
        return parser.feed_data(raw)

    def parse(self, raw: bytes) -> Head | None:
        """The contents of a whole head; None unless it belongs to an ordinary request, whose body has a length.

        Also None for a head that aiohttp refuses: the plain way then gives the answer.
        """
        try:
            messages, upgraded, tail = self._messages(raw)
        except Exception:
            return None
        if len(messages) != 1 or upgraded or tail:
            return None
        return _ordinary(messages[0][0])

    def _try(self) -> None:
        """Check that the parser gives the expected results."""
        ((message, _),), upgraded, tail = self._messages(b"POST /a?b HTTP/1.1\r\nHost: c\r\nContent-Length: 3\r\n\r\n")
        for name in ("method", "path", "version", "headers", "should_close", "upgrade", "chunked"):
            if not hasattr(message, name):
                raise CannotServeFast(f"aiohttp.http.RawRequestMessage.{name} is not there")
        head = _ordinary(message)
        said = head and (head.method, head.path, head.version, dict(head.headers), head.should_close, head.size)
        if said != ("POST", "/a?b", (1, 1), {"Host": "c", "Content-Length": "3"}, False, 3) or upgraded or tail:
            raise CannotServeFast("aiohttp.http.HttpRequestParser reads a plain request differently")
        for bad in (b"Content-Length: \0", b"Content-Length: +1", b"Content-Length: 1\r\nContent-Length: 2", b"X : y", b"X: \0"):
            if self.parse(b"POST / HTTP/1.1\r\nHost: c\r\n%b\r\n\r\n" % bad) is not None:
                raise CannotServeFast("aiohttp.http.HttpRequestParser lets bad headers pass")


def _ordinary(message: Any) -> Head | None:
    """The head of a request whose end is known from its length."""
    headers = message.headers
    if message.upgrade or message.chunked or message.method == "CONNECT" or TRANSFER_ENCODING in headers:
        return None
    head = head_of(message.method, message.path, message.version, headers, not message.should_close)
    lengths = headers.getall(CONTENT_LENGTH, ())
    if lengths:
        # str.isdigit is true for the digits of every script.
        if len(lengths) != 1 or not (lengths[0].isascii() and lengths[0].isdigit()) or len(lengths[0]) > 18:
            return None
        head.size = int(lengths[0])
    return head


def parser_for(way: str) -> Parser | None:
    """The parser of a way of serving, None for the plain one. Raises CannotServeFast if the fast way is required and not available."""
    if way == PLAIN:
        return None
    try:
        return Parser()
    except CannotServeFast as error:
        if way == FAST:
            raise
        _warn(error)
        return None


def _warn(error: CannotServeFast) -> None:
    _logger.warning("serving the plain way, which is slower: %s", error)


async def proven(way: str) -> str:
    """`fast` or `plain`: the way that can be used, after one real request through a pair of sockets.

    Raises CannotServeFast if the fast way is required and not available.
    """
    if way == PLAIN:
        return PLAIN
    try:
        await _try_serving(Parser())
    except CannotServeFast as error:
        if way == FAST:
            raise
        _warn(error)
        return PLAIN
    return FAST


async def _try_serving(parser: Parser) -> None:
    async def handler(request: Request) -> Answer:
        return Answer(200, b"%b %b" % (request.head.path.encode(), request.whole or b""), b"text/plain")

    loop = asyncio.get_running_loop()
    server = Server(
        handler,
        lambda error: Answer(400, b"", b"text/plain", close=True),
        parser=parser,
        connections_max=1,
        idle_seconds=TRIAL_SECONDS,
        write_seconds=TRIAL_SECONDS,
    )
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    try:
        await loop.connect_accepted_socket(server, theirs)
        await loop.sock_sendall(ours, b"POST /try HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\nConnection: close\r\n\r\nit")
        answer = b""
        async with asyncio.timeout(TRIAL_SECONDS):
            while more := await loop.sock_recv(ours, 4_096):
                answer += more
    except Exception as error:
        raise CannotServeFast(f"a request through it failed: {error!r}") from None
    finally:
        ours.close()
        await server.shutdown()
    if not (answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\n/try it")):
        raise CannotServeFast(f"a request through it was answered {answer[:60]!r}")


def parser_is_weak() -> bool:
    """Whether aiohttp runs on its pure-Python parser, as far as can be detected: that parser checks less strictly."""
    try:
        from aiohttp.http_parser import HttpRequestParser, HttpRequestParserPy
    except ImportError:
        return False
    return HttpRequestParser is HttpRequestParserPy
