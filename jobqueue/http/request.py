"""A request made cheaply: what this server's handlers use of one, and no more.

aiohttp's BaseRequest looks up the connection's addresses and prepares state that nothing here asks for; that costs as much as decoding
the body. This one keeps the head itself at hand. Whatever else BaseRequest offers (query, rel_url, content_length, …) works as
ever; tests/http/test_answers.py holds it to that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http import StreamWriter
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from yarl import URL

from jobqueue.http.heads import Head

if TYPE_CHECKING:
    from jobqueue.http.connections import Connection


class Request(web.BaseRequest):
    """One request. head: its first line and headers; connection: where it came from.

    whole: its content, where that came with a head that was known; else body has it, as a stream.
    """

    head: Head
    connection: Connection
    whole: bytes | None = None
    body: StreamReader = EMPTY_PAYLOAD
    who: str = ""
    """The name of the token it carries, once that is known."""
    id: str = ""
    """X-Request-ID, where someone asked for one (observing.py)."""
    trace: str | None = None
    """Its traceparent header, kept for observers."""
    notes: bytes = b""
    """Header lines for its answer, whoever makes that."""
    queues: tuple[str, ...] | None = None
    """Those that it waits for, where it waits for some (`api/access/holds.py`)."""
    answering: bool = False
    """Its answer is on its way: it is too late to refuse it."""
    revoked: bool = False
    """It was let in, and is refused since."""

    _task: Any = None
    """aiohttp's own, where one serves it."""

    def __init__(self, head: Head, connection: Connection) -> None:
        # BaseRequest.__init__ is left out on purpose; what else of it is asked for is made by __getattr__.
        self.head = head
        self.connection = connection

    def __getattr__(self, name: str) -> Any:
        # Reached for what is not set yet: BaseRequest's own attributes, made when first read.
        if name not in _MADE_LATER:
            raise AttributeError(name)
        value = self.__dict__[name] = _MADE_LATER[name](self)
        return value


def _rel_url(request: Request) -> URL:
    url = request._message.url
    if not url.absolute:
        return url
    # The target's own host goes before the Host header (RFC 9112, section 3.2.2).
    request._cache["url"], request._cache["host"] = url, url.host
    return url.relative()


def _payload(request: Request) -> StreamReader:
    if not request.whole:
        return request.body
    made = StreamReader(request.connection, len(request.whole), loop=request._loop)
    made.feed_data(request.whole)
    made.feed_eof()
    return made


_MADE_LATER: dict[str, Callable[[Request], Any]] = {
    "_message": lambda request: request.head.message(),
    "_payload": _payload,
    "_loop": lambda request: asyncio.get_running_loop(),
    "_protocol": lambda request: request.connection,
    "_headers": lambda request: request.head.headers,
    "_method": lambda request: request.head.method,
    "_version": lambda request: request.head.version,
    "_rel_url": _rel_url,
    "_cache": lambda request: {},
    "_state": lambda request: {},
    "_payload_writer": lambda request: StreamWriter(request.connection, request._loop),
    "_client_max_size": lambda request: 0,
    "_client_max_fields": lambda request: 0,
    "_transport_sslcontext": lambda request: request.connection.ssl_context,
    "_transport_peername": lambda request: request.connection.peername,
    "_transport_sockname": lambda request: request.connection.sockname,
}
