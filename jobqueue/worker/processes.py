"""Plain functions in processes, for work that keeps a core busy: one process for each job at a time, which can be killed.

A process is a slot with a pipe: a job goes in, progress notes and an ending come out. concurrent.futures cannot kill what it runs, so it
could not enforce a time-out. Processes are spawned, not forked: forking a process with threads may deadlock. So handlers are imported anew
in each process, and a script that runs a worker needs the usual `if __name__ == "__main__":`.

**Which task a message belongs to.** Tasks are numbered, and each message has the number of its task. Messages with another number are
dropped, such as a note from a thread that an earlier handler left behind. A fork of the process does not have the pipe, so it can neither
answer nor hold it open: when the pipe closes, the process has died.

**What is killed.** A process leads a process group, which contains everything that its handlers start, unless that starts its own session.
Whenever the process is killed, so is the group: a job's time-out leaves nothing behind. Signals for the worker's group, such as Ctrl-C, do
not reach it. SIGTERM and SIGINT are caught and not ignored, since every program started from here would inherit an ignored signal.
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

from jobqueue.joblog import LogLine
from jobqueue.streams import flush_standard_streams
from jobqueue.worker.endings import Ending, failed, name_of, text_of
from jobqueue.worker.executors import Threads, alone
from jobqueue.worker.running import Report, RunningJob, Say
from jobqueue.worker.runs import Reason, Run
from jobqueue.worker.tracing import span

_spawn = multiprocessing.get_context("spawn")

# In the process.


def _die_with(parent: int) -> None:
    """End when the worker is gone, even in the middle of a job: nobody can receive the result."""
    wait([parent])
    _end()


def _end() -> NoReturn:
    """End, together with everything that handlers started here."""
    # If the group could not be created, this would be the worker's group, with everything else that runs there.
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _left_to_the_worker(_number: int, _frame: object) -> None:
    """A signal that is not meant for this process, such as systemd's for a whole service: the worker kills the processes that it does not
    wait for.
    """


def _serve(pipe: Connection) -> None:
    """The main loop of a process: do jobs until the pipe closes."""
    with contextlib.suppress(OSError):  # it leads a group already, which some supervisors of workers arrange
        os.setpgid(0, 0)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, _left_to_the_worker)
    # Otherwise a program that inherits all open files, such as one started with os.system, would hold it.
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

    def say(number: int, said: Ending | LogLine | tuple[float, str | None]) -> None:
        # Checked first: in a fork the lock can be held for ever.
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
        ending = _work(task, partial(note, number), partial(say, number))
        # Without a terminal, printed text is in a buffer, and the process is killed in the end.
        flush_standard_streams()
        say(number, ending)


def _work(task: bytes, report: Report, say: Say) -> Ending:
    try:
        handler, leased, worker, lease_ends = pickle.loads(task)
    except BaseException as error:
        return failed(name_of(error), f"the handler cannot be found in its process: {text_of(error)}")
    job: RunningJob[object] = RunningJob(leased, worker, lease_ends, handler.read, report, say)
    return alone(handler, job)


# In the worker.


class _Slot:
    """One process, started when it is first needed and again after it died. It runs one job at a time, for one thread."""

    def __init__(self) -> None:
        self._pipe: Connection | None = None
        self._process: SpawnProcess | None = None
        self._number = 0
        self.jobs = 0
        """How many jobs its process was given."""
        self._signalling = threading.Lock()
        """Held while a process is signalled and while it is reaped, so that no signal goes to a process id that has been reused."""

    def _opened(self) -> Connection:
        if self._pipe is None or not self._is_quiet(self._pipe):
            self.clear()
            self._pipe, theirs = _spawn.Pipe()
            process = _spawn.Process(target=_serve, args=(theirs,), name="jobqueue-handler", daemon=True)
            process.start()
            theirs.close()
            # Set only now: `kill` must find a process that can be killed.
            self._process = process
            self.jobs = 0
        return self._pipe

    def _is_quiet(self, pipe: Connection) -> bool:
        """Whether the process is alive, as far as can be seen. Discards messages that came too late for their job."""
        try:
            while pipe.poll():
                pipe.recv()
        except Exception:
            return False
        return True

    def do(self, task: bytes, report: Report, say: Say, killed: threading.Event) -> Ending | None:
        """Run a job in the process. Blocks; returns None if the process died during the job."""
        try:
            pipe = self._opened()
            # The caller of `kill` sets this first and then looks for a process, so one of the two sees the other.
            if killed.is_set():
                self.kill()
            self._number += 1
            self.jobs += 1
            pipe.send((self._number, task))
            while True:
                number, said = pipe.recv()
                if number != self._number:
                    continue
                if isinstance(said, Ending):
                    return said
                if isinstance(said, LogLine):
                    say(said)
                else:
                    report(*said)
        except Exception:
            # EOFError and OSError: the process is gone. Any other error: it wrote invalid data into the pipe, which is treated the same.
            return None

    def kill(self) -> None:
        """Kill the process and its group, from any thread; the thread that runs a job here then sees that it died."""
        with self._signalling:
            if self._process is not None:
                _kill(self._process)

    def clear(self) -> int | None:
        """Kill and reap the process while it runs no job; returns its exit code."""
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
    # A process that has just started leads no group yet, and has started nothing.
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _how_it_died(code: int | None) -> str:
    if code is not None and code < 0:
        return f"the handler's process was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"the handler's process ended with exit code {code}"


class ProcessExecutor:
    """As many processes as jobs run at once in them. Interrupting a job kills its process, whatever the reason.

    jobs_max: a process ends after this many jobs, with everything that they started; None for no limit.
    """

    def __init__(self, threads: Threads, jobs_max: int | None = None) -> None:
        self._threads = threads
        self._jobs_max = jobs_max
        self._idle: list[_Slot] = []
        self._slots: list[_Slot] = []
        # Runs before multiprocessing's own handler, which would wait for processes that ignore SIGTERM.
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
            # The span is made in this process: the other one has no provider to end it with.
            with span(run.leased):
                ending = slot.do(task, job.progress, job.say, killed)
            if ending is not None:
                if self._jobs_max is not None and slot.jobs >= self._jobs_max:
                    slot.clear()
                return partial(done, ending, False)
            return partial(done, failed("ProcessDied", _how_it_died(slot.clear())), killed.is_set())

        def done(ending: Ending, stopped: bool) -> None:
            # The slot is idle from here on: a run that is over kills nothing any more.
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
