"""The plain way: requests are served by aiohttp as documented, using only documented parts of it.

`web.Server` is a factory of protocols, for any transport. Here its transport is a `Pipe`, which a `Connection` feeds with one request at a
time. aiohttp parses the head, calls the handler in a task and offers the body as a stream; if the client disconnects, aiohttp cancels the
task (`handler_cancellation`). The connection writes the handler's answer, in one piece, since aiohttp does not report whether the kernel
took it; aiohttp gets an answer that writes nothing. aiohttp itself writes only errors about requests that it could not parse; their text
goes into the server's own error.
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
"""The longest header line. With aiohttp's own limit of 8,190, a long token would be answered 400 where 401 is correct."""

NEVER_SECONDS = 1e7
"""The connection closes silent clients, not aiohttp."""

_silent = logging.Logger("aiohttp", logging.CRITICAL + 1)
"""aiohttp logs a traceback for every bad request; the connection logs one line instead."""


class Connection(AnyConnection, Protocol):
    """The connection that a pipe belongs to."""

    def passed_back(self, request: Request, chunked: bool) -> bool:
        """The handler is about to be called; returns whether it may be."""

    async def carry(self, serving: Coroutine[Any, Any, Answer], request: Request) -> None:
        """Serve a request to the last byte of its answer."""

    def refuse(self, error: QueueError) -> None:
        """Answer data that is not a request, and close."""

    def pause_reading(self, why: int) -> None:
        """Stop reading, for a reason `why`, until that reason is gone."""

    def resume_reading(self, why: int) -> None:
        """Remove a reason to stop reading."""


class Handles(Protocol):
    """The server that answers requests."""

    handler: Callable[[Request], Coroutine[Any, Any, Answer]]


class Plain:
    """aiohttp's server, below all connections of one of our servers."""

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
        """The object that serves one connection."""
        return Pipe(connection, cast(asyncio.Protocol, self._server()))

    async def _serve(self, asked: web.BaseRequest) -> web.StreamResponse:
        pipe = asked.transport
        if isinstance(pipe, Pipe):
            head = head_of(asked.method, asked.raw_path, asked.version, asked.headers, asked.keep_alive)
            chunked = TRANSFER_ENCODING in asked.headers
            if CONTENT_LENGTH in asked.headers and not chunked:
                head.size = asked.content_length or 0
            request = Request(head, pipe.connection, None, Content(asked.content))
            # With a method such as CONNECT, aiohttp takes everything that follows for the body: as with chunks, aiohttp decides where it
            # ends.
            if pipe.connection.passed_back(request, chunked or (not head.size and not asked.content.is_eof())):
                try:
                    await pipe.connection.carry(self._handles.handler(request), request)
                except asyncio.CancelledError:
                    pipe.connection.force_close()
                    raise
        return _WRITTEN


class _Written(web.StreamResponse):
    """An answer that the connection has already written."""

    @property
    def keep_alive(self) -> bool:
        """The connection decides this, and closes by itself."""
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
        """The data that has arrived and was not read yet."""
        return cast(bytes, self._content.read_nowait())

    async def readany(self) -> bytes:
        """The data that has arrived and was not read yet, at least one byte; b"" at the end. Raises BodyBroken, ClientGone."""
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
        """Its framing is wrong; aiohttp would not report this to a reader."""
        self._broken = True
        if self._reading is not None:
            self._reading.reschedule(asyncio.get_running_loop().time())


class Pipe(asyncio.Transport):
    """aiohttp's transport: the connection feeds what it reads; what it writes is sent to the client in one case only."""

    def __init__(self, connection: Connection, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.connection = connection
        self._protocol = protocol
        self._refusal = b""
        self._closed = False
        protocol.connection_made(self)

    # Calls from the connection.

    def head(self, raw: bytes) -> None:
        """Take a whole head, and have the handler called for it."""
        self._protocol.data_received(raw)

    def body(self, data: bytes) -> None:
        """Take a part of that request's body."""
        self._protocol.data_received(data)

    def lost(self, error: BaseException | None) -> None:
        """The client has gone."""
        self._closed = True
        self._protocol.connection_lost(error if isinstance(error, Exception) else None)

    # Calls from aiohttp.

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Keep aiohttp's errors about what it cannot parse; drop everything else."""
        written = bytes(data)
        if self._refusal:
            self._refusal += written
        elif written.startswith(b"HTTP/1.") and written[9:10] in b"45":
            self._refusal = written

    def writelines(self, list_of_data: Any) -> None:
        """See write."""
        self.write(b"".join(list_of_data))

    def close(self) -> None:
        """aiohttp has finished with the connection: after an error in parsing, or after a request that must be the last."""
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
        """From the client's transport."""
        transport = self.connection.transport
        return default if transport is None else transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """A body arrives faster than it is read."""
        self.connection.pause_reading(BODY)

    def resume_reading(self) -> None:
        """The body was read."""
        self.connection.resume_reading(BODY)

    def is_reading(self) -> bool:
        """Whether more data is fed."""
        return not self._closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Does nothing: the connection sets them."""

    def get_write_buffer_size(self) -> int:
        """0: nothing waits here."""
        return 0

    def can_write_eof(self) -> bool:
        """False: aiohttp does not need it."""
        return False
