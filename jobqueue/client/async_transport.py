"""How AsyncClient sends: over connections that are opened as calls need them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from jobqueue.client.async_connections import Connections
from jobqueue.client.async_sharing import Sharing
from jobqueue.client.endpoint import Endpoint, check_seconds
from jobqueue.client.exchange import Answer, Lost
from jobqueue.client.listening import SILENCE_SECONDS, Listener
from jobqueue.client.problems import ConnectionFailed
from jobqueue.client.retrying import HOLD_SECONDS, RETRYING, TIMEOUT_SECONDS, Hold, Retrying, Steps, carried_through, given_back, no
from jobqueue.client.route import Route
from jobqueue.client.sending import Call, Request
from jobqueue.client.servers import Servers, Turn
from jobqueue.client.types import JobEvent
from jobqueue.errors import QueueError

T = TypeVar("T")

_DONE = (200, 201)

GIVE_BACK_SECONDS = 5.0
"""Time for a cancelled dequeue, in the background, to find out which jobs it received and to release them."""

GIVE_BACKS_ABREAST = 16
"""How many of them do so at the same time. The others wait within their time."""


class AsyncTransport:
    """The part of AsyncClient below its operations; the arguments are described there."""

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        token: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        max_wait: float = HOLD_SECONDS,
        retrying: Retrying = RETRYING,
        ssl_context: ssl.SSLContext | None = None,
        sharing: bool = True,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        endpoints = Endpoint.find(url, token)
        self._routes = tuple(Route.to(endpoint) for endpoint in endpoints)
        self._timeout, self._hold = check_seconds("timeout", timeout), Hold(check_seconds("max_wait", max_wait))
        self._servers = Servers([endpoint.url for endpoint in endpoints], self._timeout, retrying.random, retrying.clock)
        self._retrying = retrying
        self._ssl_context = ssl_context
        self._sleep = sleep
        self._sharing = Sharing(self._exchange)
        self._shared = self._sharing.exchange if sharing else self._exchange
        self._connections: list[Connections] | None = None
        self._closed = False
        self._ended = asyncio.Event()
        self._giving: set[asyncio.Task[None]] = set()
        self._giving_abreast = asyncio.Semaphore(GIVE_BACKS_ABREAST)

    def __repr__(self) -> str:
        count = len(self._routes)
        return f"<{type(self).__name__} of {self.url}{f', one of {count}' if count > 1 else ''}>"

    @property
    def url(self) -> str:
        """The base URL of the server that is asked now, without a slash at its end."""
        return self._servers.current.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection. Leaving `with` (AsyncClient: `async with`) does it too. The client is of no use afterwards.

        Returns None.
        """
        self._closed = True
        self._ended.set()
        if self._giving:
            await asyncio.wait(self._giving)
        if self._connections is not None:
            await asyncio.gather(*(connections.close() for connections in self._connections))
        await self._sharing.ended()

    # Sending.

    def _opened(self) -> list[Connections]:
        if self._closed and asyncio.current_task() not in self._giving:
            raise RuntimeError("this client is closed")
        if self._connections is None:
            self._connections = [Connections(route, self._ssl_context) for route in self._routes]
        return self._connections

    async def _exchange(self, request: Request, turn: Turn) -> Answer:
        connections = self._opened()[turn.at]
        try:
            return await connections.exchange(request, request.wait + turn.seconds, turn.connect_seconds)
        except (Lost, OSError) as error:  # TimeoutError is an OSError
            raise ConnectionFailed.by(error, f"{request.method} {turn.url}{request.target}") from error

    async def _carry(self, steps: Steps[T], came: Answer | ConnectionFailed | None = None) -> T:
        """Carry out the steps. came: the result of the first step, if it was already carried out."""
        try:
            step = next(steps)
            if came is not None:
                step = steps.throw(came) if isinstance(came, ConnectionFailed) else steps.send(came)
            while True:
                if isinstance(step, float):
                    await self._sleep(step)
                    step = next(steps)
                    continue
                request, turn = step
                try:
                    answer = await (self._shared if request.batch else self._exchange)(request, turn)
                except ConnectionFailed as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            del came

    async def _run(self, call: Call[T]) -> T:
        request, servers = call.request, self._servers
        if request is None or servers.shaken or servers.away:
            return await self._carry(carried_through(call, self._retrying, self._hold, servers))
        # Nearly all calls succeed at once. They skip the general path below, which takes longer than everything else here.
        begun = self._retrying.clock(), servers.current
        came: Answer | ConnectionFailed
        try:
            came = answer = await (self._shared if request.batch else self._exchange)(request, begun[1])
        except ConnectionFailed as error:
            came = error
        else:
            if answer.status in _DONE and answer.body and not servers.shaken:
                try:
                    return call.decode(answer.body)
                except (ValueError, RecursionError):
                    # The steps raise the right error for it.
                    pass
        try:
            return await self._carry(carried_through(call, self._retrying, self._hold, servers, begun), came)
        finally:
            # A raised error refers to its frames. If a frame also referred to the error, the garbage collector would have to free both.
            del came

    async def _taken(self, call: Call[T]) -> T:
        """The result of a dequeue. If it is cancelled, the jobs that it received or will receive are released, in the background."""
        try:
            return await self._run(call)
        except asyncio.CancelledError:
            if self._connections is not None and not self._closed:
                giving = asyncio.create_task(self._give_back(call))
                self._giving.add(giving)
                giving.add_done_callback(self._giving.discard)
            raise

    async def _give_back(self, call: Call[Any]) -> None:
        with suppress(TimeoutError, RuntimeError):
            async with asyncio.timeout(GIVE_BACK_SECONDS), self._giving_abreast:
                await self._carry(given_back(call, self._retrying, self._hold, self._servers))

    async def _asks(self, call: Call[bool]) -> bool:
        try:
            return await self._run(call)
        except QueueError as error:
            return no(error)

    # Listening.

    async def _listen(self, listener: Listener) -> AsyncIterator[JobEvent]:
        """Events, over one connection after the other, until the client is closed. Raises QueueError, RuntimeError."""
        self._opened()
        while not self._closed:
            try:
                # The connection is closed when the consumer stops iterating, not at some later turn of the loop.
                async with aclosing(self._stream(listener)) as chunks:
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

    async def _stream(self, listener: Listener) -> AsyncGenerator[bytes, None]:
        """The bytes from one connection. Raises QueueError."""
        turn = listener.turn
        connections = self._opened()[turn.at]
        deadline = asyncio.get_running_loop().time() + self._timeout
        connection = None
        try:
            connection = await connections.connection(turn.connect_seconds)
            listener.begin(
                *await connection.begin_stream(self._routes[turn.at].stream_request(listener.target, listener.headers()), deadline)
            )
            while chunk := await connection.chunk(SILENCE_SECONDS + self._timeout):
                yield chunk
        except (Lost, OSError) as error:
            raise ConnectionFailed.by(error, f"GET {turn.url}{listener.target}") from error
        finally:
            if connection is not None:
                connection.abort()

    async def _pause(self, seconds: float) -> None:
        """Pause for this time, or until close(). A test's own sleep is not interrupted."""
        if self._sleep is not asyncio.sleep:
            await self._sleep(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()
