"""The SQLite journal: what goes into which commit, who is told what when one fails, and how a server starts and stops."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobqueue.backend.base import Conclude, Extend
from jobqueue.backend.group import Fatal, Finished, Group, NotNow
from jobqueue.backend.group_journal import RETRY_SECONDS, GroupJournal
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.sqlite.file import Store
from jobqueue.backend.sqlite.open import open_journal
from jobqueue.clock import ManualClock, Uptime
from jobqueue.engine.engine import Engine
from jobqueue.errors import QueueFull, StorageUnavailable, Unconfirmed
from jobqueue.limits import Limits
from jobqueue.model import Job, JobSpec, Outcome, Status, Verdict, Want
from jobqueue.policy import QueuePolicy

SUCCEEDED = Verdict(outcome=Outcome.SUCCEEDED)


class HandWriter:
    """A writer that commits when it is told to, into a real file."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.groups: list[Group] = []
        self._finished: Finished | None = None

    @property
    def busy(self) -> bool:
        return self._finished is not None

    def write(self, group: Group, finished: Finished) -> None:
        assert self._finished is None, "one group at a time"
        self.groups.append(group)
        self._finished = finished

    def commit(self, error: Exception | None = None) -> None:
        """Commit the group, or fail as told."""
        finished, self._finished = self._finished, None
        assert finished is not None
        if error is None:
            self.store.write(self.groups[-1])
        finished(error)

    async def close(self, tidy: bool) -> None:
        self.store.close(tidy)


class Durable:
    """A backend on a file, its commits by hand."""

    def __init__(self, path: Path, clock: ManualClock | None = None, **limits: Any) -> None:
        self.path, self.clock, self.limits = path, clock or ManualClock(), limits
        engine = Engine(Limits(**limits))

        def writer(store: Store, journal: GroupJournal) -> HandWriter:
            self.writer = HandWriter(store)
            return self.writer

        self.journal = open_journal(str(path), engine, self.clock, writer=writer)
        self.backend = LocalBackend(engine=engine, clock=self.clock, journal=self.journal)
        self.backend.resume()

    async def start(self, operation: Any) -> asyncio.Task[Any]:
        """Run an operation to where it waits."""
        task = asyncio.ensure_future(operation)
        await turns()
        return task

    async def done(self, operation: Any) -> Any:
        """Run an operation, committing whatever is to be committed."""
        task = await self.start(operation)
        await self.settle()
        return await task

    async def settle(self) -> None:
        """Commit until nothing waits."""
        while self.writer.busy:
            self.writer.commit()
            await turns()

    async def take(self) -> list[Job]:
        taking = self.backend.dequeue(Want(), 0)
        async with taking as jobs:
            taking.delivered()
        return jobs

    def copy(self) -> Path:
        """Its files as a kill -9 leaves them at this moment; the path of the copy."""
        folder = self.path.parent / "copy"
        folder.mkdir()
        for file in self.path.parent.glob("jobs.db*"):
            shutil.copy(file, folder)
        return folder / self.path.name

    async def restart(self, clock: ManualClock | None = None) -> Durable:
        """Stop, and start again on the same file."""
        await self.done(self.backend.close())
        return Durable(self.path, clock or self.clock, **self.limits)


def spec(job_id: str, **fields: Any) -> JobSpec:
    return JobSpec(**{"payload": b"1", "id": job_id, **fields})


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def durable(tmp_path: Path) -> Durable:
    return Durable(tmp_path / "jobs.db")


async def end(durable: Durable) -> None:
    await durable.done(durable.backend.close())


async def test_what_comes_during_a_commit_goes_into_the_next(durable: Durable) -> None:
    """Changes of one turn of the loop share a commit; those that come while it runs share the next; each waits for its own."""
    first = [await durable.start(durable.backend.enqueue(spec("a")))]
    later = [asyncio.ensure_future(durable.backend.enqueue(spec(f"b{n}"))) for n in range(50)]
    await turns()
    assert len(durable.writer.groups) == 1
    assert not any(task.done() for task in first + later)
    durable.writer.commit()
    await turns()
    assert first[0].done()
    assert not any(task.done() for task in later)
    assert [len(group.states) for group in durable.writer.groups] == [1, 50]
    durable.writer.commit()
    await asyncio.gather(*later)
    await end(durable)


