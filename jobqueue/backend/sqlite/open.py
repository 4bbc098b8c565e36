"""Starting on a SQLite file: the lock, the checks, the jobs; and the journal that goes on from there."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
from collections.abc import Callable, Iterator

from jobqueue.backend.shell import shifted
from jobqueue.backend.sqlite.file import CannotOpen, Store
from jobqueue.backend.sqlite.journal import SqliteJournal
from jobqueue.backend.sqlite.lock import FileLock, Locked, Unusable
from jobqueue.backend.sqlite.rows import BadRow, Counters, decode_counters, decode_job, decode_queue
from jobqueue.backend.sqlite.writer import ThreadWriter, Writer
from jobqueue.clock import SKEW_STEP_SECONDS, Clock
from jobqueue.engine.engine import Engine
from jobqueue.engine.restore import Inconsistent, Stored, restore

_logger = logging.getLogger("jobqueue.storage")

PROGRESS_JOBS = 10_000
"""Jobs read between two reports."""

Progress = Callable[[int, int], object]
"""Called with the jobs read so far and with how many there are."""

MakeWriter = Callable[[Store, SqliteJournal], Writer]


def _no_progress(_done: int, _total: int) -> None:
    """Report nothing."""


class _Reader:
    """Reads jobs, keeping count."""

    def __init__(self, store: Store, offset: float, progress: Progress) -> None:
        self.change = 0
        self._store = store
        self._offset = offset
        self._progress = progress

    def jobs(self) -> Iterator[Stored]:
        """Every job, its times on the engine's line."""
        total = self._store.count()
        self._progress(0, total)
        for done, (number, state, payload) in enumerate(self._store.jobs(), 1):
            stored = decode_job(number, state, payload)
            if self._offset:
                shifted(stored.job, self._offset)
            self.change = max(self.change, stored.change)
            yield stored
            if done % PROGRESS_JOBS == 0 or done == total:
                self._progress(done, total)


def load(store: Store, engine: Engine, clock: Clock, progress: Progress = _no_progress) -> tuple[float, int]:
    """Fill an empty engine from a file; the journal's offset and last change. Raises CannotOpen."""
    # Millions of objects are made here that all stay: the collector would walk them again and again.
    collecting = gc.isenabled()
    gc.disable()
    try:
        row = store.counters()
        counters = Counters(1, 1, clock.skew(), "") if row is None else decode_counters(row)
        if store.pages_missing:
            _cut(store, counters)
        offset = _offset(counters, clock)
        reader = _Reader(store, offset, progress)
        queues = (decode_queue(name, state) for name, state in store.queues())
        restore(engine, queues, reader.jobs(), counters.next_number, counters.next_seq)
    except (Inconsistent, BadRow) as error:
        raise CannotOpen(f"{store.path}: is damaged: {error}") from error
    finally:
        if collecting:
            gc.enable()
    return offset, reader.change


def check_log(store: Store) -> None:
    """Whether the log of a file has all that was committed, for somebody who does not `load` it. Raises CannotOpen."""
    row = store.counters() if store.pages_missing else None
    if row is not None:
        _cut(store, decode_counters(row))


def _offset(counters: Counters, clock: Clock) -> float:
    """Engine time minus the line that the file's times are on.

    The wall clock says how much time has passed since the file was written, and may have been set meanwhile. On the same boot of the
    machine its uptime says it better. Otherwise all that is certain is that it was not less than none.
    """
    by_wall = counters.skew - clock.skew()
    uptime = clock.uptime()
    if uptime is not None and uptime.boot == counters.boot:
        offset = clock.now() - counters.at - max(0.0, uptime.seconds - counters.up)
    else:
        offset = min(by_wall, clock.now() - counters.at)
    if abs(offset - by_wall) <= SKEW_STEP_SECONDS:
        # Two clocks never agree to the microsecond, and an offset has to be taken off every time that is stored.
        return by_wall
    _logger.warning(
        "the wall clock was set by about %.0f s while no server ran; delays and leases go on as if it had not been", offset - by_wall
    )
    return offset


def _cut(store: Store, counters: Counters) -> None:
    """The log lacks pages that were committed. Under `always` only damage explains that; otherwise a power cut does."""
    if counters.sync not in ("interval", "off"):
        raise CannotOpen(
            f"{store.path}-wal: is damaged or cut: {store.pages_missing} committed pages are missing. "
            f"Restore a backup, or delete {store.path}-shm to go on without them"
        )
    _logger.warning("%s-wal lacks %d pages, as after a power cut under --sync %s", store.path, store.pages_missing, counters.sync)


def thread_writer(store: Store, journal: SqliteJournal) -> Writer:
    """The writer of a real server."""
    return ThreadWriter(store, journal.sync, journal.fatal, journal.lost, journal.displaced)


def open_journal(
    path: str,
    engine: Engine,
    clock: Clock,
    *,
    sync: str = "always",
    progress: Progress = _no_progress,
    vfs: str | None = None,
    writer: MakeWriter = thread_writer,
) -> SqliteJournal:
    """Open the file, make it if there is none, and fill the engine, which must be empty, with what it holds.

    sync: always, interval or off. vfs: the file system SQLite uses, by name; for tests. Raises CannotOpen, and changes nothing then.
    """
    with contextlib.ExitStack() as undo:
        lock = _locked(path)
        undo.callback(lock.release)
        store = Store.open(lock.path, vfs=vfs)
        undo.callback(store.close, tidy=False)
        offset, change = load(store, engine, clock, progress)
        store.adopt(sync)
        lock.watch()
        lost = lock.lost()
        if lost is not None:
            raise CannotOpen(lost)
        undo.pop_all()
    if lock.shared:
        _logger.warning("every user of this machine can read %s; chmod 600 keeps its jobs to its owner", lock.path)
    journal = SqliteJournal(engine, clock, sync, offset=offset, change=change, lost=lock.lost)
    journal.use(writer(store, journal), on_close=lock.release)
    return journal


def _locked(path: str) -> FileLock:
    """The lock on a data file. Raises CannotOpen."""
    try:
        return FileLock(path)
    except (Locked, Unusable) as error:
        raise CannotOpen(f"{path}: {error}") from None
    except OSError as error:
        what = error.filename if isinstance(error.filename, str) else path
        if isinstance(error, FileNotFoundError):
            raise CannotOpen(f"{path}: there is no folder {os.path.dirname(what) or '.'}") from error
        raise CannotOpen(f"{path}: the server must be able to write it: {what}: {error.strerror or error}") from error
