"""Where handlers run: async functions on the worker's loop, plain functions in threads. For processes see `processes.py`.

An executor starts a Run and sets its `halt`. When the handler is over, it calls `returned` and `over` on the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import queue
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from types import CoroutineType
from typing import Any, Protocol

from jobqueue.worker import forks
from jobqueue.worker.endings import DONE, Ending, is_a, of_result
from jobqueue.worker.exits import ATTEMPT, Attempt, Fence
from jobqueue.worker.forks import OnlyHere
from jobqueue.worker.handlers import Handler
from jobqueue.worker.lines import CURRENT
from jobqueue.worker.running import Leased, RunningJob
from jobqueue.worker.runs import CANCELLED_ENDING, Reason, Run
from jobqueue.worker.telling import concluded
from jobqueue.worker.tracing import span


class Executor(Protocol):
    """Runs handlers of one kind."""

    def start(self, run: Run) -> None:
        """Start a run that has its handler and its job."""

    def close(self) -> None:
        """Stop what still runs. Nothing is started afterwards."""


async def _awaited(value: Any) -> Any:
    """The result of a handler: if a plain function returned an awaitable, what awaiting it gives."""
    while value is not None and inspect.isawaitable(value):
        value = await value
    return value


def alone(handler: Handler, job: RunningJob[Any]) -> Ending:
    """Run a whole attempt in a separate process without a running loop: call the handler, and await its result if that is awaitable."""

    def attempt() -> Ending:
        CURRENT.set(job)
        try:
            with OnlyHere():
                value = handler.call(job)
                if value is not None and inspect.isawaitable(value):
                    value = asyncio.run(_awaited(value))
                return of_result(value)
        except BaseException as error:
            return concluded(error)

    return copy_context().run(attempt)


class Contexts:
    """The context that each attempt runs in: a copy of the worker's own when it started, so that no ContextVar passes from job to job."""

    def __init__(self) -> None:
        self._base = copy_context()
        self.fresh = self._base.copy
        """A context for a run."""

    def leave(self, end: Callable[[], None]) -> None:
        """Call what ends an attempt outside of the attempt's context, since it starts the next attempt and sets timers."""
        self._base.copy().run(end)


async def _traced(leased: Leased, handler: Handler, job: RunningJob[Any]) -> Any:
    """A handler's result, in a span of the job's trace."""
    with span(leased):
        return await _awaited(handler.call(job))


class LoopExecutor:
    """Async handlers, each in its own task. To interrupt one, its task is cancelled.

    eager: run a handler's first step at once when it is started, so it may finish there. Not used in the server's own process, where a
    producer's answer would be delayed by the handler's first step.
    """

    def __init__(self, contexts: Contexts, fence: Fence, eager: bool) -> None:
        self._contexts = contexts
        self._fence = fence
        self._eager = eager
        self._loop = asyncio.get_running_loop()

    def start(self, run: Run) -> None:
        """See Executor.start."""
        handler, job = run.handler, run.job
        assert handler is not None
        assert job is not None
        if run.leased.traceparent is not None:
            call: Callable[[RunningJob[Any]], Any] = partial(_traced, run.leased, handler)
        else:
            call = handler.direct or handler.call
        self.go_on(run, self._contexts.fresh(), Attempt(run.exited), call)

    def go_on(self, run: Run, context: Context, attempt: Attempt, call: Callable[[RunningJob[Any]], Any]) -> None:
        """Run the call in a task and await its result, in a context that nothing else uses."""
        coroutine = self._run(run, attempt, call)
        if self._eager:
            attempt.is_beginning = True
            task = self._fence.begin(self._loop, coroutine, context)
            attempt.is_beginning = False
            if task.done():
                if (ending := attempt.ending) is not None:
                    _end(run, ending)
                return
        else:
            task = self._loop.create_task(coroutine, context=context)

        def halt(_: Reason) -> None:
            # If it were cancelled before its first step it would not run at all, and its end would not be reported. It checks by itself.
            if inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
                task.cancel()

        run.halt = halt
        if run.reasons:
            # During its first step, which ran here: a task that it started has exited.
            halt(Reason.EXITED)

    async def _run(self, run: Run, attempt: Attempt, call: Callable[[RunningJob[Any]], Any]) -> None:
        job = run.job
        assert job is not None
        ATTEMPT.set(attempt)
        CURRENT.set(job)
        task, before = asyncio.current_task(), forks.made
        ending = CANCELLED_ENDING
        try:
            if not run.reasons:
                value = call(job)
                if type(value) is CoroutineType:  # as of nearly every async handler; found faster than by `isawaitable`
                    value = await value
                while value is not None and inspect.isawaitable(value):
                    value = await value
                ending = DONE if value is None else of_result(value)
                if forks.made != before:
                    forks.leave(None)
        except BaseException as error:
            if forks.made != before:
                forks.leave(error)
            if is_a(error, asyncio.CancelledError):
                ending = ending if job.cancelled else concluded(error)
            # Includes SystemExit and GeneratorExit: a handler can end its attempt, but never the worker.
            elif is_a(error, GeneratorExit) and not _is_stepping(task):
                raise  # the loop itself is gone
            else:
                ending = concluded(error)
        attempt.exited = None
        if attempt.is_beginning:
            # `go_on` is outside of the attempt's context.
            attempt.ending = ending
        else:
            self._contexts.leave(partial(_end, run, ending))

    def close(self) -> None:
        """See Executor.close."""


