"""Promise 9: a step of the wall clock moves no lease. And a process that stood still takes no lease from a worker it did not hear."""

from __future__ import annotations

import pytest

from jobqueue.backend.base import Extend
from jobqueue.model import Job, Outcome, Status

from .rig import FAILED_FOR_GOOD, Rig, spec, token

DAY = 86_400.0

both_ways = pytest.mark.parametrize("step", [DAY, -DAY], ids=["forward", "back"])


@both_ways
async def test_a_clock_step_ends_no_lease_and_keeps_none_alive(rig: Rig, step: float) -> None:
    """A lease given before the step ends after as many seconds as it was given for."""
    await rig.put("j")
    await rig.take(lease_seconds=10)
    waiter = await rig.stand(wait=30)
    rig.step_wall_clock(step)
    await rig.advance(9)
    assert not waiter.answered
    await rig.advance(1)
    assert [job.attempts for job in waiter.jobs] == [2]


@both_ways
async def test_a_clock_step_moves_no_delay_no_expiry_and_no_wait(rig: Rig, step: float) -> None:
    """Delays, expires_in and held requests last as long as they were asked for, whatever the wall clock does."""
    await rig.put("delayed", delay=10, queue="d")
    await rig.put("expiring", expires_in=10, queue="e")
    short, waiter = await rig.stand("w", wait=10), await rig.stand("d")
    rig.step_wall_clock(step)
    await rig.advance(9)
    assert (short.answered, waiter.answered, (await rig.backend.job("expiring")).status) == (False, False, Status.QUEUED)
    await rig.advance(1)
    assert (short.answered, waiter.ids) == (True, ["delayed"])
    assert (await rig.backend.job("expiring")).outcome is Outcome.EXPIRED


@both_ways
async def test_reported_times_follow_the_wall_clock(rig: Rig, step: float) -> None:
    """Every time in a reply is UTC as the wall clock shows it now, also of things that happened before the step."""
    before = rig.utc()
    await rig.put("leased", expires_in=1_000)
    await rig.put("ended", queue="e")
    await rig.backend.conclude("ended", token(await rig.take("e")), FAILED_FOR_GOOD)
    await rig.put("scheduled", queue="s", delay=60)
    await rig.put("queued", queue="q")
    job = await rig.take(lease_seconds=100)
    rig.step_wall_clock(step)

    leased, ended, scheduled = await rig.backend.job("leased"), await rig.backend.job("ended"), await rig.backend.job("scheduled")
    assert leased.lease is not None
    assert ended.conclusion is not None
    assert rig.utc() == before + step
    assert [attempt.ended_at for attempt in ended.past] == [ended.conclusion.concluded_at] == [before + step]
    assert (leased.created_at, leased.expires_at) == (before + step, before + step + 1_000)
    assert (leased.lease.started_at, leased.lease.expires_at) == (before + step, before + step + 100)
    assert (ended.conclusion.started_at, ended.conclusion.concluded_at) == (before + step, before + step)
    assert scheduled.run_at == before + step + 60
    assert (await rig.backend.queue("q")).oldest_queued_at == before + step
    extended = await rig.backend.extend(Extend("leased", token(job), 200.0))
    assert extended.lease is not None
    assert extended.lease.expires_at == rig.utc() + 200


@both_ways
async def test_run_at_means_the_wall_clock_when_it_was_sent(rig: Rig, step: float) -> None:
    """A run_at sent after the step is so many seconds away as the stepped clock says, and a repeat of it is a repeat."""
    rig.step_wall_clock(step)
    run_at = rig.utc() + 10
    job = await rig.put("j", run_at=run_at)
    assert (job.status, job.run_at) == (Status.SCHEDULED, run_at)
    await rig.put("j", run_at=run_at)
    waiter = await rig.stand()
    await rig.advance(9)
    assert not waiter.answered
    await rig.advance(1)
    assert waiter.ids == ["j"]


async def test_after_a_stall_an_extend_that_was_not_heard_is_accepted(rig: Rig) -> None:
    """A lease that ran out while the process stood still is there for its worker, whose extend arrives right after."""
    await rig.put("j")
    job = await rig.take(lease_seconds=10)
    waiter = await rig.stand(wait=100)
    await rig.advance(8)
    await rig.stall(5)
    extended = await rig.backend.extend(Extend("j", token(job)))
    assert extended.lease is not None
    assert extended.lease.expires_at == rig.utc() + 10
    await rig.advance(9)
    assert not waiter.answered


async def test_after_a_stall_no_worker_of_many_loses_its_lease(rig: Rig) -> None:
    """A stall past the end of two thousand leases ends none of those that are extended right after it."""
    await rig.backend.enqueue_batch([spec(f"j{n}") for n in range(1_000)])
    await rig.backend.enqueue_batch([spec(f"j{n}") for n in range(1_000, 2_000)])
    jobs = [job for _ in range(2) for job in await rig.take_all(limit=1_000, lease_seconds=10)]
    assert len(jobs) == 2_000
    await rig.stall(15)
    replies = await rig.backend.extend_batch([Extend(job.id, token(job)) for job in jobs])
    assert [reply for reply in replies if not isinstance(reply, Job)] == []


async def test_a_worker_that_died_before_a_stall_loses_its_lease_soon_after(rig: Rig) -> None:
    """The grace after a stall ends: a job that nobody extends is redelivered."""
    await rig.put("j")
    await rig.take(lease_seconds=10)
    await rig.stall(15)
    waiter = await rig.stand(wait=100)
    await rig.advance(20)
    assert [job.attempts for job in waiter.jobs] == [2]


async def test_after_a_stall_waits_and_delays_that_passed_are_over(rig: Rig) -> None:
    """The grace is the leases' alone: a wait that ended meanwhile is answered, a job that fell due is handed out."""
    await rig.put("j", delay=10)
    short = await rig.stand("other", wait=10)
    waiter = await rig.stand(wait=100)
    await rig.stall(15)
    assert (short.answered, short.jobs, waiter.ids) == (True, [], ["j"])


async def test_time_alone_changes_nothing(rig: Rig) -> None:
    """A queued job waits for a worker as long as it takes, and many workers may wait at once while time passes."""
    await rig.put("j", queue="a")
    line = [await rig.stand("b", wait=1_000_000) for _ in range(3)]
    await rig.advance(30 * DAY / 64)
    assert [waiter.answered for waiter in line] == [False] * 3
    assert (await rig.take("a")).attempts == 1
