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
from jobqueue.client.types import JobEvent
from jobqueue.errors import QueueError

T = TypeVar("T")


class SyncTransport:
    """What Client is made of below its operations; its arguments are told there."""

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        token: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        max_wait: float = HOLD_SECONDS,
        retrying: Retrying = RETRYING,
        ssl_context: ssl.SSLContext | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        endpoints = Endpoint.find(url, token)
        self._routes = tuple(Route.to(endpoint) for endpoint in endpoints)
        self._timeout, self._hold = check_seconds("timeout", timeout), Hold(check_seconds("max_wait", max_wait))
        self._servers = Servers([endpoint.url for endpoint in endpoints], self._timeout, retrying.random, retrying.clock)
        self._retrying = retrying
        self._ssl_context = ssl_context
        self._sleep = sleep
        # By process: a forked one must not write into its parent's connections.
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
        # Two threads that come first at once may make some each; setdefault lets both use the same.
        return self._connections.setdefault(process, [Connections(route, self._ssl_context) for route in self._routes])

    def _exchange(self, request: Request, turn: Turn) -> Answer:
        connections = (self._connections.get(os.getpid()) or self._opened())[turn.at]
        try:
            return connections.exchange(request, request.wait + turn.seconds, turn.connect_seconds)
        except (Lost, OSError) as error:  # TimeoutError is an OSError
            raise ConnectionFailed.by(error, f"{request.method} {turn.url}{request.target}") from error

    def _carry(self, steps: Steps[T]) -> T:
        """Do as the steps say."""
        try:
            step = next(steps)
            while True:
                if isinstance(step, float):
                    self._sleep(step)
                    step = next(steps)
                    continue
                try:
                    answer = self._exchange(*step)
                except ConnectionFailed as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def _run(self, call: Call[T]) -> T:
        return self._carry(carried_through(call, self._retrying, self._hold, self._servers))

    def _taken(self, call: Call[T]) -> T:
        """What a dequeue takes. If it is interrupted, by Ctrl-C or whatever a signal raises, what it was answered is given back."""
        try:
            return self._run(call)
        except QueueError:
            raise
        except BaseException:
            if not self._closed:
                # In a thread: whoever interrupts wants to go on. It keeps no process from ending.
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
        """What one connection brings. Raises QueueError."""
        turn = listener.turn
        connections = self._opened()[turn.at]
        deadline = time.monotonic() + self._timeout
        connection = None
        try:
            connection = connections.connection(turn.connect_seconds)
            self._streams.add(connection)
            # Looked at after it was added: a close() before has not seen the stream, a later one does.
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
        """Pause as long, or until close(). A sleep that a test brought is its own affair."""
        if self._sleep is not time.sleep:
            self._sleep(seconds)
        else:
            self._ended.wait(seconds)
