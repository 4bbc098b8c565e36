"""A request made cheaply: what this server's handlers use of one, and no more.

aiohttp's BaseRequest looks up the connection's addresses and prepares state that nothing here asks for; that costs as much as decoding
the body. This one keeps the parsed head itself at hand. Whatever else BaseRequest offers (query, rel_url, content_length, …) works as
ever; tests/web/test_answers.py holds it to that.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage
from aiohttp.streams import StreamReader

if TYPE_CHECKING:
    from jobqueue.web.connections import Connection


class Request(web.BaseRequest):
    """One request. head: its first line and headers as parsed; body: its content as a stream; connection: where it came from."""

    head: RawRequestMessage
    body: StreamReader
    connection: Connection

    def __init__(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: Connection,
        payload_writer: AbstractStreamWriter | None,
        task: asyncio.Task[None] | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        # BaseRequest.__init__ is left out on purpose; these are the attributes that what we use of it reads.
        self.head = message
        self.body = self._payload = payload
        self.connection = self._protocol = protocol
        self._message = message
        self._headers = message.headers
        self._method = message.method
        self._version = message.version
        self._payload_writer: Any = payload_writer
        self._task: Any = task
        self._loop = loop
        self._cache: dict[str, Any] = {}
        self._state = {}
        url = message.url
        if url.absolute:
            # The target's own host goes before the Host header (RFC 9112, section 3.2.2).
            self._cache["url"], self._cache["host"] = url, url.host
            url = url.relative()
        self._rel_url = url

    def __getattr__(self, name: str) -> Any:
        # The connection's addresses, for the few who ask: BaseRequest has them as attributes.
        if name.startswith("_transport_"):
            return getattr(self._protocol, name.removeprefix("_transport_").replace("sslcontext", "ssl_context"))
        raise AttributeError(name)
