"""Where handlers run: async functions on the worker's loop, plain ones in threads. Processes are `processes.py`.

An executor starts a Run, sets its `halt`, and on the loop calls `returned` and `over` when the handler is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, Protocol

from jobqueue.worker.endings import Discard, Ending, Release, Retry, of_exception, of_result
from jobqueue.worker.handlers import Handler
from jobqueue.worker.running import RunningJob
from jobqueue.worker.runs import CANCELLED_ENDING, Reason, Run
from jobqueue.worker.tracing import span

_logger = logging.getLogger("jobqueue.worker")

_MEANT = (Release, Retry, Discard)


class Executor(Protocol):
    """Runs handlers of one kind."""

    def start(self, run: Run) -> None:
        """Begin with a run that has its handler and its job."""

    def close(self) -> None:
        """Stop what is left. Nothing is started afterwards."""


def concluded(handler: Handler, job: RunningJob[Any], error: BaseException) -> Ending:
    """The ending of an attempt that raised; what nobody meant to raise is logged, traceback and all."""
    if not isinstance(error, _MEANT):
        _logger.warning("job %s (%s), attempt %d failed", job.id, handler.name, job.attempts, exc_info=error)
    return of_exception(error)


class LoopExecutor:
    """Async handlers, each in a task of its own. Interrupting one cancels the task."""

    def start(self, run: Run) -> None:
        """See Executor.start."""
        task = asyncio.get_running_loop().create_task(self._run(run))
        run.halt = lambda _: _cancel(task)

    async def _run(self, run: Run) -> None:
        handler, job = run.handler, run.job
        assert handler is not None
        assert job is not None
        try:
            with span(run.leased):
                ending = of_result(await handler.call(job))
        except asyncio.CancelledError as error:
            ending = CANCELLED_ENDING if job.cancelled else concluded(handler, job, error)
        except GeneratorExit:
            raise  # the loop itself is gone
        except BaseException as error:
            # SystemExit too: a handler ends its attempt, never the worker.
            ending = concluded(handler, job, error)
        # A cancelled task is always told; that it returned something nevertheless does not make it whole.
        run.returned(ending, job.cancelled)
        run.over()

    def close(self) -> None:
        """See Executor.close."""


def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()


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


class ThreadExecutor:
    """Plain functions, each in a thread. One that is interrupted sees `job.cancelled`; after a time-out nobody waits for it."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    def start(self, run: Run) -> None:
        """See Executor.start."""
        handler, job = run.handler, run.job
        assert handler is not None
        assert job is not None

        def halt(reason: Reason) -> None:
            if reason is Reason.TIMED_OUT:
                run.give_up()

        def work() -> Callable[[], None]:
            try:
                with span(run.leased):
                    ending = of_result(handler.call(job))
            except BaseException as error:
                ending = concluded(handler, job, error)

            def done() -> None:
                run.returned(ending, job.noticed)
                run.over()

            return done

        run.halt = halt
        self._threads.submit(work)

    def close(self) -> None:
        """See Executor.close."""
        self._threads.close()
