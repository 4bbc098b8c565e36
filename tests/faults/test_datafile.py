"""Faults 30, 31 and 33: a file that is damaged, in use, or of another version."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import apsw
import pytest

from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.sqlite import file as sqlite
from jobqueue.backend.sqlite import wal
from jobqueue.engine.engine import Engine
from jobqueue.process.durable import backup, check

from .datafile import SUCCEEDED, Served, backend_at, journal_at, spec, take
from .process import Process
from .wire import PATIENCE_SECONDS


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
            assert all(job.payload.startswith(b'"%d' % (job.number - 1)) for job in found.jobs.all() if job.id != "later")
        shutil.rmtree(folder)
    assert reasons


def test_30_a_corrupt_file_whose_faults_are_no_text(tmp_path: Path) -> None:
    """A file that names its fault in bytes that are not UTF-8 is refused like any other."""
    path = tmp_path / "jobs.db"
    asyncio.run(fill(path))
    was, free = b"state BLOB NOT NULL", b"state BLOB         "
    path.write_bytes(path.read_bytes().replace(was, free))
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE jobs SET state = NULL")
    connection.close()
    path.write_bytes(path.read_bytes().replace(free, b"\xf7" + was[1:]))
    found = opened(path)
    assert isinstance(found, str)
    assert "is damaged" in found


async def leave(path: Path, into: tuple[Path, ...]) -> None:
    """Write jobs and leave the files behind as a kill -9 does: as they are at this moment."""
    async with backend_at(path) as backend:
        for number in range(20):
            await backend.enqueue(spec(f"j{number}"))
        for folder in into:
            folder.mkdir()
            for name in ("jobs.db", "jobs.db-shm", "jobs.db-wal"):
                shutil.copy(path.with_name(name), folder / name)


def pages(log: Path) -> bytes:
    """The pages of a log, without the room behind them."""
    return log.read_bytes().rstrip(b"\0")


def cut_in_half(log: Path) -> None:
    log.write_bytes(pages(log)[: len(pages(log)) // 2])


@pytest.mark.parametrize("damage", ["cut", "cut short", "zeroed", "flipped", "header", "gone"])
def test_30_corrupt_log(tmp_path: Path, damage: str) -> None:
    """After a kill -9, a log that lacks what was committed is noticed, and nothing is started on what is left of it."""
    copy, damaged = tmp_path / "copy", tmp_path / "damaged"
    asyncio.run(leave(tmp_path / "jobs.db", (copy, damaged)))
    log = damaged / "jobs.db-wal"
    content = bytearray(pages(log))
    left = opened(copy / "jobs.db")
    assert isinstance(left, Engine)
    assert set(left.jobs.by_id) == {f"j{number}" for number in range(20)}
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "cut short":
        del content[-100:]
    elif damage == "zeroed":
        # As if all behind it were room.
        content[len(content) // 2 :] = bytes(1 << 20)
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


@pytest.mark.parametrize("look", ["check", "backup"])
def test_30_a_look_finds_a_cut_log_and_hides_nothing(tmp_path: Path, look: str) -> None:
    """`check` and `backup` find it too, and whoever starts a server afterwards is refused all the same."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    asyncio.run(leave(tmp_path / "jobs.db", (whole, cut)))
    cut_in_half(cut / "jobs.db-wal")
    looks = {"check": check, "backup": lambda path: backup(path, str(tmp_path / "copy.db"))}
    assert str(looks[look](str(whole / "jobs.db"))).startswith("20 jobs")
    (tmp_path / "copy.db").unlink(missing_ok=True)
    for _ in range(2):
        with pytest.raises(CannotOpen, match="damaged or cut"):
            looks[look](str(cut / "jobs.db"))
    assert not list(tmp_path.glob("copy*"))
    found = opened(cut / "jobs.db")
    assert isinstance(found, str)
    assert "damaged or cut" in found
    assert isinstance(opened(whole / "jobs.db"), Engine)


def test_30_what_the_look_at_the_index_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it SQLite starts on what is left of a cut log and says nothing: half of what was acknowledged is gone."""
    cut = tmp_path / "cut"
    asyncio.run(leave(tmp_path / "jobs.db", (cut,)))
    cut_in_half(cut / "jobs.db-wal")
    assert isinstance(opened(cut / "jobs.db"), str)
    monkeypatch.setattr(wal, "_frames", lambda _index, _log: 0)
    found = opened(cut / "jobs.db")
    assert isinstance(found, Engine)
    assert 0 < len(found.jobs.by_id) < 15


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
    monkeypatch.setattr(sqlite, "READ_FROM", len(released) + 1)
    with pytest.raises(CannotOpen, match="older version"):
        check(str(tmp_path / "jobs.db"))
    migrated = opened(tmp_path / "jobs.db")
    assert isinstance(migrated, Engine)
    assert set(migrated.jobs.by_id) == known
    connection = apsw.Connection(str(tmp_path / "jobs.db"))
    assert connection.execute("SELECT version FROM marks").fetchall() == [(2,), (3,)]
    assert connection.execute("PRAGMA user_version").fetchall() == [(len(released) + 2,)]
    connection.close()


def test_30_a_damaged_name(tmp_path: Path) -> None:
    """A queue's name that is no text any more is damage like any other."""
    asyncio.run(fill(tmp_path / "jobs.db", 2))
    connection = apsw.Connection(str(tmp_path / "jobs.db"))
    connection.execute("UPDATE queues SET name = CAST(x'ff64' AS TEXT)")
    connection.close()
    found = opened(tmp_path / "jobs.db")
    assert isinstance(found, str)
    assert str(tmp_path / "jobs.db") in found
