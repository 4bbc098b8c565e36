"""Starting on a SQLite file: takes the lock, checks the file, loads the jobs, and returns the journal that continues from there."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable

from jobqueue.backend import loading
from jobqueue.backend.group import Writer
from jobqueue.backend.group_journal import SHARE_SECONDS, GroupJournal
from jobqueue.backend.loading import CannotOpen, Progress, Rows, no_progress
from jobqueue.backend.rows import BadRow, Counters, decode_counters
from jobqueue.backend.sqlite.file import Store
from jobqueue.backend.sqlite.lock import FileLock, Locked, Unusable
from jobqueue.backend.sqlite.writer import ThreadWriter
from jobqueue.clock import Clock
from jobqueue.engine.engine import Engine

_logger = logging.getLogger("jobqueue.storage")

MakeWriter = Callable[[Store, GroupJournal], Writer]


def load(store: Store, engine: Engine, clock: Clock, progress: Progress = no_progress, *, rows: Rows | None = None) -> tuple[float, int]:
    """Like `loading.load`, after checking that the log has everything that was committed. Raises CannotOpen.

    rows: those of the store, for a caller that looks at them as they are read.
    """
    if store.pages_missing:
        # If there are no counters, everything that was committed was in the log, and is lost.
        _cut(store, _counters(store) or Counters(1, 1, 0.0, ""))
    return loading.load(store if rows is None else rows, engine, clock, progress)


def check_log(store: Store) -> None:
    """Check that the log of a file has everything that was committed, for a caller that does not `load` it. Raises CannotOpen."""
    counters = _counters(store) if store.pages_missing else None
    if counters is not None:
        _cut(store, counters)


def _counters(store: Store) -> Counters | None:
    row = store.counters()
    try:
        return None if row is None else decode_counters(row)
    except BadRow as error:
        raise CannotOpen(f"{store.path}: is damaged: {error}") from error


def _cut(store: Store, counters: Counters) -> None:
    """The log lacks pages that were committed. With `always` only damage can cause this; otherwise a power cut can."""
    if counters.sync not in ("interval", "off"):
        raise CannotOpen(
            f"{store.path}-wal: is damaged or cut: {store.pages_missing} committed pages are missing. "
            f"Restore a backup, or delete {store.path}-shm to continue without them"
        )
    _logger.warning("%s-wal lacks %d pages, as after a power cut under --sync %s", store.path, store.pages_missing, counters.sync)


def thread_writer(store: Store, journal: GroupJournal) -> Writer:
    """The writer that a real server uses."""
    if journal.sync == "always":
        journal.share_seconds = SHARE_SECONDS
    return ThreadWriter(store, journal.sync, journal.fatal, journal.lost, journal.displaced)


def open_journal(
    path: str,
    engine: Engine,
    clock: Clock,
    *,
    sync: str = "always",
    progress: Progress = no_progress,
    vfs: str | None = None,
    writer: MakeWriter = thread_writer,
) -> GroupJournal:
    """Open the file, create it if it does not exist, and load its content into the engine, which must be empty.

    sync: always, interval or off. vfs: the name of the file system that SQLite uses; for tests. Raises CannotOpen, having changed nothing.
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
    journal = GroupJournal(engine, clock, sync, offset=offset, change=change, lost=lock.lost)
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
