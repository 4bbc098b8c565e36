"""Serves one request of a connection, from its start to the last byte of its answer.

**At once.** A request that has fully arrived is run where it was found, outside any task, to its end or its first suspension
(docs/decisions/0007). Most end there: an enqueue or a conclude in memory never suspends. A request that suspends (a held dequeue, a commit,
a slow reader) is continued by a task of its own (`resuming.py`). A request that only yields to others (`asyncio.sleep(0)`) continues in the
next turn of the loop. If the backend needs tasks (`Backend.at_once`), every request gets a task from the start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from jobqueue.http.answers import Answer
from jobqueue.http.heads import NO_FIELDS, Head
from jobqueue.http.peers import Counts, Peer
from jobqueue.http.request import ClientGone, Request
from jobqueue.resuming import resumed

_logger = logging.getLogger("jobqueue.http")

Serving = Coroutine[Any, Any, Answer]
"""A running handler."""


class Handles(Counts, Protocol):
    """The part of a server that is used here; all its connections share it."""

    at_once: bool

    def abandoned(self, task: asyncio.Task[None]) -> None:
        """Cancel the work for a client that has gone."""

    @property
    def handler(self) -> Callable[[Request], Coroutine[Any, Any, Answer]]:
        """The function that answers a request."""


class ServingPeer(Peer):
    """A connection with the request being served. What happens afterwards, `_finish` and `_next`, is defined in `Connection`."""

    __slots__ = ("_half", "_request", "_task", "_unstarted")

    server: Handles

    def __init__(self, server: Handles, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop)
        self._request: Request | None = None
        """The request being served."""
        self._half: Serving | None = None
        """A handler that yielded to others, until the next turn of the loop."""
        self._task: asyncio.Task[None] | None = None
        self._unstarted: Serving | None = None
        """The handler that the task will run, until the task has started it."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """Cancel all work for the client."""
        super().connection_lost(exc)
        if self._half is not None:
            self._half.close()
            self._half = None
        if self._unstarted is not None:
            # A task that is cancelled before it ran never starts the coroutine that it was given.
            assert self._task is not None
            self._task.cancel()
            self._unstarted.close()
            self._task = self._unstarted = None
        if self._task is not None:
            self.server.abandoned(self._task)
            self._task = None
        self._request = None

    def _finish(self, linger: bool = False) -> None:
        """Serve no more requests: this answer was the last."""
        self.force_close()

    def _next(self) -> None:
        """Serve the data behind the request: an answer was sent, and the connection stays open."""

    def _run(self, request: Request, more: bool) -> None:
        """Serve a request that has fully arrived: to its end, or to its first suspension. more: another request is behind it."""
        self._request = request
        self.handed = None
        server = self.server
        server.requests_count += 1
        serving = server.handler(request)
        if not server.at_once:
            self._start(serving, request, serving)
            return
        try:
            waits_for = serving.send(None)
        except StopIteration as stop:
            self._answered(request, stop.value)
        except BaseException:
            self.force_close()
            raise
        else:
            # Not if another request is behind it: its answer would be sent first.
            if waits_for is None and not more:
                self._half = serving
                self._loop.call_soon(self._step_up)
            else:
                self._carry_on(serving, waits_for, request)

    def _step_up(self) -> None:
        """Continue a request that yielded to others: they have run by the time the loop calls this."""
        serving, request, self._half = self._half, self._request, None
        if serving is None or request is None:
            return
        try:
            waits_for = serving.send(None)
        except StopIteration as stop:
            self._answered(request, stop.value)
        except BaseException:
            self.force_close()
            raise
        else:
            self._carry_on(serving, waits_for, request)

    def _carry_on(self, serving: Serving, waits_for: Any, request: Request) -> None:
        """Give a suspended request to a task, and release what it no longer needs: 4 KiB of the 14 KiB that it would cost.

        Its handler has read headers and body. From here on only the method, the version and whether to keep the connection are needed.
        """
        head = request.head
        request.head = Head(head.method, head.path, NO_FIELDS, head.version, head.should_close)
        if request.whole:
            request.whole = b""
        self._start(resumed(serving, waits_for), request, serving)

    def _start(self, serving: Coroutine[Any, Any, Answer], request: Request, unstarted: Serving) -> None:
        self._stop_timer()
        self._unstarted = unstarted
        self._task = self._loop.create_task(self._in_task(serving, request))

    async def _in_task(self, serving: Coroutine[Any, Any, Answer], request: Request) -> None:
        self._unstarted = None
        try:
            await self.carry(serving, request)
        except asyncio.CancelledError:
            # When the client has gone. An exception that is raised here would be kept by the task, which its traceback refers to. That is a
            # reference cycle for the garbage collector, and ten thousand of them when many clients leave at once.
            if self.transport is not None:
                self.force_close()
                raise

    async def carry(self, serving: Coroutine[Any, Any, Answer], request: Request) -> None:
        """Serve a request to the last byte of its answer, in a task."""
        try:
            answer = await serving
            answer.write_now(request)
            if self.writing_paused:
                await self.drained()
        except ClientGone:
            self.force_close()
        except Exception:
            _logger.exception("internal error while a request was handled")
            self.force_close()
        else:
            self._ended(answer)

    def _answered(self, request: Request, answer: Answer) -> None:
        """A request was served without a task."""
        if not answer.written:
            try:
                answer.write_now(request)
            except ClientGone:
                self.force_close()
                return
        if self.writing_paused:
            given = _given(answer)
            self._start(given, request, given)
        else:
            self._ended(answer)

    def _ended(self, answer: Answer) -> None:
        """An answer was sent."""
        self._request = self._task = None
        if self.transport is None:
            return
        if not answer.keep_alive:
            self._finish()
            return
        self.deadline = 0.0
        loop = self._loop
        self._expires = expires = loop.time() + self.server.idle_seconds
        if self._timer is None:
            self._timer = loop.call_at(expires, self._on_timer)
        self._next()


async def _given(answer: Answer) -> Answer:
    return answer
