"""Promise 3: no job goes to a dead connection. A dequeue that ends before `delivered()` puts its jobs back, their attempts not counted."""

from __future__ import annotations

import asyncio

import pytest

from jobqueue.errors import LeaseLost
from jobqueue.model import Outcome, Status

from .rig import SUCCEEDED, Rig, raised, token, want


async def test_a_delivered_job_is_the_workers(rig: Rig) -> None:
    """After delivered() and leaving, the job stays in progress under its lease."""
    await rig.put("j")
    job = await rig.take()
    stands = await rig.backend.job("j")
    assert (stands.status, stands.lease) == (Status.IN_PROGRESS, job.lease)
    assert (await rig.backend.stats()).undelivered_total == 0
    assert await rig.take_all() == []


async def test_leaving_without_delivery_puts_the_job_back(rig: Rig) -> None:
    """A dequeue that is left before delivered() never happened: same place, attempts 0, and the total counts it."""
    await rig.put_all("first", "second")
    async with rig.backend.dequeue(want(), 0) as jobs:
        assert [job.id for job in jobs] == ["first"]
    job = await rig.backend.job("first")
    assert (job.status, job.attempts, job.lease) == (Status.QUEUED, 0, None)
    assert (await rig.backend.stats()).undelivered_total == 1
    assert (await rig.backend.stats()).leases == 0
    assert [(job.id, job.attempts) for job in await rig.take_all(limit=2)] == [("first", 1), ("second", 1)]


async def test_an_exception_inside_puts_the_job_back_and_goes_on(rig: Rig) -> None:
    """A write that fails raises out of the dequeue unchanged, and the job is back."""
    await rig.put("j")
    with pytest.raises(ConnectionResetError):
        async with rig.backend.dequeue(want(), 0):
            raise ConnectionResetError
    assert (await rig.take()).attempts == 1


async def test_an_exception_after_delivery_changes_nothing(rig: Rig) -> None:
    """Once delivered() was called, whatever follows leaves the lease alone."""
    await rig.put("j")
    taking = rig.backend.dequeue(want(), 0)

    async def handler() -> None:
        async with taking:
            taking.delivered()
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await handler()
    assert (await rig.backend.job("j")).status is Status.IN_PROGRESS
    assert (await rig.backend.stats()).undelivered_total == 0


async def test_a_cancellation_inside_puts_the_job_back(rig: Rig) -> None:
    """A handler that is cancelled while it writes the answer puts its job back for the next in line."""
    writing = asyncio.Event()

    async def handler() -> None:
        async with rig.backend.dequeue(want(), 0):
            writing.set()
            await asyncio.Event().wait()

    await rig.put("j")
    task = asyncio.create_task(handler())
    await writing.wait()
    waiter = await rig.stand()
    task.cancel()
    await rig.idle()
    assert task.cancelled()
    assert [(job.id, job.attempts) for job in waiter.jobs] == [("j", 1)]


async def test_a_job_put_back_goes_to_its_old_place(rig: Rig) -> None:
    """Jobs put back in any order leave again in the order in which they were enqueued, ahead of those never taken."""
    await rig.put_all("a", "b", "c", "d")
    takings = [rig.backend.dequeue(want(), 0) for _ in range(3)]
    for taking in takings:
        await taking.__aenter__()
    for taking in (takings[1], takings[2], takings[0]):
        await taking.__aexit__(None, None, None)
    assert [job.id for job in await rig.take_all(limit=10)] == ["a", "b", "c", "d"]


async def test_a_batch_is_put_back_whole(rig: Rig) -> None:
    """Every job of a batch answer that failed is back, in order, and waiters are handed them at once."""
    await rig.put_all("a", "b", "c")
    taking = rig.backend.dequeue(want(limit=3), 0)
    assert len(await taking.__aenter__()) == 3
    line = [await rig.stand() for _ in range(2)]
    await taking.__aexit__(None, None, None)
    await rig.idle()
    assert [waiter.ids for waiter in line] == [["a"], ["b"]]
    assert (await rig.take()).id == "c"
    assert (await rig.backend.stats()).undelivered_total == 3


