"""The plain way: requests served by aiohttp as its documentation says, and nothing else of it.

`web.Server` is a factory of protocols, for any transport. Here its transport is a `Pipe`, which a `Connection` feeds with one request at a
time. aiohttp parses the head, calls the handler in a task and offers the body as a stream; when the client goes, it cancels the task
(`handler_cancellation`). The handler's answer is written by the connection, in one piece, since aiohttp does not say whether the kernel
took it; aiohttp is given one that writes nothing. What it writes of its own accord are its words on what it could not parse: they become
the server's own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, cast

import aiohttp
from aiohttp import web

from jobqueue.errors import BadRequest, QueueError
from jobqueue.http.answers import Answer
from jobqueue.http.heads import CONTENT_LENGTH, TRANSFER_ENCODING, head_of
from jobqueue.http.peers import BODY
from jobqueue.http.request import BodyBroken, ClientGone, Request
from jobqueue.http.request import Connection as AnyConnection

AIOHTTP_VERSION = aiohttp.__version__

FIELD_BYTES_MAX = 16_384
"""The longest header line. aiohttp's own 8,190 would answer a long token 400 where 401 is meant."""

NEVER_SECONDS = 1e7
"""The connection closes what is silent, not aiohttp."""

_silent = logging.Logger("aiohttp", logging.CRITICAL + 1)
"""What aiohttp logs is a traceback for every bad request; the connection logs a line."""


class Connection(AnyConnection, Protocol):
    """Whom a pipe belongs to."""

    def passed_back(self, request: Request, chunked: bool) -> bool:
        """The handler is about to be called; whether it may."""

    async def carry(self, serving: Coroutine[Any, Any, Answer], request: Request) -> None:
        """Serve a request to the last byte of its answer."""

    def refuse(self, error: QueueError) -> None:
        """Answer what is no request, and close."""

    def pause_reading(self, why: int) -> None:
        """Read no further for a reason, until that is gone."""

    def resume_reading(self, why: int) -> None:
        """A reason to read no further is gone."""


class Handles(Protocol):
    """Who answers requests."""

    handler: Callable[[Request], Coroutine[Any, Any, Answer]]


class Plain:
    """aiohttp's server, beneath all connections of one of ours."""

    def __init__(self, handles: Handles) -> None:
        self._handles = handles
        self._server = web.Server(
            self._serve,
            handler_cancellation=True,
            access_log=None,
            logger=_silent,
            auto_decompress=False,
            keepalive_timeout=NEVER_SECONDS,
            lingering_time=0.0,
            max_field_size=FIELD_BYTES_MAX,
        )

    def below(self, connection: Connection) -> Pipe:
        """What serves one connection."""
        return Pipe(connection, cast(asyncio.Protocol, self._server()))

    async def _serve(self, asked: web.BaseRequest) -> web.StreamResponse:
        pipe = asked.transport
        if isinstance(pipe, Pipe):
            head = head_of(asked.method, asked.raw_path, asked.version, asked.headers, asked.keep_alive)
            chunked = TRANSFER_ENCODING in asked.headers
            if CONTENT_LENGTH in asked.headers and not chunked:
                head.size = asked.content_length or 0
            request = Request(head, pipe.connection, None, Content(asked.content))
            # A method such as CONNECT makes aiohttp take all that follows for the body: as with chunks, its end is aiohttp's to tell.
            if pipe.connection.passed_back(request, chunked or (not head.size and not asked.content.is_eof())):
                try:
                    await pipe.connection.carry(self._handles.handler(request), request)
                except asyncio.CancelledError:
                    pipe.connection.force_close()
                    raise
        return _WRITTEN


class _Written(web.StreamResponse):
    """An answer that the connection has written already."""

    @property
    def keep_alive(self) -> bool:
        """The connection decides, and closes by itself."""
        return True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


_WRITTEN = _Written(status=204)


class Content:
    """A body as aiohttp reads it, with this server's errors."""

    def __init__(self, content: Any) -> None:
        self._content = content
        self._broken = False
        self._reading: asyncio.Timeout | None = None

    def is_eof(self) -> bool:
        """Whether all of it has arrived, read or not."""
        return bool(self._content.is_eof())

    def read_nowait(self) -> bytes:
        """What has arrived and was not read."""
        return cast(bytes, self._content.read_nowait())

    async def readany(self) -> bytes:
        """What has arrived and was not read, at least a byte; b"" at the end. Raises BodyBroken, ClientGone."""
        try:
            async with asyncio.timeout(0 if self._broken else None) as self._reading:
                return cast(bytes, await self._content.readany())
        except TimeoutError:
            raise BodyBroken("its chunks cannot be read") from None
        except web.RequestPayloadError as error:
            raise BodyBroken(str(error)) from None
        except ConnectionError:
            raise ClientGone("the client has gone") from None
        finally:
            self._reading = None

    def broke(self) -> None:
        """Its framing is wrong, which aiohttp would not say to one who reads."""
        self._broken = True
        if self._reading is not None:
            self._reading.reschedule(asyncio.get_running_loop().time())


class Pipe(asyncio.Transport):
    """aiohttp's transport: what it reads is fed by the connection, what it writes goes to the client in one case alone."""

    def __init__(self, connection: Connection, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.connection = connection
        self._protocol = protocol
        self._refusal = b""
        self._closed = False
        protocol.connection_made(self)

    # What the connection says.

    def head(self, raw: bytes) -> None:
        """Take a whole head, and have the handler called for it."""
        self._protocol.data_received(raw)

    def body(self, data: bytes) -> None:
        """Take some of that request's body."""
        self._protocol.data_received(data)

    def lost(self, error: BaseException | None) -> None:
        """The client has gone."""
        self._closed = True
        self._protocol.connection_lost(error if isinstance(error, Exception) else None)

    # What aiohttp says.

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Keep aiohttp's words on what it cannot parse; drop anything else."""
        written = bytes(data)
        if self._refusal:
            self._refusal += written
        elif written.startswith(b"HTTP/1.") and written[9:10] in b"45":
            self._refusal = written

    def writelines(self, list_of_data: Any) -> None:
        """See write."""
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """It is done with the connection: after what it could not parse, or what must be the last."""
        if self._closed:
            return
        self._closed = True
        if self._refusal:
            words = self._refusal.partition(b"\r\n\r\n")[2].decode("utf-8", "replace")
            self.connection.refuse(BadRequest(None, f"not a valid HTTP request: {' '.join(words.split())[:200]}"))

    abort = close

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of the client's transport."""
        transport = self.connection.transport
        return default if transport is None else transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """A body arrives faster than it is read."""
        self.connection.pause_reading(BODY)

    def resume_reading(self) -> None:
        """It is read."""
        self.connection.resume_reading(BODY)

    def is_reading(self) -> bool:
        """Whether more is fed."""
        return not self._closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The connection sets them."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits here."""
        return 0

    def can_write_eof(self) -> bool:
        """It has no use for that."""
        return False
