"""Drain: every waiter answered, nothing new taken, work in progress handed in. And the bound on waiters."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from jobqueue.backend.base import Conclude, Extend, Release
from jobqueue.errors import Draining, TooManyWaiters
from jobqueue.model import JobFilter, Outcome, Status
from jobqueue.policy import QueuePolicy

from .conftest import MakeBackend
from .rig import SUCCEEDED, Rig, raised, spec, token, want


async def test_every_waiter_is_answered(rig: Rig) -> None:
    """Draining answers a thousand held dequeues [] at once, without a second passing."""
    line = [rig.hold("default", "other", wait=1_000) for _ in range(1_000)]
    await rig.idle()
    rig.backend.drain()
    await rig.idle()
    assert all(waiter.answered and waiter.jobs == [] for waiter in line)
    assert (await rig.backend.stats()).waiters == 0
    assert (await rig.backend.stats()).draining


async def test_who_waits_for_a_result_is_answered(rig: Rig) -> None:
    """Draining answers a wait for a result with the job as it stands; a new one is answered at once."""
    await rig.put("j")
    task = asyncio.create_task(rig.backend.job("j", 60))  # type: ignore[arg-type]
    await rig.idle()
    rig.backend.drain()
    assert (await task).status is Status.QUEUED
    assert (await rig.backend.job("j", 60)).status is Status.QUEUED
    assert (await rig.backend.stats()).waiters == 0


@pytest.mark.parametrize(
    "refused",
    [
        lambda rig: rig.backend.enqueue(spec()),
        lambda rig: rig.backend.enqueue_batch([spec()]),
        lambda rig: rig.backend.dequeue(want(), 60).__aenter__(),
        lambda rig: rig.backend.dequeue(want(), 0).__aenter__(),
        lambda rig: rig.backend.dequeue(want(attempt_id="known"), 0).__aenter__(),
        lambda rig: rig.backend.cancel("queued"),
        lambda rig: rig.backend.retry("cancelled"),
        lambda rig: rig.backend.put_policy("default", QueuePolicy()),
        lambda rig: rig.backend.set_paused("default", True),
        lambda rig: rig.backend.delete_queue("empty"),
        lambda rig: rig.backend.purge("default"),
        lambda rig: rig.backend.retry_failed("default"),
    ],
)
async def test_nothing_new_is_taken(rig: Rig, refused: Callable[[Rig], Awaitable[object]]) -> None:
    """While draining, every operation that changes something raises Draining and changes nothing, but for the three of a worker."""
    await rig.backend.put_policy("empty", QueuePolicy())
    await rig.put("leased")
    await rig.take(attempt_id="known")
    await rig.put("cancelled")
    await rig.backend.cancel("cancelled")
    await rig.put("queued")
    before = await rig.backend.queues(), (await rig.backend.stats()).jobs_live
    rig.backend.drain()
    assert isinstance(await raised(refused(rig)), Draining)
    assert (await rig.backend.queues(), (await rig.backend.stats()).jobs_live) == before


async def test_workers_hand_in_their_work(rig: Rig) -> None:
    """Extend, release and conclude, single and batch, work while the backend drains; what comes back is handed to nobody."""
    await rig.put_all("a", "b", "c", "d")
    jobs = {job.id: job for job in await rig.take_all(limit=4)}
    waiter = await rig.stand()
    rig.backend.drain()
    await rig.idle()
    assert (await rig.backend.extend(Extend("a", token(jobs["a"])))).lease is not None
    assert (await rig.backend.conclude("a", token(jobs["a"]), SUCCEEDED)).outcome is Outcome.SUCCEEDED
    assert (await rig.backend.release("b", token(jobs["b"]), 0)).status is Status.QUEUED
    (extended,) = await rig.backend.extend_batch([Extend("c", token(jobs["c"]))])
    (concluded,) = await rig.backend.conclude_batch([Conclude("c", token(jobs["c"]), SUCCEEDED)])
    (released,) = await rig.backend.release_batch([Release("d", token(jobs["d"]))])
    assert [getattr(reply, "id", reply) for reply in (extended, concluded, released)] == ["c", "c", "d"]
    assert waiter.jobs == []
    assert (await rig.backend.stats()).leases == 0


async def test_an_answer_that_fails_while_draining_is_put_back(rig: Rig) -> None:
    """A dequeue that was handed its job before the drain and could not be written puts it back."""
    await rig.put("j")
    async with rig.backend.dequeue(want(), 0):
        rig.backend.drain()
    job = await rig.backend.job("j")
    assert (job.status, job.attempts) == (Status.QUEUED, 0)


async def test_a_waiter_handed_a_job_just_before_the_drain_keeps_it(rig: Rig) -> None:
    """A drain in the turn of a hand-out takes no job away: the one handed is delivered, the others are answered []."""
    first, second = await rig.stand(), await rig.stand()
    await rig.put("j")
    rig.backend.drain()
    await rig.idle()
    assert (first.ids, second.answered, second.jobs) == (["j"], True, [])


async def test_a_waiter_cancelled_as_the_drain_begins_leaves_nothing(rig: Rig) -> None:
    """Cancellation and drain in one turn, in both orders, end the waiters and leave none in line."""
    before, after = await rig.stand(), await rig.stand()
    before.task.cancel()
    rig.backend.drain()
    after.task.cancel()
    await rig.idle()
    assert before.task.cancelled()
    assert after.answered
    assert (await rig.backend.stats()).waiters == 0


async def test_reading_goes_on(rig: Rig) -> None:
    """Jobs, listings, queues and totals can be read while the backend drains."""
    await rig.put("j")
    rig.backend.drain()
    assert (await rig.backend.job("j")).id == "j"
    assert [job.id for job in (await rig.backend.jobs(JobFilter()))[0]] == ["j"]
    assert (await rig.backend.queue("default")).queued == 1


async def test_draining_and_closing_twice_is_the_same_as_once(rig: Rig) -> None:
    """A second drain changes nothing, and close drains by itself."""
    waiter = await rig.stand()
    rig.backend.drain()
    rig.backend.drain()
    await rig.idle()
    assert waiter.answered
    await rig.backend.close()
    assert (await rig.backend.stats()).draining


async def test_closing_answers_every_waiter(rig: Rig) -> None:
    """Close alone answers who waits, for jobs and for a result."""
    await rig.put("j", queue="other")
    waiter = await rig.stand()
    task = asyncio.create_task(rig.backend.job("j", 60))  # type: ignore[arg-type]
    await rig.idle()
    await rig.backend.close()
    await rig.idle()
    assert (waiter.answered, waiter.jobs) == (True, [])
    assert (await task).status is Status.QUEUED


async def test_so_many_may_wait_and_no_more(make_backend: MakeBackend) -> None:
    """At waiters_max a dequeue that would have to wait raises TooManyWaiters; one that need not wait is served; a free place is enough."""
    rig = await make_backend(waiters_max=2)
    first, second = await rig.stand(), await rig.stand()
    refused = rig.hold()
    await rig.idle()
    assert isinstance(refused.task.exception(), TooManyWaiters)
    assert await rig.take_all() == []
    await rig.put("in-other", queue="other")
    assert (await rig.take("other")).id == "in-other"
    first.task.cancel()
    await rig.idle()
    third = await rig.stand()
    await rig.put_all("a", "b")
    await rig.idle()
    assert (second.ids, third.ids) == (["a"], ["b"])


async def test_a_backend_says_whether_it_takes_new_work(rig: Rig) -> None:
    """It does until it drains."""
    await rig.backend.check()
    rig.backend.drain()
    with pytest.raises(Draining):
        await rig.backend.check()
