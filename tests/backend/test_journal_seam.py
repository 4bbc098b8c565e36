"""Promise 7 at the seam: no answer leaves before its change is committed, and nothing is lost when the commit fails or the client goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from jobqueue.backend.base import Conclude, Extend, Release
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.requests.schedules import PutSchedule
from jobqueue.clock import ManualClock
from jobqueue.engine.events import Kind
from jobqueue.errors import StorageUnavailable, Unconfirmed
from jobqueue.model import Job, JobChange, JobFilter, JobSpec, Outcome, Status, Verdict, Want
from jobqueue.policy import QueuePolicy
from jobqueue.schedule import Schedule

from .journals import GatedJournal

SUCCEEDED = Verdict(outcome=Outcome.SUCCEEDED)
FAILED_FOR_GOOD = Verdict(outcome=Outcome.FAILED, retry=False)


class Seam:
    """A local backend over a journal that commits when told."""

    def __init__(self) -> None:
        self.journal = GatedJournal()
        self.clock = ManualClock()
        self.backend = LocalBackend(clock=self.clock, journal=self.journal)
        self.tasks: list[asyncio.Task[Any]] = []

    async def start(self, operation: Awaitable[Any]) -> asyncio.Task[Any]:
        """Run an operation up to where it waits for its commit, or to its end."""
        task = asyncio.ensure_future(operation)
        assert isinstance(task, asyncio.Task)
        self.tasks.append(task)
        await turns()
        return task

    async def done(self, operation: Awaitable[Any]) -> Any:
        """Run an operation and commit it."""
        task = await self.start(operation)
        self.journal.commit()
        return await task

    async def dequeue(self, wait: float = 60.0, **fields: Any) -> list[Job]:
        """A worker's request: held, handed jobs, delivered."""
        taking = self.backend.dequeue(Want(**fields), wait)
        async with taking as jobs:
            taking.delivered()
        return jobs

    async def put(self, job_id: str, **fields: Any) -> None:
        """Enqueue a job and commit it."""
        await self.done(self.backend.enqueue(spec(job_id, **fields)))

    async def take(self, **fields: Any) -> Job:
        """Dequeue a job that is there, and commit it."""
        (job,) = await self.done(self.dequeue(0, **fields))
        return job


def spec(job_id: str, **fields: Any) -> JobSpec:
    return JobSpec(payload=b"1", id=job_id, **fields)


def token(job: Job) -> str:
    assert job.lease is not None
    return job.lease.token


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def seam() -> AsyncIterator[Seam]:
    made = Seam()
    yield made
    await made.backend.close()
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)
    assert made.backend.totals().waiters == 0


async def test_an_enqueue_is_acknowledged_when_it_is_committed(seam: Seam) -> None:
    """The reply waits for the commit; the job is known before, to whoever reads."""
    task = await seam.start(seam.backend.enqueue(spec("j")))
    assert not task.done()
    assert (await seam.backend.job("j")).status is Status.QUEUED
    seam.journal.commit()
    assert (await task).job.id == "j"


async def test_a_repeat_waits_for_the_first_ones_commit(seam: Seam) -> None:
    """A repeated enqueue is no shortcut: it is not acknowledged while the job it found is not durable."""
    first = await seam.start(seam.backend.enqueue(spec("j")))
    repeat = await seam.start(seam.backend.enqueue(spec("j")))
    assert not repeat.done()
    seam.journal.commit()
    assert ((await first).created, (await repeat).created) == (True, False)


