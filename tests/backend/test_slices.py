"""Herds: what one step would do to thousands is done a slice a turn of the loop, in the order in which it would have been done at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from jobqueue.backend.local import LocalBackend
from jobqueue.backend.shell import SLICE, WAKES
from jobqueue.engine.engine import PASSED_OVER_MAX
from jobqueue.model import JobSpec, Outcome, Verdict, Want
from jobqueue.policy import QueuePolicy

from .clocks import TurnClock

HERD = 5 * WAKES + 50


@pytest.fixture
def clock() -> TurnClock:
    return TurnClock()


@pytest.fixture
async def backend(clock: TurnClock) -> AsyncIterator[LocalBackend]:
    made = LocalBackend(clock=clock)
    yield made
    await made.close()


async def take(backend: LocalBackend, wait: float, limit: int = 1, queue: str = "default") -> list[str]:
    taking = backend.dequeue(Want(queues=(queue,), limit=limit), wait)
    async with taking as jobs:
        taking.delivered()
    return [job.id for job in jobs]


async def fill(backend: LocalBackend, count: int, **fields: object) -> None:
    for start in range(0, count, 1_000):
        specs = [JobSpec(payload=b"1", id=f"j{n}", **fields) for n in range(start, min(count, start + 1_000))]  # type: ignore[arg-type]
        await backend.enqueue_batch(specs)


async def stand(backend: LocalBackend, count: int) -> list[asyncio.Task[list[str]]]:
    tasks = [asyncio.create_task(take(backend, 60.0)) for _ in range(count)]
    await asyncio.sleep(0)
    assert backend.totals().waiters == count
    return tasks


async def steps(count: Callable[[], int], until: int) -> list[int]:
    """By how much a number moved in each turn of the loop until it is there."""
    moved, seen = [], count()
    while seen != until:
        await asyncio.sleep(0)
        moved.append(abs(count() - seen))
        seen = count()
        assert len(moved) < 1_000
    return moved


@pytest.mark.parametrize("how", ["resume", "policy"])
async def test_a_resumed_queue_is_handed_out_a_slice_a_turn(backend: LocalBackend, how: str) -> None:
    """A thousand that waited for a paused queue are handed their jobs in order, so many a turn."""
    await backend.put_policy("default", QueuePolicy(paused=True))
    await fill(backend, HERD)
    tasks = await stand(backend, HERD)
    if how == "resume":
        await backend.set_paused("default", False)
    else:
        await backend.put_policy("default", QueuePolicy())
    assert backend.totals().leases == WAKES
    assert max(await steps(lambda: backend.totals().leases, HERD)) <= WAKES
    assert await asyncio.gather(*tasks) == [[f"j{n}"] for n in range(HERD)]


async def test_nobody_passes_a_herd_that_is_owed_its_jobs(backend: LocalBackend) -> None:
    """While jobs are handed to a herd a slice a turn, a newcomer takes none of them: it is sent away, or stands behind the herd."""
    await backend.put_policy("default", QueuePolicy(paused=True))
    await fill(backend, HERD + 1)
    await backend.enqueue(JobSpec(payload=b"1", queue="other", id="o"))
    tasks = await stand(backend, HERD)
    await backend.set_paused("default", False)
    assert await take(backend, 0.0) == []
    assert await take(backend, 0.0, queue="other") == ["o"]
    last = asyncio.create_task(take(backend, 60.0))
    assert await asyncio.gather(*tasks) == [[f"j{n}"] for n in range(HERD)]
    assert await last == [f"j{HERD}"]


async def test_a_batch_of_jobs_wakes_its_waiters_a_slice_a_turn(backend: LocalBackend) -> None:
    """So are those who wait when a thousand jobs are enqueued at once."""
    tasks = await stand(backend, 1_000)
    await fill(backend, 1_000)
    assert backend.totals().leases == WAKES
    assert max(await steps(lambda: backend.totals().leases, 1_000)) <= WAKES
    assert await asyncio.gather(*tasks) == [[f"j{n}"] for n in range(1_000)]


async def test_a_herd_that_hangs_up_while_it_is_owed_leaves_the_jobs(backend: LocalBackend) -> None:
    """Jobs owed to those who have gone are there for the next who asks."""
    await backend.put_policy("default", QueuePolicy(paused=True))
    await fill(backend, HERD)
    tasks = await stand(backend, HERD)
    await backend.set_paused("default", False)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)
    assert (await backend.queue("default")).queued == HERD
    assert await take(backend, 0.0) == ["j0"]


async def test_a_result_is_told_a_slice_a_turn(backend: LocalBackend) -> None:
    """A thousand who wait for one job's end are answered so many a turn, all with how it ended."""
    await fill(backend, 1)
    tasks = [asyncio.create_task(backend.job("j0", 60.0)) for _ in range(HERD)]
    await asyncio.sleep(0)
    taking = backend.dequeue(Want(), 0)
    async with taking as jobs:
        taking.delivered()
    assert jobs[0].lease is not None
    await backend.conclude("j0", jobs[0].lease.token, Verdict(outcome=Outcome.SUCCEEDED))
    assert backend.totals().waiters == HERD - WAKES
    assert max(await steps(lambda: backend.totals().waiters, 0)) <= WAKES
    assert {job.outcome for job in await asyncio.gather(*tasks)} == {Outcome.SUCCEEDED}


