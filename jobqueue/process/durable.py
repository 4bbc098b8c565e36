"""Jobs that outlive the server: the backend on a file, how its start is shown, backups and checks.

What `jobqueue serve --data`, and `jobqueue backup` and `jobqueue check` of a file do; `server.py` and `cli.py` only call it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

import click

from jobqueue.backend.base import Backend
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.loading import CannotOpen, Progress
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.sqlite.file import LEFTOVERS, Store
from jobqueue.backend.sqlite.lock import MODE
from jobqueue.backend.sqlite.open import check_log, load, open_journal
from jobqueue.clock import SystemClock
from jobqueue.engine.engine import Engine
from jobqueue.limits import Limits
from jobqueue.process.config import Settings

_logger = logging.getLogger("jobqueue.storage")

SLOW_JOBS = 100_000
"""Jobs from which on reading them takes long enough to show how far it is."""

ALL = Limits(history_jobs_max=1 << 62, history_bytes_max=1 << 62)
"""Bounds that forget nothing of what a file holds."""


def open_backend(settings: Settings) -> LocalBackend:
    """The backend that the settings ask for, with what its file holds. Wants a running loop. Raises CannotOpen."""
    if settings.data is None:
        return LocalBackend(settings.limits)
    started = time.monotonic()
    path = os.path.abspath(settings.data)
    engine, clock = Engine(settings.limits), SystemClock()
    with progress_shown(settings.data) as progress:
        journal = open_journal(path, engine, clock, sync=settings.sync, progress=progress)
    _logger.info("%s: %d jobs read and checked in %.1f s", settings.data, len(engine.jobs.by_id), time.monotonic() - started)
    backend = LocalBackend(engine=engine, clock=clock, journal=journal)
    backend.resume()
    return backend


@contextlib.contextmanager
def progress_shown(name: str, doing: str = "reading", done: str = "read") -> Iterator[Progress]:
    """Something to report reading to, or other work: a bar where someone looks on, else a line in the log for every tenth."""
    with contextlib.ExitStack() as stack:
        advance: Callable[[int], object] = _nothing
        seen = 0

        def report(now: int, total: int) -> None:
            nonlocal advance, seen
            if now == 0 and total >= SLOW_JOBS:
                if sys.stderr.isatty():
                    bar = stack.enter_context(click.progressbar(length=total, label=f"{doing} {name}", file=sys.stderr, show_pos=True))
                    advance = bar.update
                else:
                    advance = _tenths(name, total, done)
            if now > seen:
                advance(now - seen)
                seen = now

        yield report


def _nothing(_jobs: int) -> None:
    """Too few to show."""


def _tenths(name: str, total: int, what: str) -> Callable[[int], None]:
    done = 0

    def advance(jobs: int) -> None:
        nonlocal done
        tenth = done * 10 // total
        done += jobs
        if done * 10 // total > tenth:
            _logger.info("%s: %d of %d jobs %s", name, done, total, what)

    return advance


async def stopped(stop: asyncio.Event, backend: Backend) -> str | None:
    """Return when the server is to stop: None because it was told to, or why its storage cannot be trusted any more."""
    journal = backend.journal if isinstance(backend, LocalBackend) else None
    if not isinstance(journal, GroupJournal):
        await stop.wait()
        return None
    told, failed = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(journal.failed())
    try:
        await asyncio.wait({told, failed}, return_when=asyncio.FIRST_COMPLETED)
        return failed.result() if failed.done() else None
    finally:
        told.cancel()
        failed.cancel()


def backup(source: str, target: str) -> str:
    """Copy a file as it is at this moment, while a server uses it or not, and check the copy; a line that says what it holds.

    Raises CannotOpen.
    """

    def copy(part: str) -> None:
        store = Store.read_only(os.path.abspath(source))
        try:
            check_log(store)
            store.copy_to(part)
        finally:
            store.close(tidy=False)

    return made(target, copy)


def made(target: str, fill: Callable[[str], object]) -> str:
    """Make a data file and check it; a line that says what it holds. Raises CannotOpen.

    It appears whole or not at all, for its owner alone.

    fill: called with the path of an empty file, which it leaves whole and on the disk. It may raise CannotOpen and OSError.
    """
    if os.path.lexists(target):
        raise CannotOpen(f"{target}: exists already")
    part = f"{target}.part"
    try:
        # It is ours: whatever stands there is left from a backup that was cut short.
        _clear(part)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE))
        fill(os.path.abspath(part))
        held = check(part)
        os.rename(part, target)
        folder = os.open(os.path.dirname(os.path.abspath(target)), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CannotOpen(f"{target}: {error.strerror or error}") from error
    finally:
        _clear(part)
    return held


def _clear(part: str) -> None:
    """Remove what a backup left that was not finished."""
    for suffix in LEFTOVERS:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part + suffix)


def check(path: str) -> str:
    """Read all of a file and check it as a server would at its start; a line that says what it holds. Raises CannotOpen."""
    store = Store.read_only(os.path.abspath(path))
    engine = Engine(ALL)
    try:
        with progress_shown(path) as progress:
            load(store, engine, SystemClock(), progress)
    finally:
        store.close(tidy=False)
    return holds(engine)


def holds(engine: Engine) -> str:
    """What an engine holds, on one line."""
    found = Counter(str(job.status) for job in engine.jobs.by_id.values())
    counts = ", ".join(f"{count} {status}" for status, count in sorted(found.items())) or "none"
    jobs, queues, size = _of(len(engine.jobs.by_id), "job"), _of(len(engine.queues), "queue"), _of(engine.live_bytes, "byte")
    return f"{jobs} ({counts}) in {queues}, {size} in live jobs"


def _of(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
