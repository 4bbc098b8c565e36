"""The ticker: one timer, set to the earliest thing that may be due; nothing polls; a herd is handled a slice a turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from jobqueue.backend.base import Extend
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.shell import READ_TURNS, SLICE_FIRST, SLICE_MIN, WAKES
from jobqueue.model import JobSpec, Want

from .clocks import TurnClock

GROWING = [SLICE_FIRST, 3 * SLICE_FIRST, 7 * SLICE_FIRST, 11 * SLICE_FIRST]
HERD = GROWING[-1]
"""Four slices, each twice as large as the one before, but for the last, which is not full."""


@pytest.fixture
def clock() -> TurnClock:
    return TurnClock()


@pytest.fixture
async def backend(clock: TurnClock) -> AsyncIterator[LocalBackend]:
    made = LocalBackend(clock=clock)
    yield made
    await made.close()


async def take(backend: LocalBackend, limit: int = 1, lease_seconds: float = 10.0) -> list[tuple[str, str]]:
    taking = backend.dequeue(Want(limit=limit, lease_seconds=lease_seconds), 0)
    async with taking as jobs:
        taking.delivered()
    return [(job.id, job.lease.token) for job in jobs if job.lease is not None]


async def hold(backend: LocalBackend, wait: float, queue: str = "default") -> int:
    taking = backend.dequeue(Want(queues=(queue,)), wait)
    async with taking as jobs:
        taking.delivered()
    return len(jobs)


async def fill(backend: LocalBackend, count: int, **fields: object) -> None:
    for start in range(0, count, 1_000):
        specs = [JobSpec(payload=b"1", id=f"j{n}", **fields) for n in range(start, min(count, start + 1_000))]  # type: ignore[arg-type]
        await backend.enqueue_batch(specs)


async def per_turn(count: Callable[[], int]) -> list[int]:
    """A number after the current turn of the loop and after each that follows, until it stands still."""
    seen = [count()]
    while len(seen) < 2 or seen[-1] != seen[-2]:
        await asyncio.sleep(0)
        seen.append(count())
    return seen[:-1]


async def test_waits_that_end_together_are_answered_a_slice_a_turn(backend: LocalBackend, clock: TurnClock) -> None:
    """A herd of waits that end in one instant is answered in slices, and the loop turns in between."""
    tasks = [asyncio.create_task(hold(backend, 10.0)) for _ in range(HERD)]
    await asyncio.sleep(0)
    clock.advance(10)
    assert await per_turn(lambda: backend.totals().waiters) == [*range(HERD - WAKES, 0, -WAKES), 0]
    assert await asyncio.gather(*tasks) == [0] * HERD


async def test_waits_for_results_end_a_slice_a_turn(backend: LocalBackend, clock: TurnClock) -> None:
    """A herd of waits for one job's result that end together is answered in slices too."""
    await fill(backend, 1)
    tasks = [asyncio.create_task(backend.job("j0", 10.0)) for _ in range(HERD)]
    await asyncio.sleep(0)
    clock.advance(10)
    assert await per_turn(lambda: backend.totals().waiters) == [*range(HERD - WAKES, 0, -WAKES), 0]
    assert {job.id for job in await asyncio.gather(*tasks)} == {"j0"}


async def test_leases_that_end_together_are_ended_a_slice_a_turn(backend: LocalBackend, clock: TurnClock) -> None:
    """A herd of leases that run out in one instant is ended in slices."""
    await fill(backend, HERD)
    while await take(backend, limit=1_000):
        pass
    clock.advance(10)
    assert await per_turn(lambda: backend.totals().leases) == [HERD - done for done in GROWING]
    assert (await backend.queue("default")).queued == HERD


async def test_delayed_jobs_that_fall_due_together_are_queued_a_slice_a_turn(backend: LocalBackend, clock: TurnClock) -> None:
    """A herd of jobs with one run_at joins the queue in slices, in order."""
    await fill(backend, HERD, delay=10.0)
    clock.advance(10)
    assert await per_turn(lambda: backend.engine.queues["default"].queued) == GROWING
    assert [job_id for job_id, _ in await take(backend, limit=1_000)] == [f"j{n}" for n in range(1_000)]


async def test_what_falls_due_is_worked_off_the_faster_the_more_there_is(backend: LocalBackend, clock: TurnClock) -> None:
    """Each turn that leaves something doubles the next one's share, so long turns let nothing pile up; then it is small again."""
    await fill(backend, 7 * SLICE_FIRST, delay=10.0)
    clock.advance(10)
    queued = await per_turn(lambda: backend.engine.queues["default"].queued)
    assert queued == [SLICE_FIRST, 3 * SLICE_FIRST, 7 * SLICE_FIRST]
    await backend.enqueue_batch([JobSpec(payload=b"1", queue="b", delay=10.0) for _ in range(SLICE_FIRST + 1)])
    clock.advance(10)
    assert await per_turn(lambda: backend.engine.queues["b"].queued) == [SLICE_FIRST, SLICE_FIRST + 1]