async def test_a_drain_answers_a_slice_a_turn(backend: LocalBackend) -> None:
    """A drain answers everybody, dequeues and waits for results, so many a turn; none may come to stand meanwhile."""
    await fill(backend, 1, delay=1_000.0)
    results = [asyncio.create_task(backend.job("j0", 60.0)) for _ in range(HERD)]
    await asyncio.sleep(0)
    dequeues = [asyncio.create_task(take(backend, 60.0)) for _ in range(HERD)]
    await asyncio.sleep(0)
    backend.drain()
    assert max(await steps(lambda: backend.totals().waiters, 0)) <= WAKES
    assert await asyncio.gather(*dequeues) == [[]] * HERD
    assert {job.status for job in await asyncio.gather(*results)} == {"scheduled"}


async def test_closing_answers_everybody(backend: LocalBackend) -> None:
    """However many stand, a backend that is closed leaves nobody waiting."""
    tasks = await stand(backend, HERD)
    await backend.close()
    assert await asyncio.gather(*tasks) == [[]] * HERD


async def test_a_dequeue_passes_over_expired_jobs_a_slice_a_turn(backend: LocalBackend, clock: TurnClock) -> None:
    """Thousands of jobs that have expired and were not yet cleared away are ended in slices, and the one behind them is found."""
    await fill(backend, 4 * PASSED_OVER_MAX + 10, expires_in=10.0)
    await backend.enqueue(JobSpec(payload=b"1", id="alive"))
    clock.stand_still(20.0)
    asked = asyncio.create_task(take(backend, 0.0))
    expired = await steps(lambda: backend.engine.queues["default"].expired_total, 4 * PASSED_OVER_MAX + 10)
    assert max(expired) <= PASSED_OVER_MAX
    assert await asked == ["alive"]


async def test_a_waiter_is_handed_the_job_behind_expired_ones(backend: LocalBackend, clock: TurnClock) -> None:
    """One who stands when a queue of expired jobs is resumed gets the live one behind them, some turns later."""
    await backend.put_policy("default", QueuePolicy(paused=True))
    await fill(backend, 3 * PASSED_OVER_MAX, expires_in=10.0)
    await backend.enqueue(JobSpec(payload=b"1", id="alive"))
    (task,) = await stand(backend, 1)
    clock.stand_still(20.0)
    await backend.set_paused("default", False)
    assert await steps(lambda: backend.engine.queues["default"].expired_total, 3 * PASSED_OVER_MAX)
    assert await task == ["alive"]


async def test_a_purge_leaves_what_came_back_meanwhile(backend: LocalBackend) -> None:
    """A purge ends what waited when it was called, and neither a job in progress then nor one enqueued while it went on."""
    await fill(backend, 3 * SLICE)
    taking = backend.dequeue(Want(), 0)
    async with taking as jobs:
        taking.delivered()
    purging = asyncio.create_task(backend.purge("default"))
    await asyncio.sleep(0)
    assert jobs[0].lease is not None
    await backend.release("j0", jobs[0].lease.token, 0.0)
    await backend.enqueue(JobSpec(payload=b"1", id="new"))
    assert await purging == 3 * SLICE - 1
    assert await take(backend, 0.0, 10) == ["j0", "new"]


async def test_what_is_asked_all_the_time_has_few_attributes() -> None:
    """From 30 on CPython looks each of them up in a dict, a tenth of every operation. The engine has slots, the backend few."""
    backend = LocalBackend()
    assert vars(backend.engine) == {}
    assert len(vars(backend)) < 30
    await backend.close()
