"""A data file of version 1, made by the server of before keys and limits (c6fff8c), and what this one makes of it.

version-1.json is what that server knew when it closed the file: jobs of every status and outcome, a lease, policies, history, order.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from jobqueue.backend.base import Conclude
from jobqueue.backend.group import Group
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.sqlite import file as sqlite
from jobqueue.backend.sqlite.open import open_journal
from jobqueue.backend.store.filling import copy, fill
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine
from jobqueue.model import Job, JobSpec, Outcome, PerKey, QueuePolicy, Verdict, Want
from jobqueue.process.durable import backup, check
from tests.backend.store.memory import MemoryStore, Shared
from tests.engine.invariants import invariants

HERE = Path(__file__).parent
KNOWN: dict[str, Any] = json.loads((HERE / "version-1.json").read_text())
CLOSED_AFTER = 2.0
"""How much later than a new ManualClock's the time of the file is."""

DONE = Verdict(outcome=Outcome.SUCCEEDED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file, to do with as one likes."""
    made = tmp_path / "jobs.db"
    made.write_bytes(gzip.decompress((HERE / "version-1.db.gz").read_bytes()))
    made.chmod(0o600)
    return made


def version(path: Path) -> int:
    """Which version a file has."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    ((found,),) = connection.execute("PRAGMA user_version").fetchall()
    connection.close()
    return int(found)


def rows(path: Path) -> list[tuple[Any, ...]]:
    """All that stands in a file, but for the counters, which every commit writes."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    found = [row for table in ("jobs", "payloads", "queues") for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()]
    connection.close()
    return found


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[LocalBackend]:
    """This server on a file."""
    clock = ManualClock()
    clock.advance(CLOSED_AFTER)
    engine = Engine()
    backend = LocalBackend(engine=engine, clock=clock, journal=open_journal(str(path), engine, clock, sync="off"))
    backend.resume()
    try:
        yield backend
    finally:
        await backend.close()


async def take(backend: LocalBackend, **fields: Any) -> list[Job]:
    """What a dequeue takes that does not wait."""
    taking = backend.dequeue(Want(**fields), 0)
    async with taking as jobs:
        taking.delivered()
    return jobs


def plain(value: object) -> Any:
    """Something as it stands in version-1.json."""
    return json.loads(msgspec.json.encode(value))


def told(new: Any, old: Any) -> Any:
    """What is new of something, as far as the old server knew of such a thing; times as they are."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {name: told(new[name], old[name]) for name in old}
    return new


def test_the_file_has_one_of_each() -> None:
    """Jobs of every status and every outcome are in it."""
    statuses = {(job["status"], (job["hold"] or {}).get("outcome")) for job in KNOWN["jobs"].values()}
    ended = {("concluded", outcome) for outcome in ("succeeded", "failed", "cancelled", "expired")}
    assert statuses == {("scheduled", None), ("queued", None), ("in_progress", None)} | ended


async def test_this_server_goes_on_with_it(path: Path) -> None:
    """What it makes of the file is what the old server knew; nothing has a key, holds or halts."""
    before = rows(path)
    assert version(path) == 1
    async with served(path) as backend:
        engine = backend.engine
        invariants(engine)
        jobs = {job.id: plain(job) for job in engine.jobs.by_id.values()}
        assert {name: told(jobs[name], old) for name, old in KNOWN["jobs"].items()} == KNOWN["jobs"]
        assert len(jobs) == len(KNOWN["jobs"])
        assert {(job.key, job.details.holds) for job in engine.jobs.by_id.values()} == {(None, False)}
        queues = {name: {"stats": plain(queue.stats()), "order": [job.id for job in queue.jobs()]} for name, queue in engine.queues.items()}
        assert {name: told(queues[name], old) for name, old in KNOWN["queues"].items()} == KNOWN["queues"]
        assert {outcome.value: [job.id for job in engine.history.jobs(outcome)] for outcome in Outcome} == KNOWN["history"]
        assert engine.jobs.next_number == KNOWN["next"]
    assert version(path) == 2
    assert rows(path) == before, "bringing it forward changes no row"


async def test_it_is_served(path: Path) -> None:
    """Its leases are concluded, its queues hand out in order, and keys are kept in it from then on, over another start."""
    lease = KNOWN["jobs"]["leased"]["hold"]["token"]
    async with served(path) as backend:
        (replayed,) = await take(backend, worker="w3", attempt_id="attempt", who="token")
        assert replayed.id == "leased"
        (ended,) = await backend.conclude_batch([Conclude("leased", lease, DONE)])
        assert isinstance(ended, Job)
        assert [job.id for job in await take(backend, limit=9)] == KNOWN["queues"]["default"]["order"]
        await backend.put_policy("mail", QueuePolicy(per_key=PerKey(order="fifo")))
        for name in ("a1", "a2"):
            await backend.enqueue(JobSpec(payload=b"1", id=name, queue="mail", key="a"))
        await asyncio.sleep(0)
    async with served(path) as backend:
        assert [job.id for job in await take(backend, queues=("mail",))] == ["a1"]
        assert await take(backend, queues=("mail",)) == []


async def test_it_is_read_as_it_is(path: Path, tmp_path: Path) -> None:
    """`check`, `backup` and `restore` read a file of version 1, and leave it one; so they do one of version 2."""
    for number in (1, 2):
        assert version(path) == number
        assert f"{len(KNOWN['jobs'])} jobs" in check(str(path))
        copied = tmp_path / f"copy-{number}.db"
        backup(str(path), str(copied))
        assert version(copied) == number
        assert rows(copied) == rows(path)
        store, file = MemoryStore(Shared(ManualClock())), sqlite.Store.read_only(str(path))
        await store.open()
        try:
            await fill(store, file, lambda _done, _total: None)
        finally:
            file.close(tidy=False)
        found: list[Group] = []
        assert await copy(store, found.append) == len(KNOWN["jobs"])
        await store.close()
        assert version(path) == number
        async with served(path):
            pass


async def test_a_server_of_before_refuses_what_this_one_had(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that knows version 1 alone says so and changes nothing, whether any job has a key by then or not."""
    async with served(path):
        pass
    before = rows(path)
    monkeypatch.setattr(sqlite, "MIGRATIONS", sqlite.MIGRATIONS[:1])
    with pytest.raises(CannotOpen, match="has version 2, this server knows up to 1; it was used by a newer jobqueue"):
        async with served(path):
            pass
    assert rows(path) == before
