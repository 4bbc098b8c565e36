"""Handlers that misbehave, for the pool of a server and for a worker process."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
from typing import Any

from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import RunningJob

handlers = Registry()
WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
EXITS = {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}


def _look(job: RunningJob[Any]) -> str:
    """What a job begins with; every tenth sets a value and leaves it."""
    found = WHO.get()
    if job.payload % 10 == 0:
        WHO.set(f"job {job.payload}")
    return found


@handlers.handler("look on the loop")
async def look(job: RunningJob) -> str:
    found = _look(job)
    await asyncio.sleep(0)
    return found


@handlers.handler("look in a thread")
def look_in_a_thread(job: RunningJob) -> str:
    return _look(job)


@handlers.handler("look in a process", executor="process")
def look_in_a_process(job: RunningJob) -> str:
    return _look(job)


async def _exit(name: str) -> None:
    await asyncio.sleep(0)
    raise EXITS[name]("no")


@handlers.handler("exit")
async def leave(job: RunningJob) -> None:
    way, name = job.payload
    match way:
        case "itself":
            await _exit(name)
        case "gather":
            await asyncio.gather(_exit(name), asyncio.Event().wait())
        case "wait_for":
            await asyncio.wait_for(_exit(name), 600)
        case "TaskGroup":
            async with asyncio.TaskGroup() as group:
                group.create_task(_exit(name))
        case "create_task":
            await asyncio.create_task(_exit(name))
        case "create_task, not awaited":
            task = asyncio.create_task(_exit(name))
            await asyncio.Event().wait()
            await task


@handlers.handler("exit in a thread")
def leave_in_a_thread(job: RunningJob) -> None:
    raise EXITS[job.payload]("no")


@handlers.handler("exit in a process", executor="process")
def leave_in_a_process(job: RunningJob) -> None:
    raise EXITS[job.payload]("no")


@handlers.handler("exit in a callback")
async def leave_in_a_callback(job: RunningJob) -> str:
    passed = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.call_soon(sys.exit, 4)
    loop.call_soon(passed.set)
    await passed.wait()
    return "went on"


@handlers.handler("who")
async def who(job: RunningJob) -> int:
    return os.getpid()