async def test_a_turns_share_shrinks_while_due_jobs_take_long(backend: LocalBackend, clock: TurnClock) -> None:
    """Where each tick takes longer than its time, the next one handles half as many, down to a least number."""
    await fill(backend, 4 * SLICE_FIRST, delay=10.0)
    clock.tick_seconds = 0.01
    clock.advance(10)
    queued = await per_turn(lambda: backend.engine.queues["default"].queued)
    shares = [after - before for before, after in zip([0, *queued], queued, strict=False)]
    assert shares[:3] == [SLICE_FIRST, SLICE_FIRST // 2, SLICE_MIN]
    assert min(shares[:-1]) >= SLICE_MIN


async def test_a_late_ticker_reads_before_it_ends_a_lease(backend: LocalBackend, clock: TurnClock) -> None:
    """After a long turn a lease that ran out in it is live for a few turns more, while what was sent meanwhile is read; then it ends."""
    await fill(backend, 2)
    (heard, token), _ = await take(backend, limit=2)
    clock.advance(9.9)
    clock.stand_still(0.15)
    clock.advance(0)
    for _ in range(READ_TURNS - 1):
        assert backend.totals().leases == 2
        await asyncio.sleep(0)
    extended = await backend.extend(Extend(heard, token))
    assert extended.lease is not None
    await asyncio.sleep(0)
    assert backend.totals().leases == 1
    assert (await backend.job(heard)).lease == extended.lease


@pytest.mark.parametrize(("turn", "most"), [(0.05, 0.5), (0.4, 7.6)], ids=["busy", "hardly turning"])
async def test_a_silent_lease_ends_though_every_turn_is_long(backend: LocalBackend, clock: TurnClock, turn: float, most: float) -> None:
    """However long the loop is slow and however much falls due, a lease that nobody extends ends a few turns after its time, prolonged once
    at most.
    """
    await fill(backend, 1)
    await take(backend, lease_seconds=2.0)
    ends, began, prolonged = clock.now() + 2.0, clock.now(), []
    while backend.totals().leases:
        await backend.enqueue(JobSpec(payload=b"1", queue="d", delay=0.001))
        lease = (await backend.job("j0")).lease
        if lease is not None and lease.expires_at not in prolonged:
            prolonged.append(lease.expires_at)
        clock.stand_still(turn)
        clock.advance(0)
        await asyncio.sleep(0)
        assert clock.now() - began < 60
    assert ends <= clock.now() <= ends + most
    assert len(prolonged) <= 2


async def test_work_goes_on_between_slices(backend: LocalBackend, clock: TurnClock) -> None:
    """While a herd of leases ends, an extend that comes between two slices saves its own."""
    await fill(backend, 1_000)
    leases = await take(backend, limit=1_000)
    clock.advance(10)
    job_id, token = leases[-1]
    extended = await backend.extend(Extend(job_id, token))
    assert extended.lease is not None
    assert (await per_turn(lambda: backend.totals().leases))[-1] == 1
    assert (await backend.job(job_id)).lease == extended.lease


async def test_nothing_polls(backend: LocalBackend, clock: TurnClock) -> None:
    """While nothing falls due no timer fires, however long that is; then exactly one does."""
    await fill(backend, 1)
    await take(backend, lease_seconds=3_600)
    tasks = [asyncio.create_task(hold(backend, 1_000.0, "empty")) for _ in range(10)]
    await asyncio.sleep(0)
    clock.advance(999)
    assert clock.fired == 0
    clock.advance(1)
    assert clock.fired == 1
    assert await asyncio.gather(*tasks) == [0] * 10
    assert clock.set_at[-1] == clock.now() + 2_600


async def test_an_idle_backend_sets_no_timer(backend: LocalBackend, clock: TurnClock) -> None:
    """Queued jobs alone are never due: no timer is set for them."""
    await fill(backend, 10)
    clock.advance(1_000_000)
    assert (clock.set_at, clock.fired) == ([], 0)


async def test_an_earlier_end_moves_the_timer_forward(backend: LocalBackend, clock: TurnClock) -> None:
    """A wait shorter than anything due so far is answered in its time; the later one keeps its own."""
    long = asyncio.create_task(hold(backend, 100.0))
    await asyncio.sleep(0)
    short = asyncio.create_task(hold(backend, 10.0))
    await asyncio.sleep(0)
    clock.advance(10)
    await asyncio.sleep(0)
    assert (await short, long.done()) == (0, False)
    clock.advance(90)
    assert await long == 0
    assert clock.fired == 2


async def test_extending_a_lease_sets_no_timer(backend: LocalBackend, clock: TurnClock) -> None:
    """A heartbeat leaves the timer where it is; when that comes up, it is set to the lease's new end."""
    await fill(backend, 1)
    ((job_id, token),) = await take(backend)
    for _ in range(100):
        clock.advance(0.0625)
        await backend.extend(Extend(job_id, token))
    assert (len(clock.set_at), clock.fired) == (1, 0)
    end = clock.now() + 10
    clock.advance(end - clock.now() - 1)
    assert (await backend.job(job_id)).lease is not None
    assert (clock.fired, clock.set_at[-1]) == (1, end)
    clock.advance(1)
    assert (await backend.job(job_id)).lease is None


async def test_a_closed_backend_keeps_no_timer(backend: LocalBackend, clock: TurnClock) -> None:
    """After close nothing fires any more, also for what was still to come."""
    await fill(backend, 1)
    await take(backend)
    await backend.close()
    clock.advance(1_000)
    assert clock.fired == 0
