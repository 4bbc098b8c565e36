"""Reading a job, and waiting for its result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from jobqueue.backend.base import Conclude
from jobqueue.errors import TooManyWaiters, UnknownJob
from jobqueue.model import Job, Outcome, Status
from jobqueue.policy import Backoff

from .conftest import MakeBackend
from .rig import FAILED, FAILED_FOR_GOOD, SUCCEEDED, Rig, raised, token

Watch = Callable[..., Awaitable[asyncio.Task[Job]]]


@pytest.fixture
async def watch(rig: Rig) -> AsyncIterator[Watch]:
    """Starts requests that wait for a job's end."""
    tasks: list[asyncio.Task[Job]] = []

    async def start(job_id: str, wait: float = 60.0) -> asyncio.Task[Job]:
        task = asyncio.create_task(rig.backend.job(job_id, wait))  # type: ignore[arg-type]
        tasks.append(task)
        await rig.idle()
        return task

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_without_a_wait_a_job_is_answered_as_it_stands(rig: Rig) -> None:
    """Reading a job of any status answers at once; an unknown id raises UnknownJob, with a wait too."""
    await rig.put("j")
    assert (await rig.backend.job("j")).status is Status.QUEUED
    assert isinstance(await raised(rig.backend.job("no")), UnknownJob)
    assert isinstance(await raised(rig.backend.job("no", 60)), UnknownJob)
    assert (await rig.backend.stats()).waiters == 0


async def succeed(rig: Rig, job: Job) -> None:
    await rig.backend.conclude("j", token(job), SUCCEEDED)


async def fail_for_good(rig: Rig, job: Job) -> None:
    await rig.backend.conclude("j", token(job), FAILED_FOR_GOOD)


async def fail_in_a_batch(rig: Rig, job: Job) -> None:
    await rig.backend.conclude_batch([Conclude("j", token(job), FAILED_FOR_GOOD)])


async def cancel(rig: Rig, job: Job) -> None:
    await rig.backend.release("j", token(job), 0)
    await rig.backend.cancel("j")


async def purge(rig: Rig, job: Job) -> None:
    await rig.backend.release("j", token(job), 0)
    await rig.backend.purge("default")


async def expire(rig: Rig, job: Job) -> None:
    await rig.backend.release("j", token(job), 0)
    await rig.advance(30)


async def run_out_of_attempts(rig: Rig, job: Job) -> None:
    await rig.advance(20)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (succeed, Outcome.SUCCEEDED),
        (fail_for_good, Outcome.FAILED),
        (fail_in_a_batch, Outcome.FAILED),
        (cancel, Outcome.CANCELLED),
        (purge, Outcome.CANCELLED),
        (expire, Outcome.EXPIRED),
        (run_out_of_attempts, Outcome.FAILED),
    ],
)
async def test_who_waits_for_a_result_is_woken_at_the_end(
    rig: Rig, watch: Watch, end: Callable[[Rig, Job], Awaitable[None]], outcome: Outcome
) -> None:
    """Whatever concludes a job answers everyone who waits for it at once with the concluded job, and nobody else."""
    await rig.put("j", expires_in=30, max_attempts=1)
    job = await rig.take(lease_seconds=20)
    await rig.put("other", queue="other")
    watching = [await watch("j") for _ in range(3)]
    elsewhere = await watch("other")
    assert not any(task.done() for task in watching)

    await end(rig, job)
    await rig.idle()

    assert [(await task).outcome for task in watching] == [outcome] * 3
    assert (await watching[0]).status is Status.CONCLUDED
    assert not elsewhere.done()
    assert (await rig.backend.stats()).waiters == 1


async def test_a_result_comes_with_the_job(rig: Rig, watch: Watch) -> None:
    """The answer holds the result that the worker concluded with."""
    await rig.put("j")
    job = await rig.take()
    task = await watch("j")
    await rig.backend.conclude("j", token(job), SUCCEEDED)
    conclusion = (await task).conclusion
    assert conclusion is not None
    assert conclusion.result == b'"done"'


async def test_a_failure_that_is_retried_wakes_nobody(rig: Rig, watch: Watch) -> None:
    """Only the end of a job answers: not a hand-out, a failed attempt, a release, or an expired lease with attempts left."""
    await rig.put("j", backoff=Backoff(base=0, factor=1, cap=0))
    task = await watch("j", 300)
    await rig.backend.conclude("j", token(await rig.take()), FAILED)
    await rig.idle()
    await rig.backend.release("j", token(await rig.take()), 0)
    await rig.take(lease_seconds=10)
    await rig.advance(10)
    assert not task.done()
    await rig.backend.cancel("j")
    assert (await task).outcome is Outcome.CANCELLED


async def test_a_concluded_job_is_answered_at_once(rig: Rig) -> None:
    """Waiting for a job that has ended takes no time and no place."""
    await rig.finish("j")
    assert (await rig.backend.job("j", 60)).outcome is Outcome.SUCCEEDED
    assert (await rig.backend.stats()).waiters == 0


async def test_a_wait_that_passes_answers_the_job_as_it_stands(rig: Rig, watch: Watch) -> None:
    """When the wait ends first, the job is answered in the status it has then."""
    await rig.put("j")
    task = await watch("j", 10)
    await rig.take()
    await rig.advance(9)
    assert not task.done()
    await rig.advance(1)
    job = await task
    assert (job.status, job.attempts) == (Status.IN_PROGRESS, 1)
    assert (await rig.backend.stats()).waiters == 0


async def test_a_cancelled_wait_is_forgotten(rig: Rig, watch: Watch) -> None:
    """A client that gives up waiting leaves nothing behind and disturbs nobody who waits for the same job."""
    await rig.put("j")
    gone, stays = await watch("j"), await watch("j")
    gone.cancel()
    await rig.idle()
    assert (await rig.backend.stats()).waiters == 1
    await rig.backend.cancel("j")
    assert (await stays).outcome is Outcome.CANCELLED


async def test_a_wait_cancelled_as_the_job_ends_disturbs_nobody(rig: Rig, watch: Watch) -> None:
    """A client that vanishes in the turn in which the job ends, before or after, leaves the other waits answered."""
    await rig.put("j")
    before, stays, after = await watch("j"), await watch("j"), await watch("j")
    before.cancel()
    await rig.backend.cancel("j")
    after.cancel()
    await rig.idle()
    assert (await stays).outcome is Outcome.CANCELLED
    assert before.cancelled()
    assert (await rig.backend.stats()).waiters == 0


async def test_a_job_history_forgets_at_once_is_still_answered(make_backend: MakeBackend) -> None:
    """Who waits for a job is told its end even when history keeps no job at all."""
    rig = await make_backend(history_jobs_max=0)
    await rig.put("j")
    task = asyncio.create_task(rig.backend.job("j", 60))  # type: ignore[arg-type]
    await rig.idle()
    await rig.backend.cancel("j")
    assert (await task).outcome is Outcome.CANCELLED
    assert isinstance(await raised(rig.backend.job("j")), UnknownJob)


@pytest.mark.one_partition("each partition has its own bound of waiting requests")
async def test_waits_for_results_count_as_waiters(make_backend: MakeBackend) -> None:
    """At waiters_max a wait for a result raises TooManyWaiters; one without a wait is answered."""
    rig = await make_backend(waiters_max=1)
    await rig.put("j")
    waiter = await rig.stand("other")
    assert isinstance(await raised(rig.backend.job("j", 60)), TooManyWaiters)
    assert (await rig.backend.job("j")).status is Status.QUEUED
    assert not waiter.answered
