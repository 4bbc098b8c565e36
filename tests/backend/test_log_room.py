"""The room at the end of SQLite's log: commits find it there, and nobody takes it for anything else."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.sqlite.room import LEAST_BYTES, STEP_BYTES, Room
from jobqueue.errors import StorageUnavailable
from tests.faults.datafile import backend_at
from tests.faults.wire import until

from .test_sqlite_journal import Durable, spec

COMMITS = 300
"""Some 4 MiB of log."""


def size(path: Path) -> int:
    return path.with_name("jobs.db-wal").stat().st_size


async def enqueue(durable: Durable, job_id: str) -> int:
    """Commit a job; how many bytes that made the log longer."""
    task = await durable.start(durable.backend.enqueue(spec(job_id)))
    before = size(durable.path)
    await durable.settle()
    await task
    return size(durable.path) - before


async def test_no_commit_makes_the_log_longer(tmp_path: Path) -> None:
    """Once there is room a commit finds it; what a kill -9 leaves of such a log has every job, for a server and for any other tool."""
    durable = Durable(tmp_path / "jobs.db")
    for number in range(COMMITS):
        durable.writer.store.make_room()
        assert await enqueue(durable, f"j{number}") == 0
    copy = durable.copy()
    left = Durable(copy)
    assert set(left.backend.engine.jobs.by_id) == {f"j{number}" for number in range(COMMITS)}
    tool = sqlite3.connect(durable.path)
    assert tool.execute("SELECT count(*) FROM jobs").fetchone() == (COMMITS,)
    assert tool.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    tool.close()


async def test_a_server_makes_room_by_itself(tmp_path: Path) -> None:
    """With --sync always there is room from the start, before anything is written, and no log is left after a stop."""
    path = tmp_path / "jobs.db"
    async with backend_at(path):
        await until(lambda: size(path) >= STEP_BYTES, "there is room")
    assert not path.with_name("jobs.db-wal").exists()


@pytest.mark.parametrize("sync", ["interval", "off"])
async def test_there_is_no_room_where_no_commit_waits_for_a_sync(tmp_path: Path, sync: str) -> None:
    """Other modes leave the log to SQLite."""
    path = tmp_path / "jobs.db"
    async with backend_at(path, sync=sync) as backend:
        for number in range(10):
            await backend.enqueue(spec(f"j{number}"))
        assert size(path) < LEAST_BYTES


async def fill(backend: LocalBackend) -> None:
    """Commit more than the room that there was."""
    for number in range(8):
        await backend.enqueue(spec(f"j{number}", payload=b'"%s"' % (b"x" * (STEP_BYTES // 2))))


@pytest.fixture
def little_room() -> Iterator[None]:
    """No file of this process may have half a step."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (STEP_BYTES // 2, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_keeps_its_last_bytes_for_jobs(tmp_path: Path, little_room: None) -> None:
    """Where there is not a step of room none is taken, and jobs are stored as far as they fit."""
    durable = Durable(tmp_path / "jobs.db")
    for number in range(20):
        before = size(durable.path)
        durable.writer.store.make_room()
        assert size(durable.path) == before
        assert await enqueue(durable, f"j{number}") > 0


async def test_a_sync_of_the_room_that_fails_stops_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync of the log that fails says that nothing is certain, whoever asked for it: nothing is acknowledged afterwards."""

    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, "the disk did not sync")

    async with backend_at(tmp_path / "jobs.db") as backend:
        await backend.enqueue(spec("before"))
        monkeypatch.setattr(os, "fsync", broken)
        journal = backend.journal
        assert isinstance(journal, GroupJournal)
        with pytest.raises(StorageUnavailable):
            await fill(backend)
        async with asyncio.timeout(30):
            assert "the disk did not sync" in await journal.failed()


def test_the_log_is_not_made_longer_than_it_becomes(tmp_path: Path) -> None:
    """Room ends a step behind what the log holds at most."""
    log = tmp_path / "log"
    log.touch()
    room = Room(str(log), 3 * STEP_BYTES)
    used = 0
    while used < 5 * STEP_BYTES:
        room.make(used)
        assert log.stat().st_size <= 4 * STEP_BYTES
        used += LEAST_BYTES
    assert log.stat().st_size >= 3 * STEP_BYTES
    room.close()
