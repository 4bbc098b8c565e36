"""Data files of older versions, and what this server makes of them. Version 1 was made by the server of before keys and limits (c6fff8c),
version 2 by that of before tags, dead letters and what came with them (bcb485f), version 3 by that of before headers, a queue's expiry and
what came with them (7858156).

version-1.json is what that server knew when it closed the file: jobs of every status and outcome, a lease, policies, history, order;
version-2.json has beside that keys that are halted, held and paused, limits and weights; version-3.json a dead letter, tags, unique keys,
dependencies, a group, a log, a quiet worker, a schedule.
"""

from __future__ import annotations

import asyncio
import copy
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
from jobqueue.backend.store.filling import copy as copy_store
from jobqueue.backend.store.filling import fill
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine
from jobqueue.model import NOTHING, Job, JobSpec, Outcome, Verdict, Want
from jobqueue.policy import PerKey, QueuePolicy
from jobqueue.process.durable import backup, check
from tests.backend.store.memory import MemoryStore, Shared
from tests.engine.invariants import invariants
from tests.moving import contents

HERE = Path(__file__).parent
VERSIONS: dict[int, dict[str, Any]] = {number: json.loads((HERE / f"version-{number}.json").read_text()) for number in (1, 2, 3)}
KNOWN = VERSIONS[1]
NEWEST = 4
CLOSED_AFTER = 2.0
"""How much later than a new ManualClock's the time of the file is."""

DONE = Verdict(outcome=Outcome.SUCCEEDED)


def copy_of(number: int, folder: Path) -> Path:
    """A file of that version, to do with as one likes."""
    made = folder / "jobs.db"
    made.write_bytes(gzip.decompress((HERE / f"version-{number}.db.gz").read_bytes()))
    made.chmod(0o600)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of version 1."""
    return copy_of(1, tmp_path)


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
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [told(*both) for both in zip(new, old, strict=True)]
    return new


def test_the_file_has_one_of_each() -> None:
    """Jobs of every status and every outcome are in it."""
    statuses = {(job["status"], (job["hold"] or {}).get("outcome")) for job in KNOWN["jobs"].values()}
    ended = {("concluded", outcome) for outcome in ("succeeded", "failed", "cancelled", "expired")}
    assert statuses == {("scheduled", None), ("queued", None), ("in_progress", None)} | ended


@pytest.mark.parametrize("number", VERSIONS)
async def test_this_server_goes_on_with_it(number: int, tmp_path: Path) -> None:
    """What it makes of the file is what the old server knew, and has nothing of what that did not know."""
    path, known = copy_of(number, tmp_path), copy.deepcopy(VERSIONS[number])
    before = rows(path)
    assert version(path) == number
    async with served(path) as backend:
        engine = backend.engine
        invariants(engine)
        jobs = {job.id: plain(job) for job in engine.jobs.all()}
        assert {name: told(jobs[name], old) for name, old in known["jobs"].items()} == known["jobs"]
        assert len(jobs) == len(known["jobs"])
        assert number > 2 or {job.details.extra for job in engine.jobs.all()} == {NOTHING}
        assert {job.headers for job in engine.jobs.all()} == {()}
        queues = {name: {"stats": plain(queue.stats()), "order": [job.id for job in queue.jobs()]} for name, queue in engine.queues.items()}
        for name, old in known["queues"].items():
            if queues[name]["stats"]["policy"]["rate"] is not None:
                # What was handed out before is not stored: every rate begins anew.
                for field in ("held", "held_by", "rate_next_at"):
                    del old["stats"][field]
            assert told(queues[name], old) == old
        assert {outcome.value: [job.id for job in engine.history.jobs(outcome)] for outcome in Outcome} == known["history"]
        assert engine.jobs.next_number == known["next"]
        told_of_others(engine, known)
    assert version(path) == NEWEST
    assert rows(path) == before, "bringing it forward changes no row"


def told_of_others(engine: Engine, known: dict[str, Any]) -> None:
    """What is no job and no queue is as the old server knew it too, if it knew of such a thing."""
    assert sorted(job.id for job in engine.kept) == known.get("kept", [])
    assert list(engine.quiet) == known.get("quiet", [])
    for name, old in known.get("schedules", {}).items():
        assert told(plain(engine.schedules.stats(engine.schedules.table(name))), old) == old
    for name, old in known.get("groups", {}).items():
        assert told(plain(engine.groups.stats(engine.groups.group(name))), old) == old
    for name, old in known.get("logs", {}).items():
        assert plain(engine.logs.state(engine.job(name).number)) == old


def test_what_has_no_key_has_none() -> None:
    """The jobs of version 1 were of before keys."""
    assert all({"key", "holds"}.isdisjoint(job["details"]) for job in KNOWN["jobs"].values())


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


@pytest.mark.parametrize("first", VERSIONS)
async def test_it_is_read_as_it_is(first: int, tmp_path: Path) -> None:
    """`check`, `backup` and `restore` read a file of an older version, and leave it one; so they do one of the newest."""
    path, known = copy_of(first, tmp_path), VERSIONS[first]
    for number in (first, NEWEST):
        assert version(path) == number
        assert f"{len(known['jobs'])} jobs" in check(str(path)).held
        copied = tmp_path / f"copy-{number}.db"
        backup(str(path), str(copied))
        assert version(copied) == number
        assert rows(copied) == rows(path)
        store, file = MemoryStore(Shared(ManualClock())), sqlite.Store.read_only(str(path))
        await store.open()
        try:
            await fill([store], [file], contents(file))
        finally:
            file.close(tidy=False)
        found: list[Group] = []
        assert await copy_store(store, found.append) == len(known["jobs"])
        await store.close()
        assert version(path) == number
        async with served(path):
            pass


@pytest.mark.parametrize("number", VERSIONS)
async def test_a_server_of_before_refuses_what_this_one_had(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that knows an older version says so and changes nothing, whether anything in it is new or not."""
    path = copy_of(number, tmp_path)
    async with served(path):
        pass
    before = rows(path)
    monkeypatch.setattr(sqlite, "MIGRATIONS", sqlite.MIGRATIONS[:number])
    with pytest.raises(CannotOpen, match=f"has version {NEWEST}, this server knows up to {number}; it was used by a newer jobqueue"):
        async with served(path):
            pass
    assert rows(path) == before
