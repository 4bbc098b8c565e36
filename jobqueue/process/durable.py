"""Jobs that outlive the server: the backend on a file, the progress display at its start, backups and checks.

This is the work of `jobqueue serve --data`, and of `jobqueue backup` and `jobqueue check` for a file; `server.py` and `cli.py` only call
it.
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
from typing import NamedTuple

import click

from jobqueue.backend.base import Backend
from jobqueue.backend.contents import Contents, Counted
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.loading import CannotOpen, Progress
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.sqlite.file import LEFTOVERS, Store
from jobqueue.backend.sqlite.lock import new_file
from jobqueue.backend.sqlite.open import check_log, load, open_journal
from jobqueue.clock import SystemClock
from jobqueue.engine.engine import Engine
from jobqueue.limits import Limits
from jobqueue.process.config import Settings

_logger = logging.getLogger("jobqueue.storage")

SLOW_JOBS = 100_000
"""From this many jobs on, reading takes long enough to show progress."""

ALL = Limits(history_jobs_max=1 << 62, history_bytes_max=1 << 62)
"""Limits under which nothing in a file is forgotten."""


def open_backend(settings: Settings) -> LocalBackend:
    """The backend that the settings ask for, with the content of its file. Needs a running loop. Raises CannotOpen."""
    if settings.data is None:
        backend = LocalBackend(settings.limits)
        backend.sample(backend.clock.now())
        return backend
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
    """A callback for progress with reading or other work: a bar on a terminal, otherwise a log line for every tenth."""
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
    """Too few jobs to show progress."""


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
    """Return when the server must stop: None if it was told to, otherwise why its storage can no longer be relied on."""
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


def warn_of_lost(backend: Backend) -> None:
    """Log how many jobs are lost when this process ends, if jobs are only in memory and some are not concluded. Call it once nothing can
    change any more.
    """
    if isinstance(backend, LocalBackend) and backend.journal is None and backend.engine.live:
        _logger.warning(
            "%s not concluded and now lost, because jobs were only in memory; start the server with --data FILE to keep jobs",
            "1 job is" if backend.engine.live == 1 else f"{backend.engine.live} jobs are",
        )


def backup(source: str, target: str) -> str:
    """Copy a file in its current state, whether or not a server uses it, and check the copy. Returns lines that say what it holds.

    Raises CannotOpen.
    """

    def copy(part: str) -> None:
        store = Store.read_only(os.path.abspath(source))
        try:
            check_log(store)
            store.copy_to(part)
        finally:
            store.close(tidy=False)

    return str(made(target, copy))


class Held:
    """What engines hold, in numbers."""

    def __init__(self, *engines: Engine) -> None:
        self._found: Counter[str] = Counter()
        self._queues = 0
        self._bytes = 0
        for engine in engines:
            self.add(engine)

    def add(self, engine: Engine) -> None:
        """Add what another engine holds."""
        self._found.update(str(job.status) for job in engine.jobs.all())
        self._queues += len(engine.queues)
        self._bytes += engine.live_bytes

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {status}" for status, count in sorted(self._found.items())) or "none"
        jobs, queues, size = _of(self._found.total(), "job"), _of(self._queues, "queue"), _of(self._bytes, "byte")
        return f"{jobs} ({counts}) in {queues}, {size} in live jobs"


class Checked(NamedTuple):
    """What a file holds, and its contents in numbers that can be compared. str() gives a line of each."""

    held: str
    contents: Contents

    def __str__(self) -> str:
        return f"{self.held}\ncontents: {self.contents}"


def made(target: str, fill: Callable[[str], Contents | None]) -> Checked:
    """Make a data file and check it. Returns what it holds. Raises CannotOpen.

    The file appears complete or not at all, and only its owner can read it.

    fill: called with the path of an empty file; when it returns, the file must be complete and on the disk. It returns what the file must
    contain, if it knows. It can raise CannotOpen and OSError.
    """
    if os.path.lexists(target):
        raise CannotOpen(f"{target}: exists already")
    part = f"{target}.part"
    try:
        # The name is ours: a file at that path is left from an interrupted backup.
        _clear(part)
        os.close(new_file(part, os.O_WRONLY | os.O_CLOEXEC))
        expected = fill(os.path.abspath(part))
        checked = check(part)
        if expected is not None and checked.contents != expected:
            raise CannotOpen(f"{target}: what was written is not what was read: {checked.contents}, not {expected}")
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
    return checked


def _clear(part: str) -> None:
    """Remove what an unfinished backup left behind."""
    for suffix in LEFTOVERS:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part + suffix)


def check(path: str) -> Checked:
    """Read a whole file and check it as a server does at its start. Returns what it holds. Raises CannotOpen."""
    store = Store.read_only(os.path.abspath(path))
    engine, contents = Engine(ALL), Contents()
    try:
        with progress_shown(path) as progress:
            load(store, engine, SystemClock(), progress, rows=Counted(store, contents))
    finally:
        store.close(tidy=False)
    return Checked(str(Held(engine)), contents)


def _of(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
