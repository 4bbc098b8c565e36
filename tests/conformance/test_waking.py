"""Promise 5: exactly one waiter wakes per job, at once, in FIFO order, for every cause that makes a job available."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest

from jobqueue.backend.base import Extend
from jobqueue.policy import Backoff, QueuePolicy

from .rig import FAILED, FAILED_FOR_GOOD, Rig, spec, token, want


class Cause(NamedTuple):
    """A cause about to happen: after `wait` seconds and then `act`, the job "j" becomes available; its next attempt is number `attempt`."""

    act: Callable[[], Awaitable[object]] | None = None
    wait: float = 0.0
    attempt: int = 1


async def new_job(rig: Rig) -> Cause:
    return Cause(lambda: rig.put("j"))


async def new_job_in_a_batch(rig: Rig) -> Cause:
    return Cause(lambda: rig.backend.enqueue_batch([spec("j")]))


async def delay_over(rig: Rig) -> Cause:
    await rig.put("j", delay=10)
    return Cause(wait=10)


async def run_at_reached(rig: Rig) -> Cause:
    await rig.put("j", run_at=rig.utc() + 10)
    return Cause(wait=10)


async def backoff_over(rig: Rig) -> Cause:
    # Jitter draws the delay from 0 to 8 s: by then, if not before.
    await rig.put("j", backoff=Backoff(base=8, factor=1, cap=8))
    await rig.backend.conclude("j", token(await rig.take()), FAILED)
    scheduled = await rig.backend.job("j")
    assert scheduled.run_at is not None
    return Cause(wait=scheduled.run_at - rig.utc() + 0.001, attempt=2)


async def lease_expired(rig: Rig) -> Cause:
    await rig.put("j")
    await rig.take(lease_seconds=10)
    return Cause(wait=10, attempt=2)


async def lease_expired_after_an_extend(rig: Rig) -> Cause:
    await rig.put("j")
    job = await rig.take(lease_seconds=10)
    await rig.advance(5)
    await rig.backend.extend(Extend("j", token(job)))
    return Cause(wait=10, attempt=2)


async def release(rig: Rig) -> Cause:
    await rig.put("j")
    job = await rig.take()
    return Cause(lambda: rig.backend.release("j", token(job), 0))


async def release_with_a_delay(rig: Rig) -> Cause:
    await rig.put("j")
    await rig.backend.release("j", token(await rig.take()), 10)
    return Cause(wait=10)


async def undelivered(rig: Rig) -> Cause:
    await rig.put("j")
    taking = rig.backend.dequeue(want(), 0)
    await taking.__aenter__()
    return Cause(lambda: taking.__aexit__(None, None, None))


async def retry(rig: Rig) -> Cause:
    await rig.put("j")
    await rig.backend.cancel("j")
    return Cause(lambda: rig.backend.retry("j"))


async def redrive(rig: Rig) -> Cause:
    await rig.finish("j", FAILED_FOR_GOOD)
    return Cause(lambda: rig.backend.retry_failed("default"))


async def resume(rig: Rig) -> Cause:
    await rig.put("j")
    await rig.backend.set_paused("default", True)
    return Cause(lambda: rig.backend.set_paused("default", False))


async def policy_that_resumes(rig: Rig) -> Cause:
    await rig.backend.put_policy("default", QueuePolicy(paused=True))
    await rig.put("j")
    return Cause(lambda: rig.backend.put_policy("default", QueuePolicy()))


CAUSES = [
    new_job,
    new_job_in_a_batch,
    delay_over,
    run_at_reached,
    backoff_over,
    lease_expired,
    lease_expired_after_an_extend,
    release,
    release_with_a_delay,
    undelivered,
    retry,
    redrive,
    resume,
    policy_that_resumes,
]

Prepare = Callable[[Rig], Awaitable[Cause]]

every_cause = pytest.mark.parametrize("prepare", CAUSES, ids=[cause.__name__ for cause in CAUSES])


async def happen(rig: Rig, cause: Cause, then: Callable[[], object] = lambda: None) -> None:
    """Let the cause happen; call `then` right after it, before whoever it woke has run, if the backend's way of waking allows that."""
    if cause.wait:
        await rig.advance(cause.wait, then)
    if cause.act is not None:
        await cause.act()
        then()


@every_cause
async def test_exactly_the_oldest_waiter_is_woken_at_once(rig: Rig, prepare: Prepare) -> None:
    """The cause hands the job to the waiter that has stood longest and leaves the others standing."""
    cause = await prepare(rig)
    line = [await rig.stand() for _ in range(3)]
    if cause.wait > 0.01:  # jitter may draw less
        await rig.advance(cause.wait / 2)
        assert [waiter.answered for waiter in line] == [False, False, False]
        cause = cause._replace(wait=cause.wait / 2)

    await happen(rig, cause)
    await rig.idle()

    assert [waiter.answered for waiter in line] == [True, False, False]
    (job,) = line[0].jobs
    assert (job.id, job.attempts) == ("j", cause.attempt)
    assert (await rig.backend.stats()).waiters == 2
    assert (await rig.backend.stats()).leases == 1


@every_cause
async def test_the_others_are_served_in_turn(rig: Rig, prepare: Prepare) -> None:
    """After the cause, the next job goes to the next waiter: the cause neither used up nor reordered the line."""
    cause = await prepare(rig)
    line = [await rig.stand() for _ in range(3)]
    await happen(rig, cause)

    await rig.put_all("second", "third")
    await rig.idle()

    assert [waiter.ids for waiter in line] == [["j"], ["second"], ["third"]]


@every_cause
async def test_a_waiter_cancelled_just_before_is_passed_over(rig: Rig, prepare: Prepare) -> None:
    """A waiter whose client vanishes in the turn of the cause, ahead of it, leaves the job to the next in line, its attempt not counted."""
    cause = await prepare(rig)
    gone, waiter = await rig.stand(), await rig.stand()

    gone.task.cancel()
    await happen(rig, cause)
    await rig.idle()

    assert gone.task.cancelled()
    (job,) = waiter.jobs
    assert (job.id, job.attempts) == ("j", cause.attempt)
    assert (await rig.backend.stats()).waiters == 0


@every_cause
async def test_a_waiter_cancelled_just_after_passes_the_job_on(rig: Rig, prepare: Prepare) -> None:
    """A waiter that was handed the job and vanishes in that turn gives it to the next in line, its attempt not counted."""
    cause = await prepare(rig)
    gone, waiter = await rig.stand(), await rig.stand()

    await happen(rig, cause, then=gone.task.cancel)
    await rig.idle()

    if gone.task.cancelled():
        assert [(job.id, job.attempts) for job in waiter.jobs] == [("j", cause.attempt)]
    else:
        # A backend that had run the first waiter by then has delivered the job; what none may do is lose it or give it twice.
        assert (gone.ids, waiter.answered) == (["j"], False)
    assert (await rig.backend.stats()).leases == 1


@every_cause
async def test_a_job_nobody_waits_for_is_there_for_the_next_dequeue(rig: Rig, prepare: Prepare) -> None:
    """With no waiter standing the cause leaves the job available, and a dequeue that does not wait takes it."""
    cause = await prepare(rig)
    assert await rig.take_all() == []
    await happen(rig, cause)

    job = await rig.take()

    assert (job.id, job.attempts) == ("j", cause.attempt)
