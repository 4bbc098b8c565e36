"""The public API as its users write it. mypy reads this file in strict mode (pyproject.toml); tests/client/test_usage.py runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jobqueue
from jobqueue import AsyncClient, Client


@dataclass
class Mail:
    to: str
    text: str


def produce(client: Client) -> str:
    made = client.enqueue(Mail("ann", "hello"), queue="mail", priority=3, run_at=datetime.now(UTC) - timedelta(seconds=1))
    created: bool = made.created
    assert created
    started: datetime = made.created_at
    assert started <= datetime.now(UTC) + timedelta(hours=1)
    return made.id


def produce_many(client: Client) -> list[str]:
    jobs = [jobqueue.NewJob({"n": n}, queue="mail", backoff=jobqueue.Backoff(base=0.5)) for n in range(3)]
    ids: list[str] = []
    for item in client.enqueue_batch(jobs):
        if isinstance(item, jobqueue.QueueError):
            code: str = item.code
            raise AssertionError(f"{code}: {item.detail} ({item.field})")
        ids.append(item.id)
    return ids


def work(client: Client) -> int:
    done = 0
    while (job := client.dequeue(["urgent", "mail"], wait=0, lease_seconds=30, worker="w-1")) is not None:
        try:
            longer = client.extend(job.id, job.lease.token, progress=0.5, message="half")
            assert not longer.cancel_requested
            concluded = client.conclude(job.id, job.lease.token, "succeeded", result={"n": job.attempts})
            assert concluded.outcome is jobqueue.Outcome.SUCCEEDED
        except jobqueue.LeaseLost:
            continue
        done += 1
    return done


def look(client: Client, job_id: str) -> Mail:
    job = client.job(job_id)
    status: jobqueue.Status = job.status
    assert status is jobqueue.Status.CONCLUDED
    assert job.result_as(dict[str, int]) == {"n": 1}
    page: jobqueue.Page = client.jobs(queue="mail", limit=1)
    assert page.cursor is not None
    tagged: list[tuple[str, ...]] = [info.tags for info in client.all_jobs(tag="nightly", worker="w-1", error="timed out")]
    assert tagged == []
    names: list[str] = [info.id for info in client.all_jobs(queue="mail", status="concluded")]
    assert job_id in names
    queue: jobqueue.Queue = client.put_queue("mail", max_jobs=100, backoff=jobqueue.Backoff(cap=60))
    assert queue.policy.max_jobs == 100
    queue = client.change_queue("mail", max_jobs=None, rate=jobqueue.Rate(limit=5, per=1), per_key=jobqueue.PerKey(order="fifo"))
    assert queue.policy.per_key is not None
    reasons: list[str] = [reason.reason for reason in client.job(job_id).waiting_for or ()]
    keys: list[jobqueue.Key] = client.keys("mail", limit=10)
    assert (reasons, keys) == ([], [])
    paused: bool = client.pause_key("mail", "ann").paused
    assert paused
    assert not client.resume_key("mail", "ann").paused
    return job.payload_as(Mail)


def misuse(client: Client) -> None:
    try:
        client.enqueue("late", delay=1, run_at=datetime.now(UTC))
    except jobqueue.BadRequest as error:
        field: str | None = error.field
        assert field is not None
    except jobqueue.Full as error:
        seconds: int = error.retry_after
        raise AssertionError(seconds) from error
    except (jobqueue.ConnectionFailed, jobqueue.Unavailable, jobqueue.UnexpectedAnswer) as error:
        raise AssertionError(error.code) from error


async def answer(url: str) -> AsyncIterator[jobqueue.LeasedJob]:
    """A small worker as an iterator."""
    async with AsyncClient(url, retrying=jobqueue.Retrying(tries=2), timeout=5) as client:
        for job in await client.dequeue_batch("sums", limit=10, wait=10):
            yield job
            outcomes = await client.conclude_batch([jobqueue.Conclude(job.id, job.lease.token, "succeeded", result=sum(job.payload))])
            assert not isinstance(outcomes[0], jobqueue.QueueError)


async def ask(url: str) -> int:
    async def answer_all() -> None:
        async for job in answer(url):
            assert job.payload_as(list[int])

    async with AsyncClient(url) as client:
        working = asyncio.create_task(answer_all())
        try:
            total: int = await client.enqueue([1, 2, 3], queue="sums", wait=20)
        except jobqueue.JobFailed as failed:
            raise AssertionError(failed.outcome, failed.error) from failed
        except jobqueue.WaitTimeout as late:
            raise AssertionError(late.job_id) from late
        await working
        return total


async def main() -> int:
    async with jobqueue.testing.server(default_max_attempts=2) as url:
        return await ask(url)
