"""A worker as a separate process: the loop, the signals, the exit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from typing import Any, Protocol

from jobqueue.errors import QueueError
from jobqueue.logsink import LogSink
from jobqueue.streams import open_standard_streams
from jobqueue.worker import shutdown
from jobqueue.worker.exits import run_through
from jobqueue.worker.refusals import REFUSED_EXIT, is_refusal
from jobqueue.worker.shutdown import Signals

_logger = logging.getLogger("jobqueue.worker")


class Service(Protocol):
    """The part of Worker that is used here; `worker.py` describes the methods."""

    name: str
    source: Any
    queues: tuple[str, ...]
    grace_seconds: float
    error: BaseException | None

    @property
    def running(self) -> int:
        """The number of handlers that run."""

    async def start(self) -> None:
        """Begin to take jobs."""

    async def stop(self, *, hurry: asyncio.Event) -> None:
        """Take no more jobs, and wait for those that run."""

    async def finished(self) -> None:
        """Return when the worker has done everything it was asked to do."""

    async def broken(self) -> BaseException:
        """Return when the worker has ended because of an error."""


async def serve(worker: Service) -> None:
    """Run until SIGTERM, SIGINT or SIGHUP, then stop within the worker's grace period; a second signal ends that. Raises `Worker.error`."""
    with Signals(worker.grace_seconds, "running jobs", hangup=True) as signals:
        await worker.start()
        _logger.info("%s takes jobs of %s from %s", worker.name, ", ".join(worker.queues), worker.source)
        ends = [asyncio.ensure_future(end) for end in (signals.stop.wait(), worker.broken(), worker.finished())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()
        _logger.info("stopping: %d jobs running", worker.running)
        await worker.stop(hurry=signals.hurry)
    if worker.error is not None:
        raise worker.error


def run(worker: Service) -> None:
    """See Worker.run."""
    open_standard_streams()
    loops: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):  # Windows and PyPy do not have it
        from uvloop import new_event_loop as loops
    if not logging.getLogger().handlers:
        # Not a StreamHandler: a pipe that nobody reads would block the loop, and every lease with it.
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
    except QueueError as error:
        if is_refusal(error) and error is worker.error:
            # The log already says what is wrong; a traceback would add nothing.
            raise SystemExit(REFUSED_EXIT) from None
        raise
    finally:
        code = REFUSED_EXIT if is_refusal(worker.error) else 0 if worker.error is None else 1
        shutdown.end_without(shutdown.lasting_threads() - before, code)
