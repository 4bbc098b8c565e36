"""Purging all that lives in a queue, and deleting a queue with its jobs, of every backend."""

from __future__ import annotations

import asyncio

from jobqueue.backend.requests.groups import CloseGroup, CreateGroup, GetGroup
from jobqueue.backend.requests.queues import DeleteQueue, PurgeAll
from jobqueue.errors import NotInProgress, UnknownQueue
from jobqueue.group import GroupSpec
from jobqueue.model import Outcome
from jobqueue.policy import PerKey, QueuePolicy
from jobqueue.unique import Unique

from .rig import FAILED_FOR_GOOD, SUCCEEDED, Rig, raised, spec, token


async def test_all_that_lives_in_a_queue_ends(rig: Rig) -> None:
    """What is in progress, queued and scheduled is cancelled, in more than one slice; what has ended stays, and so does the queue."""
    await rig.finish("done")
    await rig.put("leased")
    leased = await rig.take()
    await rig.backend.enqueue_batch([spec(f"j{n}") for n in range(700)])
    await rig.put("later", delay=60)
    waiting = asyncio.create_task(rig.backend.job("leased", 100))
    await rig.idle()
    assert await rig.backend.ask(PurgeAll(name="default")) == 702
    assert (await waiting).outcome is Outcome.CANCELLED
    stats = await rig.backend.queue("default")
    assert (stats.queued, stats.scheduled, stats.in_progress, stats.cancelled_total) == (0, 0, 0, 702)
    assert (await rig.backend.job("done")).outcome is Outcome.SUCCEEDED
    assert isinstance(await raised(rig.backend.conclude("leased", token(leased), SUCCEEDED)), NotInProgress)
    assert await rig.backend.ask(PurgeAll(name="default")) == 0


async def test_a_purge_forgets_what_new_jobs_would_meet(rig: Rig) -> None:
    """A unique key that was held for a time is free, and a key that a failure halted goes on."""
    await rig.backend.put_policy("default", QueuePolicy(per_key=PerKey("halt")))
    unique = Unique("u", for_=300.0)
    await rig.finish("once", unique=unique)
    await rig.finish("failed", FAILED_FOR_GOOD, key="k")
    assert not (await rig.backend.enqueue(spec("twice", unique=unique))).created
    await rig.backend.ask(PurgeAll(name="default"))
    assert (await rig.backend.enqueue(spec("twice", unique=unique))).created
    await rig.put("next", key="k")
    assert {job.id for job in await rig.take_all(limit=2)} == {"twice", "next"}
    assert (await rig.backend.job("failed")).outcome is Outcome.FAILED


async def test_a_queue_is_deleted_with_its_jobs(rig: Rig) -> None:
    """It is gone with its policy; a job that is enqueued then makes a new one of its name."""
    await rig.backend.put_policy("default", QueuePolicy(max_attempts=9))
    await rig.put_all("a", "b")
    await rig.take()
    assert await rig.backend.ask(DeleteQueue(name="default")) == 2
    assert isinstance(await raised(rig.backend.queue("default")), UnknownQueue)
    assert {(await rig.backend.job(job_id)).outcome for job_id in ("a", "b")} == {Outcome.CANCELLED}
    await rig.put("c")
    assert (await rig.backend.queue("default")).policy.max_attempts != 9
    assert (await rig.take()).id == "c"


async def test_who_waits_for_a_deleted_queue_alone_is_answered(rig: Rig) -> None:
    """With nothing, at once; who waits for others too waits on."""
    await rig.put("a")
    await rig.take()
    alone, more = await rig.stand("default", wait=50), await rig.stand("default", "other", wait=50)
    await rig.backend.ask(DeleteQueue(name="default"))
    await rig.idle()
    assert (alone.answered, alone.ids, more.answered) == (True, [], False)
    await rig.put("b", queue="other")
    await rig.idle()
    assert more.ids == ["b"]


async def test_unknown_queues_are_refused(rig: Rig) -> None:
    """Neither is made by it."""
    for request in (PurgeAll(name="none"), DeleteQueue(name="none")):
        assert isinstance(await raised(rig.backend.ask(request)), UnknownQueue)
    assert await rig.backend.queues() == []


async def test_a_deleted_queue_is_gone_though_its_end_makes_jobs_there(rig: Rig) -> None:
    """A group whose last member is ended enqueues what it is to enqueue, and a schedule's next run begins: they go with the queue."""
    await rig.backend.ask(CreateGroup(spec=GroupSpec(id="g", queue="default", on_concluded=spec(queue="default"))))
    await rig.put_all("a", "b", group="g")
    await rig.backend.ask(CloseGroup(id="g"))
    assert await rig.backend.ask(DeleteQueue(name="default")) == 3
    assert isinstance(await raised(rig.backend.queue("default")), UnknownQueue)
    assert (await rig.backend.ask(GetGroup(id="g"))).concluded


async def test_who_names_a_deleted_queue_twice_waits_for_it_alone(rig: Rig) -> None:
    """And is answered; a name is a name however often it is given."""
    await rig.backend.put_policy("default", QueuePolicy())
    twice = await rig.stand("default", "default", wait=50)
    assert await rig.backend.ask(DeleteQueue(name="default")) == 0
    await rig.idle()
    assert (twice.answered, twice.ids) == (True, [])


async def test_a_repeated_dequeue_after_the_delete_stands_anew(rig: Rig) -> None:
    """The attempt of one that was answered with nothing is over: the same attempt_id may be asked with again."""
    await rig.backend.put_policy("default", QueuePolicy())
    first = await rig.stand("default", wait=50, attempt_id="x")
    await rig.backend.ask(DeleteQueue(name="default"))
    await rig.idle()
    assert first.answered
    again = await rig.stand("default", wait=50, attempt_id="x")
    await rig.put("j")
    await rig.idle()
    assert again.ids == ["j"]


async def test_purges_at_once_end_each_job_once(rig: Rig) -> None:
    """Two of them, a delete and whoever works there meanwhile: what one has ended the other passes over."""
    await rig.backend.enqueue_batch([spec(f"j{n}") for n in range(900)])
    await rig.take_all(limit=30)
    asked = (PurgeAll(name="default"), PurgeAll(name="default"), DeleteQueue(name="default"), DeleteQueue(name="default"))
    counts = await asyncio.gather(*(rig.backend.ask(request) for request in asked))
    assert sum(counts) == 900
    assert await rig.backend.queues() == []
    assert (await rig.backend.stats()).jobs_live == 0
