"""Where handlers run: async functions on the worker's loop, plain ones in threads. Processes are `processes.py`.

An executor starts a Run, sets its `halt`, and on the loop calls `returned` and `over` when the handler is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import queue
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Protocol

from jobqueue.worker.endings import Discard, Ending, Release, Retry, is_a, name_of, of_exception, of_result
from jobqueue.worker.exits import ATTEMPT, Attempt
from jobqueue.worker.forks import OnlyHere
from jobqueue.worker.handlers import Handler
from jobqueue.worker.running import RunningJob
from jobqueue.worker.runs import CANCELLED_ENDING, Reason, Run
from jobqueue.worker.tracing import span

_logger = logging.getLogger("jobqueue.worker")

_MEANT = (Release, Retry, Discard)

Scope = Callable[[], contextlib.AbstractContextManager[Any]]
"""Makes what a handler is called in: a span of the job's trace, if it has one."""


class Executor(Protocol):
    """Runs handlers of one kind."""

    def start(self, run: Run) -> None:
        """Begin with a run that has its handler and its job."""

    def close(self) -> None:
        """Stop what is left. Nothing is started afterwards."""


def concluded(handler: Handler, job: RunningJob[Any], error: BaseException) -> Ending:
    """The ending of an attempt that raised; what nobody meant to raise is logged, traceback and all. Raises nothing."""
    if not is_a(error, *_MEANT):
        _log(handler, job, error)
    return of_exception(error)


def _log(handler: Handler, job: RunningJob[Any], error: BaseException) -> None:
    said = "job %s (%s), attempt %d failed", job.id, handler.name, job.attempts
    try:
        _logger.warning(*said, exc_info=error)
    except BaseException:
        # The exception's class, its causes and its notes have a say in how they are shown, and the program's own log handlers too.
        with contextlib.suppress(BaseException):
            _logger.warning(f"{said[0]} with a %s that cannot be shown", *said[1:], name_of(error))


async def _awaited(value: Any) -> Any:
    """What a handler comes to: of an async function behind a plain one, what is awaited."""
    while value is not None and inspect.isawaitable(value):
        value = await value
    return value


def alone(handler: Handler, job: RunningJob[Any]) -> Ending:
    """A whole attempt in a process of its own, where no loop runs: call the handler and await what it returns, if that is awaitable."""

    def attempt() -> Ending:
        try:
            with OnlyHere():
                value = handler.call(job)
                if value is not None and inspect.isawaitable(value):
                    value = asyncio.run(_awaited(value))
                return of_result(value)
        except BaseException as error:
            return concluded(handler, job, error)

    return copy_context().run(attempt)


class Contexts:
    """The context that each attempt runs in: as the worker's own was when it started, so that no ContextVar goes from job to job."""

    def __init__(self) -> None:
        self._base = copy_context()

    def fresh(self, run: Run) -> tuple[Context, Attempt]:
        """A context for a run, and the attempt that it says it belongs to."""

        def exited(error: BaseException) -> None:
            assert run.handler is not None
            assert run.job is not None
            run.exited(concluded(run.handler, run.job, error))

        attempt = Attempt(exited)
        context = self._base.copy()
        context.run(ATTEMPT.set, attempt)
        return context, attempt

    def leave(self, end: Callable[[], None]) -> None:
        """Call what ends an attempt outside of its context: it begins the next one, and sets timers."""
        self._base.copy().run(end)


