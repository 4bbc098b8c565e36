"""Enqueue: what is kept, what a repeat is, what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobqueue.errors import BadRequest, IdConflict, QueueFull, TooLarge, TooManyQueues, UnknownJob, UnknownQueue
from jobqueue.model import JobFilter, Outcome, Status
from jobqueue.policy import Backoff, QueuePolicy

from .conftest import MakeBackend
from .rig import SUCCEEDED, Rig, raised, spec, token

BACKOFF = Backoff(base=2, factor=3, cap=60)


async def test_what_was_asked_for_is_kept(rig: Rig) -> None:
    """A job carries every field of its spec, and its payload byte for byte."""
    payload = b'{"b": 1.0e999, "b": [2, "\xc3\xa9"]}'
    asked: dict[str, Any] = {
        "payload": payload,
        "queue": "mail",
        "type": "send",
        "description": "two\nlines",
        "priority": 2,
        "max_attempts": 7,
        "backoff": BACKOFF,
        "lease_seconds": 20.0,
    }
    reply = await rig.backend.enqueue(spec("j", **asked))
    assert reply.created
    job = reply.job
    assert (job.id, job.status, job.attempts, job.created_at) == ("j", Status.QUEUED, 0, rig.utc())
    assert {field: getattr(job, field) for field in asked} == asked
    stands = await rig.backend.job("j")
    assert {field: getattr(stands, field) for field in asked} == asked


async def test_a_job_without_an_id_is_given_one(rig: Rig) -> None:
    """Ids made by the backend are all different and sort in order of creation."""
    ids = [(await rig.put()).id for _ in range(100)]
    assert len(set(ids)) == 100
    assert ids == sorted(ids)


async def test_a_job_makes_its_queue(rig: Rig) -> None:
    """The first job of a queue makes it, with the server's default policy."""
    await rig.put("j", queue="new")
    queue = await rig.backend.queue("new")
    assert (queue.policy, queue.queued, queue.enqueued_total) == (QueuePolicy(), 1, 1)


async def test_jobs_leave_in_the_order_in_which_they_came(rig: Rig) -> None:
    """Inside a priority the oldest job leaves first; among priorities the most urgent."""
    for job_id, priority in (("a", 5), ("b", 9), ("c", 0), ("d", 5), ("e", 0)):
        await rig.put(job_id, priority=priority)
    assert [job.id for job in await rig.take_all(limit=10)] == ["c", "e", "a", "d", "b"]


async def test_a_reply_shows_the_job_before_any_worker_had_it(rig: Rig) -> None:
    """An enqueue that hands its job to a waiter answers the job as it stood before: queued, without a lease."""
    waiter = await rig.stand()
    job = await rig.put("j")
    assert (job.status, job.lease, job.attempts) == (Status.QUEUED, None, 0)
    await rig.idle()
    assert waiter.ids == ["j"]


async def test_a_delayed_job_waits_for_its_time(rig: Rig) -> None:
    """A delay makes a job scheduled; when it has passed the job is queued behind those that came meanwhile."""
    job = await rig.put("late", delay=10)
    assert (job.status, job.run_at) == (Status.SCHEDULED, rig.utc() + 10)
    await rig.put("early")
    await rig.advance(9)
    assert (await rig.backend.job("late")).status is Status.SCHEDULED
    await rig.advance(1)
    assert (await rig.backend.job("late")).status is Status.QUEUED
    assert [job.id for job in await rig.take_all(limit=2)] == ["early", "late"]


async def test_run_at_is_utc_and_the_past_means_now(rig: Rig) -> None:
    """A job with run_at is scheduled until then; one whose run_at has passed is queued at once."""
    future = await rig.put("future", run_at=rig.utc() + 10)
    past = await rig.put("past", run_at=rig.utc() - 10)
    assert (future.status, future.run_at, past.status) == (Status.SCHEDULED, rig.utc() + 10, Status.QUEUED)
    await rig.advance(10)
    assert (await rig.backend.job("future")).status is Status.QUEUED


async def test_a_job_expires(rig: Rig) -> None:
    """A queued or scheduled job whose expires_in passes is concluded as expired; one in progress is left to its lease."""
    await rig.put("leased", expires_in=10)
    job = await rig.take(lease_seconds=100)
    await rig.put("queued", expires_in=10)
    await rig.put("scheduled", expires_in=10, delay=20)
    await rig.advance(10)
    for job_id in ("queued", "scheduled"):
        ended = await rig.backend.job(job_id)
        assert (ended.status, ended.outcome) == (Status.CONCLUDED, Outcome.EXPIRED)
    assert (await rig.backend.job("leased")).status is Status.IN_PROGRESS
    assert await rig.take_all() == []
    await rig.backend.conclude("leased", token(job), SUCCEEDED)


