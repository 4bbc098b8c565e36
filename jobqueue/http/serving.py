"""The one request of a connection that is being served, from its beginning to the last byte of its answer.

**At once.** A request that has arrived whole is run right where it was found, outside any task, to its end or its first suspension
(docs/decisions/0007). Most end there: an enqueue or a conclude in memory never suspends. One that does (a held dequeue, a commit, a slow
reader) is carried on half run by a task of its own (`resuming.py`). One that only lets others go first (`asyncio.sleep(0)`) goes on when
the loop comes round. Where the backend says that it needs a task (`Backend.at_once`), every request is given one from the start.
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
"""A handler at work."""


class Handles(Counts, Protocol):
    """What all connections of a server share, as far as this goes."""

    at_once: bool

    @property
    def handler(self) -> Callable[[Request], Coroutine[Any, Any, Answer]]:
        """Answers a request."""


class ServingPeer(Peer):
    """A connection with the request being served. What becomes of it afterwards, `_finish` and `_next`, is `Connection`'s."""

    __slots__ = ("_half", "_request", "_task", "_unstarted")

    server: Handles

    def __init__(self, server: Handles, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop)
        self._request: Request | None = None
        """The one being served."""
        self._half: Serving | None = None
        """One that lets others go first, until the loop comes round."""
        self._task: asyncio.Task[None] | None = None
        self._unstarted: Serving | None = None
        """What the task is to serve, until it has begun to."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """Whatever is at work for the client is cancelled."""
        super().connection_lost(exc)
        if self._half is not None:
            self._half.close()
            self._half = None
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._unstarted is not None:
            # A task that is cancelled before it ran never comes to what it was given.
            self._unstarted.close()
            self._unstarted = None
        self._request = None

    def _finish(self, linger: bool = False) -> None:
        """Serve nothing more: an answer was the last."""
        self.force_close()

    def _next(self) -> None:
        """Serve what is behind: an answer is out, and the connection goes on."""

    def _run(self, request: Request, more: bool) -> None:
        """Serve a request that is here whole: at once, or as far as it goes. more: there is another behind it."""
        self._request = request
        self.server.requests_count += 1
        serving = self.server.handler(request)
        if not self.server.at_once:
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
            # Not when another request is behind it, whose answer would overtake its own.
            if waits_for is None and not more:
                self._half = serving
                self._loop.call_soon(self._step_up)
            else:
                self._carry_on(serving, waits_for, request)

    def _step_up(self) -> None:
        """Go on with a request that let others go first: they have, by the time the loop calls this."""
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
        """Give a request that suspended to a task, and let go of what it has no use for any more: 4 KiB of the 14 that it would cost.

        Its handler has read headers and body; from here on only the method, the version and whether to keep the connection matter.
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
            # When the client has gone: one let through here would be kept by the task, which its traceback refers to. That is a cycle
            # for the collector, ten thousand of them when a crowd leaves.
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
            _logger.exception("a defect in a handler")
            self.force_close()
        else:
            self._ended(answer)

    def _answered(self, request: Request, answer: Answer) -> None:
        """A request was served without a task."""
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
        """An answer is out."""
        self._request = self._task = None
        if self.transport is None:
            return
        if not answer.keep_alive:
            self._finish()
            return
        self.deadline = 0.0
        self._expires = self._loop.time() + self.server.idle_seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._expires, self._on_timer)
        self._next()


async def _given(answer: Answer) -> Answer:
    return answer
