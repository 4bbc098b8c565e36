"""Each operation, by either client, against a real server."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

import jobqueue
from jobqueue import Backoff, Conclude, Extend, NewJob, Outcome, QueuePolicy, Status
from jobqueue.testing import server

from .conftest import Connect
from .rig import Face


async def leased(api: Face, payload: Any = 1, **fields: Any) -> jobqueue.LeasedJob:
    """A job, enqueued and taken."""
    await api.enqueue(payload, **fields)
    job: jobqueue.LeasedJob = await api.dequeue(fields.get("queue", "default"), wait=0)
    return job


async def finished(api: Face, outcome: str = "succeeded", **fields: Any) -> str:
    """A job that is concluded; its id."""
    job = await leased(api)
    await api.conclude(job.id, job.lease.token, outcome, **fields)
    return job.id


async def test_enqueue_answers_the_job_with_an_id_of_the_clients_own(api: Face) -> None:
    """Without an id the client makes one, and the answer is the summary with times in UTC."""
    made = await api.enqueue({"a": 1}, queue="q", type="t", priority=3)
    assert (made.queue, made.type, made.priority, made.status, made.created) == ("q", "t", 3, Status.QUEUED, True)
    assert made.created_at.tzinfo == UTC
    assert made.run_at is None
    assert made.expires_at is None
    assert made.id[14] == "7"


async def test_every_field_of_an_enqueue_reaches_the_server(api: Face) -> None:
    """What is given arrives, times and backoff included."""
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    made = await api.enqueue(
        None,
        id="a/b ö",
        queue="q",
        type="t",
        description="for people",
        priority=0,
        run_at=due,
        expires_in=7_200,
        max_attempts=2,
        backoff=Backoff(base=1.5),
        lease_seconds=30,
    )
    assert (made.run_at, made.status) == (due, Status.SCHEDULED)
    job = await api.job("a/b ö")
    assert (job.id, job.description, job.max_attempts, job.payload) == ("a/b ö", "for people", 2, None)
    assert job.expires_at - job.created_at == timedelta(hours=2)
    other = await api.enqueue(1, delay=0.5)
    assert other.status is Status.SCHEDULED


async def test_an_enqueue_repeated_under_an_id_finds_the_job(api: Face) -> None:
    """The same id and content is no error and says created False; other content is an IdConflict."""
    assert (await api.enqueue([1], id="a")).created
    assert not (await api.enqueue([1], id="a")).created
    with pytest.raises(jobqueue.IdConflict) as raised:
        await api.enqueue([2], id="a")
    assert raised.value.field == "payload"


async def test_enqueue_with_a_wait_returns_the_result(api: Face) -> None:
    """The caller is handed what the worker came to."""
    waiting = asyncio.ensure_future(api.enqueue(20, wait=math.inf))
    job = await api.dequeue()
    await api.conclude(job.id, job.lease.token, "succeeded", result={"double": job.payload * 2})
    assert await waiting == {"double": 40}


async def test_enqueue_with_a_wait_raises_when_the_job_fails(api: Face) -> None:
    """JobFailed carries outcome, error and the job."""
    waiting = asyncio.ensure_future(api.enqueue(20, wait=8))
    job = await api.dequeue()
    await api.conclude(job.id, job.lease.token, "failed", error={"why": "no"}, retry=False)
    with pytest.raises(jobqueue.JobFailed, match='"why"') as raised:
        await waiting
    assert (raised.value.outcome, raised.value.error, raised.value.job.id) == (Outcome.FAILED, {"why": "no"}, job.id)


async def test_enqueue_with_a_wait_raises_when_it_passes(api: Face) -> None:
    """WaitTimeout, a TimeoutError, names the job, which goes on."""
    with pytest.raises(TimeoutError) as raised:
        await api.enqueue(1, wait=0)
    assert isinstance(raised.value, jobqueue.WaitTimeout)
    assert (await api.job(raised.value.job_id)).status is Status.QUEUED


async def test_enqueue_batch_answers_each_item_in_order(api: Face) -> None:
    """Every item has its result or its error in its place."""
    jobs = [NewJob(1), NewJob(2, id="b", priority=1), NewJob(3, id="b"), NewJob(4, queue="not a name")]
    first, second, third, fourth = await api.enqueue_batch(jobs)
    assert first.created
    assert (second.id, second.created, second.priority) == ("b", True, 1)
    assert isinstance(third, jobqueue.IdConflict)
    assert isinstance(fourth, jobqueue.BadRequest)
    assert fourth.field == "queue"
    assert [item.id for item in await api.enqueue_batch(iter([NewJob(2, id="b", priority=1)]))] == ["b"]


async def test_dequeue_hands_out_the_job_with_its_lease(api: Face) -> None:
    """The payload comes back as it went in, and the lease has its token and its end."""
    await api.enqueue({"n": [1, 2.5, None, "ö"]}, description="d", type="t")
    job = await api.dequeue(["other", "default"], lease_seconds=60, worker="w")
    assert (job.payload, job.description, job.type, job.attempts, job.error) == ({"n": [1, 2.5, None, "ö"]}, "d", "t", 1, None)
    assert timedelta(seconds=50) < job.lease.expires_at - job.created_at < timedelta(seconds=70)
    assert (await api.job(job.id)).worker == "w"


async def test_dequeue_answers_none_when_the_wait_passed(api: Face) -> None:
    """No job within the wait is None, or an empty list."""
    assert await api.dequeue(wait=0) is None
    assert await api.dequeue_batch(limit=3, wait=0.01) == []


async def test_dequeue_waits_for_the_job(api: Face) -> None:
    """A held dequeue is handed the job when it comes."""
    await api.put_queue("later")
    waiting = asyncio.ensure_future(api.dequeue("later"))
    while not (await api.queue("later")).waiters:
        assert not waiting.done()
    made = await api.enqueue(7, queue="later")
    job = await waiting
    assert (job.id, job.payload) == (made.id, 7)


async def test_dequeue_batch_takes_at_most_its_limit(api: Face) -> None:
    """As many as are there, in order, up to the limit."""
    await api.enqueue_batch(NewJob(n) for n in range(5))
    assert [job.payload for job in await api.dequeue_batch(limit=3)] == [0, 1, 2]
    assert [job.payload for job in await api.dequeue_batch(["default", "q"], limit=3, lease_seconds=9, worker="w", attempt_id="x")] == [
        3,
        4,
    ]


async def test_an_attempt_id_of_ones_own_replays_the_same_job(api: Face) -> None:
    """A dequeue asked again under its attempt_id is answered with the same job and lease."""
    await api.enqueue_batch([NewJob(1), NewJob(2)])
    first = await api.dequeue(attempt_id="mine", worker="w")
    again = await api.dequeue(attempt_id="mine", worker="w")
    assert (again.id, again.lease.token) == (first.id, first.lease.token)


@dataclass
class Order:
    item: str
    count: int


async def test_payloads_and_results_can_be_had_as_types(api: Face) -> None:
    """payload_as and result_as check and convert; what does not fit is said."""
    job = await leased(api, Order("nail", 3))
    assert job.payload_as(Order) == Order("nail", 3)
    await api.conclude(job.id, job.lease.token, "succeeded", result=[1, 2])
    done = await api.job(job.id)
    assert done.payload_as(Order).count == 3
    assert done.result_as(list[int]) == [1, 2]
    with pytest.raises(msgspec.ValidationError, match="Expected `int`"):
        done.result_as(int)


async def test_json_text_is_passed_on_as_it_is(api: Face) -> None:
    """A msgspec.Raw is neither parsed nor changed."""
    job = await leased(api, msgspec.Raw(b'{"a": 1, "a": 10000000000000000000000}'))
    assert bytes(job.raw_payload) == b'{"a": 1, "a": 10000000000000000000000}'


async def test_conclude_says_how_the_job_stands(api: Face) -> None:
    """Succeeded concludes, failed schedules another attempt unless it is final."""
    job = await leased(api)
    done = await api.conclude(job.id, job.lease.token, "succeeded", result={"a": 1})
    assert (done.status, done.outcome, done.attempts, done.run_at) == (Status.CONCLUDED, Outcome.SUCCEEDED, 1, None)
    assert (await api.job(job.id)).result == {"a": 1}
    job = await leased(api, backoff=Backoff(base=1000, cap=1000))
    tried = await api.conclude(job.id, job.lease.token, "failed", error="broken")
    assert (tried.status, tried.outcome) == (Status.SCHEDULED, None)
    assert tried.run_at.tzinfo == UTC
    assert (await api.job(job.id)).error == "broken"
    with pytest.raises(jobqueue.LeaseLost):
        await api.conclude(job.id, job.lease.token, "succeeded")


async def test_conclude_batch_answers_each_item_in_order(api: Face) -> None:
    """Mixed outcomes and a foreign lease, each with its own answer."""
    await api.enqueue_batch([NewJob(1), NewJob(2)])
    one, two = await api.dequeue_batch(limit=2)
    answers = await api.conclude_batch(
        [
            Conclude(one.id, one.lease.token, "succeeded", result=1),
            Conclude(two.id, "forged", "succeeded"),
            Conclude(two.id, two.lease.token, "failed", error="no", retry=False),
            Conclude("nobody", "forged", "failed"),
        ]
    )
    assert [getattr(answer, "outcome", type(answer)) for answer in answers] == [
        "succeeded",
        jobqueue.LeaseLost,
        "failed",
        jobqueue.UnknownJob,
    ]


async def test_extend_pushes_the_lease_out_and_says_how_far_the_work_is(api: Face) -> None:
    """The new end comes back, progress and message are shown with the job, and so is a cancel."""
    job = await leased(api)
    longer = await api.extend(job.id, job.lease.token, lease_seconds=4_000, progress=0.5, message="half")
    assert longer.expires_at > job.lease.expires_at
    assert not longer.cancel_requested
    shown = await api.job(job.id)
    assert (shown.progress, shown.message, shown.lease_expires_at) == (0.5, "half", longer.expires_at)
    await api.cancel(job.id)
    (item, lost) = await api.extend_batch([Extend(job.id, job.lease.token), Extend(job.id, "forged", progress=1)])
    assert item.cancel_requested
    assert isinstance(lost, jobqueue.LeaseLost)


async def test_release_gives_the_job_back(api: Face) -> None:
    """It is queued again, its attempt not counted; with a delay it is scheduled."""
    job = await leased(api)
    back = await api.release(job.id, job.lease.token)
    assert (back.status, back.attempts) == (Status.QUEUED, 0)
    job = await api.dequeue(wait=0)
    assert (await api.release(job.id, job.lease.token, delay=100)).status is Status.SCHEDULED


async def test_cancel_and_retry(api: Face) -> None:
    """A cancelled job can be retried, a queued one cannot."""
    made = await api.enqueue(1)
    cancelled = await api.cancel(made.id)
    assert (cancelled.outcome, cancelled.error) == (Outcome.CANCELLED, None)
    assert (await api.retry(made.id)).status is Status.QUEUED
    with pytest.raises(jobqueue.NotRetryable):
        await api.retry(made.id)


async def test_job_waits_until_it_is_concluded(api: Face) -> None:
    """A wait is answered with the concluded job, one that passes with the job as it is."""
    job = await leased(api)
    assert (await api.job(job.id, wait=0.01)).status is Status.IN_PROGRESS
    waiting = asyncio.ensure_future(api.job(job.id, wait=50))
    await api.conclude(job.id, job.lease.token, "succeeded", result=[1])
    assert (await waiting).result == [1]


@pytest.mark.parametrize("job_id", [".", "..", "...", "a/b", "a?b#c", "%2F", "ä", "a b+c", "x" * 128])
async def test_any_id_finds_its_way_into_a_path(api: Face, job_id: str) -> None:
    """Ids are encoded, so that no client or server reads them as a path."""
    await api.enqueue(1, id=job_id)
    assert (await api.job(job_id)).id == job_id
    assert (await api.cancel(job_id)).id == job_id


async def test_jobs_are_listed_by_page_and_all_of_them(api: Face) -> None:
    """Filters and cursors go through; the iterator goes over every page."""
    done = await finished(api)
    await api.enqueue_batch([NewJob(n, id=str(n), queue="q", type="t") for n in range(5)])
    page = await api.jobs(limit=2, queue="q", type="t", status=Status.QUEUED)
    assert [job.id for job in page.jobs] == ["4", "3"]
    following = await api.jobs(limit=2, queue="q", cursor=page.cursor)
    assert [job.id for job in following.jobs] == ["2", "1"]
    assert [job.id for job in await api.all_jobs(limit=2, queue="q", status="queued")] == ["4", "3", "2", "1", "0"]
    assert [job.id for job in await api.all_jobs(outcome=Outcome.SUCCEEDED)] == [done]
    assert not hasattr(page.jobs[0], "payload")


async def test_queues_are_looked_at_and_set_up(api: Face) -> None:
    """A policy goes there and back; counts and totals are numbers by name."""
    made = await api.put_queue("q", lease_seconds=60, max_attempts=3, backoff=Backoff(base=5), max_jobs=1, paused=True)
    assert made.policy == QueuePolicy(60.0, 3, Backoff(base=5.0), 1, True)
    await api.enqueue(1, queue="q")
    assert (await api.resume("q")).policy.paused is False
    assert (await api.pause("q")).policy.paused is True
    found = await api.queue("q")
    assert (found.queued, found.scheduled, found.in_progress, found.waiters, found.totals.enqueued) == (1, 0, 0, 0, 1)
    assert found.oldest_queued_at.tzinfo == UTC
    assert [queue.name for queue in await api.queues()] == ["q"]
    with pytest.raises(jobqueue.QueueNotEmpty):
        await api.delete_queue("q")
    assert await api.purge("q") == 1
    assert await api.delete_queue("q") == 0
    with pytest.raises(jobqueue.UnknownQueue):
        await api.queue("q")


async def test_retry_failed_queues_them_again(api: Face) -> None:
    """It answers how many."""
    await finished(api, "failed", retry=False)
    await finished(api, "failed", retry=False)
    await finished(api)
    assert await api.retry_failed("default") == 2


async def test_the_server_is_asked_about_itself(api: Face) -> None:
    """Metrics are text, the description a document, health and readiness yes."""
    assert "jobqueue_jobs" in await api.metrics()
    assert (await api.openapi())["openapi"].startswith("3.1")
    assert await api.healthy() is True
    assert await api.ready() is True


async def test_a_server_that_is_not_there_is_neither_healthy_nor_ready(connect: Connect) -> None:
    """No answer is a no, asked once; every other operation says ConnectionFailed."""
    async with server() as url:
        pass
    api = connect(url)
    assert await api.healthy() is False
    assert await api.ready() is False
    assert api.pauses == []
    with pytest.raises(ConnectionError) as raised:
        await api.queues()
    assert isinstance(raised.value, jobqueue.ConnectionFailed)
    assert url in str(raised.value)
