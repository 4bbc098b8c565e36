"""Promise 4: a lost answer can be asked for again. A dequeue with a known attempt_id is answered the same jobs and leases."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from jobqueue.model import Job, Status

from .rig import FAILED, SUCCEEDED, Rig, token, want


def held(jobs: list[Job]) -> list[tuple[str, str, int]]:
    return [(job.id, token(job), job.attempts) for job in jobs]


async def test_the_same_jobs_and_leases_are_answered_again(rig: Rig) -> None:
    """A repeat with the same attempt_id gets the same jobs under the same leases, no attempt counted, no other job taken."""
    await rig.put_all("a", "b", "c")
    first = await rig.take_all(limit=2, attempt_id="x")
    again = await rig.take_all(limit=2, attempt_id="x")
    assert held(again) == held(first)
    assert [job.lease and job.lease.expires_at for job in again] == [job.lease and job.lease.expires_at for job in first]
    assert (await rig.backend.stats()).leases == 2
    assert [job.id for job in await rig.take_all(limit=2)] == ["c"]


async def test_a_repeat_is_answered_without_waiting(rig: Rig) -> None:
    """A repeat with a wait is answered at once, though no job is available, and also to one that was handed its jobs in line."""
    waiter = await rig.stand(attempt_id="x")
    await rig.put("j")
    await rig.idle()
    again = rig.hold(attempt_id="x")
    await rig.idle()
    assert held(again.jobs) == held(waiter.jobs)
    assert (await rig.backend.stats()).waiters == 0


async def test_other_attempts_are_not_answered_each_others_jobs(rig: Rig) -> None:
    """An attempt_id sees its own leases only, and so does a dequeue without one."""
    await rig.put_all("a", "b", "c")
    assert (await rig.take(attempt_id="x")).id == "a"
    assert (await rig.take(attempt_id="y")).id == "b"
    assert (await rig.take()).id == "c"
    assert (await rig.take(attempt_id="x")).id == "a"


async def test_a_newer_waiter_of_the_same_attempt_takes_the_older_ones_place(rig: Rig) -> None:
    """The older waiter of an attempt is answered [] as soon as a newer one stands, and the next job goes to the newer."""
    older = await rig.stand(attempt_id="x")
    newer = await rig.stand(attempt_id="x")
    assert (older.answered, older.jobs) == (True, [])
    assert (await rig.backend.stats()).waiters == 1
    await rig.put("j")
    await rig.idle()
    assert newer.ids == ["j"]


async def test_a_newer_request_that_is_served_at_once_answers_the_older_waiter(rig: Rig) -> None:
    """A repeat that finds a job in another queue ends the older waiter of its attempt, which gets [] and takes nothing more."""
    await rig.put("j", queue="b")
    older = await rig.stand("a", attempt_id="x")
    newer = rig.hold("b", attempt_id="x")
    await rig.idle()
    assert newer.ids == ["j"]
    assert (older.answered, older.jobs) == (True, [])
    assert (await rig.backend.stats()).waiters == 0


async def test_a_newer_request_that_does_not_wait_answers_the_older_waiter(rig: Rig) -> None:
    """A repeat with wait 0 that finds nothing ends the older waiter of its attempt too: no job goes to a request that was given up."""
    older = await rig.stand(attempt_id="x")
    assert await rig.take_all(attempt_id="x") == []
    await rig.idle()
    assert (older.answered, older.jobs) == (True, [])
    assert (await rig.backend.stats()).waiters == 0


async def test_a_cancelled_waiter_of_an_attempt_leaves_the_newer_one_standing(rig: Rig) -> None:
    """The older request's end, when it comes, does not touch the newer one that took its place."""
    older = await rig.stand(attempt_id="x")
    newer = rig.hold(attempt_id="x")
    await rig.idle()
    older.task.cancel()
    await rig.idle()
    newest = await rig.stand(attempt_id="x")
    assert (newer.answered, newer.jobs) == (True, [])
    await rig.put("j")
    await rig.idle()
    assert newest.ids == ["j"]


async def test_a_replay_that_is_not_delivered_puts_nothing_back(rig: Rig) -> None:
    """The first answer may have arrived, so a repeat whose write fails leaves the lease as it is."""
    await rig.put("j")
    first = await rig.take(attempt_id="x")
    async with rig.backend.dequeue(want(attempt_id="x"), 0) as jobs:
        assert held(jobs) == held([first])
    job = await rig.backend.job("j")
    assert (job.status, token(job), job.attempts) == (Status.IN_PROGRESS, token(first), 1)
    await rig.backend.conclude("j", token(first), SUCCEEDED)


async def test_a_first_answer_that_fails_after_a_replay_puts_nothing_back(rig: Rig) -> None:
    """Once the repeat was answered the first request's failed write proves nothing: the repeat's worker keeps the lease."""
    await rig.put("j")
    async with rig.backend.dequeue(want(attempt_id="x"), 0):
        again = await rig.take(attempt_id="x")
    await rig.backend.conclude("j", token(again), SUCCEEDED)


async def test_an_answer_that_failed_is_dequeued_afresh(rig: Rig) -> None:
    """When the first write is known to have failed, the repeat takes the job anew: another lease, still attempt 1."""
    await rig.put("j")
    async with rig.backend.dequeue(want(attempt_id="x"), 0) as (lost,):
        pass
    job = await rig.take(attempt_id="x")
    assert (job.id, job.attempts) == ("j", 1)
    assert token(job) != token(lost)


async def _conclude(rig: Rig, job: Job) -> None:
    await rig.backend.conclude(job.id, token(job), SUCCEEDED)


async def _fail(rig: Rig, job: Job) -> None:
    await rig.backend.conclude(job.id, token(job), FAILED)


async def _release(rig: Rig, job: Job) -> None:
    await rig.backend.release(job.id, token(job), 3_600)


async def _expire(rig: Rig, job: Job) -> None:
    await rig.advance(10)
    assert (await rig.take()).id == job.id


@pytest.mark.parametrize("end", [_conclude, _fail, _release, _expire])
async def test_after_the_lease_ended_the_attempt_is_fresh(rig: Rig, end: Callable[[Rig, Job], Awaitable[None]]) -> None:
    """A lease that ended in any way is not answered again: the attempt_id dequeues what is available then."""
    await rig.put("a")
    await end(rig, await rig.take(attempt_id="x", lease_seconds=10))
    assert await rig.take_all(attempt_id="x") == []
    await rig.put("b")
    assert (await rig.take(attempt_id="x")).id == "b"


async def test_only_leases_that_live_are_answered_again(rig: Rig) -> None:
    """Of a batch of which one job is concluded, the repeat gets the rest."""
    await rig.put_all("a", "b", "c")
    jobs = await rig.take_all(limit=3, attempt_id="x")
    await rig.backend.conclude("b", token(jobs[1]), SUCCEEDED)
    assert held(await rig.take_all(limit=3, attempt_id="x")) == held([jobs[0], jobs[2]])


async def test_a_paused_queue_still_answers_a_repeat(rig: Rig) -> None:
    """Pausing stops new leases, not the answer to a worker that asks again for the one it has."""
    await rig.put("j")
    first = await rig.take(attempt_id="x")
    await rig.backend.set_paused("default", True)
    assert held([await rig.take(attempt_id="x")]) == held([first])