def _end(run: Run, ending: Ending) -> None:
    # A cancelled task is always reported as cancelled, even if it returned a value nevertheless.
    run.returned(ending, True)
    run.over()


def _is_stepping(task: asyncio.Task[Any] | None) -> bool:
    """Whether the task itself runs now, and is not being finalised by the garbage collector."""
    try:
        return asyncio.current_task() is task
    except RuntimeError:  # no loop runs
        return False


class Threads:
    """As many daemon threads as calls run at once; they are kept for later calls.

    Not a ThreadPoolExecutor: the interpreter waits for its threads at exit, so a handler that hangs would keep a worker, or the server that
    contains it, from ending.
    """

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[Callable[[], None] | None]] = []
        self._closed = False

    def submit(self, work: Callable[[], Callable[[], None]]) -> None:
        """Run `work` in a thread, and then run on this loop the callback that it returns."""
        loop = asyncio.get_running_loop()
        if self._idle:
            inbox = self._idle.pop()
        else:
            inbox = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(inbox,), name="jobqueue-handler", daemon=True).start()

        def call() -> None:
            done = work()
            # Marked idle before the loop is notified, so that the next call uses this thread and does not create another.
            self._idle.append(inbox)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done)

        inbox.put(call)

    def _serve(self, inbox: queue.SimpleQueue[Callable[[], None] | None]) -> None:
        while (call := inbox.get()) is not None:
            call()
            del call  # it would keep the job in memory while the thread waits for the next
            if self._closed:
                return

    def close(self) -> None:
        """End the idle threads now, and the others when they are done."""
        self._closed = True
        while self._idle:
            self._idle.pop().put(None)


class _Rest:
    """What remains of an attempt whose handler returned an awaitable: the awaitable, and the scope to await it in."""

    def __init__(self, value: Any, scope: contextlib.AbstractContextManager[Any]) -> None:
        self.value = value
        self.scope = scope

    async def awaited(self, _: RunningJob[Any]) -> Any:
        """The result."""
        with self.scope:
            return await _awaited(self.value)

    def drop(self) -> None:
        """Discard it without awaiting."""
        with contextlib.suppress(BaseException), self.scope:
            close = getattr(self.value, "close", None) or getattr(self.value, "cancel", None)
            if close is not None:
                close()


class ThreadExecutor:
    """Plain functions, each in a thread. One that is interrupted sees `job.cancelled`; after a time-out the worker no longer waits for it.

    If the function returns an awaitable, that is awaited on the loop: an async function behind an ordinary decorator looks like a plain
    one. It is still called in a thread, since many decorators make an async function one that blocks.
    """

    def __init__(self, threads: Threads, contexts: Contexts, loop: LoopExecutor) -> None:
        self._threads = threads
        self._contexts = contexts
        self._loop = loop

    def start(self, run: Run) -> None:
        """See Executor.start."""
        job = run.job
        assert job is not None
        context, attempt = self._contexts.fresh(), Attempt(run.exited)

        def halt(reason: Reason) -> None:
            if reason is Reason.TIMED_OUT:
                run.give_up()

        def done(ending: Ending) -> None:
            attempt.exited = None
            run.returned(ending, job.noticed)
            run.over()

        def go_on(rest: _Rest) -> None:
            if run.is_over or job.cancelled:
                context.run(rest.drop)
                done(CANCELLED_ENDING)
            else:
                self._loop.go_on(run, context, attempt, rest.awaited)

        def work() -> Callable[[], None]:
            ended = context.run(_called, run, attempt)
            return partial(done, ended) if isinstance(ended, Ending) else partial(go_on, ended)

        run.halt = halt
        self._threads.submit(work)

    def close(self) -> None:
        """See Executor.close."""
        self._threads.close()


def _called(run: Run, attempt: Attempt) -> Ending | _Rest:
    """The part of an attempt that runs in a thread."""
    handler, job = run.handler, run.job
    assert handler is not None
    assert job is not None
    ATTEMPT.set(attempt)
    CURRENT.set(job)
    try:
        with contextlib.ExitStack() as scope:
            only_here = OnlyHere()
            scope.enter_context(only_here)
            scope.enter_context(span(run.leased))
            value = handler.call(job)
            if value is not None and inspect.isawaitable(value):
                only_here.check()
                return _Rest(value, scope.pop_all())
        return of_result(value)
    except BaseException as error:
        return concluded(error)
