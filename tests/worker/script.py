"""A worker as a process: `python -m tests.worker.script URL FOLDER GRACE_SECONDS`. Its handlers tell by files how far they are."""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

from jobqueue.worker.running import RunningJob
from jobqueue.worker.worker import Worker

folder = Path(sys.argv[2])
worker = Worker(sys.argv[1], concurrency=4, lease_seconds=1, grace_seconds=float(sys.argv[3]))


@worker.handler("hold")
async def hold(job: RunningJob) -> str:
    """Run until a file of the payload's name is there."""
    (folder / f"{job.id}-{job.attempts}").touch()
    while not (folder / job.payload).exists():  # noqa: ASYNC110 # no event comes from another process
        await asyncio.sleep(0.01)
    return f"attempt {job.attempts}"


@worker.handler("hang")
def hang(job: RunningJob) -> None:
    """Run for ever, in a thread, and heed nothing."""
    (folder / f"{job.id}-{job.attempts}").touch()
    threading.Event().wait()


if __name__ == "__main__":
    worker.run()
