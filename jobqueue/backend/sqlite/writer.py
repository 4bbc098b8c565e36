"""The one thread that writes: a group at a time, and the log's upkeep in between.

Why a thread: a commit waits for the disk, and the loop must not. Why one: SQLite has one writer anyway, and order is then no question.
It never touches anything but the group it was given and the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable

from jobqueue.backend.group import Fatal, Finished, Group, NotNow
from jobqueue.backend.sqlite.file import Store

_logger = logging.getLogger("jobqueue.storage")

WAL_PAGES_MAX = 4_096
"""Pages of 4 KiB in the log after which it is copied into the database."""

INTERVAL_SECONDS = 1.0
"""How often `interval` syncs what was committed since."""

LOOK_SECONDS = 1.0
"""How often an idle writer asks whether the file is still there. A timer of the loop would wake the loop for it."""


class ThreadWriter:
    """A Writer with a thread of its own.

    fatal: called when the storage broke between two groups. lost: asked now and then, in the thread, what of the file is no longer where
    it was; displaced: told of it.
    """

    def __init__(
        self, store: Store, sync: str, fatal: Finished, lost: Callable[[], str | None], displaced: Callable[[str], object]
    ) -> None:
        self._store = store
        self._sync = sync
        self._fatal = fatal
        self._lost = lost
        self._displaced = displaced
        self._orders: queue.SimpleQueue[tuple[Group, Finished, asyncio.AbstractEventLoop] | None] = queue.SimpleQueue()
        self._unsynced_since: float | None = None
        self._ended = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        with contextlib.suppress(RuntimeError):
            self._start()  # at once where a loop runs, so that it looks after the file of a server that has nothing to write

    def _start(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            # A daemon, so that a process that fails elsewhere does not wait for it for ever.
            self._thread = threading.Thread(target=self._run, name="jobqueue-storage", daemon=True)
            self._thread.start()
        return self._loop

    def write(self, group: Group, finished: Finished) -> None:
        """See Writer.write."""
        self._orders.put((group, finished, self._start()))

    async def close(self, tidy: bool) -> None:
        """See Writer.close."""
        if self._thread is not None:
            self._orders.put(None)
            await self._ended.wait()
            self._thread.join()
        self._store.close(tidy)

    # In the thread.

    def _run(self) -> None:
        loop = self._loop
        assert loop is not None
        while True:
            try:
                order = self._orders.get(timeout=min(self._patience(), LOOK_SECONDS))
            except queue.Empty:
                self._tend(loop)
                lost = self._lost()
                if lost is not None:
                    loop.call_soon_threadsafe(self._displaced, lost)
                continue
            if order is None:
                break
            group, finished, _ = order
            loop.call_soon_threadsafe(finished, self._write(group))
            self._tend(loop)
        loop.call_soon_threadsafe(self._ended.set)

    def _write(self, group: Group) -> Exception | None:
        try:
            self._store.write(group)
        except NotNow as error:
            return error
        except Exception as error:
            return error if isinstance(error, Fatal) else Fatal(f"{type(error).__name__}: {error}")
        if self._unsynced_since is None:
            self._unsynced_since = time.monotonic()
        return None

    def _patience(self) -> float:
        """Seconds until the log needs care."""
        if self._sync != "interval" or self._unsynced_since is None:
            return math.inf
        return max(0.0, self._unsynced_since + INTERVAL_SECONDS - time.monotonic())

    def _tend(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._store.wal_pages < WAL_PAGES_MAX and self._patience() != 0.0:
            return
        self._unsynced_since = None
        self._store.wal_pages = 0
        try:
            self._store.checkpoint()
        except NotNow as error:
            # The log has everything; the next one may have room to go into the database.
            _logger.warning("the log is not copied into the database yet: %s", error)
        except Exception as error:
            loop.call_soon_threadsafe(self._fatal, error if isinstance(error, Fatal) else Fatal(f"{type(error).__name__}: {error}"))
