"""Worker: takes jobs from a source, runs their handlers, and reports the outcomes to the source.

    worker = Worker("http://localhost:8080", queues=["mail"], concurrency=16)

    @worker.handler("email", timeout=30)
    async def send(job): ...

    worker.run()

There are three tasks: one takes jobs while there is room, one sends heartbeats for all leases (`leases.py`), and one reports outcomes
(`concluding.py`). None of them polls. A run is in `_leases` from when it is taken until the server has its outcome, and in `_waiting` until
a slot is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, cast

from jobqueue.about import QUIET_SECONDS, About
from jobqueue.backend.base import Backend
from jobqueue.clock import Clock, SystemClock
from jobqueue.errors import CallerError, QueueError
from jobqueue.joblog import LogLine
from jobqueue.model import DEFAULT_QUEUE, SUCCEEDED, Want
from jobqueue.worker.bell import Bell, Outage, Random, sleep
from jobqueue.worker.concluding import Conclusions, Counts
from jobqueue.worker.endings import RELEASED, Ending
from jobqueue.worker.executors import Contexts, LoopExecutor, ThreadExecutor, Threads
from jobqueue.worker.executors import Executor as RunExecutor
from jobqueue.worker.exits import Fence
from jobqueue.worker.handlers import Executor, F, Registry
from jobqueue.worker.leases import Leases
from jobqueue.worker.lines import Lines
from jobqueue.worker.options import LIMITS, SECONDS_MAX, SETTING_SECONDS_MAX, count, queue_names, version_of, within, worker_name
from jobqueue.worker.processes import ProcessExecutor
from jobqueue.worker.refusals import ends_it, refused
from jobqueue.worker.returns import UNHANDLED_SECONDS, Returns
from jobqueue.worker.running import Leased
from jobqueue.worker.runs import CANCELLED_ENDING, Owner, Reason, Run
from jobqueue.worker.sources import BackendSource, Source
from jobqueue.worker.telling import tell_failed
from jobqueue.worker.waiting import Waiting

if TYPE_CHECKING:
    import ssl

FLUSH_SECONDS = 5.0
"""The least time that a stopping worker keeps trying to report outcomes; longer than the cleanup time of an interrupted handler."""

_logger = logging.getLogger("jobqueue.worker")

_making = threading.Lock()
"""Held while a run gets its buffer for log lines, so that two threads of one handler do not create two."""


class Worker:
    """Takes jobs from some queues and runs their handlers.

        worker = Worker("http://127.0.0.1:8080", queues=["mail"], concurrency=16)

        @worker.handler("email", timeout=30)
        async def send(job: RunningJob[Mail]) -> str:
            return await deliver(job.payload)

        worker.run()

    `run` is for a separate process and ends at SIGTERM. In a program with its own event loop, begin with `await worker.start()` and end
    with `await worker.stop()`. A handler can be async or plain: a plain one runs in a thread, or with executor="process" in a process.

    Parameters:

    source: the server's URL, or the URLs of several servers on one queue, as for a client; a Backend of this process; or a Source. It can
    be left out where only the handlers are used, as for `jobqueue serve --pool`.
    handlers: a Registry that was made elsewhere.
    queues: names, the most urgent first. By default those of the Registry, or else `default`.
    concurrency: how many handlers run at once.
    timeout: seconds allowed for an attempt if its handler sets no timeout; None for no limit.
    lease_seconds: how long a lease lasts without a heartbeat. If the worker dies, its jobs go to another worker after that time.
    wait: how many seconds a request for jobs is held.
    prefetch: the most jobs to take ahead; None leaves it to the source.
    grace_seconds: time allowed for running jobs to finish when the worker stops.
    unhandled_seconds: how long jobs without a handler are released before they fail for good, from when this worker first received them.
    burst: end when there is no job to take and all handlers are done.
    max_jobs: end after this many jobs, so that a supervisor starts a fresh process; None for no limit.
    max_jobs_per_process: for handlers with executor="process": end a process after this many jobs and start a fresh one for the next; None
    for no limit.
    name: shown with the jobs. By default host and process id.
    version: the program's version, shown in the list of workers.
    token: for a URL. By default JOBQUEUE_TOKEN.
    ssl_context: for https with your own certificates.
    clock, chance: for tests.

    Each parameter is an attribute of the same name (`wait` is `wait_seconds`), except prefetch, token and chance. Other attributes:

    running: how many handlers run now.
    counts: what the worker did so far: taken, succeeded, failed, released, lost, unhandled.
    quiet: whether the server currently makes this worker take no jobs.
    error: why the worker stopped by itself; None if it did not.

    Raises ValueError that names the parameter.
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
        burst: bool = False,
        max_jobs: int | None = None,
        max_jobs_per_process: int | None = None,
        name: str | None = None,
        version: str | None = None,
        token: str | None = None,
        ssl_context: ssl.SSLContext | None = None,
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
        self.burst = bool(burst)
        self.max_jobs = count("max_jobs", max_jobs)
        self.max_jobs_per_process = count("max_jobs_per_process", max_jobs_per_process)
        self.name = worker_name(name if name is not None else f"{socket.gethostname()}:{os.getpid()}")
        self.version = version_of(version)
        self.quiet = False
        """Whether the server currently makes this worker take no jobs."""
        self.clock: Clock = SystemClock() if clock is None else clock
        self.counts = Counts()
        self.error: BaseException | None = None
        """Why the worker stopped by itself: the server refused its request for jobs, or the worker has a defect."""
        self.source = source
        self.ssl_context = ssl_context
        self._token = token
        self._prefetch = None if prefetch is None else int(within("prefetch", prefetch, 0, LIMITS.batch_jobs_max))
        self._chance: Random = chance or random.Random()
        self._running: set[Run] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        self._filling = False
        self._served = False
        """Whether a request for jobs has been answered in the way a jobqueue server does."""
        self._broken = asyncio.Event()
        self._finished = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Worker {self.name} queues={','.join(self.queues)} {len(self._running)} of {self.concurrency} running>"

    def handler(self, name: str | None = None, *, timeout: float | None = None, executor: Executor | None = None) -> Callable[[F], F]:
        """Register a function as the handler for jobs of one type; use it as a decorator.

        name: the type. None or '*' stands for jobs that no other handler takes.
        timeout: seconds allowed for an attempt; None for the worker's default.
        executor: where a plain function runs, "thread" (the default) or "process". An async function runs on the event loop.
        """
        return self.handlers.handler(name, timeout=timeout, executor=executor)

    @property
    def running(self) -> int:
        """How many handlers run now."""
        return len(self._running)

    # Starting and stopping.

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, then stop. For a separate process. Logs to stderr unless logging is already set up.

        At SIGTERM the worker takes no more jobs, gives running jobs the grace period to finish, and releases the rest; a second signal ends
        the grace period. Raises ValueError as `start` does, `error` if the worker stopped by itself, and SystemExit with code 6 if its
        token or URL is wrong, which is logged.
        """
        from jobqueue.worker.service import run

        run(self)

    async def start(self) -> None:
        """Begin to take jobs, in this event loop. Raises ValueError if there is no source or no handler, HandlersError for a handler that
        its process could not find, and RuntimeError when called a second time.
        """
        if self._tasks:
            raise RuntimeError("the worker was already started; create another one")
        if self.source is None:
            raise ValueError("source: a worker needs a URL, a Backend or a Source to take jobs from")
        if not len(self.handlers):
            raise ValueError("handlers: the worker has none")
        self.handlers.check_sent()
        self._source = _source_of(self.source, self._token, self.ssl_context)
        self._about: About | None = About(
            host=socket.gethostname()[:255], concurrency=self.concurrency, version=self.version, started=time.time()
        )
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._waiting = Waiting(self.clock, self.concurrency, self._source.prefetch if self._prefetch is None else self._prefetch)
        outage = self._outage = Outage(self.clock, self._chance)
        self._room = Bell(self.clock)
        self._quiet = Bell(self.clock)
        self._leases = Leases(self._source, self.clock, outage, self.lease_seconds, self._cancelled, self._lost)
        self._owner = Owner(self.clock, self._report, self._say, self._leases.note, self._ended, self._freed)
        self._conclusions = Conclusions(self._source, self.clock, outage, self.counts, self._settled)
        self._returns = Returns(self.handlers.names, self.unhandled_seconds, self._chance)
        self._fence = Fence.put_up(self._loop)
        threads, contexts = Threads(), Contexts()
        loop = LoopExecutor(contexts, self._fence, eager=not isinstance(self._source, BackendSource))
        self._executors: dict[str, RunExecutor] = {
            "loop": loop,
            "process": ProcessExecutor(threads, self.max_jobs_per_process),
            "thread": ThreadExecutor(threads, contexts, loop),
        }
        self._tasks = [asyncio.create_task(self._guard(part)) for part in (self._take(), self._leases.beat(), self._conclusions.hand_in())]

    async def _guard(self, part: Coroutine[Any, Any, None]) -> None:
        try:
            await part
        except Exception as error:
            if isinstance(error, QueueError):
                _logger.error("%s", refused(error))
            else:
                _logger.exception("the worker failed because of a bug")
            self.error = error
            self._broken.set()

    async def broken(self) -> BaseException:
        """Wait until the worker stops taking jobs because of an error, and return it. You must still call `stop`."""
        await self._broken.wait()
        assert self.error is not None
        return self.error

    async def finished(self) -> None:
        """Wait until a worker with burst or max_jobs has taken its last job and reported its outcome. You must still call `stop`."""
        await self._finished.wait()

    async def stop(self, grace_seconds: float | None = None, hurry: asyncio.Event | None = None) -> None:
        """Take no more jobs, give running jobs the grace period to finish, and release the rest without counting their attempts. hurry:
        ends the grace period when it is set. Stopping a worker that does not run does nothing. Raises ValueError for an invalid grace
        period.
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
        # These end by themselves or are given up. Outcomes are still reported, unless the server is unreachable for longer than this.
        flush_ends = self.clock.now() + FLUSH_SECONDS
        hurried = hurry is not None and hurry.is_set()
        await self._until(lambda: not len(self._leases), flush_ends if hurried else max(grace_ends, flush_ends))
        if len(self._leases):
            _logger.warning("%d jobs could not be reported; their leases end within %.0f s", len(self._leases), self.lease_seconds)
        for task in others:
            task.cancel()
        await asyncio.wait(others)
        self._leases.close()
        for executor in self._executors.values():
            executor.close()
        self._fence.take_down(self._loop)
        await self._source.close()

    async def _until(self, done: Callable[[], bool], until: float, hurry: asyncio.Event | None = None) -> None:
        """Wait until `done` returns true, the time is up, or `hurry` is set."""
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
            if self.max_jobs is not None and self._used() >= self.max_jobs and not len(self._leases):
                self._finish(f"{self.max_jobs} jobs are done, as many as this worker takes")
                return
            room = self._room_left()
            if not room:
                await self._room.wait()
                continue
            want = Want(
                queues=self.queues,
                limit=min(room, LIMITS.batch_jobs_max),
                lease_seconds=self.lease_seconds,
                worker=self.name,
                about=self._about,
            )
            try:
                # A busy worker takes jobs ahead if they are there already, but never waits in line before an idle worker.
                busy = len(self._running) >= self.concurrency
                taken = await self._source.take(want, 0.0 if busy or self.burst else self.wait_seconds)
            except QueueError as error:
                if isinstance(error, CallerError) and self._about is not None and error.field in self._about.__struct_fields__:
                    # An older server, which lists no workers, and has jobs for them.
                    self._about = None
                    continue
                if ends_it(error, self._served):
                    raise
                failures += 1
                await sleep(self.clock, self._outage.failed(error, failures))
            else:
                failures = 0
                self._served = True
                self._outage.over()
                if await self._told_quiet():
                    continue
                self._took(taken)
                if self.burst and not taken:
                    if not len(self._leases):
                        self._finish("no job is left to take, and all handlers are done")
                        return
                    # A handler can enqueue jobs until it is done.
                    await self._room.wait()
                    continue
                if not busy:
                    # Start the handlers that can begin before asking for more jobs.
                    await asyncio.sleep(0)
                while busy and not taken and len(self._running) >= self.concurrency:
                    await self._room.wait()

    def _room_left(self) -> int:
        """How many jobs to ask for now."""
        room = self._waiting.room(len(self._running))
        return room if self.max_jobs is None else min(room, max(0, self.max_jobs - self._used()))

    async def _told_quiet(self) -> bool:
        """Whether the last take found that this worker must take no jobs; if so, returns after a pause."""
        quiet = self._source.quiet
        if quiet is not self.quiet:
            self.quiet = quiet
            _logger.warning("quiet: taking no jobs until resumed" if quiet else "resumed: taking jobs again")
        if quiet:
            await sleep(self.clock, QUIET_SECONDS)
        return quiet

    def _took(self, taken: list[Leased]) -> None:
        now = self.clock.now()
        expires_at = now + self.lease_seconds
        for leased in taken:
            # A repeated request gets the same leases again.
            if leased.token not in self._leases.live:
                self.counts.taken += 1
                run = Run(leased, now, expires_at, self._owner)
                self._leases.add(run)
                self._waiting.add(run)
        self._fill()
        if not self._filling:
            # Otherwise there are slots for more in the next turn.
            for run in self._waiting.surplus():
                run.end(RELEASED)
        self._waiting.watch()

    # Running.

    def _fill(self) -> None:
        """Start the runs that can begin. If a handler finishes at once, this runs again afterwards, so that handlers are not nested."""
        if self._filling:
            return
        self._filling, on = True, False
        left = self.concurrency
        try:
            while not on and len(self._running) < self.concurrency and (run := self._waiting.next()) is not None:
                self._begin(run)
                left -= 1
                # Do not hold up the loop by starting everything that was taken ahead.
                on = left == 0
        finally:
            self._filling = on
        if on:
            self._loop.call_soon(self._fill_on)

    def _fill_on(self) -> None:
        self._filling = False
        self._fill()

    def _begin(self, run: Run) -> None:
        handler = self.handlers.find(run.leased.type)
        if handler is None:
            self.counts.unhandled += 1
            run.end(self._returns.unhandled(run.leased, self.clock.now()))
            return
        self._running.add(run)
        run.start(handler, self.name, self.timeout if handler.timeout is None else handler.timeout)
        self._executors[handler.executor].start(run)

    def _report(self, run: Run, fraction: float, message: str | None) -> None:
        if threading.get_ident() == self._thread:
            run.report(fraction, message)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the handler outlived its worker
                self._loop.call_soon_threadsafe(run.report, fraction, message)

    def _say(self, run: Run, line: LogLine) -> None:
        if run.is_over:
            # Its outcome may already be on its way, with all earlier log lines.
            return
        if run.lines is None:
            with _making:
                run.lines = run.lines or Lines()
        if not run.lines.add(line):
            return
        if threading.get_ident() == self._thread:
            self._leases.note_lines(run)
        else:
            with contextlib.suppress(RuntimeError):  # as in `_report`
                self._loop.call_soon_threadsafe(self._leases.note_lines, run)

    # Callbacks from runs, leases and conclusions; see Owner.

    def _ended(self, run: Run, ending: Ending | None) -> None:
        if run.job is not None:
            self._waiting.took(self.clock.now() - run.started_at)
        verdict = None if ending is None else ending.verdict
        if self._waiting.lines and self._waiting.ended(run, verdict is not None and verdict.outcome is SUCCEEDED):
            self._fill()
        if ending is None:
            self.counts.lost += 1
        else:
            if verdict is not None:
                self._returns.forget(run.leased.id)
                if verdict.outcome is not SUCCEEDED:
                    tell_failed(run.leased, ending, cancelled=ending is CANCELLED_ENDING)
            elif run.job is not None and ending is not RELEASED:
                ending = self._returns.released(run.leased, ending.delay, self.clock.now())
            self._conclusions.add(run, ending)
        if self._stopping:
            self._quiet.ring()

    def _freed(self, run: Run) -> None:
        self._running.discard(run)
        if self._waiting.lines:
            self._waiting.freed(run)
        self._fill()
        self._room.ring()

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
        self._room.ring()

    def _settled(self, run: Run) -> None:
        self._leases.drop(run)
        if self._stopping:
            self._quiet.ring()
        if self.burst or self.max_jobs is not None:
            self._room.ring()

    def _used(self) -> int:
        """How many jobs count towards max_jobs: those that it holds and those that ended here, without those that it released."""
        return len(self._leases) + self.counts.succeeded + self.counts.failed + self.counts.lost

    def _finish(self, why: str) -> None:
        _logger.info("%s", why)
        self._finished.set()


def _source_of(given: str | Sequence[str] | Backend | Source, token: str | None, ssl_context: ssl.SSLContext | None) -> Source:
    """Make a source from the worker's `source` parameter."""
    if isinstance(given, str | list | tuple):
        # Imported here, so that a pool inside the server loads no client.
        from jobqueue.worker.http_source import HttpSource, source_client

        return HttpSource(source_client(given, token, ssl_context))
    return BackendSource(cast(Backend, given)) if hasattr(given, "dequeue") else cast(Source, given)
