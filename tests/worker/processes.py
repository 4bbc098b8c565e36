"""Handlers that run in processes: found there by their names, so they stand in a module."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from jobqueue.worker.endings import Discard
from jobqueue.worker.handlers import Registry
from jobqueue.worker.lines import JobLogHandler
from jobqueue.worker.running import RunningJob

handlers = Registry()
WHO: ContextVar[str] = ContextVar("who", default="nobody")


@handlers.handler("add", executor="process")
def add(numbers: list[int], job: RunningJob) -> dict[str, Any]:
    return {"sum": sum(numbers), "pid": os.getpid(), "attempts": job.attempts}


@handlers.handler("tell", executor="process")
def tell(job: RunningJob) -> None:
    job.progress(0.5, "half way")
    threading.Event().wait(job.payload)


@handlers.handler("speak", executor="process")
def speak(job: RunningJob) -> None:
    job.log(job.payload)
    logger = logging.getLogger("test.processes")
    logger.addHandler(JobLogHandler())
    logger.warning("logged")


@handlers.handler("die", executor="process")
def die(job: RunningJob) -> None:
    os._exit(7)


@handlers.handler("be killed", executor="process")
def be_killed(job: RunningJob) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@handlers.handler("print", executor="process")
def say(job: RunningJob) -> None:
    print(job.payload)


@handlers.handler("discard", executor="process")
def discard(job: RunningJob) -> None:
    raise Discard("never")


@handlers.handler("write", executor="process")
def write(job: RunningJob) -> None:
    with open(job.payload, "a") as file:
        file.write(f"{os.getpid()}\n")
    threading.Event().wait(600)


def _note(path: str, *pids: int) -> None:
    """Append numbers of processes to a file, a line each, in one write."""
    with open(path, "a") as file:
        file.write("".join(f"{pid}\n" for pid in pids))


@handlers.handler("fork", executor="process")
def fork(payload: str) -> str:
    """Of two processes that come out of the fork, both return."""
    os.fork()
    return payload


@handlers.handler("fork and end", executor="process")
def fork_and_end(how: str, job: RunningJob) -> int:
    """What the fork's exit code was."""
    pid = os.fork()
    if not pid:
        job.progress(0.5, "from the fork")
        match how:
            case "raise":
                raise ValueError("in the fork")
            case "exit":
                sys.exit(3)
            case "say":
                sys.exit("why")
        return 7
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@handlers.handler("fork and die", executor="process")
def fork_and_die(job: RunningJob) -> None:
    """Die, and leave a fork that lives."""
    if os.fork():
        os._exit(7)
    _note(job.payload, os.getpid())
    threading.Event().wait()


@handlers.handler("fork and stay", executor="process")
def fork_and_stay(job: RunningJob) -> None:
    """Have a fork that never returns, and wait for it."""
    pid = os.fork()
    _note(job.payload, os.getpid())
    if pid:
        os.waitpid(pid, 0)
    threading.Event().wait()


@handlers.handler("signals", executor="process")
def signals(how: str) -> dict[str, bool]:
    """Which signals what a handler starts does not heed."""
    if how == "fork":
        end, other = os.pipe()
        if not os.fork():
            heeded = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
            os.write(other, b"ok" if heeded == (signal.SIG_DFL, signal.default_int_handler) else repr(heeded).encode())
            os._exit(0)
        os.close(other)
        return {"fork": os.read(end, 1_000) != b"ok"}
    status = subprocess.run("cat /proc/self/status", shell=True, capture_output=True, text=True, check=True).stdout
    masks = {name: int(text, 16) for name, text in (line.split(":\t") for line in status.splitlines()) if name in ("SigIgn", "SigBlk")}
    return {
        f"{name} {number.name}": bool(mask & 1 << number - 1) for name, mask in masks.items() for number in (signal.SIGTERM, signal.SIGINT)
    }


FAMILY = "trap '' TERM; echo $$ >> {path}; sh -c 'trap \"\" TERM; echo $$ >> {path}; while :; do sleep 0.05; done' & wait; wait"


@handlers.handler("family", executor="process")
def family(job: RunningJob) -> None:
    """Start a program with a child of its own, neither of which heeds SIGTERM."""
    subprocess.run(FAMILY.format(path=job.payload), shell=True, check=True)


@handlers.handler("family and die", executor="process")
def family_and_die(job: RunningJob) -> None:
    """Start the same, and die once both are there. Nothing of what is open here is closed in them."""
    subprocess.Popen(FAMILY.format(path=job.payload), shell=True, close_fds=False)
    path = Path(job.payload)
    while not path.exists() or path.read_text().count("\n") < 2:
        pass
    os._exit(7)


_told = threading.Event()


@handlers.handler("leave a thread", executor="process")
def leave_a_thread(job: RunningJob) -> str:
    """Return with a thread running, which says something of this job in the midst of the next."""

    def late() -> None:
        _told.wait()
        job.progress(0.9, "too late")
        _told.clear()

    threading.Thread(target=late, daemon=True).start()
    return "first"


@handlers.handler("let it speak", executor="process")
def let_it_speak(job: RunningJob) -> str:
    """The next job."""
    job.progress(0.1, "in time")
    _told.set()
    while _told.is_set():
        pass
    _note(job.payload, os.getpid())
    threading.Event().wait()
    return "second"


@handlers.handler("hold", executor="process")
def hold(job: RunningJob) -> str:
    """Say who it is, and return once the file is gone."""
    path = Path(job.payload)
    _note(job.payload, os.getpid())
    while path.exists():
        pass
    return "held"


@handlers.handler("look", executor="process")
def look(job: RunningJob) -> str:
    found = WHO.get()
    WHO.set(job.id)
    return found


async def _double(number: Any) -> int:
    await asyncio.sleep(0)
    if number == "no":
        raise ValueError(number)
    return 2 * int(number)


@handlers.handler("await", executor="process")
def hidden(number: Any) -> Any:
    """Async behind a plain function."""
    return _double(number)


@handlers.handler("exit in a callback")
async def exit_in_a_callback(job: RunningJob) -> str:
    """On the worker's loop, as the others are not."""
    passed = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.call_soon(sys.exit, 4)
    loop.call_soon(passed.set)
    await passed.wait()
    return "went on"
