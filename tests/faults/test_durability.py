"""Rows 26 to 33: what happens to the file, to the disk and to the process, and what is left of the jobs."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

from jobqueue.backend import sqlite
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.sqlite import CannotOpen
from jobqueue.backend.sqlite_journal import SqliteJournal
from jobqueue.backend.sqlite_open import open_journal
from jobqueue.clock import SystemClock
from jobqueue.durable import check
from jobqueue.engine.engine import Engine
from jobqueue.limits import Limits
from jobqueue.model import Job, JobSpec, Outcome, Verdict, Want

from . import disks
from .disks import Disk
from .inside import serving
from .kills import kill
from .ledger import Api
from .process import Process
from .wire import PATIENCE_SECONDS, call, until

SUCCEEDED = Verdict(outcome=Outcome.SUCCEEDED)
KILLS = int(os.environ.get("KILLS", "20"))
CUTS = 12


def journal_at(path: Path, **options: Any) -> SqliteJournal:
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


async def test_26_kill_9(tmp_path: Path) -> None:
    """A server killed again and again loses nothing that it acknowledged, and leases outlive it."""
    api = await kill(KILLS, seed=26, folder=tmp_path)
    assert api.repeats


# The power cut: 27.


class Books:
    """What was acknowledged, at every moment: the status that each job must have at least reached."""

    def __init__(self, backend: LocalBackend) -> None:
        self.backend = backend
        self.enqueued: set[str] = set()
        self.leased: dict[str, str] = {}
        self.concluded: set[str] = set()

    async def work(self, name: str, luck: Random) -> None:
        """One client, for ever."""
        for turn in range(1_000_000):
            job_id = f"{name}-{turn}"
            await self.backend.enqueue(spec(job_id, b'"%s"' % (b"x" * luck.randrange(5_000))))
            self.enqueued.add(job_id)
            for job in await take(self.backend):
                assert job.lease is not None
                self.leased[job.id] = job.lease.token
                if luck.random() < 0.7:
                    self.leased.pop(job.id)
                    await self.backend.conclude(job.id, job.lease.token, SUCCEEDED)
                    self.concluded.add(job.id)

    def missing(self, engine: Engine) -> list[str]:
        """What an engine lacks of it."""
        jobs = engine.jobs.by_id
        lost = [job_id for job_id in self.enqueued if job_id not in jobs]
        lost += [job_id for job_id in self.concluded - set(lost) if jobs[job_id].outcome is not Outcome.SUCCEEDED]
        for job_id, token in self.leased.items():
            lease = jobs[job_id].lease if job_id in jobs else None
            if lease is None or lease.token != token:
                lost.append(job_id)
        return lost

    def copy(self) -> Books:
        copy = Books(self.backend)
        copy.enqueued, copy.leased, copy.concluded = set(self.enqueued), dict(self.leased), set(self.concluded)
        return copy


async def cuts(folder: Path, sync: str, seed: int, count: int, luck: Random | None) -> list[list[str] | None]:
    """Cut the power so many times while clients work; what each cut lost of what was acknowledged, None for a file that is refused."""
    disk, found = Disk(), []
    async with backend_at(folder / "jobs.db", sync=sync, vfs=disk.name) as backend:
        books = Books(backend)
        clients = [asyncio.create_task(books.work(f"c{n}", Random(seed + n))) for n in range(8)]
        moments = Random(seed)
        for number in range(count):
            until_turn = moments.randrange(5, 120)
            for _ in range(until_turn):
                await asyncio.sleep(0)
                await asyncio.to_thread(lambda: None)
            # The books first: what is acknowledged from here on may be on the disk or not.
            acknowledged = books.copy()
            left = folder / f"cut{number}"
            left.mkdir()
            disk.cut(left, luck)
            engine = Engine(Limits(history_jobs_max=1_000_000))
            try:
                await journal_at(left / "jobs.db", engine=engine).close()
            except CannotOpen:
                found.append(None)
            else:
                found.append(acknowledged.missing(engine))
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        assert len(books.enqueued) > count
    return found


@pytest.mark.parametrize("lucky", [False, True], ids=["nothing unsynced", "half of what is unsynced, torn"])
async def test_27_power_cut_takes_nothing_under_always(tmp_path: Path, lucky: bool) -> None:
    """With --sync always a power cut at any moment takes nothing that was acknowledged, whichever unsynced writes reach the disk."""
    assert await cuts(tmp_path, "always", 27, CUTS, Random(27) if lucky else None) == [[]] * CUTS


async def test_27_power_cut_under_interval_leaves_a_whole_file(tmp_path: Path) -> None:
    """With --sync interval a power cut takes what was not synced yet and no more: what is left is whole, and older changes are there."""
    disk = Disk()
    async with backend_at(tmp_path / "jobs.db", sync="interval", vfs=disk.name) as backend:
        await backend.enqueue(spec("old"))
        before = disk.syncs
        # The second in which the log is synced passes by itself, with nothing being written.
        await until(lambda: disk.syncs > before, "a sync a second")
        await until(lambda: disk.syncs > before + 1, "the database's sync")
        for number in range(20):
            await backend.enqueue(spec(f"new{number}"))
        (tmp_path / "cut").mkdir()
        disk.cut(tmp_path / "cut")
    async with backend_at(tmp_path / "cut" / "jobs.db") as left:
        known = set(left.engine.jobs.by_id)
        assert "old" in known
        assert len(known) < 21


async def test_27_power_cut_under_off_may_take_everything(tmp_path: Path) -> None:
    """With --sync off nothing is promised over a power cut, and the disk of these tests does take what was not synced."""
    found = await cuts(tmp_path, "off", 27, 3, None)
    assert all(lost is None or lost for lost in found)


# The disk: 28, 29, 32.


class Served:
    """A server in this process on a disk of the test's own."""

    def __init__(self, path: Path, disk: Disk | None = None, **limits: Any) -> None:
        self.stores: list[sqlite.Store] = []
        self.engine, self.clock = Engine(Limits(**limits)), SystemClock()

        def writer(store: sqlite.Store, journal: SqliteJournal) -> Any:
            from jobqueue.backend.sqlite_open import thread_writer

            self.stores.append(store)
            return thread_writer(store, journal)

        vfs = None if disk is None else disk.name
        self.journal = open_journal(str(path), self.engine, self.clock, vfs=vfs, writer=writer)

    def serving(self) -> Any:
        return serving(self.engine.limits, engine=self.engine, clock=self.clock, journal=self.journal)

    def limit_pages(self, pages: int) -> None:
        """Let the database have so many pages; 0 for as many as it has. While nothing is written."""
        self.stores[0]._connection.execute(f"PRAGMA max_page_count = {pages or 1}").fetchall()


