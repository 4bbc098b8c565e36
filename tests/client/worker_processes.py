"""Handlers that run in processes: found there by their names, so they stand in a module."""

from __future__ import annotations

import os
import threading
from typing import Any

from jobqueue.client.endings import Discard
from jobqueue.client.handlers import Registry
from jobqueue.client.running import RunningJob

handlers = Registry()


@handlers.handler("add", executor="process")
def add(numbers: list[int], job: RunningJob) -> dict[str, Any]:
    return {"sum": sum(numbers), "pid": os.getpid(), "attempts": job.attempts}


@handlers.handler("tell", executor="process")
def tell(job: RunningJob) -> None:
    job.progress(0.5, "half way")
    threading.Event().wait(job.payload)


@handlers.handler("die", executor="process")
def die(job: RunningJob) -> None:
    os._exit(7)


@handlers.handler("discard", executor="process")
def discard(job: RunningJob) -> None:
    raise Discard("never")


@handlers.handler("write", executor="process")
def write(job: RunningJob) -> None:
    with open(job.payload, "a") as file:
        file.write(f"{os.getpid()}\n")
    threading.Event().wait(600)
