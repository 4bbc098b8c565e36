"""Faults 26 to 29 and 32: what happens to the process, the machine and the disk, and what is left of the jobs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.local import LocalBackend
from jobqueue.engine.engine import Engine
from jobqueue.errors import StorageUnavailable
from jobqueue.limits import Limits
from jobqueue.model import Outcome

from . import disks
from .datafile import SUCCEEDED, Served, backend_at, journal_at, spec, take
from .disks import Disk
from .kills import kill
from .ledger import Api
from .process import Process
from .wire import PATIENCE_SECONDS, call, until

KILLS, KILLS_LONG = 4, 40
CUTS = 12


@pytest.mark.parametrize("rounds", [KILLS, pytest.param(KILLS_LONG, marks=pytest.mark.long)])
async def test_26_kill_9(tmp_path: Path, rounds: int) -> None:
    """A server killed again and again loses nothing that it acknowledged, and leases outlive it."""
    api = await kill(rounds, seed=26, folder=tmp_path)
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
        # Before that a cut takes nothing that anybody was told of.
        await until(lambda: books.enqueued, "something is acknowledged")
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
    answer = await api.call("POST", "/jobs/enqueue", {"payload": 1, "queue": api.queue, "id": api.full("during")})
    assert (answer.status, answer.json["unconfirmed"]) == (503, True)
    answer = await api.call("POST", "/jobs/enqueue", {"payload": 1, "queue": api.queue, "id": api.full("after")})
    assert (answer.status, "unconfirmed" in answer.json) == (503, False)
    assert (await api.job("before"))["status"] == "queued"
    await process.said("changes cannot be stored")
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


async def test_29_a_sync_error_between_commits(tmp_path: Path) -> None:
    """Where commits are not synced each, a sync that fails afterwards stops the server too: what was acknowledged since may be gone."""
    disk = Disk()
    async with backend_at(tmp_path / "jobs.db", sync="interval", vfs=disk.name) as backend:
        assert isinstance(backend.journal, GroupJournal)
        # The first commit syncs the beginning of the log, whatever the mode.
        await backend.enqueue(spec("i"))
        disk.broken = True
        with contextlib.suppress(StorageUnavailable):
            await backend.enqueue(spec("j"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert "the disk did not sync" in await backend.journal.failed()
        with pytest.raises(StorageUnavailable):
            await backend.enqueue(spec("k"))
        disk.broken = False


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
