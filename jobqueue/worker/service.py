"""A worker as a process of its own: the loop, the signals, the exit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from typing import Any, Protocol

from jobqueue.logsink import LogSink
from jobqueue.streams import open_standard_streams
from jobqueue.worker import shutdown
from jobqueue.worker.exits import run_through
from jobqueue.worker.shutdown import Signals

_logger = logging.getLogger("jobqueue.worker")


class Service(Protocol):
    """What is asked of a Worker here; `worker.py` says what each does."""

    name: str
    source: Any
    queues: tuple[str, ...]
    grace_seconds: float
    error: BaseException | None

    @property
    def running(self) -> int:
        """Jobs whose handlers run."""

    async def start(self) -> None:
        """Begin to take jobs."""

    async def stop(self, *, hurry: asyncio.Event) -> None:
        """Take no more, and wait for what runs."""

    async def broken(self) -> BaseException:
        """Return when the worker has ended by a defect."""


async def serve(worker: Service) -> None:
    """Run until SIGTERM, SIGINT or SIGHUP, then stop within the worker's grace period; a second signal ends that. Raises `Worker.error`."""
    with Signals(worker.grace_seconds, "running jobs", hangup=True) as signals:
        await worker.start()
        _logger.info("%s takes jobs of %s from %s", worker.name, ", ".join(worker.queues), worker.source)
        stopped, broken = asyncio.ensure_future(signals.stop.wait()), asyncio.ensure_future(worker.broken())
        await asyncio.wait((stopped, broken), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        broken.cancel()
        _logger.info("stopping: %d jobs running", worker.running)
        await worker.stop(hurry=signals.hurry)
    if worker.error is not None:
        raise worker.error


def run(worker: Service) -> None:
    """See Worker.run."""
    open_standard_streams()
    loops: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):  # Windows and PyPy have none
        from uvloop import new_event_loop as loops
    if not logging.getLogger().handlers:
        # Not a StreamHandler: a pipe that nobody reads would stop the loop, and every lease with it.
        handler: logging.Handler | None = None
        with contextlib.suppress(OSError, ValueError):
            handler = LogSink(sys.stderr.fileno())
        logging.basicConfig(
            level=logging.INFO,
            format="%(asctime)s %(levelname)s %(name)s %(message)s",
            handlers=[handler or logging.StreamHandler()],
        )
    before = shutdown.lasting_threads()
    try:
        run_through(serve(worker), loops)
    finally:
        shutdown.end_without(shutdown.lasting_threads() - before, 0 if worker.error is None else 1)