@pytest.mark.parametrize(
    "operate",
    [
        lambda b, t: b.enqueue_batch([spec("new")]),
        lambda b, t: b.conclude("leased", t, SUCCEEDED),
        lambda b, t: b.conclude_batch([Conclude("leased", t, SUCCEEDED)]),
        lambda b, t: b.extend(Extend("leased", t)),
        lambda b, t: b.extend_batch([Extend("leased", t)]),
        lambda b, t: b.release("leased", t, 0),
        lambda b, t: b.release_batch([Release("leased", t)]),
        lambda b, t: b.cancel("leased"),
        lambda b, t: b.cancel("queued"),
        lambda b, t: b.retry("failed"),
        lambda b, t: b.put_policy("default", QueuePolicy(max_attempts=3)),
        lambda b, t: b.set_paused("default", True),
        lambda b, t: b.delete_queue("empty"),
        lambda b, t: b.purge("default"),
        lambda b, t: b.retry_failed("default"),
        lambda b, t: b.edit("queued", JobChange(priority=1)),
        lambda b, t: b.ask(PutSchedule(name="s", schedule=Schedule(job=JobSpec(payload=b"1"), every=60))),
    ],
)
async def test_every_change_waits_for_its_commit(seam: Seam, operate: Callable[[LocalBackend, str], Awaitable[Any]]) -> None:
    """No operation that changes something answers before the commit, nor after one that covers less; it raises if that fails."""
    await seam.put("failed")
    await seam.done(seam.backend.conclude("failed", token(await seam.take()), FAILED_FOR_GOOD))
    await seam.put("leased")
    leased = token(await seam.take())
    await seam.put("queued")
    await seam.done(seam.backend.put_policy("empty", QueuePolicy()))
    before = seam.journal.ticket
    task = await seam.start(operate(seam.backend, leased))
    assert seam.journal.ticket > before
    assert not task.done()
    seam.journal.commit(seam.journal.ticket - 1)
    await turns()
    assert not task.done()
    seam.journal.commit()
    await task


async def test_a_job_is_handed_out_when_its_lease_is_committed(seam: Seam) -> None:
    """A dequeue that finds a job answers after the commit of its lease, not only of the job."""
    await seam.start(seam.backend.enqueue(spec("j")))
    enqueued = seam.journal.ticket
    task = await seam.start(seam.dequeue(0))
    seam.journal.commit(enqueued)
    await turns()
    assert not task.done()
    seam.journal.commit()
    assert [job.id for job in await task] == ["j"]


async def test_a_waiter_is_answered_when_its_lease_is_committed(seam: Seam) -> None:
    """A waiter that is handed a job leaves the line at once and answers after the commit."""
    waiter = await seam.start(seam.dequeue())
    await seam.start(seam.backend.enqueue(spec("j")))
    assert seam.backend.totals().waiters == 0
    assert not waiter.done()
    seam.journal.commit()
    assert [job.id for job in await waiter] == ["j"]


async def test_a_replay_waits_for_the_commit_of_its_leases(seam: Seam) -> None:
    """A repeat of an attempt whose lease is not durable yet is not answered before it is."""
    await seam.put("j")
    first = await seam.start(seam.dequeue(0, attempt_id="x"))
    again = await seam.start(seam.dequeue(0, attempt_id="x"))
    assert not again.done()
    seam.journal.commit()
    assert [token(job) for job in await again] == [token(job) for job in await first]


async def test_who_is_answered_nothing_waits_for_no_commit(seam: Seam) -> None:
    """While the disk stands still, waits that pass, dequeues that find nothing, drains and reads are answered."""
    short, long = await seam.start(seam.dequeue(10)), await seam.start(seam.dequeue(100))
    await seam.start(seam.backend.put_policy("q", QueuePolicy()))
    await seam.start(seam.backend.enqueue(spec("j", queue="q")))
    assert seam.journal.waiting == 2
    assert await seam.dequeue(0) == []
    seam.clock.advance(10)
    assert await short == []
    assert (await seam.backend.job("j")).id == "j"
    assert len((await seam.backend.jobs(JobFilter()))[0]) == 1
    assert (await seam.backend.queue("q")).queued == 1
    seam.backend.drain()
    assert await long == []
    assert seam.journal.waiting == 2


