"""How calls of AsyncClient share requests; see sharing.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from jobqueue.client.exchange import Answer
from jobqueue.client.sending import Request
from jobqueue.client.servers import Turn
from jobqueue.client.sharing import Bound, apart, own, together

Exchange = Callable[[Request, Turn], Awaitable[Answer]]


class _Waiting:
    """A call that waits to be sent with others. answer: its own; None: it must be sent by itself."""

    __slots__ = ("answer", "request", "turn")

    def __init__(self, request: Request, turn: Turn, answer: asyncio.Future[Answer | None]) -> None:
        self.request = request
        self.turn = turn
        self.answer = answer


class _Line:
    """The calls of one kind to one server. busy: one of them is under way, or was until this turn of the loop."""

    __slots__ = ("bound", "busy", "waiting")

    def __init__(self) -> None:
        self.bound = Bound()
        self.busy = False
        self.waiting: list[_Waiting] = []


class Sharing:
    """Sends requests with `exchange`, together if they can share one."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._lines: dict[tuple[int, str], _Line] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def ended(self) -> None:
        """Wait until no shared request is under way."""
        if self._sending:
            await asyncio.wait(self._sending)

    async def exchange(self, request: Request, turn: Turn) -> Answer:
        """The answer to a request that names its batch operation. Raises as `exchange` does."""
        key = turn.at, request.batch
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line()
        if line.bound.most == 1:
            # There are no other calls to wait for.
            return await self._exchange(request, turn)
        if line.busy:
            waiting = _Waiting(request, turn, asyncio.get_running_loop().create_future())
            line.waiting.append(waiting)
            answer = await waiting.answer
            return await self._exchange(request, turn) if answer is None else answer
        line.busy = True
        try:
            return await self._exchange(request, turn)
        finally:
            self._go_on(line)

    def _go_on(self, line: _Line) -> None:
        """One of the line's requests has ended: send those that wait."""
        if not line.waiting:
            line.busy = False
            return
        # Cancelled calls no longer wait, and nothing of them was sent.
        waiting = [one for one in line.waiting if not one.answer.done()]
        count = line.bound.fitting(waiting)
        line.waiting = waiting[count:]
        line.busy = count > 0
        if count:
            # In a separate task: the call that ended the last request has its answer, and continues with that.
            task = asyncio.get_running_loop().create_task(self._send(line, waiting[:count]))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, line: _Line, some: list[_Waiting]) -> None:
        try:
            if len(some) == 1:
                parts: list[Answer | None] = [await self._exchange(some[0].request, some[0].turn)]
            else:
                answer = await self._exchange(together([one.request for one in some]), some[0].turn)
                parts = apart(answer, len(some), line.bound)
        except asyncio.CancelledError:
            # The loop is ending.
            for one in some:
                one.answer.cancel()
            raise
        except Exception as error:
            for one in some:
                if not one.answer.done():
                    one.answer.set_exception(own(error))
        else:
            for one, part in zip(some, parts, strict=True):
                if not one.answer.done():
                    one.answer.set_result(part)
        finally:
            # The calls that were answered continue in the next turn of the loop. The calls that they then make are sent together too.
            with suppress(RuntimeError):  # the loop is gone, and this is only cleanup
                asyncio.get_running_loop().call_soon(self._go_on, line)
