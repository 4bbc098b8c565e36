"""How Client sends: over connections that all threads of a process share."""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from jobqueue.client.endpoint import Endpoint, check_seconds
from jobqueue.client.exchange import Answer, Lost
from jobqueue.client.listening import SILENCE_SECONDS, Listener
from jobqueue.client.problems import ConnectionFailed
from jobqueue.client.retrying import HOLD_SECONDS, RETRYING, TIMEOUT_SECONDS, Hold, Retrying, Steps, carried_through, given_back, no
from jobqueue.client.route import Route
from jobqueue.client.sending import Call, Request
from jobqueue.client.servers import Servers, Turn
from jobqueue.client.sync_connections import Connection, Connections
from jobqueue.client.sync_sharing import Sharing
from jobqueue.client.types import JobEvent
from jobqueue.errors import QueueError

T = TypeVar("T")

_DONE = (200, 201)


class SyncTransport:
    """The part of Client below its operations; the arguments are described there."""

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
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        endpoints = Endpoint.find(url, token)
        self._routes = tuple(Route.to(endpoint) for endpoint in endpoints)
        self._timeout, self._hold = check_seconds("timeout", timeout), Hold(check_seconds("max_wait", max_wait))
        self._servers = Servers([endpoint.url for endpoint in endpoints], self._timeout, retrying.random, retrying.clock)
        self._retrying = retrying
        self._ssl_context = ssl_context
        self._sleep = sleep
        self._shares = sharing
        # By process: a forked process must not write to its parent's connections, nor wait for what its parent's threads hold.
        self._sharing: dict[int, Sharing] = {}
        self._connections: dict[int, list[Connections]] = {}
        self._process = os.getpid()
        self._closed = False
        self._ended = threading.Event()
        self._streams: set[Connection] = set()

    def __repr__(self) -> str:
        count = len(self._routes)
        return f"<{type(self).__name__} of {self.url}{f', one of {count}' if count > 1 else ''}>"

    @property
    def url(self) -> str:
        """The base URL of the server that is asked now, without a slash at its end."""
        return self._servers.current.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection. Leaving `with` (AsyncClient: `async with`) does it too. The client is of no use afterwards.

        Returns None.
        """
        self._closed = True
        self._ended.set()
        for stream in list(self._streams):
            stream.wake()
        for connections in self._connections.pop(os.getpid(), ()):
            connections.close()

    # Sending.

    def _opened(self) -> list[Connections]:
        if self._closed:
            raise RuntimeError("this client is closed")
        process = os.getpid()
        if process != self._process:
            self._process = process
            self._servers.spread()
        # Two threads that arrive first at the same time can each make some; setdefault makes both use the same.
        return self._connections.setdefault(process, [Connections(route, self._ssl_context) for route in self._routes])

    def _exchange(self, request: Request, turn: Turn) -> Answer:
        connections = (self._connections.get(os.getpid()) or self._opened())[turn.at]
        try:
            return connections.exchange(request, request.wait + turn.seconds, turn.connect_seconds)
        except (Lost, OSError) as error:  # TimeoutError is an OSError
            raise ConnectionFailed.by(error, f"{request.method} {turn.url}{request.target}") from error

    def _shared(self, request: Request, turn: Turn) -> Answer:
        if not self._shares:
            return self._exchange(request, turn)
        process = os.getpid()
        sharing = self._sharing.get(process) or self._sharing.setdefault(process, Sharing(self._exchange))
        return sharing.exchange(request, turn)

    def _carry(self, steps: Steps[T], came: Answer | ConnectionFailed | None = None) -> T:
        """Carry out the steps. came: the result of the first step, if it was already carried out."""
        try:
            step = next(steps)
            if came is not None:
                step = steps.throw(came) if isinstance(came, ConnectionFailed) else steps.send(came)
            while True:
                if isinstance(step, float):
                    self._sleep(step)
                    step = next(steps)
                    continue
                request, turn = step
                try:
                    answer = (self._shared if request.batch else self._exchange)(request, turn)
                except ConnectionFailed as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            del came

    def _run(self, call: Call[T]) -> T:
        request, servers = call.request, self._servers
        if request is None or servers.shaken or servers.away:
            return self._carry(carried_through(call, self._retrying, self._hold, servers))
        # Nearly all calls succeed at once. They skip the general path below, which takes longer than everything else here.
        begun = self._retrying.clock(), servers.current
        came: Answer | ConnectionFailed
        try:
            came = answer = (self._shared if request.batch else self._exchange)(request, begun[1])
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
            return self._carry(carried_through(call, self._retrying, self._hold, servers, begun), came)
        finally:
            # A raised error refers to its frames. If a frame also referred to the error, the garbage collector would have to free both.
            del came

    def _taken(self, call: Call[T]) -> T:
        """The result of a dequeue. If it is interrupted, by Ctrl-C or any signal's exception, the jobs that it received are released."""
        try:
            return self._run(call)
        except QueueError:
            raise
        except BaseException:
            if not self._closed:
                # In a thread, since the interrupted caller wants to continue. The thread does not keep the process from ending.
                threading.Thread(target=self._give_back, args=(call,), name="jobqueue-give-back", daemon=True).start()
            raise

    def _give_back(self, call: Call[Any]) -> None:
        with suppress(RuntimeError):  # closed meanwhile
            self._carry(given_back(call, self._retrying, self._hold, self._servers))

    def _asks(self, call: Call[bool]) -> bool:
        try:
            return self._run(call)
        except QueueError as error:
            return no(error)

    # Listening.

    def _listen(self, listener: Listener) -> Iterator[JobEvent]:
        """Events, over one connection after the other, until the client is closed. Raises QueueError, RuntimeError."""
        self._opened()
        while not self._closed:
            try:
                for chunk in self._stream(listener):
                    for event in listener.told(chunk):
                        yield event
                        if self._closed:
                            return
                raise listener.ended()
            except QueueError as error:
                if self._closed:
                    return
                pause = listener.pause(error)
            self._pause(pause)

    def _stream(self, listener: Listener) -> Iterator[bytes]:
        """The bytes from one connection. Raises QueueError."""
        turn = listener.turn
        connections = self._opened()[turn.at]
        deadline = time.monotonic() + self._timeout
        connection = None
        try:
            connection = connections.connection(turn.connect_seconds)
            self._streams.add(connection)
            # Checked after it was added: an earlier close() has not seen the stream, a later one will.
            if self._closed:
                return
            listener.begin(*connection.begin_stream(self._routes[turn.at].stream_request(listener.target, listener.headers()), deadline))
            while chunk := connection.chunk(SILENCE_SECONDS + self._timeout):
                yield chunk
        except (Lost, OSError) as error:
            raise ConnectionFailed.by(error, f"GET {turn.url}{listener.target}") from error
        finally:
            if connection is not None:
                self._streams.discard(connection)
                connection.close()

    def _pause(self, seconds: float) -> None:
        """Pause for this time, or until close(). A test's own sleep is not interrupted."""
        if self._sleep is not time.sleep:
            self._sleep(seconds)
        else:
            self._ended.wait(seconds)