async def test_a_job_that_changes_often_is_one_row(durable: Durable) -> None:
    """A job that is enqueued, taken and concluded while the disk is busy is written once, as it is then."""
    blocker = await durable.start(durable.backend.enqueue(spec("blocker", queue="other")))
    enqueue = await durable.start(durable.backend.enqueue(spec("j")))
    dequeue = await durable.start(durable.take())
    job = durable.backend.engine.jobs.found("j")
    assert job.lease is not None
    conclude = await durable.start(durable.backend.conclude("j", job.lease.token, Verdict(outcome=Outcome.SUCCEEDED)))
    durable.writer.commit()
    await turns()
    assert list(durable.writer.groups[1].states) == [job.number]
    await durable.settle()
    await asyncio.gather(blocker, enqueue, dequeue, conclude)
    again = await durable.restart()
    assert (await again.backend.job("j")).outcome is Outcome.SUCCEEDED
    await end(again)


async def test_a_hand_out_is_in_the_commit_of_what_caused_it(durable: Durable) -> None:
    """A job enqueued for a waiter is never stored without its lease: both are in one group."""
    waiter = await durable.start(durable.backend.dequeue(Want(), 60).__aenter__())
    enqueue = await durable.start(durable.backend.enqueue(spec("j")))
    (group,) = durable.writer.groups
    durable.writer.store.write(group)
    assert not waiter.done()
    durable.writer.commit()
    await asyncio.gather(waiter, enqueue)
    again = await durable.restart()
    assert (await again.backend.job("j")).status is Status.IN_PROGRESS
    await end(again)


async def test_a_failed_commit_is_made_good(durable: Durable) -> None:
    """With no room the caller is told 503, others too and before anything changes; then what waited is committed with what came since."""
    task = await durable.start(durable.backend.enqueue(spec("a")))
    later = await durable.start(durable.backend.enqueue(spec("b", delay=5.0)))
    durable.writer.commit(NotNow("no room"))
    for refused in (task, later):
        with pytest.raises(Unconfirmed, match="no room"):
            await refused
    for operation in (
        durable.backend.enqueue(spec("c")),
        durable.backend.enqueue_batch([spec("c")]),
        durable.backend.conclude("a", "t", Verdict(outcome=Outcome.SUCCEEDED)),
        durable.backend.release("a", "t", 0),
        durable.backend.cancel("a"),
        durable.backend.put_policy("q", QueuePolicy()),
        durable.backend.purge("default"),
        durable.take(),
    ):
        with pytest.raises(StorageUnavailable, match="no room") as told:
            await operation
        assert not isinstance(told.value, Unconfirmed)
    assert set(durable.backend.engine.jobs.by_id) == {"a", "b"}
    assert (await durable.backend.job("a")).status is Status.QUEUED
    # Time goes on: b falls due, which is a change that nobody asked for. Then the commit is tried again, by itself.
    durable.clock.advance(0.9 * RETRY_SECONDS)
    assert not durable.writer.busy
    durable.clock.advance(0.1 * RETRY_SECONDS)
    durable.writer.commit(NotNow("still no room"))
    durable.clock.advance(5)
    assert [len(group.states) for group in durable.writer.groups] == [1, 2, 2]
    await durable.settle()
    assert not (await durable.done(durable.backend.enqueue(spec("a")))).created
    again = await durable.restart()
    assert {job.id: job.status for job in again.backend.engine.jobs.all()} == {"a": Status.QUEUED, "b": Status.QUEUED}
    await end(again)


async def test_a_job_whose_lease_could_not_be_stored_is_put_back(durable: Durable) -> None:
    """A dequeue whose commit fails has changed nothing: the job is in its place again, on the disk too when there is room."""
    await durable.done(durable.backend.enqueue(spec("j")))
    task = await durable.start(durable.take())
    durable.writer.commit(NotNow("no room"))
    with pytest.raises(StorageUnavailable, match="nothing is handed out") as told:
        await task
    assert not isinstance(told.value, Unconfirmed)
    durable.clock.advance(RETRY_SECONDS)
    await durable.settle()
    again = await durable.restart()
    job = await again.backend.job("j")
    assert (job.status, job.attempts) == (Status.QUEUED, 0)
    await end(again)


