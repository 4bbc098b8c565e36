"""Commits that new jobs and other changes share, groups of many rows, and the look at the folder in place of its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobqueue.backend.base import Conclude
from jobqueue.backend.group import Group
from jobqueue.backend.group_journal import SHARE_JOBS, SHARE_SECONDS
from jobqueue.backend.sqlite import lock
from jobqueue.backend.sqlite.changes import BYTES_MAX, ROWS_MAX
from jobqueue.backend.sqlite.lock import FileLock
from jobqueue.model import SUCCEEDED, JobSpec, Verdict, Want

from .test_sqlite_journal import Durable, spec, turns


def some(name: str) -> list[JobSpec]:
    """Enough new jobs to wait for more of them."""
    return [spec(f"{name}{number}") for number in range(SHARE_JOBS)]


async def come_back(durable: Durable) -> None:
    """Producers that enqueue again as soon as they are answered."""
    durable.journal.share_seconds = SHARE_SECONDS
    for name in ("a", "b"):
        await durable.done(durable.backend.enqueue_batch(some(name)))


async def conclusion(durable: Durable) -> Conclude:
    """What ends one job that was handed out."""
    taking = durable.backend.dequeue(Want(), 0)

    async def take() -> Conclude:
        async with taking as (job,):
            taking.delivered()
        assert job.lease is not None
        return Conclude(job.id, job.lease.token, Verdict(outcome=SUCCEEDED))

    found = await durable.done(take())
    assert isinstance(found, Conclude)
    return found


async def test_a_conclusion_goes_with_the_new_jobs_that_are_expected(tmp_path: Path) -> None:
    """After many new jobs whose producers came back at once, a conclusion waits for those that come, and is in their commit."""
    durable = Durable(tmp_path / "jobs.db")
    ending = await conclusion_before(durable)
    ended = await durable.start(durable.backend.conclude_batch([ending]))
    assert not durable.writer.busy
    added = await durable.start(durable.backend.enqueue_batch(some("c")))
    assert durable.writer.busy
    durable.writer.commit()
    await turns()
    assert ended.done()
    assert added.done()
    assert not durable.writer.busy


async def conclusion_before(durable: Durable) -> Conclude:
    """A job is handed out; then producers come back."""
    await durable.done(durable.backend.enqueue(spec("first")))
    ending = await conclusion(durable)
    await come_back(durable)
    return ending


async def test_a_conclusion_does_not_wait_long(tmp_path: Path) -> None:
    """If no new jobs come, it is written alone after that time, and the next one at once."""
    durable = Durable(tmp_path / "jobs.db")
    ending = await conclusion_before(durable)
    ended = await durable.start(durable.backend.conclude_batch([ending]))
    assert not durable.writer.busy
    durable.clock.advance(SHARE_SECONDS)
    await turns()
    assert durable.writer.busy
    await durable.settle()
    assert ended.done()
    taken = await durable.start(conclusion_started(durable))
    assert durable.writer.busy
    await durable.settle()
    await taken


async def conclusion_started(durable: Durable) -> None:
    """A job is handed out."""
    taking = durable.backend.dequeue(Want(), 0)
    async with taking:
        taking.delivered()


@pytest.mark.parametrize(("rows", "size"), [(ROWS_MAX // 2, 10), (ROWS_MAX * 2, 10), (3, BYTES_MAX), (5, BYTES_MAX // 2)])
async def test_a_group_of_any_size_is_whole(tmp_path: Path, rows: int, size: int) -> None:
    """Groups of many rows, and of long ones, are written, replaced and deleted completely."""
    store = Durable(tmp_path / "jobs.db").writer.store
    for state in (b"one", b"two" * size):
        group = Group()
        group.counters = b"counters"
        for number in range(1, rows + 1):
            group.put(number, state)
            group.put_payload(number, b"p" * size)
        store.write(group)
        assert [(row.number, row.state, len(row.payload)) for row in store.jobs()] == [(n, state, size) for n in range(1, rows + 1)]
    group = Group()
    group.counters = b"counters"
    for number in range(1, rows + 1):
        group.forget(number)
    store.write(group)
    assert store.count() == 0


@pytest.mark.parametrize("calm", [False, True])
def test_a_file_that_goes_is_noticed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calm: bool) -> None:
    """While the folder does not change only the folder is looked at, and that is enough to notice a file that is gone or is back."""
    times = iter(range(0, 100_000, 5) if calm else [0.0] * 100)
    monkeypatch.setattr(lock, "LOOK_SECONDS", 1_000.0)
    monkeypatch.setattr("jobqueue.backend.sqlite.lock.time.monotonic", lambda: float(next(times)))
    path = tmp_path / "jobs.db"
    held = FileLock(str(path))
    for _ in range(4):
        assert held.lost() is None
    os.rename(path, tmp_path / "elsewhere.db")
    for _ in range(4):
        assert "does not exist any more" in str(held.lost())
    os.rename(tmp_path / "elsewhere.db", path)
    assert held.lost() is None
    held.release()
