"""Worker: takes jobs from a source, runs their handlers, and tells the source how they ended.

    worker = Worker("http://localhost:8080", queues=["mail"], concurrency=16)

    @worker.handler("email", timeout=30)
    async def send(job): ...

    worker.run()

Three tasks: one takes jobs while there is room, one beats for all leases (`leases.py`), one hands in what ended (`concluding.py`). None
polls. A run stands in `_leases` from being taken until the server has its ending, and waits in `_waiting` until a slot is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, cast

from jobqueue.backend.base import Backend
from jobqueue.clock import Clock, SystemClock
from jobqueue.errors import CallerError, QueueError
from jobqueue.model import DEFAULT_QUEUE, SUCCEEDED, Want
from jobqueue.worker.bell import Bell, Outage, Random, sleep
from jobqueue.worker.concluding import Conclusions, Counts
from jobqueue.worker.endings import RELEASED, Ending
from jobqueue.worker.executors import Contexts, LoopExecutor, ThreadExecutor, Threads
from jobqueue.worker.executors import Executor as RunExecutor
from jobqueue.worker.exits import Fence
from jobqueue.worker.handlers import Executor, F, Registry
from jobqueue.worker.leases import Leases
from jobqueue.worker.options import LIMITS, SECONDS_MAX, SETTING_SECONDS_MAX, queue_names, within, worker_name
from jobqueue.worker.processes import ProcessExecutor
from jobqueue.worker.returns import UNHANDLED_SECONDS, Returns
from jobqueue.worker.running import Leased, RunningJob
from jobqueue.worker.runs import CANCELLED_ENDING, Reason, Run
from jobqueue.worker.sources import BackendSource, Source
from jobqueue.worker.waiting import Waiting

FLUSH_SECONDS = 5.0
"""How long a worker that stops tries to hand in what has ended, at least; more than an interrupted handler has to clean up."""

_logger = logging.getLogger("jobqueue.worker")


class Worker:
    """Runs handlers on the jobs of some queues.

    source: the server's URL, or those of several servers on one queue, as for a client; a Backend of this process or a Source; may be left
    out where only the handlers are of interest, as for `jobqueue serve --pool`. handlers: a Registry made elsewhere. queues: in order of
    preference. concurrency: handlers at once. timeout: seconds an attempt may take where its handler says nothing, None for as long as it
    likes. lease_seconds: how long a lease holds without a heartbeat, so how soon the jobs of a worker that died go to another. wait:
    seconds a request for jobs is held. prefetch: jobs taken ahead at most, None for what the source thinks. grace_seconds: what running
    jobs get to finish on shutdown. unhandled_seconds: how long a job that no handler is for is given back, from when this worker first had
    it, before it fails for good. name: shown with the jobs; host and process id unless given. token: for a URL; without it JOBQUEUE_TOKEN.
    clock and chance: for tests.

    Raises ValueError naming the parameter.
    """

    def __init__(
        self,
        source: str | Sequence[str] | Backend | Source | None = None,
        *,
        handlers: Registry | None = None,
        queues: Sequence[str] | None = None,
        concurrency: int = 16,
        timeout: float | None = None,
        lease_seconds: float = 30.0,
        wait: float = LIMITS.wait_seconds_default,
        prefetch: int | None = None,
        grace_seconds: float = 30.0,
        unhandled_seconds: float = UNHANDLED_SECONDS,
        name: str | None = None,
        token: str | None = None,
        clock: Clock | None = None,
        chance: Random | None = None,
    ) -> None:
        self.handlers = Registry(None if queues is None else queue_names(queues)) if handlers is None else handlers
        self.queues = self.handlers.queues or (DEFAULT_QUEUE,) if queues is None else queue_names(queues)
        self.concurrency = int(within("concurrency", concurrency, 1, 10_000))
        self.timeout = None if timeout is None else within("timeout", timeout, 0.001, SECONDS_MAX)
        self.lease_seconds = within("lease_seconds", lease_seconds, 0.1, SECONDS_MAX)
        self.wait_seconds = within("wait", wait, 0.1, SECONDS_MAX)
        self.grace_seconds = within("grace_seconds", grace_seconds, 0, SECONDS_MAX)
        self.unhandled_seconds = within("unhandled_seconds", unhandled_seconds, 0, SETTING_SECONDS_MAX)
        self.name = worker_name(name if name is not None else f"{socket.gethostname()}:{os.getpid()}")
        self.clock: Clock = SystemClock() if clock is None else clock
        self.counts = Counts()
        self.error: BaseException | None = None
        """What made the worker stop by itself: the server refused its request for jobs, or a fault of its own."""
        self.source = source
        self._token = token
        self._prefetch = None if prefetch is None else int(within("prefetch", prefetch, 0, LIMITS.batch_jobs_max))
        self._chance: Random = chance or random.Random()
        self._running: set[Run] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._broken = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Worker {self.name} queues={','.join(self.queues)} {len(self._running)} of {self.concurrency} running>"

    def handler(self, name: str | None = None, *, timeout: float | None = None, executor: Executor | None = None) -> Callable[[F], F]:
        """Register a handler with this worker; see Registry.handler."""
        return self.handlers.handler(name, timeout=timeout, executor=executor)

    @property
    def running(self) -> int:
        """How many handlers run now."""
        return len(self._running)

    # Starting and stopping.

    def run(self) -> None:
        """Be a process: run until SIGTERM or SIGINT, then stop. Raises ValueError as `start`, and `error` if the worker broke.

        SIGTERM stops taking jobs, lets those that run finish within the grace period and gives the rest back; a second signal ends the
        grace period. Logs to stderr unless logging is set up.
        """
        from jobqueue.worker.service import run

        run(self)

    async def start(self) -> None:
        """Begin to take jobs, on this loop. Raises ValueError without a source or a handler, HandlersError for a handler that its process
        would not find, RuntimeError the second time.
        """
        if self._tasks:
            raise RuntimeError("the worker was started before; make another one")
        if self.source is None:
            raise ValueError("source: a worker needs a URL, a Backend or a Source to take jobs from")
        if not len(self.handlers):
            raise ValueError("handlers: the worker has none")
        self.handlers.check_sent()
        self._source = _source_of(self.source, self._token)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._waiting = Waiting(self.clock, self.concurrency, self._source.prefetch if self._prefetch is None else self._prefetch)
        outage = self._outage = Outage(self.clock, self._chance)
        self._room = Bell(self.clock)
        self._quiet = Bell(self.clock)
        self._leases = Leases(self._source, self.clock, outage, self.lease_seconds, self._cancelled, self._lost)
        self._conclusions = Conclusions(self._source, self.clock, outage, self.counts, self._settled)
        self._returns = Returns(self.handlers.names, self.unhandled_seconds, self._chance)
        self._fence = Fence.put_up(self._loop)
        threads, contexts = Threads(), Contexts()
        loop = LoopExecutor(contexts)
        self._executors: dict[str, RunExecutor] = {
            "loop": loop,
            "process": ProcessExecutor(threads),
            "thread": ThreadExecutor(threads, contexts, loop),
        }
        self._tasks = [asyncio.create_task(self._guard(part)) for part in (self._take(), self._leases.beat(), self._conclusions.hand_in())]

    async def _guard(self, part: Coroutine[Any, Any, None]) -> None:
        try:
            await part
        except Exception as error:
            if isinstance(error, CallerError):
                _logger.error("the server refuses to give this worker jobs: %s", error)
            else:
                _logger.exception("the worker broke")
            self.error = error
            self._broken.set()

    async def broken(self) -> BaseException:
        """Wait until the worker takes no more jobs by itself, and say why. It is still to be stopped."""
        await self._broken.wait()
        assert self.error is not None
        return self.error

    async def stop(self, grace_seconds: float | None = None, hurry: asyncio.Event | None = None) -> None:
        """Take no more jobs at once; let those that run finish within the grace period, and give the rest back, their attempts not
        counted. hurry, once set, ends the grace period. Stopping a worker that does not run does nothing. Raises ValueError for a grace
        period that is none.
        """
        grace = self.grace_seconds if grace_seconds is None else within("grace_seconds", grace_seconds, 0, SETTING_SECONDS_MAX)
        if not self._tasks or self._stopping:
            return
        self._stopping = True
        taking, *others = self._tasks
        taking.cancel()
        await asyncio.wait([taking])
        self._waiting.close()
        grace_ends = self.clock.now() + grace
        await self._until(lambda: all(run.is_over for run in self._running), grace_ends, hurry)
        for run in list(self._running):
            run.interrupt(Reason.STOPPED)
        # Those end by themselves or are given up. What ended is handed in, unless the server is away for longer than this.
        flush_ends = self.clock.now() + FLUSH_SECONDS
        hurried = hurry is not None and hurry.is_set()
        await self._until(lambda: not len(self._leases), flush_ends if hurried else max(grace_ends, flush_ends))
        if len(self._leases):
            _logger.warning("%d jobs could not be handed in; their leases end within %.0f s", len(self._leases), self.lease_seconds)
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        self._leases.close()
        for executor in self._executors.values():
            executor.close()
        self._fence.take_down(self._loop)
        await self._source.close()

    async def _until(self, done: Callable[[], bool], until: float, hurry: asyncio.Event | None = None) -> None:
        """Wait until something is done, time is up or it is to hurry."""
        hurried = None if hurry is None else asyncio.create_task(hurry.wait())
        if hurried is not None:
            hurried.add_done_callback(lambda _: self._quiet.ring())
        while not (done() or self.clock.now() >= until or (hurried is not None and hurried.done())):
            await self._quiet.wait(until)
        if hurried is not None:
            hurried.cancel()

    # Taking.

    async def _take(self) -> None:
        failures = 0
        while True:
            room = self._waiting.room(len(self._running))
            if not room:
                await self._room.wait()
                continue
            want = Want(queues=self.queues, limit=min(room, LIMITS.batch_jobs_max), lease_seconds=self.lease_seconds, worker=self.name)
            try:
                # A worker that is busy takes ahead what is there, but never stands in line before an idle one.
                busy = len(self._running) >= self.concurrency
                taken = await self._source.take(want, 0.0 if busy else self.wait_seconds)
            except CallerError:
                raise
            except QueueError as error:
                failures += 1
                await sleep(self.clock, self._outage.failed(error, failures))
            else:
                failures = 0
                self._outage.over()
                self._took(taken)
                if not busy:
                    # Handlers that can begin do so before this loop is busy with asking for more.
                    await asyncio.sleep(0)
                while busy and not taken and len(self._running) >= self.concurrency:
                    await self._room.wait()

    def _took(self, taken: list[Leased]) -> None:
        expires_at = self.clock.now() + self.lease_seconds
        for leased in taken:
            # A repeated request is answered the same leases again.
            if leased.token not in self._leases:
                self.counts.taken += 1
                run = Run(leased, expires_at, self)
                self._leases.add(run)
                self._waiting.add(run)
        self._fill()
        for run in self._waiting.surplus():
            run.end(RELEASED)
        self._waiting.watch()

    # Running.

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self.concurrency:
            self._begin(self._waiting.next())

    def _begin(self, run: Run) -> None:
        handler = self.handlers.find(run.leased.type)
        if handler is None:
            self.counts.unhandled += 1
            run.end(self._returns.unhandled(run.leased, self.clock.now()))
            return
        self._running.add(run)
        job: RunningJob[Any] = RunningJob(run.leased, self.name, run.expires_at, handler.read, partial(self._report, run))
        run.start(handler, job, self.timeout if handler.timeout is None else handler.timeout)
        self._executors[handler.executor].start(run)

    def _report(self, run: Run, fraction: float, message: str | None) -> None:
        if threading.get_ident() == self._thread:
            run.report(fraction, message)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the handler outlived its worker
                self._loop.call_soon_threadsafe(run.report, fraction, message)

    # What runs, leases and conclusions tell.

    def ended(self, run: Run, ending: Ending | None) -> None:
        """See Owner.ended."""
        if run.job is not None:
            self._waiting.took(self.clock.now() - run.started_at)
        if self._waiting.ended(run, ending is not None and ending.verdict is not None and ending.verdict.outcome is SUCCEEDED):
            self._fill()
        if ending is None:
            self.counts.lost += 1
        else:
            if ending.verdict is not None:
                self._returns.forget(run.leased.id)
            elif run.job is not None and ending is not RELEASED:
                ending = self._returns.released(run.leased, ending.delay, self.clock.now())
            self._conclusions.add(run, ending)
        self._quiet.ring()

    def freed(self, run: Run) -> None:
        """See Owner.freed."""
        self._running.discard(run)
        self._waiting.freed(run)
        self._fill()
        self._room.ring()

    def progressed(self, run: Run) -> None:
        """See Owner.progressed."""
        self._leases.note(run)

    def _cancelled(self, run: Run) -> None:
        if run.job is None:
            self._waiting.end(run, CANCELLED_ENDING)
        else:
            run.interrupt(Reason.CANCELLED)

    def _lost(self, run: Run) -> None:
        if run.job is None:
            self._waiting.end(run, None)
        else:
            run.interrupt(Reason.LOST)
        self._quiet.ring()

    def _settled(self, run: Run) -> None:
        self._leases.drop(run)
        self._quiet.ring()


def _source_of(given: str | Sequence[str] | Backend | Source, token: str | None) -> Source:
    """A source from what a worker was given."""
    if isinstance(given, str | list | tuple):
        # Here, so that a pool in the server loads no client.
        from jobqueue.worker.http_source import HttpSource, source_client

        return HttpSource(source_client(given, token))
    return BackendSource(cast(Backend, given)) if hasattr(given, "dequeue") else cast(Source, given)
