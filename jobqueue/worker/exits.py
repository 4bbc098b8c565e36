"""SystemExit and KeyboardInterrupt out of what handlers start: they end an attempt, never the worker or the server it is part of.

What leaves the handler itself is caught where it was called. But asyncio lets these two out of *every* task and callback through the loop
to whoever runs it, and there they end all that runs on it. So there are two fences:

- A task that a handler starts, however deep, runs a coroutine that ends the attempt instead (`Attempt`, `Fence`). That asks a task
  factory of the loop, documented by asyncio, and holds in a loop of the user's own too.
- Where we run the loop ourselves, `run_through` goes on with what an exit of any other callback interrupted. Such a callback cannot be
  told from the loop's own, so this one is logged like any other error of a callback, and its attempt goes on.

Rejected: a Task of our own whose exception is SystemExit without being raised. It needs asyncio's private parts, and a handler that is
ending has no use for the difference: it is cancelled in either case.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from jobqueue.worker.endings import name_of
from jobqueue.worker.shutdown import close

T = TypeVar("T")

EXITS = (SystemExit, KeyboardInterrupt)
"""What asyncio lets out of a task, beyond what every task keeps for whoever awaits it."""

_logger = logging.getLogger("jobqueue.worker")


class Attempt:
    """One attempt, for the tasks that its handler starts. exited: what to tell of an exit, on the loop; None once it is over.

    Not the Run: a task that outlives its handler would keep the job.
    """

    __slots__ = ("exited",)

    def __init__(self, exited: Callable[[BaseException], None]) -> None:
        self.exited: Callable[[BaseException], None] | None = exited

    def exit(self, error: BaseException) -> None:
        """A task raised `error`."""
        if self.exited is not None:
            self.exited(error)
        else:
            _logger.warning("a task that outlived its handler raised %s", name_of(error))


ATTEMPT: ContextVar[Attempt | None] = ContextVar("jobqueue_attempt", default=None)
"""The attempt that the running code belongs to, in handlers and all they start."""


class _Fenced(Coroutine[Any, Any, Any]):
    """A coroutine that is cancelled where it would exit. An object and no coroutine around the other: that one would never be begun, and
    Python would warn of it, if the task were cancelled before its first step. Looks like the other to who asks.
    """

    def __init__(self, inner: Coroutine[Any, Any, Any], attempt: Attempt) -> None:
        self._inner = inner
        self._attempt = attempt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        raise TypeError("a task's coroutine is not awaited")

    def send(self, value: Any) -> Any:
        try:
            return self._inner.send(value)
        except EXITS as error:
            raise self._exited(error) from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._inner.throw(*error)
        except EXITS as exit:
            raise self._exited(exit) from exit

    def close(self) -> None:
        self._inner.close()

    def _exited(self, error: BaseException) -> BaseException:
        self._attempt.exit(error)
        return asyncio.CancelledError()


class Fence:
    """A loop's task factory that fences what handlers start. previous: the factory that makes the tasks; None for asyncio's own."""

    def __init__(self, previous: Callable[..., Any] | None) -> None:
        self.previous = previous
        self.users = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        """A task, as asyncio asks a factory for it."""
        # Of whoever makes the task, not of the context it is given: that may be an empty one.
        attempt = ATTEMPT.get()
        if attempt is not None:
            coroutine = _Fenced(coroutine, attempt)
        if self.previous is None:
            return asyncio.Task(coroutine, loop=loop, **options)
        return self.previous(loop, coroutine, **options)

    @classmethod
    def put_up(cls, loop: asyncio.AbstractEventLoop) -> Fence:
        """Fence a loop, once for all workers on it."""
        fence = loop.get_task_factory()
        if not isinstance(fence, Fence):
            fence = cls(fence)
            loop.set_task_factory(fence)
        fence.users += 1
        return fence

    def take_down(self, loop: asyncio.AbstractEventLoop) -> None:
        """One worker has no use for it any more. It stays where another factory was put over it."""
        self.users -= 1
        if not self.users and loop.get_task_factory() is self:
            loop.set_task_factory(self.previous)


def run_through(main: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """As asyncio.run, but an exit of a task or callback that is not `main` is logged, and so is a stop of the loop, and the loop goes on;
    and what does not end once `main` has is left.

    Ctrl-C raises KeyboardInterrupt until `main` has set a handler of its own for SIGINT. After that no
    signal does, so what comes out of the loop comes from code.
    """
    task: asyncio.Task[Any] | None = None
    keyboard: list[Any] = [signal.default_int_handler]

    async def begin() -> T:
        nonlocal task
        task = asyncio.current_task()
        keyboard.append(signal.getsignal(signal.SIGINT))
        return await main

    def pressed() -> bool:
        return threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) in keyboard

    runner = asyncio.Runner(loop_factory=loop_factory)
    try:
        go_on: Callable[[], T] = partial(runner.run, begin())
        while True:
            try:
                return go_on()
            except (*EXITS, RuntimeError) as error:
                # A RuntimeError that is not of `main` itself is of a loop that was told to stop.
                stopped = isinstance(error, RuntimeError)
                if task is None or task.done() or (not stopped and pressed()):
                    raise
                if stopped:
                    _logger.error("the loop was stopped, by a handler say; going on")
                else:
                    _logger.error("%s out of a callback; going on", name_of(error), exc_info=error)
                go_on = partial(runner.get_loop().run_until_complete, task)
    finally:
        # Not the runner's own end, which waits for whatever handlers left for as long as that takes.
        close(runner.get_loop())
