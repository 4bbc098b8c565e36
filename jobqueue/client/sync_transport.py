"""How Client sends: one urllib3 pool of connections, shared by all threads."""

from __future__ import annotations

import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, PoolManager, Timeout
from urllib3.exceptions import HTTPError

from jobqueue.client.endpoint import Endpoint, check_seconds
from jobqueue.client.listening import SILENCE_SECONDS, Listener
from jobqueue.client.operations import Operations
from jobqueue.client.problems import Answer, ConnectionFailed
from jobqueue.client.retrying import HOLD_SECONDS, RETRYING, TIMEOUT_SECONDS, Retrying, Steps, carried_through, no
from jobqueue.client.sending import Call, Request
from jobqueue.client.types import JobEvent
from jobqueue.errors import QueueError

T = TypeVar("T")

IDLE_CONNECTIONS_MAX = 1_000
"""Connections kept when no thread uses them. More are opened as threads need them, and closed after use, with a warning in the log of
urllib3: hence a number beyond what threads a process has."""

READ_BYTES = 1 << 16
"""How much of a stream is read at once, at most."""


class Pools(NamedTuple):
    """The connections of one process: urllib3's manager, its pool of those to the server, and the path before every target."""

    manager: PoolManager
    server: HTTPConnectionPool
    prefix: str

    @classmethod
    def of(cls, endpoint: Endpoint, ssl_context: ssl.SSLContext | None) -> Pools:
        """Of one server; nothing is connected yet."""
        manager = PoolManager(maxsize=IDLE_CONNECTIONS_MAX, headers=endpoint.headers, ssl_context=ssl_context)
        return cls(manager, manager.connection_from_url(endpoint.url), urlsplit(endpoint.url).path)


class SyncTransport(Operations):
    """What Client is made of below its operations; its arguments are told there."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        max_wait: float = HOLD_SECONDS,
        retrying: Retrying = RETRYING,
        ssl_context: ssl.SSLContext | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._endpoint = Endpoint.find(url, token)
        self._timeout, self._max_wait = check_seconds("timeout", timeout), check_seconds("max_wait", max_wait)
        self._retrying = retrying
        self._ssl_context = ssl_context
        self._sleep = sleep
        # By process: a forked one must not write into its parent's connections.
        self._pools: dict[int, Pools] = {}
        self._closed = False
        self._ended = threading.Event()
        self._streams: set[BaseHTTPResponse] = set()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._endpoint.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._closed = True
        self._ended.set()
        for stream in list(self._streams):
            # Wakes the thread that reads it. It may have come to its end by itself at this moment.
            with suppress(OSError, ValueError, RuntimeError):
                stream.shutdown()
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.manager.clear()

    # Sending.

    def _opened(self) -> Pools:
        if self._closed:
            raise RuntimeError("this client is closed")
        # Two threads that come first at once may make one each; setdefault lets both use the same.
        return self._pools.setdefault(os.getpid(), Pools.of(self._endpoint, self._ssl_context))

    def _exchange(self, request: Request) -> Answer:
        pools = self._pools.get(os.getpid()) or self._opened()
        timeout = Timeout(connect=self._timeout, read=request.wait + self._timeout)
        target = pools.prefix + request.target
        try:
            # Not by the manager, which takes a URL apart and looks for its server with every call.
            response = pools.server.urlopen(
                request.method, target, request.body, self._endpoint.headers, retries=False, redirect=False, timeout=timeout
            )
        except (HTTPError, OSError) as error:
            said = str(error) or type(error).__name__
            raise ConnectionFailed(f"{request.method} {self._endpoint.url}{request.target}: {said}") from error
        return Answer(response.status, response.headers, response.data)

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
                    answer = self._exchange(step)
                except ConnectionFailed as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result

    def _run(self, call: Call[T]) -> T:
        return self._carry(carried_through(call, self._retrying, self._max_wait))

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
        url = self._endpoint.url + listener.target
        headers = {**self._endpoint.headers, **listener.headers()}
        timeout = Timeout(connect=self._timeout, read=SILENCE_SECONDS + self._timeout)
        response: BaseHTTPResponse | None = None
        try:
            manager = self._opened().manager
            response = manager.request("GET", url, headers=headers, timeout=timeout, retries=False, redirect=False, preload_content=False)
            self._streams.add(response)
            # Looked at after it was added: a close() before has not seen the stream, a later one does.
            if self._closed:
                return
            listener.begin(response.status, response.headers, b"" if response.status == 200 else response.data)
            while chunk := response.read1(READ_BYTES):
                yield chunk
        except (HTTPError, OSError) as error:
            raise ConnectionFailed(f"GET {url}: {str(error) or type(error).__name__}") from error
        finally:
            if response is not None:
                self._streams.discard(response)
                response.close()

    def _pause(self, seconds: float) -> None:
        """Pause as long, or until close(). A sleep that a test brought is its own affair."""
        if self._sleep is not time.sleep:
            self._sleep(seconds)
        else:
            self._ended.wait(seconds)
