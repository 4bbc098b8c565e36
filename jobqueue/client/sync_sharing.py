"""How calls of Client share requests between threads; see sharing.py.

There is no background thread: a thread that gets its answer wakes the one that has waited longest, which then sends for all that wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from jobqueue.client.exchange import Answer
from jobqueue.client.problems import ConnectionFailed
from jobqueue.client.sending import Request
from jobqueue.client.servers import Turn
from jobqueue.client.sharing import Bound, apart, own, together

Exchange = Callable[[Request, Turn], Answer]


class _Waiting:
    """A call that waits to be sent with others. gate: held until another thread has sent it, or until it must send `some`, of which it is
    the first.

    answer: its own; None: it must be sent by itself.
    """

    __slots__ = ("answer", "error", "gate", "request", "some", "turn")

    def __init__(self, request: Request, turn: Turn) -> None:
        self.request = request
        self.turn = turn
        self.gate = threading.Lock()
        self.gate.acquire()
        self.some: list[_Waiting] = []
        self.answer: Answer | None = None
        self.error: Exception | None = None


class _Line:
    """The calls of one kind to one server. busy: one of them is under way."""

    __slots__ = ("bound", "busy", "lock", "waiting")

    def __init__(self) -> None:
        self.bound = Bound()
        self.busy = False
        self.lock = threading.Lock()
        self.waiting: list[_Waiting] = []


class Sharing:
    """Sends requests with `exchange`, together if they can share one. Belongs to one process: a forked process needs a new one."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._lines: dict[tuple[int, str], _Line] = {}

    def exchange(self, request: Request, turn: Turn) -> Answer:
        """The answer to a request that names its batch operation. Raises as `exchange` does."""
        key = turn.at, request.batch
        line = self._lines.get(key) or self._lines.setdefault(key, _Line())
        if line.bound.most == 1:
            # There are no other calls to wait for.
            return self._exchange(request, turn)
        waiting: _Waiting | None = None
        with line.lock:
            if line.busy:
                waiting = _Waiting(request, turn)
                line.waiting.append(waiting)
            else:
                line.busy = True
        if waiting is None:
            try:
                return self._exchange(request, turn)
            finally:
                self._go_on(line)
        return self._waited(line, waiting)

    def _waited(self, line: _Line, waiting: _Waiting) -> Answer:
        try:
            # With a time limit, since a signal can end another thread's call at any point, including the moment when it should wake a
            # waiting one.
            if waiting.gate.acquire(timeout=waiting.turn.seconds):
                if waiting.some:
                    self._send(line, waiting.some)
            else:
                self._give_up(line, waiting)
        except BaseException:
            self._leave(line, waiting)
            raise
        if waiting.error is not None:
            raise waiting.error
        return self._exchange(waiting.request, waiting.turn) if waiting.answer is None else waiting.answer

    def _go_on(self, line: _Line, before: Sequence[_Waiting] = ()) -> None:
        """One of the line's requests has ended: those that wait are next. before: calls that should have been sent already."""
        with line.lock:
            line.waiting[:0] = before
            count = line.bound.fitting(line.waiting)
            line.busy = count > 0
            if not count:
                return
            some = line.waiting[:count]
            del line.waiting[:count]
            some[0].some = some
        some[0].gate.release()

    def _send(self, line: _Line, some: list[_Waiting]) -> None:
        """Send these calls, of which the first is the caller's."""
        others = some[1:]
        failed: Exception | None = ConnectionFailed("the call that sent this one was interrupted")
        try:
            if not others:
                some[0].answer = self._exchange(some[0].request, some[0].turn)
            else:
                answer = self._exchange(together([one.request for one in some]), some[0].turn)
                for one, part in zip(some, apart(answer, len(some), line.bound), strict=True):
                    one.answer = part
            failed = None
        except Exception as error:
            failed = error
            some[0].error = error
        finally:
            some[0].some = []
            for one in others:
                one.error = None if failed is None else own(failed)
                one.gate.release()
            self._go_on(line)

    def _give_up(self, line: _Line, waiting: _Waiting) -> None:
        """No thread woke this call for as long as an answer can take: it is sent by itself, and so can others be."""
        with line.lock:
            if waiting in line.waiting:
                line.waiting.remove(waiting)
                line.busy = False
                return
        # Another thread is sending it now.
        if waiting.gate.acquire(timeout=waiting.turn.seconds) and waiting.some:
            self._send(line, waiting.some)

    def _leave(self, line: _Line, waiting: _Waiting) -> None:
        """A call is interrupted. Another thread sends what it should have sent."""
        with line.lock:
            if waiting in line.waiting:
                line.waiting.remove(waiting)
                return
            some, waiting.some = waiting.some, []
        if some:
            self._go_on(line, some[1:])
