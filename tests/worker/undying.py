"""Handlers that do not end when they are told to, or that fork. `jobqueue work tests.worker.undying`, or `serve --pool` with it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path

from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import RunningJob

worker = Registry()


def begun(job: RunningJob) -> None:
    """Say so, by a file that the payload names."""
    Path(job.payload).write_text(f"{os.getpid()}\n")


@worker.handler("to_thread")
async def to_thread(job: RunningJob) -> None:
    """Wait for a thread of the loop's executor."""
    await asyncio.to_thread(stand_still, job)


def stand_still(job: RunningJob) -> None:
    """Block whatever thread this is in."""
    begun(job)
    threading.Event().wait()


@worker.handler("swallow")
async def swallow(job: RunningJob) -> None:
    """Heed no cancel."""
    begun(job)
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


@worker.handler("orphan")
async def orphan(job: RunningJob) -> None:
    """Heed a cancel, but not so in a task of one's own."""

    await asyncio.shield(asyncio.create_task(swallow(job)))


@worker.handler("generator")
async def generator(job: RunningJob) -> None:
    """Heed a cancel, but leave a generator that does not end when it is closed."""

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await swallow(job)

    _kept.append(left := numbers())
    await anext(left)
    begun(job)
    await asyncio.Event().wait()


_kept: list[AsyncIterator[int]] = []


@worker.handler("thread")
async def thread(job: RunningJob) -> None:
    """Leave a thread that is no daemon."""
    threading.Thread(target=stand_still, args=(job,), daemon=False).start()
    await asyncio.Event().wait()


@worker.handler("plain")
def plain(job: RunningJob) -> None:
    """Sleep in the thread of the handler."""
    stand_still(job)


@worker.handler("process", executor="process")
def process(job: RunningJob) -> None:
    """Sleep in a process, with signals ignored."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=threading.Event().wait, daemon=False).start()
    stand_still(job)


@worker.handler("block")
async def block(job: RunningJob) -> None:
    """Block the loop."""
    stand_still(job)


@worker.handler("spin")
async def spin(job: RunningJob) -> None:
    """Keep the loop busy for good, in Python."""
    begun(job)
    while True:
        pass


def forked() -> int | None:
    """Fork; None in the fork, and what its exit code was in the other."""
    pid = os.fork()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if pid else None


@worker.handler("fork async")
async def fork_async(job: RunningJob) -> object:
    """Return in both."""
    return forked()


@worker.handler("fork await")
async def fork_await(job: RunningJob) -> object:
    """Await in the fork."""
    future = asyncio.get_running_loop().create_future()
    code = forked()
    if code is None:
        await future
    return code


@worker.handler("fork plain")
def fork_plain(job: RunningJob) -> object:
    """Return in both, in a thread."""
    return forked()


@worker.handler("fork wrapped")
def fork_wrapped(job: RunningJob) -> object:
    """Return something to be awaited in both, in a thread."""
    code = forked()

    async def rest() -> object:
        return code

    return rest()


def ends(number: int) -> None:
    """What a process of multiprocessing runs: a loop of its own."""
    asyncio.run(asyncio.sleep(0))
    os._exit(number)


@worker.handler("multiprocessing")
async def multiprocess(job: RunningJob) -> object:
    """Have a process of multiprocessing's run through, forked as it is by default here."""
    process = multiprocessing.get_context("fork").Process(target=ends, args=(5,))
    process.start()
    process.join()
    return process.exitcode