async def test_28_disk_full(tmp_path: Path) -> None:
    """With no room, changes are answered 503 and change nothing more, reads go on; with room again, all is as it should be, by itself."""
    served = Served(tmp_path / "jobs.db")
    async with served.serving() as api:
        await api.put("before")
        served.limit_pages(0)
        refused = 0
        while refused == 0:
            job_id = api.full(f"j{len(api.acknowledged)}")
            answer = await api.call("POST", "/jobs/enqueue", {"id": job_id, "queue": api.queue, "payload": "x" * 3_000})
            if answer.status == 503:
                assert (answer.code, answer.headers["retry-after"]) == ("storage_unavailable", "1")
                refused += 1
            else:
                api.acknowledged.add(job_id)
        assert len(api.acknowledged) < 1_000
        for path, body in (
            ("/jobs/dequeue", {"queue": api.queue}),
            ("/batch/enqueue", {"jobs": [{"payload": 1}]}),
            ("/queues/x/pause", {}),
        ):
            answer = await api.call("POST", path, body)
            assert (answer.status, answer.code) == (503, "storage_unavailable"), path
        assert (await api.job("before"))["status"] == "queued"
        assert (await api.call("GET", "/healthz")).status == 200
        served.limit_pages(1_000_000)

        # The refused enqueue is repeated, as semantics.md says: it did or did not happen, and now it has.
        async def accepted() -> bool:
            answer = await api.call("POST", "/jobs/enqueue", {"id": job_id, "queue": api.queue, "payload": "x" * 3_000})
            return answer.status == 200

        await until(accepted, "the enqueue is accepted again")
        api.acknowledged.add(job_id)
    found = Engine()
    await journal_at(tmp_path / "jobs.db", engine=found).close()
    assert set(found.jobs.by_id) == api.acknowledged


