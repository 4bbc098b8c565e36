"""Cancel, retry, purge, and retry of all that failed."""

from __future__ import annotations

import pytest

from jobqueue.backend.base import Extend
from jobqueue.errors import LeaseLost, NotInProgress, NotRetryable, QueueFull, UnknownJob, UnknownQueue
from jobqueue.model import Outcome, Status, Verdict
from jobqueue.policy import Backoff, QueuePolicy

from .conftest import MakeBackend
from .rig import FAILED, FAILED_FOR_GOOD, SUCCEEDED, Rig, raised, token


async def test_a_job_that_waits_is_cancelled_at_once(rig: Rig) -> None:
    """Cancelling a queued or a scheduled job concludes it, and it is handed to nobody."""
    await rig.put("queued")
    await rig.put("scheduled", delay=10)
    for job_id in ("queued", "scheduled"):
        job = await rig.backend.cancel(job_id)
        assert (job.status, job.outcome) == (Status.CONCLUDED, Outcome.CANCELLED)
    waiter = await rig.stand()
    await rig.advance(10)
    assert not waiter.answered


async def test_a_job_in_progress_is_asked_to_stop(rig: Rig) -> None:
    """Cancelling a leased job leaves the lease; the next extend tells its worker."""
    await rig.put("j")
    job = await rig.take()
    asked = await rig.backend.cancel("j")
    assert asked.status is Status.IN_PROGRESS
    extended = await rig.backend.extend(Extend("j", token(job)))
    assert extended.lease is not None
    assert extended.lease.cancel_requested


@pytest.mark.parametrize("verdict", [SUCCEEDED, FAILED, FAILED_FOR_GOOD])
async def test_a_cancelled_job_ends_as_cancelled_however_its_worker_concludes(rig: Rig, verdict: Verdict) -> None:
    """Once a cancel was requested, any conclude ends the job as cancelled, and may be repeated."""
    await rig.put("j")
    job = await rig.take()
    await rig.backend.cancel("j")
    ended = await rig.backend.conclude("j", token(job), verdict)
    assert ended.outcome is Outcome.CANCELLED
    assert (await rig.backend.conclude("j", token(job), verdict)).conclusion == ended.conclusion


async def test_a_cancelled_job_ends_when_it_is_released_or_its_lease_ends(rig: Rig) -> None:
    """A cancel request survives release and expiry: the job is concluded as cancelled, not redelivered."""
    await rig.put_all("released", "expired")
    released, _ = await rig.take_all(limit=2, lease_seconds=10)
    await rig.backend.cancel("released")
    await rig.backend.cancel("expired")
    assert (await rig.backend.release("released", token(released), 0)).outcome is Outcome.CANCELLED
    await rig.advance(10)
    assert (await rig.backend.job("expired")).outcome is Outcome.CANCELLED
    assert await rig.take_all() == []


async def test_a_concluded_job_cannot_be_cancelled(rig: Rig) -> None:
    """Cancelling a concluded job raises NotInProgress and changes nothing; an unknown one raises UnknownJob."""
    ended = await rig.finish("j")
    assert isinstance(await raised(rig.backend.cancel("j")), NotInProgress)
    assert (await rig.backend.job("j")).conclusion == ended.conclusion
    assert isinstance(await raised(rig.backend.cancel("no")), UnknownJob)


async def test_a_job_that_did_not_succeed_can_be_retried(rig: Rig) -> None:
    """A failed, cancelled or expired job goes to the back of its queue with attempts 0 and without its error or its old expiry."""
    await rig.finish("failed", FAILED_FOR_GOOD)
    await rig.put("cancelled")
    await rig.backend.cancel("cancelled")
    await rig.put("expired", expires_in=10)
    await rig.advance(10)
    await rig.put("younger")
    for job_id in ("failed", "cancelled", "expired"):
        job = await rig.backend.retry(job_id)
        assert (job.status, job.attempts, job.error, job.outcome) == (Status.QUEUED, 0, None, None)
    await rig.advance(60)
    jobs = await rig.take_all(limit=10)
    assert [(job.id, job.attempts) for job in jobs] == [("younger", 1), ("failed", 1), ("cancelled", 1), ("expired", 1)]


async def test_the_lease_of_a_former_life_is_dead(rig: Rig) -> None:
    """After a retry, the token that concluded the job before is refused."""
    await rig.put("j")
    former = await rig.take()
    await rig.backend.conclude("j", token(former), FAILED_FOR_GOOD)
    await rig.backend.retry("j")
    assert isinstance(await raised(rig.backend.conclude("j", token(former), FAILED_FOR_GOOD)), LeaseLost)
    assert (await rig.backend.job("j")).status is Status.QUEUED


async def test_nothing_else_can_be_retried(rig: Rig) -> None:
    """Retry of a scheduled, queued, leased or succeeded job raises NotRetryable and changes nothing; of an unknown one UnknownJob."""
    await rig.finish("succeeded")
    await rig.put("leased")
    await rig.take()
    await rig.put("queued")
    await rig.put("scheduled", delay=60)
    for job_id in ("succeeded", "leased", "queued", "scheduled"):
        before = await rig.backend.job(job_id)
        assert isinstance(await raised(rig.backend.retry(job_id)), NotRetryable)
        after = await rig.backend.job(job_id)
        assert (after.status, after.lease, after.conclusion) == (before.status, before.lease, before.conclusion)
    assert isinstance(await raised(rig.backend.retry("no")), UnknownJob)


