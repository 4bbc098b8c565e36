"""Plain functions in processes, for what keeps a core busy: one process a job at a time, which can be killed.

A process is a slot of its own with a pipe: a job goes in, progress notes and an ending come out. concurrent.futures cannot kill what it
runs, so a time-out could not be kept there. Processes are spawned, not forked: a fork of a process with threads may deadlock. So handlers
are imported anew in each, and a script that runs a worker needs the usual `if __name__ == "__main__":`.

**Whose answer it is.** Tasks are numbered and all that is said carries the number of its task. What has another number is dropped: a note
of a thread that a handler left behind, say. A fork of the process has no pipe, so it cannot answer, and cannot hold it open either: that
the process died is seen when the pipe closes.

**What goes with it.** A process leads a process group, to which all belongs that its handlers start, unless they start it in a session of
its own. Whenever the process is killed, the group is: a job's time-out leaves nothing behind. Signals for the worker's group, Ctrl-C for
one, do not reach it. SIGTERM and SIGINT are caught and not ignored, since what is ignored stays so in every program that is started.
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
from typing import NoReturn

from jobqueue.streams import flush_standard_streams
from jobqueue.worker.endings import Ending, failed, name_of, text_of
from jobqueue.worker.executors import Threads, alone
from jobqueue.worker.running import Report, RunningJob
from jobqueue.worker.runs import Reason, Run
from jobqueue.worker.tracing import span

_spawn = multiprocessing.get_context("spawn")

# In the process.


def _die_with(parent: int) -> None:
    """End when the worker is gone, in the midst of a job too: nobody wants what it comes to."""
    wait([parent])
    _end()


def _end() -> NoReturn:
    """End, and all that handlers started here."""
    # Where the group could not be made this would be the worker's, and what else runs there.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _left_to_the_worker(_number: int, _frame: object) -> None:
    """A signal that is not for us, systemd's for all of a service, say: the worker kills what it does not wait for."""


def _serve(pipe: Connection) -> None:
    """A process's life: do jobs until the pipe closes."""
    with contextlib.suppress(OSError):  # it leads one already, as some that start workers see to
        os.setpgid(0, 0)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, _left_to_the_worker)
    # Or a program that is started with all that is open, os.system's for one, would hold it.
    os.set_inheritable(pipe.fileno(), False)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    pid = os.getpid()
    lock = threading.Lock()

    def in_fork() -> None:
        pipe.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    os.register_at_fork(after_in_child=in_fork)

    def say(number: int, said: Ending | tuple[float, str | None]) -> None:
        # Looked at first: in a fork the lock may be held for ever.
        if os.getpid() == pid:
            with lock:
                pipe.send((number, said))

    def note(number: int, fraction: float, message: str | None) -> None:
        say(number, (fraction, message))

    while True:
        try:
            number, task = pipe.recv()
        except EOFError:
            _end()
        ending = _work(task, partial(note, number))
        # What was printed is in a buffer where no terminal reads it, and the process is killed in the end.
        flush_standard_streams()
        say(number, ending)


def _work(task: bytes, report: Report) -> Ending:
    try:
        handler, leased, worker, lease_ends = pickle.loads(task)
    except BaseException as error:
        return failed(name_of(error), f"the handler cannot be found in its process: {text_of(error)}")
    job: RunningJob[object] = RunningJob(leased, worker, lease_ends, handler.read, report)
    return alone(handler, job)


# In the worker.


class _Slot:
    """One process, started when it is first needed and again after it died. One thread at a time has a job done here."""

    def __init__(self) -> None:
        self._pipe: Connection | None = None
        self._process: SpawnProcess | None = None
        self._number = 0
        self._signalling = threading.Lock()
        """Held while a process is signalled and while it is taken off, so that no signal goes to a number that is another's by now."""

    def _opened(self) -> Connection:
        if self._pipe is None or not self._is_quiet(self._pipe):
            self.clear()
            self._pipe, theirs = _spawn.Pipe()
            process = _spawn.Process(target=_serve, args=(theirs,), name="jobqueue-handler", daemon=True)
            process.start()
            theirs.close()
            # Only now: who kills must find one that can be.
            self._process = process
        return self._pipe

    def _is_quiet(self, pipe: Connection) -> bool:
        """Whether the process lives, as far as can be seen. Reads what came too late for its job."""
        try:
            while pipe.poll():
                pipe.recv()
        except Exception:
            return False
        return True

    def do(self, task: bytes, report: Report, killed: threading.Event) -> Ending | None:
        """Have a job done. Blocks, and returns None when the process died of it."""
        try:
            pipe = self._opened()
            # Whoever kills sets this first and then looks for a process: one of us sees the other.
            if killed.is_set():
                self.kill()
            self._number += 1
            pipe.send((self._number, task))
            while True:
                number, said = pipe.recv()
                if number != self._number:
                    continue
                if isinstance(said, Ending):
                    return said
                report(*said)
        except Exception:
            # EOFError and OSError, of a process that is gone. Any other is of one that wrote nonsense into the pipe: as good as gone.
            return None

    def kill(self) -> None:
        """Kill the process and its group, from any thread; whoever has a job done here finds out."""
        with self._signalling:
            if self._process is not None:
                _kill(self._process)

    def clear(self) -> int | None:
        """Kill the process and clear it away, while no job is being done; its exit code."""
        with self._signalling:
            process, pipe, self._process, self._pipe = self._process, self._pipe, None, None
            if process is not None:
                _kill(process)
        if pipe is not None:
            pipe.close()
        if process is None:
            return None
        process.join()
        code = process.exitcode
        process.close()
        return code


def _kill(process: SpawnProcess) -> None:
    # One that has just begun leads no group yet, and has started nothing.
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


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
