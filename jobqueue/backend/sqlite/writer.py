"""The one thread that writes: one group at a time, and the upkeep of the log in between.

Why a thread: a commit waits for the disk, and the loop must not wait. Why only one: SQLite allows one writer anyway, and the order of
commits is then certain. The thread uses only the group that it was given, and the store.
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
from jobqueue.backend.sqlite.file import WAL_PAGES_MAX, Store

_logger = logging.getLogger("jobqueue.storage")

INTERVAL_SECONDS = 1.0
"""How often the mode `interval` syncs the commits made since the last sync."""

LOOK_SECONDS = 1.0
"""How often an idle writer checks whether the file is still there. A timer of the loop would wake the loop for this."""


class ThreadWriter:
    """A Writer with its own thread.

    fatal: called if the storage broke between two groups. lost: called from time to time, in the thread; returns what part of the file is
    no longer where it was. displaced: called with that result.
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
            self._start()  # at once if a loop is running, so that it also checks the file of a server that has nothing to write

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
        self._tend(loop)
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
        """Seconds until the log needs attention."""
        if self._sync != "interval" or self._unsynced_since is None:
            return math.inf
        return max(0.0, self._unsynced_since + INTERVAL_SECONDS - time.monotonic())

    def _tend(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            if self._store.wal_pages < WAL_PAGES_MAX and self._patience() != 0.0:
                self._store.make_room()
                return
            self._unsynced_since = None
            self._store.checkpoint()
        except NotNow as error:
            # Everything is in the log; for the next group, there may be room to copy the log into the database.
            _logger.warning("the log is not copied into the database yet: %s", error)
        except Exception as error:
            loop.call_soon_threadsafe(self._fatal, error if isinstance(error, Fatal) else Fatal(f"{type(error).__name__}: {error}"))