async def test_28_no_room_in_a_real_server(tmp_path: Path, start: Callable[..., Process], on: Callable[..., Api]) -> None:
    """A server whose disk is full says so once in its log, goes on reading, and stops as asked."""
    orders = tmp_path / "orders"
    process = start("--data", str(tmp_path / "jobs.db"), before=disks.boot(orders))
    api = on(process)
    await api.put("before")
    orders.write_text("full")
    assert (await api.call("POST", "/jobs/enqueue", {"payload": 1, "queue": api.queue, "id": api.full("during")})).status == 503
    assert (await api.job("before"))["status"] == "queued"
    assert "changes cannot be stored" in process.log()
    orders.write_text("")

    async def accepted() -> bool:
        return (await api.call("POST", "/jobs/enqueue", {"payload": 1, "queue": api.queue, "id": api.full("during")})).status == 200

    await until(accepted, "room is noticed")
    api.acknowledged.add(api.full("during"))


async def test_29_fsync_error(tmp_path: Path, start: Callable[..., Process]) -> None:
    """When a sync fails nothing more is acknowledged, and the server stops by itself, says why, and exits with 3."""
    orders = tmp_path / "orders"
    process = start("--data", str(tmp_path / "jobs.db"), before=disks.boot(orders))
    assert (await call(process.port, "POST", "/jobs/enqueue", {"payload": 1, "id": "before"})).status == 201
    orders.write_text("broken")
    answer = await call(process.port, "POST", "/jobs/enqueue", {"payload": 1, "id": "during"})
    assert (answer.status, answer.code) == (503, "storage_unavailable")
    assert await asyncio.to_thread(process.wait) == 3
    log = process.log()
    assert "stopped, because the storage failed" in log
    assert "Traceback" not in log
    process.clean()
    found = Engine()
    await journal_at(tmp_path / "jobs.db", engine=found).close()
    assert "before" in found.jobs.by_id


async def test_32_slow_disk(tmp_path: Path) -> None:
    """While a commit stands still, reads are answered, changes wait, new jobs are refused beyond a bound, and then all is committed."""
    disk = Disk()
    served = Served(tmp_path / "jobs.db", disk, unwritten_bytes_max=100_000)
    async with served.serving() as api:
        await api.put("before")
        disk.gate.clear()
        waiting: list[asyncio.Task[str]] = [asyncio.create_task(api.put("first"))]
        await until(disk.waiting.is_set, "a commit that stands still")
        full = None
        for number in range(200):
            waiting.append(asyncio.create_task(api.put(f"j{number}", "x" * 5_000)))
            await api.stats()
            if served.journal.unwritten_bytes > 100_000:
                full = await api.call("POST", "/jobs/enqueue", {"payload": 1, "queue": api.queue})
                break
        assert full is not None
        assert (full.status, full.code, full.headers["retry-after"]) == (429, "queue_full", "1")
        assert len(waiting) < 40
        assert not any(task.done() for task in waiting)
        # What is there already may still be worked on: only new jobs are kept out.
        taking = asyncio.create_task(api.take(wait=5.0))
        await api.stats()
        assert not taking.done()
        syncs = disk.syncs
        disk.gate.set()
        await asyncio.gather(*waiting, taking)
        assert disk.syncs - syncs <= 6, "what gathered is committed together"


# The file: 30, 31, 33.


def contents(folder: Path) -> dict[str, str]:
    """What is in a folder, but for the lock and SQLite's index, which are nobody's data, and the empty log that even a reader makes."""
    files = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".lock" and not path.name.endswith("-shm")]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.stat().st_size}


