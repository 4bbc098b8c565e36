"""Plain functions in processes, for what keeps a core busy: one process a job at a time, which can be killed.

A process is a slot of its own with a pipe: a job goes in, progress notes and an ending come out. concurrent.futures cannot kill what it
runs, so a time-out could not be kept there. Processes are spawned, not forked: a fork of a process with threads may deadlock. So handlers
are imported anew in each, and a script that runs a worker needs the usual `if __name__ == "__main__":`.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from jobqueue.client.endings import Ending, failed, of_result
from jobqueue.client.executors import Threads, concluded
from jobqueue.client.running import Report, RunningJob
from jobqueue.client.runs import Reason, Run
from jobqueue.client.tracing import span

_spawn = multiprocessing.get_context("spawn")


def _die_with(parent: int) -> None:
    """End when the worker is gone, in the midst of a job too: nobody wants what it comes to."""
    wait([parent])
    os._exit(1)


def _serve(pipe: Connection) -> None:
    """A process's life: do jobs until the pipe closes."""
    # Signals for the whole group, Ctrl-C for one, are for the worker to answer; it kills what it does not wait for.
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    lock = threading.Lock()

    def report(fraction: float, message: str | None) -> None:
        with lock:
            pipe.send((fraction, message))

    while True:
        try:
            task = pipe.recv_bytes()
        except EOFError:
            return
        ending = _work(task, report)
        with lock:
            pipe.send(ending)


def _work(task: bytes, report: Report) -> Ending:
    try:
        handler, leased, worker, lease_ends = pickle.loads(task)
    except Exception as error:
        return failed(type(error).__name__, f"the handler cannot be found in its process: {error}")
    job: RunningJob[object] = RunningJob(leased, worker, lease_ends, handler.read, report)
    try:
        return of_result(handler.call(job))
    except BaseException as error:
        return concluded(handler, job, error)


class _Slot:
    """One process, started when it is first needed and again after it died. One thread at a time has a job done here."""

    def __init__(self) -> None:
        self._pipe: Connection | None = None
        self._process: SpawnProcess | None = None

    def _opened(self) -> Connection:
        if self._pipe is None or self._process is None or not self._process.is_alive():
            self.clear()
            self._pipe, theirs = _spawn.Pipe()
            self._process = _spawn.Process(target=_serve, args=(theirs,), name="jobqueue-handler", daemon=True)
            self._process.start()
            theirs.close()
        return self._pipe

    def do(self, task: bytes, report: Report, killed: threading.Event) -> Ending | None:
        """Have a job done. Blocks, and returns None when the process died of it."""
        try:
            pipe = self._opened()
            # Whoever kills sets this first and then looks for a process: one of us sees the other.
            if killed.is_set():
                self.kill()
            pipe.send_bytes(task)
            while not isinstance(said := pipe.recv(), Ending):
                report(*said)
        except (EOFError, OSError):
            return None
        return said

    def kill(self) -> None:
        """Kill the process, from any thread; whoever has a job done here finds out."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ValueError):  # it died by itself, and was cleared away this very moment
                process.kill()

    def clear(self) -> int | None:
        """Kill the process and clear it away, while no job is being done; its exit code."""
        process, pipe, self._process, self._pipe = self._process, self._pipe, None, None
        if pipe is not None:
            pipe.close()
        if process is None:
            return None
        process.kill()
        process.join()
        code = process.exitcode
        process.close()
        return code


class ProcessExecutor:
    """As many processes as jobs run at once in them. Interrupting one kills its process, whatever the reason."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._idle: list[_Slot] = []
        self._slots: list[_Slot] = []
        # Before multiprocessing's own, which would wait for processes that heed no SIGTERM.
        atexit.register(self.close)

    def start(self, run: Run) -> None:
        """See Executor.start."""
        handler, job = run.handler, run.job
        assert handler is not None
        assert job is not None
        if self._idle:
            slot = self._idle.pop()
        else:
            slot = _Slot()
            self._slots.append(slot)
        killed = threading.Event()

        def halt(_: Reason) -> None:
            killed.set()
            slot.kill()

        def work() -> Callable[[], None]:
            try:
                task = pickle.dumps((handler, run.leased, job.worker, job.lease_ends))
            except Exception as error:
                return partial(done, failed(type(error).__name__, f"the handler cannot be sent to a process: {error}"), False)
            # The span is this process's: the other one has no provider to end it with.
            with span(run.leased):
                ending = slot.do(task, job.progress, killed)
            if ending is not None:
                return partial(done, ending, False)
            return partial(done, failed("ProcessDied", f"the handler's process ended with exit code {slot.clear()}"), killed.is_set())

        def done(ending: Ending, stopped: bool) -> None:
            # Idle from here on: a run that is over kills nothing any more.
            self._idle.append(slot)
            run.returned(ending, stopped)
            run.over()

        run.halt = halt
        self._threads.submit(work)

    def close(self) -> None:
        """See Executor.close."""
        atexit.unregister(self.close)
        idle, self._idle = self._idle, []
        for slot in self._slots:
            if slot in idle:
                slot.clear()
            else:
                slot.kill()
        self._slots = []