async def test_a_repeat_is_the_same_job_in_every_status(rig: Rig) -> None:
    """The same id with the same content answers the existing job and makes none, from queued to concluded."""
    fields: dict[str, Any] = {"payload": b"[1]", "delay": 5.0, "priority": 3, "type": "t"}
    first = await rig.backend.enqueue(spec("j", **fields))
    assert first.created

    async def repeat() -> Status:
        reply = await rig.backend.enqueue(spec("j", **fields))
        assert (reply.job.id, reply.job.number, reply.created) == ("j", first.job.number, False)
        return reply.job.status

    assert await repeat() is Status.SCHEDULED
    await rig.advance(5)
    assert await repeat() is Status.QUEUED
    job = await rig.take()
    assert await repeat() is Status.IN_PROGRESS
    await rig.backend.conclude("j", token(job), SUCCEEDED)
    assert await repeat() is Status.CONCLUDED
    assert (await rig.backend.queue("default")).enqueued_total == 1


async def test_parallel_repeats_make_one_job(rig: Rig) -> None:
    """Fifty enqueues of one id at once create exactly one job."""
    replies = await asyncio.gather(*(rig.backend.enqueue(spec("j")) for _ in range(50)))
    assert sum(reply.created for reply in replies) == 1
    assert len(await rig.take_all(limit=100)) == 1


async def test_a_repeat_does_not_wake_a_waiter(rig: Rig) -> None:
    """Enqueuing a job that is in progress again gives no waiter anything."""
    await rig.put("j")
    await rig.take()
    waiter = await rig.stand()
    await rig.put("j")
    await rig.idle()
    assert not waiter.answered


@pytest.mark.parametrize(
    "other",
    [
        {"payload": b"2"},
        {"payload": b" 1"},
        {"queue": "other"},
        {"type": "other"},
        {"description": "other"},
        {"priority": 4},
        {"delay": 1.0},
        {"run_at": 1.0},
        {"expires_in": 60.0},
        {"max_attempts": 1},
        {"backoff": BACKOFF},
        {"lease_seconds": 20.0},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_the_same_id_with_other_content_is_a_conflict(rig: Rig, other: dict[str, object]) -> None:
    """An id that exists with any field different raises IdConflict and leaves the first job as it is."""
    await rig.put("j")
    before = await rig.backend.job("j"), await rig.backend.queues()
    assert isinstance(await raised(rig.backend.enqueue(spec("j", **other))), IdConflict)
    assert (await rig.backend.job("j")).payload == before[0].payload
    assert await rig.backend.queues() == before[1]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"job_id": ""}, "id"),
        ({"job_id": "i" * 129}, "id"),
        ({"job_id": "a\x00b"}, "id"),
        ({"job_id": "a\x9fb"}, "id"),
        ({"job_id": "\ud800"}, "id"),
        ({"queue": ""}, "queue"),
        ({"queue": "a/b"}, "queue"),
        ({"queue": "q" * 81}, "queue"),
        ({"type": "a\nb"}, "type"),
        ({"description": "d" * 1_025}, "description"),
        ({"description": "bell\x07"}, "description"),
        ({"priority": -1}, "priority"),
        ({"priority": 10}, "priority"),
        ({"delay": -1.0}, "delay"),
        ({"delay": 31 * 86_400.0}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"delay": 1.0, "run_at": 1.0}, "run_at"),
        ({"run_at": 9e12}, "run_at"),
        ({"run_at": float("inf")}, "run_at"),
        ({"expires_in": 0.0}, "expires_in"),
        ({"expires_in": 31 * 86_400.0}, "expires_in"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 1_001}, "max_attempts"),
        ({"lease_seconds": 0.9}, "lease_seconds"),
        ({"lease_seconds": 43_201.0}, "lease_seconds"),
        ({"backoff": Backoff(base=-1)}, "backoff.base"),
        ({"backoff": Backoff(factor=0.5)}, "backoff.factor"),
        ({"backoff": Backoff(cap=float("inf"))}, "backoff.cap"),
    ],
)
async def test_a_value_that_is_not_allowed_is_refused(rig: Rig, fields: dict[str, object], field: str) -> None:
    """A field out of bounds raises BadRequest naming it, and neither a job nor a queue comes of it."""
    error = await raised(rig.backend.enqueue(spec(**{"job_id": "j", **fields})))  # type: ignore[arg-type]
    assert isinstance(error, BadRequest)
    assert error.field == field
    assert await rig.backend.queues() == []
    assert await rig.backend.jobs(JobFilter()) == ([], None)
    assert (await rig.backend.stats()).jobs_live == 0