@pytest.mark.parametrize("waited", [False, True], ids=["found at once", "waited for"])
async def test_04_kill_after_take(seam: Seam, waited: bool) -> None:
    """A client that goes while its lease is being committed: the job is back in its old place at once, its attempt not counted."""
    if waited:
        task = await seam.start(seam.dequeue())
        seam.tasks += [asyncio.create_task(seam.backend.enqueue(spec(job_id))) for job_id in ("first", "second")]
        await turns()
    else:
        await seam.put("first")
        await seam.put("second")
        task = await seam.start(seam.dequeue(0))
    assert (await seam.backend.job("first")).status is Status.IN_PROGRESS

    task.cancel()
    await turns()

    assert task.cancelled()
    job = await seam.backend.job("first")
    assert (job.status, job.attempts, job.lease) == (Status.QUEUED, 0, None)
    assert seam.backend.totals().undelivered_total == 1
    assert [(job.id, job.attempts) for job in await seam.done(seam.dequeue(0, limit=2))] == [("first", 1), ("second", 1)]


async def test_04_kill_after_take_serves_the_next_in_line(seam: Seam) -> None:
    """The job of a client that went during the commit is handed to the next waiter in that very step, and to it alone."""
    gone, waiter, last = [await seam.start(seam.dequeue()) for _ in range(3)]
    await seam.start(seam.backend.enqueue(spec("j")))
    gone.cancel()
    await turns()
    assert seam.backend.totals().leases == 1
    seam.journal.commit()
    assert [(job.id, job.attempts) for job in await waiter] == [("j", 1)]
    assert not last.done()


async def test_a_client_that_goes_as_the_commit_ends_loses_nothing(seam: Seam) -> None:
    """Commit and cancellation in one turn, in both orders: the job is back or delivered, never leased to nobody."""
    for first in ("commit", "cancel"):
        await seam.put(first)
        task = await seam.start(seam.dequeue(0))
        calls: list[Callable[[], object]] = [seam.journal.commit, task.cancel]
        for call in calls if first == "commit" else reversed(calls):
            asyncio.get_running_loop().call_soon(call)
        await turns()
        assert task.cancelled()
        job = await seam.backend.job(first)
        assert (job.status, job.attempts) == (Status.QUEUED, 0)
        assert (await seam.take()).attempts == 1


async def test_putting_back_waits_for_nothing(seam: Seam) -> None:
    """A dequeue whose answer failed is left at once, though the disk stands still; the put back is journalled."""
    await seam.put("j")
    taking = seam.backend.dequeue(Want(), 0)
    task = await seam.start(taking.__aenter__())
    seam.journal.commit()
    await task
    leaving = taking.__aexit__(None, None, None)
    with pytest.raises(StopIteration):
        leaving.send(None)  # type: ignore[attr-defined]
    assert seam.journal.log[-2:] == [(Kind.DEQUEUED, "j"), (Kind.QUEUED, "j")]


async def test_a_commit_that_fails_is_not_acknowledged(seam: Seam) -> None:
    """Whoever waits for a commit that fails is told Unconfirmed, and everyone after, until the disk is back, that nothing was changed."""
    waiting = await seam.start(seam.backend.enqueue(spec("a")))
    seam.journal.fail()
    with pytest.raises(Unconfirmed):
        await waiting
    with pytest.raises(StorageUnavailable) as told:
        await seam.backend.enqueue(spec("b"))
    assert not isinstance(told.value, Unconfirmed)
    assert "b" not in seam.backend.engine.jobs.by_id
    seam.journal.recover()
    assert (await seam.backend.enqueue(spec("c"))).created


