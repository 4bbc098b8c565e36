"""A worker as a process of its own: the loop, the signals, the exit."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from typing import Any, Protocol

from jobqueue.streams import open_standard_streams

_logger = logging.getLogger("jobqueue.worker")


class Service(Protocol):
    """What is asked of a Worker here; `worker.py` says what each does."""

    name: str
    source: Any
    queues: tuple[str, ...]
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
    """Run until SIGTERM or SIGINT, then stop within the worker's grace period; a second signal ends that. Raises `Worker.error`."""
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set() and not hurry.is_set():
            _logger.warning("second signal: not waiting for running jobs")
            hurry.set()
        stop.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, on_signal)
    try:
        await worker.start()
        _logger.info("%s takes jobs of %s from %s", worker.name, ", ".join(worker.queues), worker.source)
        stopped, broken = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(worker.broken())
        await asyncio.wait((stopped, broken), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        broken.cancel()
        _logger.info("stopping: %d jobs run", worker.running)
        await worker.stop(hurry=hurry)
    finally:
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(name)
    if worker.error is not None:
        raise worker.error


def run(worker: Service) -> None:
    """See Worker.run."""
    open_standard_streams()
    loops: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):  # Windows and PyPy have none
        from uvloop import new_event_loop as loops
    if not logging.getLogger().handlers:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with asyncio.Runner(loop_factory=loops) as runner:
        runner.run(serve(worker))