@pytest.mark.parametrize("job_id", ["x", "i" * 128, "..%2f", "next", "a b/c?d#e", "ümläut ☃ 💥"])
async def test_odd_ids_are_ordinary(rig: Rig, job_id: str) -> None:
    """Any string of 1 to 128 characters without control characters is an id."""
    await rig.put(job_id)
    assert (await rig.take()).id == job_id
    assert (await rig.backend.job(job_id)).id == job_id


async def test_a_payload_above_its_bound_is_refused(make_backend: MakeBackend) -> None:
    """A payload of one byte more than allowed raises TooLarge; one of exactly as many is taken."""
    rig = await make_backend(payload_bytes_max=100)
    assert isinstance(await raised(rig.backend.enqueue(spec("j", payload=b"1" * 101))), TooLarge)
    assert isinstance(await raised(rig.backend.job("j")), UnknownJob)
    await rig.put("j", payload=b"1" * 100)


@pytest.mark.one_partition("each partition has a share of the bound")
async def test_the_server_holds_so_many_jobs_and_no_more(make_backend: MakeBackend) -> None:
    """At jobs_max live jobs an enqueue raises QueueFull and changes nothing; one that ends makes room; repeats are still answered."""
    rig = await make_backend(jobs_max=3)
    await rig.put_all("a", "b", "c")
    assert isinstance(await raised(rig.backend.enqueue(spec("d", queue="other"))), QueueFull)
    assert isinstance(await raised(rig.backend.queue("other")), UnknownQueue)
    assert not (await rig.backend.enqueue(spec("a"))).created
    job = await rig.take()
    assert isinstance(await raised(rig.backend.enqueue(spec("d"))), QueueFull)
    await rig.backend.conclude(job.id, token(job), SUCCEEDED)
    await rig.put("d")


async def test_the_server_holds_so_many_bytes_and_no_more(make_backend: MakeBackend) -> None:
    """Live payloads count against payload_total_bytes_max; a job that ends gives its bytes back."""
    rig = await make_backend(payload_total_bytes_max=250, payload_bytes_max=100)
    await rig.put("a", payload=b"1" * 100)
    await rig.put("b", payload=b"1" * 100)
    assert isinstance(await raised(rig.backend.enqueue(spec("c", payload=b"1" * 51))), QueueFull)
    assert (await rig.backend.stats()).live_bytes == 200
    await rig.backend.cancel("a")
    await rig.put("c", payload=b"1" * 100)
    assert (await rig.backend.stats()).live_bytes == 200


async def test_a_queue_holds_so_many_jobs_and_no_more(rig: Rig) -> None:
    """A policy's max_jobs bounds its own queue, scheduled and leased jobs included, and no other."""
    await rig.backend.put_policy("a", QueuePolicy(max_jobs=2))
    await rig.put("a1", queue="a", delay=60)
    await rig.put("a2", queue="a")
    await rig.take("a")
    assert isinstance(await raised(rig.backend.enqueue(spec("a3", queue="a"))), QueueFull)
    await rig.put("b1", queue="b")
    await rig.backend.cancel("a1")
    await rig.put("a3", queue="a")


async def test_there_are_so_many_queues_and_no_more(make_backend: MakeBackend) -> None:
    """At queues_max another queue raises TooManyQueues, by enqueue and by policy; known ones go on; deleting one makes room."""
    rig = await make_backend(queues_max=2)
    await rig.put("a1", queue="a")
    await rig.backend.put_policy("b", QueuePolicy())
    assert isinstance(await raised(rig.backend.enqueue(spec("c1", queue="c"))), TooManyQueues)
    assert isinstance(await raised(rig.backend.put_policy("c", QueuePolicy())), TooManyQueues)
    await rig.put("a2", queue="a")
    await rig.backend.delete_queue("b")
    await rig.put("c1", queue="c")
    assert [queue.name for queue in await rig.backend.queues()] == ["a", "c"]
