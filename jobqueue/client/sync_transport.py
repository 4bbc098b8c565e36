"""How Client sends: one urllib3 pool of connections, shared by all threads."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

from jobqueue.client.endpoint import Endpoint, check_seconds
from jobqueue.client.operations import Operations
from jobqueue.client.problems import Answer, ConnectionFailed
from jobqueue.client.retrying import HOLD_SECONDS, RETRYING, TIMEOUT_SECONDS, Retrying, Steps, carried_through, no
from jobqueue.client.sending import Call, Request
from jobqueue.errors import QueueError

T = TypeVar("T")

IDLE_CONNECTIONS_MAX = 1_000
"""Connections kept when no thread uses them. More are opened as threads need them, and closed after use, with a warning in the log of
urllib3: hence a number beyond what threads a process has."""


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
        self._pools: dict[int, PoolManager] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._endpoint.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._closed = True
        pool = self._pools.pop(os.getpid(), None)
        if pool is not None:
            pool.clear()

    # Sending.

    def _opened(self) -> PoolManager:
        if self._closed:
            raise RuntimeError("this client is closed")
        # Two threads that come first at once may make one each; setdefault lets both use the same.
        return self._pools.setdefault(
            os.getpid(), PoolManager(maxsize=IDLE_CONNECTIONS_MAX, headers=self._endpoint.headers, ssl_context=self._ssl_context)
        )

    def _exchange(self, request: Request) -> Answer:
        pool = self._pools.get(os.getpid()) or self._opened()
        timeout = Timeout(connect=self._timeout, read=request.wait + self._timeout)
        url = self._endpoint.url + request.target
        try:
            response = pool.request(request.method, url, body=request.body, timeout=timeout, retries=False, redirect=False)
        except (HTTPError, OSError) as error:
            raise ConnectionFailed(f"{request.method} {url}: {error or type(error).__name__}") from error
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