async def test_a_job_that_waited_in_line_is_put_back_too(rig: Rig) -> None:
    """A waiter that was handed its job while it stood puts it back like any other when its answer fails."""
    handed = asyncio.Event()

    async def handler() -> None:
        async with rig.backend.dequeue(want(), 60):
            handed.set()
            raise ConnectionResetError

    task = asyncio.create_task(handler())
    await rig.idle()
    await rig.put("j")
    await handed.wait()
    await rig.idle()
    assert isinstance(task.exception(), ConnectionResetError)
    assert (await rig.take()).attempts == 1


async def test_an_undelivered_lease_is_dead(rig: Rig) -> None:
    """The token of a lease that was put back is refused, also while the next worker holds the job."""
    await rig.put("j")
    async with rig.backend.dequeue(want(), 0) as (lost,):
        pass
    assert isinstance(await raised(rig.backend.conclude("j", token(lost), SUCCEEDED)), LeaseLost)
    job = await rig.take()
    assert isinstance(await raised(rig.backend.conclude("j", token(lost), SUCCEEDED)), LeaseLost)
    assert (await rig.backend.job("j")).lease == job.lease


async def test_a_job_is_given_back_by_its_token(rig: Rig) -> None:
    """Whoever could not deliver a job takes it back by its lease: to its old place, the attempt not counted, and only once."""
    await rig.put_all("j", "k")
    job = await rig.take()
    assert not await rig.backend.give_back("j", "another token")
    assert not await rig.backend.give_back("unknown", token(job))
    assert await rig.backend.give_back("j", token(job))
    assert not await rig.backend.give_back("j", token(job))
    assert (await rig.backend.stats()).undelivered_total == 1
    assert [(job.id, job.attempts) for job in await rig.take_all(limit=10)] == [("j", 1), ("k", 1)]


async def test_many_failed_writes_spend_no_attempt(rig: Rig) -> None:
    """A job with one attempt survives any number of answers that could not be written."""
    await rig.put("j", max_attempts=1)
    for _ in range(20):
        async with rig.backend.dequeue(want(), 0) as (job,):
            assert job.attempts == 1
    assert (await rig.take()).attempts == 1


async def test_a_job_whose_cancel_was_requested_ends_when_it_comes_back(rig: Rig) -> None:
    """A job that was cancelled while its answer was being written is concluded as cancelled by the put back, and handed to nobody."""
    await rig.put("j")
    waiter = None
    async with rig.backend.dequeue(want(), 0):
        await rig.backend.cancel("j")
        waiter = await rig.stand()
    await rig.idle()
    job = await rig.backend.job("j")
    assert (job.outcome, job.attempts) == (Outcome.CANCELLED, 0)
    assert not waiter.answered


async def test_a_job_that_ended_before_the_answer_failed_stays_ended(rig: Rig) -> None:
    """Putting back touches only what is still leased by this dequeue: a job concluded or redelivered meanwhile is left alone."""
    await rig.put_all("concluded", "redelivered")
    async with rig.backend.dequeue(want(limit=2, lease_seconds=10), 0) as (first, _):
        await rig.backend.conclude("concluded", token(first), SUCCEEDED)
        await rig.advance(10)
        again = await rig.take()
        assert again.id == "redelivered"
    assert (await rig.backend.job("concluded")).outcome is Outcome.SUCCEEDED
    assert (await rig.backend.job("redelivered")).lease == again.lease
    assert (await rig.backend.stats()).undelivered_total == 0


async def test_a_delivered_job_whose_worker_dies_comes_back_by_its_lease(rig: Rig) -> None:
    """The lease is the backstop for a death that nothing tells of: the job is redelivered when it ends, its attempt counted."""
    await rig.put("j")
    await rig.take(lease_seconds=10)
    waiter = await rig.stand()
    await rig.advance(9)
    assert not waiter.answered
    await rig.advance(1)
    assert [(job.id, job.attempts) for job in waiter.jobs] == [("j", 2)]