async def test_a_retry_needs_room(rig: Rig) -> None:
    """Retry into a full queue raises QueueFull and leaves the job concluded."""
    await rig.backend.put_policy("default", QueuePolicy(max_jobs=1))
    await rig.finish("j", FAILED_FOR_GOOD)
    await rig.put("other")
    assert isinstance(await raised(rig.backend.retry("j")), QueueFull)
    assert (await rig.backend.job("j")).outcome is Outcome.FAILED
    assert (await rig.backend.stats()).history[Outcome.FAILED][0] == 1


async def test_a_retry_makes_its_queue_anew(rig: Rig) -> None:
    """A job whose queue was deleted is retried into a new queue of that name."""
    await rig.finish("j", FAILED_FOR_GOOD, queue="gone")
    await rig.backend.delete_queue("gone")
    await rig.backend.retry("j")
    assert (await rig.take("gone")).id == "j"


async def test_purge_cancels_what_waits(rig: Rig) -> None:
    """Purge concludes every queued and scheduled job of one queue as cancelled and says how many; leased and other jobs stay."""
    await rig.put("leased")
    await rig.take()
    await rig.put_all(*(f"j{n}" for n in range(1_200)))
    await rig.put("scheduled", delay=60)
    await rig.put("other", queue="other")
    assert await rig.backend.purge("default") == 1_201
    queue = await rig.backend.queue("default")
    assert (queue.queued, queue.scheduled, queue.in_progress, queue.cancelled_total) == (0, 0, 1, 1_201)
    assert (await rig.backend.job("scheduled")).outcome is Outcome.CANCELLED
    assert (await rig.backend.queue("other")).queued == 1
    assert await rig.backend.purge("default") == 0


async def test_retry_failed_retries_what_failed(rig: Rig) -> None:
    """It puts a queue's failed jobs back, oldest first, and says how many; cancelled, succeeded and other queues' jobs stay."""
    for job_id in ("f1", "f2", "f3"):
        await rig.finish(job_id, FAILED_FOR_GOOD)
    await rig.finish("succeeded")
    await rig.put("cancelled")
    await rig.backend.cancel("cancelled")
    await rig.finish("other", FAILED_FOR_GOOD, queue="other")
    assert await rig.backend.retry_failed("default") == 3
    assert [job.id for job in await rig.take_all(limit=10)] == ["f1", "f2", "f3"]
    assert await rig.backend.retry_failed("default") == 0


async def test_retry_failed_stops_when_the_queue_is_full(make_backend: MakeBackend) -> None:
    """It retries as many as there is room for and leaves the rest failed."""
    rig = await make_backend(jobs_max=2)
    for job_id in ("f1", "f2", "f3"):
        await rig.finish(job_id, FAILED_FOR_GOOD)
    assert await rig.backend.retry_failed("default") == 2
    assert (await rig.backend.job("f3")).outcome is Outcome.FAILED


async def test_purge_and_retry_failed_need_a_queue(rig: Rig) -> None:
    """Both, of a name that no queue has raise UnknownQueue."""
    assert isinstance(await raised(rig.backend.purge("no")), UnknownQueue)
    assert isinstance(await raised(rig.backend.retry_failed("no")), UnknownQueue)


async def test_past_attempts_are_remembered(rig: Rig) -> None:
    """Each attempt that failed or lost its lease, with its worker, its times and its error, until the job is retried."""
    start = (await rig.put("j", max_attempts=3)).created_at
    job = await rig.take(worker="w-1")
    await rig.advance(2)
    await rig.backend.conclude("j", token(job), Verdict(outcome=Outcome.FAILED, error=b'"broken"', retry_delay=0.0))
    await rig.advance(1)
    await rig.take(worker="w-2", lease_seconds=10)
    await rig.advance(10)
    job = await rig.take()
    await rig.advance(1)
    assert [attempt.number for attempt in job.past] == [1, 2]
    past = (await rig.backend.conclude("j", token(job), FAILED_FOR_GOOD)).past
    told = [(attempt.number, attempt.worker, attempt.ended, attempt.error) for attempt in past]
    assert told == [(1, "w-1", "failed", b'"broken"'), (2, "w-2", "lease_expired", None), (3, None, "failed", b'"broken"')]
    times = [(attempt.started_at - start, attempt.ended_at - start) for attempt in past]
    assert times == [pytest.approx(pair, abs=1e-3) for pair in ((0, 2), (3, 13), (13, 14))]
    assert (await rig.backend.job("j")).past == past
    assert (await rig.backend.retry("j")).past == ()


async def test_failed_attempts_stay_counted(rig: Rig) -> None:
    """Those that a retry followed and the last one, as the other totals: over a restart too, where jobs are stored."""
    await rig.put("j", max_attempts=2, backoff=Backoff(5.0, 1.0, 5.0))
    for count in (1, 2):
        await rig.advance(10)
        await rig.backend.conclude("j", token(await rig.take()), FAILED)
        assert (await rig.backend.queue("default")).attempts_failed_total == count
    assert (await rig.backend.queue("default")).failed_total == 1