class LoopExecutor:
    """Async handlers, each in a task of its own. Interrupting one cancels the task."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    def start(self, run: Run) -> None:
        """See Executor.start."""
        handler, job = run.handler, run.job
        assert handler is not None
        assert job is not None
        context, attempt = self._contexts.fresh(run)
        self.go_on(run, context, attempt, partial(handler.call, job), partial(span, run.leased))

    def go_on(self, run: Run, context: Context, attempt: Attempt, call: Callable[[], Any], scope: Scope) -> None:
        """Await in a task what is called, in a context that nothing else runs in."""
        coroutine = self._run(run, attempt, call, scope)
        task = asyncio.get_running_loop().create_task(coroutine, context=context)

        def halt(_: Reason) -> None:
            # Cancelled before its first step it would not run at all, and nobody would hear of its end. It looks by itself.
            if inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
                task.cancel()

        run.halt = halt

    async def _run(self, run: Run, attempt: Attempt, call: Callable[[], Any], scope: Scope) -> None:
        handler, job = run.handler, run.job
        assert handler is not None
        assert job is not None
        task = asyncio.current_task()
        ending = CANCELLED_ENDING
        try:
            if run.halt is None:
                # The loop begins tasks where they are made. Were the handler over by now, the next job would begin inside of this one's
                # end, and so on: as deep as there are jobs.
                await asyncio.sleep(0)
            if not job.cancelled:
                with OnlyHere(), scope():
                    value = call()
                    while value is not None and inspect.isawaitable(value):
                        value = await value
                    ending = of_result(value)
        except asyncio.CancelledError as error:
            if not job.cancelled:
                ending = concluded(handler, job, error)
        except BaseException as error:
            # SystemExit and GeneratorExit too: a handler ends its attempt, never the worker.
            if is_a(error, GeneratorExit) and not _is_stepping(task):
                raise  # the loop itself is gone
            ending = concluded(handler, job, error)

        def end() -> None:
            # A cancelled task is always told; that it returned something nevertheless does not make it whole.
            run.returned(ending, job.cancelled)
            run.over()

        attempt.exited = None
        self._contexts.leave(end)

    def close(self) -> None:
        """See Executor.close."""


def _is_stepping(task: asyncio.Task[Any] | None) -> bool:
    """Whether the task itself runs, and is not being cleared away by the collector."""
    try:
        return asyncio.current_task() is task
    except RuntimeError:  # no loop runs
        return False


class Threads:
    """As many daemon threads as are busy at once, kept for the next call.

    Not a ThreadPoolExecutor: the interpreter waits for that one's threads at its end, so a handler that hangs would keep a worker, or
    the server it is part of, from ever ending.
    """

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[Callable[[], None] | None]] = []
        self._closed = False

    def submit(self, work: Callable[[], Callable[[], None]]) -> None:
        """Run `work` in a thread, and then what it returns on this loop."""
        loop = asyncio.get_running_loop()
        if self._idle:
            inbox = self._idle.pop()
        else:
            inbox = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(inbox,), name="jobqueue-handler", daemon=True).start()

        def call() -> None:
            done = work()
            # Idle before the loop hears of it, so that the next call finds this thread and makes no other.
            self._idle.append(inbox)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done)

        inbox.put(call)

    def _serve(self, inbox: queue.SimpleQueue[Callable[[], None] | None]) -> None:
        while (call := inbox.get()) is not None:
            call()
            if self._closed:
                return

    def close(self) -> None:
        """End the idle ones now, the others when they are done."""
        self._closed = True
        while self._idle:
            self._idle.pop().put(None)


class _Rest:
    """What is left of an attempt whose handler returned something to await: that, and the scope it is to be awaited in."""

    def __init__(self, value: Any, scope: contextlib.AbstractContextManager[Any]) -> None:
        self.value = value
        self.scope = scope

    def drop(self) -> None:
        """Do not await it."""
        with contextlib.suppress(BaseException), self.scope:
            close = getattr(self.value, "close", None) or getattr(self.value, "cancel", None)
            if close is not None:
                close()


class ThreadExecutor:
    """Plain functions, each in a thread. One that is interrupted sees `job.cancelled`; after a time-out nobody waits for it.

    What it returns is awaited on the loop, if it is awaitable: an async function behind an ordinary decorator looks like a plain one. It
    is called in a thread nevertheless, since many a decorator makes an async function one that blocks.
    """

    def __init__(self, threads: Threads, contexts: Contexts, loop: LoopExecutor) -> None:
        self._threads = threads
        self._contexts = contexts
        self._loop = loop

    def start(self, run: Run) -> None:
        """See Executor.start."""
        job = run.job
        assert job is not None
        context, attempt = self._contexts.fresh(run)

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
                self._loop.go_on(run, context, attempt, lambda: rest.value, lambda: rest.scope)

        def work() -> Callable[[], None]:
            ended = context.run(_called, run)
            return partial(done, ended) if isinstance(ended, Ending) else partial(go_on, ended)

        run.halt = halt
        self._threads.submit(work)

    def close(self) -> None:
        """See Executor.close."""
        self._threads.close()


def _called(run: Run) -> Ending | _Rest:
    """The part of an attempt that is in a thread."""
    handler, job = run.handler, run.job
    assert handler is not None
    assert job is not None
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
        return concluded(handler, job, error)
