"""SystemExit and KeyboardInterrupt raised by code that handlers start: they end an attempt, but never the worker or the server that
contains it.

An exception that leaves the handler itself is caught where the handler was called. But asyncio lets these two propagate from *every* task
and callback through the loop to whoever runs it, where they end everything that runs on the loop. So there are two defences:

- A task that a handler starts, at any depth, runs a coroutine that ends the attempt instead (`Attempt`, `Fence`). This uses the loop's task
  factory, which asyncio documents, and also works in a loop that the user runs.
- Where we run the loop ourselves, `run_through` continues what an exit from any other callback interrupted. Such a callback cannot be
  distinguished from the loop's own, so the exit is logged like any other error of a callback, and the attempt continues.

Rejected: our own Task class whose exception is SystemExit without being raised. It needs private parts of asyncio, and the difference does
not matter to a handler that is ending: it is cancelled in either case.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from functools import partial
from typing import Any, TypeVar

from jobqueue.worker.endings import Ending, name_of
from jobqueue.worker.shutdown import close

T = TypeVar("T")

EXITS = (SystemExit, KeyboardInterrupt)
"""The exceptions that asyncio lets out of a task; all others stay in the task for whoever awaits it."""

_logger = logging.getLogger("jobqueue.worker")


class Attempt:
    """One attempt, as seen by the tasks that its handler starts. exited: called on the loop with the exception of an exit; None once the
    attempt is over.

    is_beginning: its first step runs where it was started; ending: how it ended in that step.

    This is not the Run: a task that outlives its handler would keep the job in memory.
    """

    __slots__ = ("ending", "exited", "is_beginning")

    def __init__(self, exited: Callable[[BaseException], None]) -> None:
        self.exited: Callable[[BaseException], None] | None = exited
        self.is_beginning = False
        self.ending: Ending | None = None

    def exit(self, error: BaseException) -> None:
        """Note that a task raised `error`."""
        if self.exited is not None:
            self.exited(error)
        else:
            _logger.warning("a task that outlived its handler raised %s", name_of(error))


ATTEMPT: ContextVar[Attempt | None] = ContextVar("jobqueue_attempt", default=None)
"""The attempt that the running code belongs to, in handlers and in everything that they start."""


class _Fenced(Coroutine[Any, Any, Any]):
    """A coroutine that is cancelled instead of exiting. It is an object and not a coroutine around the inner one: if the task were
    cancelled before its first step, the inner coroutine would never start, and Python would warn about that. It looks like the inner
    coroutine to callers.
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
    """A loop's task factory that contains exits from what handlers start. previous: the factory that creates the tasks; None for asyncio's
    own.
    """

    def __init__(self, previous: Callable[..., Any] | None) -> None:
        self.previous = previous
        self.users = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        """Create a task, as asyncio expects of a factory."""
        # From the context of the code that creates the task, not from the context that the task is given: that can be empty.
        attempt = ATTEMPT.get()
        if attempt is not None:
            coroutine = _Fenced(coroutine, attempt)
        if self.previous is None:
            return asyncio.Task(coroutine, loop=loop, **options)
        return self.previous(loop, coroutine, **options)

    def begin(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None]:
        """A task for an attempt itself, started at once where Python can do that. Most handlers soon finish or soon wait for something, and
        a turn of the loop costs more than they do. Not used if the loop has a factory that is not ours, since that may want to create all
        tasks.
        """
        if sys.version_info >= (3, 12) and self.previous is None and loop.get_task_factory() is self:
            return asyncio.Task(coroutine, loop=loop, context=context, eager_start=True)
        return loop.create_task(coroutine, context=context)

    @classmethod
    def put_up(cls, loop: asyncio.AbstractEventLoop) -> Fence:
        """Install the factory on a loop, once for all workers on it."""
        fence = loop.get_task_factory()
        if not isinstance(fence, Fence):
            fence = cls(fence)
            loop.set_task_factory(fence)
        fence.users += 1
        return fence

    def take_down(self, loop: asyncio.AbstractEventLoop) -> None:
        """One worker no longer needs the factory. It stays if another factory was installed over it."""
        self.users -= 1
        if not self.users and loop.get_task_factory() is self:
            loop.set_task_factory(self.previous)


def run_through(main: Coroutine[Any, Any, T], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Like asyncio.run, but an exit from a task or callback other than `main`, or a stop of the loop, is logged and the loop continues.
    What has not ended once `main` has is abandoned.

    Ctrl-C raises KeyboardInterrupt until `main` has installed its own handler for SIGINT. After that no signal does, so such an exception
    comes from code.
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
                # A RuntimeError that does not come from `main` means that something stopped the loop.
                stopped = isinstance(error, RuntimeError)
                if task is None or task.done() or (not stopped and pressed()):
                    raise
                if stopped:
                    _logger.error("the event loop was stopped, perhaps by a handler; continuing")
                else:
                    _logger.error("%s was raised in a callback; continuing", name_of(error), exc_info=error)
                go_on = partial(runner.get_loop().run_until_complete, task)
    finally:
        # Not the runner's own cleanup, which waits without limit for whatever handlers left behind.
        close(runner.get_loop())