@pytest.mark.parametrize("waited", [False, True], ids=["found at once", "waited for"])
async def test_a_job_whose_lease_is_not_committed_is_put_back(seam: Seam, waited: bool) -> None:
    """A dequeue whose commit fails raises StorageUnavailable and leaves the job available, its attempt not counted."""
    if waited:
        task = await seam.start(seam.dequeue())
        await seam.start(seam.backend.enqueue(spec("j")))
    else:
        await seam.put("j")
        task = await seam.start(seam.dequeue(0))
    seam.journal.fail()
    with pytest.raises(StorageUnavailable):
        await task
    job = await seam.backend.job("j")
    assert (job.status, job.attempts, job.lease) == (Status.QUEUED, 0, None)
    seam.journal.recover()
    assert [job.attempts for job in await seam.dequeue(0)] == [1]


async def test_a_result_that_is_waited_for_is_committed_first(seam: Seam) -> None:
    """Who waits for a result is told of it when it is stored, as its worker is, and not before: a crash would take it back."""
    await seam.put("j")
    lease = token(await seam.take())
    waiting = await seam.start(seam.backend.job("j", wait=60))
    conclude = await seam.start(seam.backend.conclude("j", lease, SUCCEEDED))
    assert (await seam.backend.job("j")).status is Status.CONCLUDED
    assert not conclude.done()
    assert not waiting.done()
    seam.journal.commit()
    await conclude
    assert (await waiting).outcome is Outcome.SUCCEEDED


async def test_a_result_that_cannot_be_stored_is_not_told(seam: Seam) -> None:
    """When the commit of a result fails, who waits for it is told that it is not stored: a look has changed nothing."""
    await seam.put("j")
    lease = token(await seam.take())
    waiting = await seam.start(seam.backend.job("j", wait=60))
    conclude = await seam.start(seam.backend.conclude("j", lease, SUCCEEDED))
    seam.journal.fail()
    with pytest.raises(Unconfirmed):
        await conclude
    with pytest.raises(StorageUnavailable) as told:
        await waiting
    assert not isinstance(told.value, Unconfirmed)


async def test_a_broken_disk_answers_every_waiter_that_was_handed_the_job(seam: Seam) -> None:
    """With the disk broken a job passes down the line, each waiter told StorageUnavailable in turn, and ends up available."""
    line = [await seam.start(seam.dequeue()) for _ in range(5)]
    await seam.start(seam.backend.enqueue(spec("j")))
    seam.journal.fail()
    replies = await asyncio.gather(*line, return_exceptions=True)
    assert [type(reply) for reply in replies] == [StorageUnavailable] * 5
    job = await seam.backend.job("j")
    assert (job.status, job.attempts) == (Status.QUEUED, 0)


async def test_what_time_does_is_journalled_too(seam: Seam) -> None:
    """Due jobs, ended leases and expired jobs go to the journal though no request is there to wait for them."""
    await seam.put("j", delay=10.0, max_attempts=1, lease_seconds=10.0)
    seam.clock.advance(10)
    assert seam.journal.log[-1] == (Kind.QUEUED, "j")
    await seam.take()
    seam.clock.advance(10)
    assert seam.journal.log[-1] == (Kind.CONCLUDED, "j")


async def test_the_journal_has_events_in_the_order_in_which_they_happened(seam: Seam) -> None:
    """Making a queue, enqueue, hand-out, put back and hand-out to the next stand in the journal in that order."""
    gone = await seam.start(seam.dequeue())
    await seam.start(seam.dequeue())
    await seam.start(seam.backend.enqueue(spec("j")))
    gone.cancel()
    await turns()
    assert seam.journal.log == [
        (Kind.QUEUE_CHANGED, "default"),
        (Kind.ENQUEUED, "j"),
        (Kind.DEQUEUED, "j"),
        (Kind.QUEUED, "j"),
        (Kind.DEQUEUED, "j"),
    ]


async def test_close_commits_what_is_queued(seam: Seam) -> None:
    """Closing the backend closes its journal, which answers who still waits for a commit."""
    task = await seam.start(seam.backend.enqueue(spec("j")))
    await seam.backend.close()
    assert seam.journal.closed
    assert (await task).created
