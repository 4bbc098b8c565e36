"""How AsyncClient sends: over connections made at the first call; events come by an aiohttp session."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Self, TypeVar

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from yarl import URL

from jobqueue.client.connections import Connections
from jobqueue.client.endpoint import Endpoint, check_seconds
from jobqueue.client.listening import SILENCE_SECONDS, Listener
from jobqueue.client.operations import Operations
from jobqueue.client.problems import Answer, ConnectionFailed
from jobqueue.client.retrying import HOLD_SECONDS, RETRYING, TIMEOUT_SECONDS, Retrying, Steps, carried_through, no
from jobqueue.client.sending import Call, Request
from jobqueue.client.types import JobEvent
from jobqueue.errors import QueueError

T = TypeVar("T")


class AsyncTransport(Operations):
    """What AsyncClient is made of below its operations; its arguments are told there."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        max_wait: float = HOLD_SECONDS,
        retrying: Retrying = RETRYING,
        ssl_context: ssl.SSLContext | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._endpoint = Endpoint.find(url, token)
        self._timeout, self._max_wait = check_seconds("timeout", timeout), check_seconds("max_wait", max_wait)
        self._retrying = retrying
        self._ssl_context = ssl_context
        self._sleep = sleep
        self._connections: Connections | None = None
        self._session: ClientSession | None = None
        self._closed = False
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._endpoint.url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        self._closed = True
        self._ended.set()
        for opened in (self._connections, self._session):
            if opened is not None:
                await opened.close()

    # Sending.

    def _opened(self) -> Connections:
        if self._closed:
            raise RuntimeError("this client is closed")
        if self._connections is None:
            self._connections = Connections(self._endpoint, self._ssl_context)
        return self._connections

    async def _exchange(self, request: Request) -> Answer:
        connections = self._opened()
        try:
            return await connections.exchange(request, request.wait + self._timeout, self._timeout)
        except (ClientError, OSError) as error:  # TimeoutError is an OSError
            raise ConnectionFailed(
                f"{request.method} {self._endpoint.url}{request.target}: {str(error) or type(error).__name__}"
            ) from error

    async def _carry(self, steps: Steps[T]) -> T:
        """Do as the steps say."""
        try:
            step = next(steps)
            while True:
                if isinstance(step, float):
                    await self._sleep(step)
                    step = next(steps)
                    continue
                try:
                    answer = await self._exchange(step)
                except ConnectionFailed as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _run(self, call: Call[T]) -> T:
        return await self._carry(carried_through(call, self._retrying, self._max_wait))

    async def _asks(self, call: Call[bool]) -> bool:
        try:
            return await self._run(call)
        except QueueError as error:
            return no(error)

    # Listening.

    def _listening(self) -> ClientSession:
        if self._closed:
            raise RuntimeError("this client is closed")
        if self._session is None:
            connector = TCPConnector(limit=0, ssl=self._ssl_context or True)
            self._session = ClientSession(connector=connector, headers=self._endpoint.headers, cookie_jar=DummyCookieJar())
            # aiohttp would send a GET again by itself, unseen. What is sent again is for retrying.py to say.
            self._session._retry_connection = False
        return self._session

    async def _listen(self, listener: Listener) -> AsyncIterator[JobEvent]:
        """Events, over one connection after the other, until the client is closed. Raises QueueError, RuntimeError."""
        session = self._listening()
        while not self._closed:
            try:
                # The connection is closed when who iterates goes, not when the loop comes round to it.
                async with aclosing(self._stream(session, listener)) as chunks:
                    async for chunk in chunks:
                        for event in listener.told(chunk):
                            yield event
                            if self._closed:
                                return
                raise listener.ended()
            except QueueError as error:
                if self._closed:
                    return
                pause = listener.pause(error)
            await self._pause(pause)

    async def _stream(self, session: ClientSession, listener: Listener) -> AsyncGenerator[bytes, None]:
        """What one connection brings. Raises QueueError."""
        url = URL(self._endpoint.url + listener.target, encoded=True)
        timeout = ClientTimeout(total=None, sock_connect=self._timeout, sock_read=SILENCE_SECONDS + self._timeout)
        try:
            async with session.get(url, headers=listener.headers(), timeout=timeout, allow_redirects=False) as response:
                listener.begin(response.status, response.headers, b"" if response.status == 200 else await response.read())
                async for chunk in response.content.iter_any():
                    yield chunk
        except (ClientError, OSError) as error:
            raise ConnectionFailed(f"GET {url}: {str(error) or type(error).__name__}") from error

    async def _pause(self, seconds: float) -> None:
        """Pause as long, or until close(). A sleep that a test brought is its own affair."""
        if self._sleep is not asyncio.sleep:
            await self._sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