async def test_a_change_that_may_have_been_made_says_so(durable: Durable) -> None:
    """Whatever changes something, and was made when its commit failed, is told Unconfirmed; each is stored when there is room again."""
    backend = durable.backend
    for name in ("extended", "released", "concluded"):
        await durable.done(backend.enqueue(spec(name)))
    tokens = {job.id: job.lease.token for job in [job for _ in range(3) for job in await durable.done(durable.take())] if job.lease}
    for name in ("cancelled", "purged"):
        await durable.done(backend.enqueue(spec(name, queue=name)))
    ended = await durable.start(backend.enqueue(spec("failed", queue="failed")))
    await durable.settle()
    await durable.done(backend.cancel((await ended).job.id))
    blocker = await durable.start(backend.enqueue(spec("blocker", queue="other")))
    waited = await durable.start(backend.job("concluded", wait=60))
    changes = [
        await durable.start(operation)
        for operation in (
            backend.enqueue(spec("new", queue="new")),
            backend.enqueue_batch([spec("batch", queue="new")]),
            backend.extend(Extend("extended", tokens["extended"], 900.0)),
            backend.extend_batch([Extend("extended", tokens["extended"], 900.0)]),
            backend.release("released", tokens["released"], 100.0),
            backend.conclude("concluded", tokens["concluded"], SUCCEEDED),
            backend.conclude_batch([Conclude("concluded", tokens["concluded"], SUCCEEDED)]),
            backend.cancel("cancelled"),
            backend.retry("failed"),
            backend.put_policy("made", QueuePolicy()),
            backend.set_paused("new", True),
            backend.purge("purged"),
        )
    ]
    durable.writer.commit(NotNow("no room"))
    await turns()
    for change in (blocker, *changes):
        assert isinstance(change.exception(), Unconfirmed), change
    # A look changes nothing, so there is nothing to confirm: it only cannot be shown.
    assert type(waited.exception()) is StorageUnavailable
    durable.clock.advance(RETRY_SECONDS)
    await durable.settle()
    again = await durable.restart()
    found = {job.id: job.status for job in again.backend.engine.jobs.all()}
    assert found["new"] is found["batch"] is found["failed"] is Status.QUEUED
    assert found["concluded"] is found["cancelled"] is found["purged"] is Status.CONCLUDED
    assert found["released"] is Status.SCHEDULED
    assert "made" in again.backend.engine.queues
    await end(again)


async def test_after_a_sync_error_nothing_is_acknowledged(durable: Durable) -> None:
    """When the disk cannot be trusted `failed` returns the reason, every caller is told 503, and nothing is written any more."""
    await durable.done(durable.backend.enqueue(spec("before")))
    failed = await durable.start(durable.journal.failed())
    task = await durable.start(durable.backend.enqueue(spec("a")))
    later = await durable.start(durable.backend.enqueue(spec("b")))
    durable.writer.commit(Fatal("it did not sync"))
    for refused in (task, later):
        with pytest.raises(StorageUnavailable, match="it did not sync"):
            await refused
    assert await failed == "it did not sync"
    with pytest.raises(StorageUnavailable):
        await durable.backend.enqueue(spec("c"))
    durable.clock.advance(100)
    assert not durable.writer.busy
    await durable.backend.close()
    again = Durable(durable.path)
    assert list(again.backend.engine.jobs.by_id) == ["before"]
    await end(again)


async def test_new_jobs_wait_outside_when_the_disk_lags(tmp_path: Path) -> None:
    """Beyond the bound an enqueue is refused and changes nothing; what is there already can be worked on."""
    durable = Durable(tmp_path / "jobs.db", unwritten_bytes_max=5_500)
    for name in ("worked on", "released", "old"):
        await durable.done(durable.backend.enqueue(spec(name)))
    worked_on, released = (await durable.done(durable.take()))[0], (await durable.done(durable.take()))[0]
    assert worked_on.lease is not None
    assert released.lease is not None
    tasks = [await durable.start(durable.backend.enqueue(spec(f"j{n}", payload=b"1" * 2_000))) for n in range(3)]
    for refused in (durable.backend.enqueue(spec("more")), durable.backend.enqueue_batch([spec("more")])):
        with pytest.raises(QueueFull, match="the disk is too slow"):
            await refused
    assert "more" not in durable.backend.engine.jobs.by_id
    handed_in = [
        durable.backend.extend(Extend(worked_on.id, worked_on.lease.token)),
        durable.backend.conclude(worked_on.id, worked_on.lease.token, SUCCEEDED),
        durable.backend.release(released.id, released.lease.token, 60.0),
    ]
    tasks += [await durable.start(operation) for operation in (durable.take(), *handed_in)]
    await durable.settle()
    await asyncio.gather(*tasks)
    assert (await durable.done(durable.backend.enqueue(spec("more")))).created
    assert durable.journal.unwritten_bytes == 0
    await end(durable)


async def test_closing_commits_what_waits(durable: Durable) -> None:
    """A server that stops writes everything first, and answers whoever waits for it."""
    tasks = [await durable.start(durable.backend.enqueue(spec(f"j{n}"))) for n in range(3)]
    await end(durable)
    assert all(reply.created for reply in await asyncio.gather(*tasks))
    again = Durable(durable.path)
    assert len(again.backend.engine.jobs.by_id) == 3
    await end(again)