async def fill(path: Path, jobs: int = 60) -> set[str]:
    """Put some jobs into a file, in every status."""
    async with backend_at(path) as backend:
        for number in range(jobs):
            await backend.enqueue(spec(f"j{number}", b'"%d%s"' % (number, b"y" * 300), expires_in=1_000.0 if number % 3 else None))
        for job in await take(backend, limit=jobs // 2):
            assert job.lease is not None
            if job.number % 2:
                await backend.conclude(job.id, job.lease.token, SUCCEEDED)
        await backend.enqueue(spec("later", delay=1_000.0))
        return set(backend.engine.jobs.by_id)


def opened(path: Path) -> Engine | str:
    """What a server would start with, or why it refuses."""
    engine = Engine()
    try:
        journal = journal_at(path, engine=engine)
    except CannotOpen as error:
        return str(error)
    asyncio.run(journal.close())
    return engine


def test_30_corrupt_file(tmp_path: Path) -> None:
    """A file with any bytes flipped is refused with the reason and left as it is, unless they lie where nothing is stored."""
    known = asyncio.run(fill(tmp_path / "jobs.db"))
    whole = (tmp_path / "jobs.db").read_bytes()
    reasons = set()
    luck = Random(30)
    for number in range(150):
        damaged = bytearray(whole)
        for _ in range(luck.choice((1, 1, 8))):
            damaged[luck.randrange(len(damaged))] ^= luck.randrange(1, 256)
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "jobs.db").write_bytes(damaged)
        before = contents(folder)
        found = opened(folder / "jobs.db")
        if isinstance(found, str):
            assert contents(folder) == before
            reasons.add(found.partition(": ")[2][:12])
        else:
            assert set(found.jobs.by_id) == known
            assert all(job.payload.startswith(b'"%d' % (job.number - 1)) for job in found.jobs.by_id.values() if job.id != "later")
        shutil.rmtree(folder)
    assert reasons


async def leave(path: Path, into: tuple[Path, ...]) -> None:
    """Write jobs and leave the files behind as a kill -9 does: as they are at this moment."""
    async with backend_at(path) as backend:
        for number in range(20):
            await backend.enqueue(spec(f"j{number}"))
        for folder in into:
            folder.mkdir()
            for name in ("jobs.db", "jobs.db-shm", "jobs.db-wal"):
                shutil.copy(path.with_name(name), folder / name)


@pytest.mark.parametrize("damage", ["cut", "cut short", "flipped", "header", "gone"])
def test_30_corrupt_log(tmp_path: Path, damage: str) -> None:
    """After a kill -9, a log that lacks what was committed is noticed, and nothing is started on what is left of it."""
    copy, damaged = tmp_path / "copy", tmp_path / "damaged"
    asyncio.run(leave(tmp_path / "jobs.db", (copy, damaged)))
    log = damaged / "jobs.db-wal"
    content = bytearray(log.read_bytes())
    left = opened(copy / "jobs.db")
    assert isinstance(left, Engine)
    assert set(left.jobs.by_id) == {f"j{number}" for number in range(20)}
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "cut short":
        del content[-100:]
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
    elif damage == "header":
        content[5] ^= 1
    if damage == "gone":
        log.unlink()
    else:
        log.write_bytes(content)
    before = contents(damaged)
    for _ in range(3):
        # Whoever starts it again and again is refused again and again.
        found = opened(damaged / "jobs.db")
        assert isinstance(found, str)
        assert "damaged or cut" in found
        assert contents(damaged) == before


