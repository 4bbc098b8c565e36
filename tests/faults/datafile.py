"""Backends on a file, for tests that hurt the file or the disk below it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.sqlite import file as sqlite
from jobqueue.backend.sqlite.open import open_journal, thread_writer
from jobqueue.clock import SystemClock
from jobqueue.engine.engine import Engine
from jobqueue.limits import Limits
from jobqueue.model import Job, JobSpec, Outcome, Verdict, Want

from .disks import Disk
from .inside import serving

SUCCEEDED = Verdict(outcome=Outcome.SUCCEEDED)


def journal_at(path: Path, **options: Any) -> GroupJournal:
    """A journal on a file, its engine filled."""
    return open_journal(str(path), options.pop("engine", Engine()), options.pop("clock", SystemClock()), **options)


@contextlib.asynccontextmanager
async def backend_at(path: Path, **options: Any) -> AsyncIterator[LocalBackend]:
    """A backend on a file."""
    clock = options.setdefault("clock", SystemClock())
    journal = journal_at(path, **options)
    backend = LocalBackend(engine=journal.engine, clock=clock, journal=journal)
    backend.resume()
    try:
        yield backend
    finally:
        await backend.close()


async def take(backend: LocalBackend, **fields: Any) -> list[Job]:
    taking = backend.dequeue(Want(**fields), 0)
    async with taking as jobs:
        taking.delivered()
    return jobs


def spec(job_id: str, payload: bytes = b"1", **fields: Any) -> JobSpec:
    return JobSpec(payload=payload, id=job_id, **fields)


class Served:
    """A server in this process on a disk of the test's own."""

    def __init__(self, path: Path, disk: Disk | None = None, **limits: Any) -> None:
        self.stores: list[sqlite.Store] = []
        self.engine, self.clock = Engine(Limits(**limits)), SystemClock()

        def writer(store: sqlite.Store, journal: GroupJournal) -> Any:
            self.stores.append(store)
            return thread_writer(store, journal)

        vfs = None if disk is None else disk.name
        self.journal = open_journal(str(path), self.engine, self.clock, vfs=vfs, writer=writer)

    def serving(self) -> Any:
        return serving(self.engine.limits, engine=self.engine, clock=self.clock, journal=self.journal)

    def limit_pages(self, pages: int) -> None:
        """Let the database have so many pages; 0 for as many as it has. While nothing is written."""
        self.stores[0]._connection.execute(f"PRAGMA max_page_count = {pages or 1}").fetchall()