async def test_closing_without_room_ends_and_says_so(durable: Durable, caplog: pytest.LogCaptureFixture) -> None:
    """A server that stops with a full disk tries once more, then stops; what is lost was never acknowledged."""
    task = await durable.start(durable.backend.enqueue(spec("j")))
    durable.writer.commit(NotNow("no room"))
    with pytest.raises(StorageUnavailable):
        await task
    closing = await durable.start(durable.backend.close())
    with caplog.at_level(logging.ERROR):
        durable.writer.commit(NotNow("no room"))
        await closing
    assert "closing without having stored everything" in caplog.text
    again = Durable(durable.path)
    assert not again.backend.engine.jobs.by_id
    await end(again)


async def test_a_cancelled_caller_takes_nobody_with_it(durable: Durable) -> None:
    """A caller that gives up waiting leaves the others waiting, and its change is committed all the same."""
    gone = await durable.start(durable.backend.enqueue(spec("gone")))
    stays = await durable.start(durable.backend.enqueue(spec("stays")))
    gone.cancel()
    await turns()
    assert not stays.done()
    await durable.settle()
    assert (await stays).created
    again = await durable.restart()
    assert set(again.backend.engine.jobs.by_id) == {"gone", "stays"}
    await end(again)


# Time.


async def test_leases_and_delays_go_on_after_a_restart(durable: Durable) -> None:
    """A lease and a delay end when they were to end, though the server was away in between."""
    await durable.done(durable.backend.enqueue(spec("leased", lease_seconds=100.0)))
    await durable.done(durable.take())
    await durable.done(durable.backend.enqueue(spec("later", delay=100.0)))
    again = await durable.restart(ManualClock(durable.clock.now() + 60))
    again.clock.advance(39)
    assert {(await again.backend.job(name)).status for name in ("leased", "later")} == {Status.IN_PROGRESS, Status.SCHEDULED}
    again.clock.advance(1)
    assert {(await again.backend.job(name)).status for name in ("leased", "later")} == {Status.QUEUED}
    await end(again)


async def test_a_lease_that_ended_while_the_server_was_away_is_held_a_little(durable: Durable) -> None:
    """Its worker may have tried to extend it: it has ten seconds to try again, then the job is another's."""
    await durable.done(durable.backend.enqueue(spec("j", lease_seconds=100.0)))
    (job,) = await durable.done(durable.take())
    again = await durable.restart(ManualClock(durable.clock.now() + 1_000))
    again.clock.advance(9)
    assert (await again.backend.job("j")).lease.token == job.lease.token  # type: ignore[union-attr]
    again.clock.advance(2)
    assert (await again.backend.job("j")).status is Status.QUEUED
    await end(again)


@pytest.mark.parametrize("step", [86_400.0, -86_400.0])
async def test_a_step_of_the_wall_clock_moves_nothing_over_a_restart(durable: Durable, step: float) -> None:
    """A delay of 100 s set before the wall clock was stepped by a day ends 100 s later, over restarts, stored anew or not."""
    await durable.done(durable.backend.enqueue(spec("j", delay=100.0)))
    durable.clock.step_wall_clock(step)
    # As a new process: its clock is anchored to what the wall clock shows now, a minute later.
    again = await durable.restart(ManualClock(durable.clock.now() + step + 60))
    assert (await again.backend.job("j")).run_at == durable.clock.now() + step + 100
    again.clock.step_wall_clock(-step)
    await again.done(again.backend.enqueue(spec("other")))
    last = await again.restart(ManualClock(durable.clock.now() + 90))
    last.clock.advance(9)
    assert (await last.backend.job("j")).status is Status.SCHEDULED
    last.clock.advance(1)
    assert (await last.backend.job("j")).status is Status.QUEUED
    await end(last)


