"""Handlers that do not end when they are told to: `jobqueue work tests.worker.undying`, or `serve --pool tests.worker.undying`."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
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