async def test_30_an_old_index_is_no_damage(tmp_path: Path) -> None:
    """After a power cut SQLite's index may be older than the log, which has begun anew: nothing is missing, so it starts."""
    served, left = Served(tmp_path / "jobs.db"), tmp_path / "left"
    left.mkdir()
    backend = LocalBackend(engine=served.engine, clock=served.clock, journal=served.journal)
    await backend.enqueue_batch([spec(f"j{number}", b"1" * 2_000) for number in range(100)])
    shutil.copy(tmp_path / "jobs.db-shm", left)
    served.stores[0].checkpoint()
    await backend.enqueue(spec("last"))
    for name in ("jobs.db", "jobs.db-wal"):
        shutil.copy(tmp_path / name, left)
    await backend.close()
    async with backend_at(left / "jobs.db") as again:
        assert set(again.engine.jobs.by_id) == {*(f"j{number}" for number in range(100)), "last"}


@pytest.mark.parametrize("content", [b"a text\n", b"x" * 5_000, b"SQLite format 3\0" + b"?" * 600], ids=["short", "long", "header"])
def test_30_what_is_no_database(tmp_path: Path, content: bytes) -> None:
    """A file that is something else is refused and kept."""
    (tmp_path / "jobs.db").write_bytes(content)
    found = opened(tmp_path / "jobs.db")
    assert isinstance(found, str)
    assert (tmp_path / "jobs.db").read_bytes() == content


def test_30_a_server_says_what_is_wrong(tmp_path: Path) -> None:
    """`jobqueue serve` on such a file exits with 1 and one line that names the file and the reason; `check` says the same."""
    (tmp_path / "jobs.db").write_bytes(b"a text\n")
    for command in (["serve", "--port", "0", "--data", str(tmp_path / "jobs.db")], ["check", str(tmp_path / "jobs.db")]):
        done = subprocess.run(
            [sys.executable, "-m", "jobqueue", *command], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{tmp_path / 'jobs.db'}: is not a database" in done.stderr
        assert done.stderr.count("\n") == 1


def test_31_two_servers(tmp_path: Path, start: Callable[..., Process]) -> None:
    """A second server on the same file refuses at once and says who holds it; when that is gone, however it went, it may."""
    path = tmp_path / "jobs.db"
    first = start("--data", str(path))
    found = opened(path)
    assert isinstance(found, str)
    assert f"in use by another server (process {first.process.pid} on " in found
    first.process.kill()
    first.wait()
    assert isinstance(opened(path), Engine)


def test_33_schema_skew_newer(tmp_path: Path) -> None:
    """A file of a newer version is refused, with both versions named, and kept as it is."""
    asyncio.run(fill(tmp_path / "jobs.db", 3))
    connection = apsw.Connection(str(tmp_path / "jobs.db"))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = contents(tmp_path)
    found = opened(tmp_path / "jobs.db")
    assert isinstance(found, str)
    assert f"has version 99, this server knows up to {len(sqlite.MIGRATIONS)}" in found
    assert contents(tmp_path) == before


def test_33_schema_skew_older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of an older version is brought forward, step by step, and keeps its jobs; when a step fails it stays as it was."""
    known = asyncio.run(fill(tmp_path / "jobs.db", 5))
    released = sqlite.MIGRATIONS
    before = contents(tmp_path)

    def first(connection: apsw.Connection) -> None:
        connection.execute("CREATE TABLE marks (version INTEGER); INSERT INTO marks VALUES (2)")

    def broken(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO no_such_table VALUES (1)")

    monkeypatch.setattr(sqlite, "MIGRATIONS", (*released, first, broken))
    found = opened(tmp_path / "jobs.db")
    assert isinstance(found, str)
    assert "no_such_table" in found
    assert contents(tmp_path) == before
    monkeypatch.setattr(sqlite, "MIGRATIONS", (*released, first, lambda connection: connection.execute("INSERT INTO marks VALUES (3)")))
    with pytest.raises(CannotOpen, match="older version"):
        check(str(tmp_path / "jobs.db"))
    migrated = opened(tmp_path / "jobs.db")
    assert isinstance(migrated, Engine)
    assert set(migrated.jobs.by_id) == known
    connection = apsw.Connection(str(tmp_path / "jobs.db"))
    assert connection.execute("SELECT version FROM marks").fetchall() == [(2,), (3,)]
    assert connection.execute("PRAGMA user_version").fetchall() == [(len(released) + 2,)]
    connection.close()