@pytest.mark.parametrize("up", [False, True], ids=["another boot", "the same boot"])
@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("step", [-1.0, -3_600.0, -86_400.0 * 400])
async def test_a_clock_set_back_while_no_server_ran_is_no_time(tmp_path: Path, step: float, killed: bool, up: bool) -> None:
    """Delays and leases go on as if no time had passed, however the server ended and whatever it knows of the machine."""
    durable = Durable(tmp_path / "jobs.db", ManualClock(up=Uptime("a", 50.0) if up else None))
    await durable.done(durable.backend.enqueue(spec("leased", lease_seconds=100.0)))
    await durable.done(durable.take())
    await durable.done(durable.backend.enqueue(spec("later", delay=100.0)))
    if killed:
        files = durable.copy()
        await end(durable)
        durable.path = files
    else:
        # Whenever the last change was: stopping says when it stopped.
        durable.clock.advance(60)
        await end(durable)
    left = 100.0 if killed else 40.0
    again = Durable(durable.path, ManualClock(durable.clock.now() + step, Uptime("a", 51.0 + 100 - left) if up else None))
    if up:
        left -= 1
    job = await again.backend.job("later")
    # What is shown follows the new wall clock; jobs are no older than they were.
    assert job.run_at == pytest.approx(again.clock.now() + left, abs=1e-3)
    again.clock.advance(left - 1)
    assert {(await again.backend.job(name)).status for name in ("leased", "later")} == {Status.IN_PROGRESS, Status.SCHEDULED}
    again.clock.advance(1.001)
    assert (await again.backend.job("later")).status is Status.QUEUED
    assert (await again.backend.job("leased")).status is Status.QUEUED
    await end(again)


@pytest.mark.parametrize("step", [86_400.0, -86_400.0, 7_200.0])
async def test_on_the_same_boot_no_step_counts_while_no_server_runs(tmp_path: Path, step: float) -> None:
    """Where the machine's uptime goes on, the wall clock may be set either way between a kill and the next start: only real time counts."""
    durable = Durable(tmp_path / "jobs.db", ManualClock(up=Uptime("a", 50.0)))
    await durable.done(durable.backend.enqueue(spec("j", delay=100.0)))
    files = durable.copy()
    await end(durable)
    again = Durable(files, ManualClock(durable.clock.now() + step + 30, Uptime("a", 80.0)))
    again.clock.advance(69.9)
    assert (await again.backend.job("j")).status is Status.SCHEDULED
    again.clock.advance(0.2)
    assert (await again.backend.job("j")).status is Status.QUEUED
    await end(again)


async def test_after_a_boot_the_wall_clock_says_how_long_it_took(tmp_path: Path) -> None:
    """An uptime of another boot says nothing, even when it is longer than the one in the file."""
    durable = Durable(tmp_path / "jobs.db", ManualClock(up=Uptime("a", 50.0)))
    await durable.done(durable.backend.enqueue(spec("j", delay=100.0)))
    again = await durable.restart(ManualClock(durable.clock.now() + 30, Uptime("b", 900.0)))
    again.clock.advance(69)
    assert (await again.backend.job("j")).status is Status.SCHEDULED
    again.clock.advance(1)
    assert (await again.backend.job("j")).status is Status.QUEUED
    await end(again)


# Starting.


async def test_the_file_that_a_server_uses_is_no_one_elses(durable: Durable) -> None:
    """The second one is refused and told who has it; when the first has closed, it may."""
    with pytest.raises(CannotOpen, match="in use by another server"):
        Durable(durable.path)
    again = await durable.restart()
    await end(again)


@pytest.mark.parametrize(("path", "reason"), [("missing/jobs.db", "there is no folder .*/missing$"), (".", "is a folder$")])
async def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, path: str, reason: str) -> None:
    """A folder that does not exist, or a folder itself, is refused with the path and the reason."""
    with pytest.raises(CannotOpen, match=f"^{re.escape(str(tmp_path))}.*: {reason}"):
        Durable(tmp_path / path)


async def test_reading_is_reported(tmp_path: Path) -> None:
    """The progress goes from none to all."""
    durable = Durable(tmp_path / "jobs.db")
    await durable.done(durable.backend.enqueue_batch([spec(f"j{n}") for n in range(1_000)]))
    await end(durable)
    seen: list[tuple[int, int]] = []
    journal = open_journal(str(durable.path), Engine(), ManualClock(), progress=lambda done, total: seen.append((done, total)))
    await journal.close()
    assert (seen[0], seen[-1]) == ((0, 1_000), (1_000, 1_000))


async def test_history_that_no_longer_fits_is_forgotten_on_the_disk_too(durable: Durable) -> None:
    """Started with room for less history, a server forgets the oldest for good."""
    for name in ("a", "b"):
        await durable.done(durable.backend.enqueue(spec(name)))
        await durable.done(durable.backend.cancel(name))
    await end(durable)
    narrow = Durable(durable.path, history_jobs_max=1)
    await turns()
    await end(narrow)
    wide = Durable(durable.path)
    assert list(wide.backend.engine.jobs.by_id) == ["b"]
    await end(wide)
