"""Unique jobs, of every backend: who is answered, who waits, and who is told why."""

from __future__ import annotations

from typing import Any

from jobqueue.backend.base import Enqueued
from jobqueue.backend.restricted import RestrictedBackend
from jobqueue.errors import BadRequest, Duplicate, IdConflict
from jobqueue.model import Job, Outcome, Status
from jobqueue.policy import QueuePolicy
from jobqueue.unique import Unique

from .conftest import MakeBackend
from .rig import FAILED_FOR_GOOD, SUCCEEDED, Rig, raised, spec, token


async def put(rig: Rig, job_id: str, **unique: Any) -> tuple[Job, bool]:
    """Enqueue a job of the unique key "k" whose payload is its id."""
    delay = unique.pop("delay", None)
    reply = await rig.backend.enqueue(spec(job_id, payload=b'"%s"' % job_id.encode(), unique=Unique("k", **unique), delay=delay))
    return reply.job, reply.created


async def test_the_holder_is_answered(rig: Rig) -> None:
    """An enqueue whose key is held makes no job; once the holder has ended, the next one does."""
    first, created = await put(rig, "a")
    assert created
    again, created = await put(rig, "b")
    assert (again.id, again.number, created) == ("a", first.number, False)
    taken = await rig.take()
    assert (await put(rig, "b"))[0].status is Status.IN_PROGRESS
    await rig.backend.conclude("a", token(taken), SUCCEEDED)
    assert (await put(rig, "b"))[1]


async def test_a_batch_meets_its_own_jobs(rig: Rig) -> None:
    """Of like items of one batch the first makes the job, and the others are answered it; a refused one harms no other."""
    keep, refuse = Unique("k"), Unique("k", on_conflict="refuse")
    items = [spec("a", unique=keep), spec("b", unique=keep), spec("c", unique=refuse), spec("d")]
    replies = await rig.backend.enqueue_batch(items)
    assert [(reply.job.id, reply.created) for reply in replies if isinstance(reply, Enqueued)] == [("a", True), ("a", False), ("d", True)]
    assert isinstance(replies[2], Duplicate)
    assert replies[2].job_id == "a"


async def test_a_refusal_names_the_holder(rig: Rig) -> None:
    """So does that of a retry."""
    await put(rig, "a")
    error = await raised(put(rig, "b", on_conflict="refuse"))
    assert isinstance(error, Duplicate)
    assert (error.job_id, error.field) == ("a", "unique.key")
    taken = await rig.take()
    await rig.backend.conclude("a", token(taken), FAILED_FOR_GOOD)
    await put(rig, "b")
    error = await raised(rig.backend.retry("a"))
    assert isinstance(error, Duplicate)
    assert error.job_id == "b"


async def test_a_debounced_job_runs_with_the_last_payload(rig: Rig) -> None:
    """Its time is pushed on by each trigger, up to max_wait; the waiting worker gets it then."""
    await put(rig, "a", delay=10.0, on_conflict="replace", max_wait=15.0)
    waiter = await rig.stand(wait=100)
    await rig.advance(8)
    job, created = await put(rig, "b", delay=10.0, on_conflict="replace", max_wait=15.0)
    assert (job.id, job.payload, created) == ("a", b'"b"', False)
    await rig.advance(6)
    assert not waiter.answered
    await rig.advance(1)
    assert waiter.ids == ["a"]
    assert (await rig.backend.job("a")).payload == b'"b"'


async def test_the_last_of_those_that_follow_runs(rig: Rig) -> None:
    """It waits under its own id, is told for whom, and goes to a worker in the step in which the holder ends."""
    await put(rig, "a")
    taken = await rig.take(worker="w")
    await put(rig, "b", on_conflict="follow")
    last, created = await put(rig, "c", on_conflict="follow")
    assert (created, last.status, last.run_at) == (True, Status.SCHEDULED, None)
    superseded = await rig.backend.job("b")
    assert (superseded.outcome, superseded.error) == (Outcome.CANCELLED, b'{"superseded_by":"c"}')
    ((reason,),) = await rig.backend.waiting_for([last.number])
    assert (reason.kind, reason.key, reason.job, reason.worker) == ("unique", "k", "a", "w")
    waiter = await rig.stand()
    await rig.backend.conclude("a", token(taken), SUCCEEDED)
    await rig.idle()
    assert waiter.ids == ["c"]


async def test_a_key_is_held_for_a_time(rig: Rig) -> None:
    """Whether the job has ended or not, and told until when."""
    await put(rig, "a", for_=60.0)
    taken = await rig.take()
    await rig.backend.conclude("a", token(taken), SUCCEEDED)
    assert (await put(rig, "b"))[0].id == "a"
    job, _ = await put(rig, "c", on_conflict="follow")
    ((reason,),) = await rig.backend.waiting_for([job.number])
    assert reason.until == rig.utc() + 60
    assert (await rig.backend.stats()).unique_windows == 1
    await rig.advance(60)
    assert (await rig.take()).id == "c"
    assert (await rig.backend.stats()).unique_windows == 0


async def test_a_time_outlives_history(make_backend: MakeBackend) -> None:
    """The first id is answered, and that the job has ended, when history has forgotten it."""
    rig = await make_backend(history_jobs_max=1)
    await put(rig, "a", for_=60.0)
    taken = await rig.take()
    await rig.backend.conclude("a", token(taken), SUCCEEDED)
    await rig.finish("other", SUCCEEDED)
    job, created = await put(rig, "b")
    assert (job.id, job.status, job.queue, created) == ("a", Status.CONCLUDED, "default", False)
    await rig.advance(60)
    assert (await put(rig, "b"))[1]


async def test_a_repeat_compares_the_key(rig: Rig) -> None:
    """The same id with other terms is another job's; with the same it is a repeat, whoever has the key by now."""
    await put(rig, "a", for_=5.0)
    error = await raised(put(rig, "a", for_=6.0))
    assert isinstance(error, IdConflict)
    assert error.field == "unique"
    assert (await put(rig, "a", for_=5.0))[1] is False


async def test_bad_terms_change_nothing(rig: Rig) -> None:
    """They are refused by their field."""
    error = await raised(put(rig, "a", max_wait=1.0))
    assert isinstance(error, BadRequest)
    assert error.field == "unique.max_wait"
    assert (await rig.backend.stats()).jobs_live == 0


async def test_keys_and_unique_keys_are_two_things(rig: Rig) -> None:
    """A job may have both, also where its queue minds keys."""
    await rig.backend.put_policy("default", QueuePolicy(concurrency=1))
    await rig.backend.enqueue(spec("a", key="customer", unique=Unique("k")))
    taken = await rig.take()
    await put(rig, "b", on_conflict="follow")
    assert await rig.take_all() == []
    await rig.backend.conclude("a", token(taken), SUCCEEDED)
    assert (await rig.take()).id == "b"


async def test_nobody_learns_of_a_job_they_may_not_see(rig: Rig) -> None:
    """A key is one of its queue, so the holder is a job of a queue that they may use; one that has moved on is answered as it was here."""
    backend = RestrictedBackend(rig.backend, "t", lambda queue: queue == "default")
    await rig.backend.put_policy("default", QueuePolicy(max_attempts=1, dead_letter="default:hidden"))
    await put(rig, "a", for_=60.0)
    await rig.backend.conclude("a", token(await rig.take()), FAILED_FOR_GOOD)
    assert (await rig.backend.job("a")).queue == "default:hidden"
    reply = await backend.enqueue(spec("b", unique=Unique("k")))
    assert (reply.job.id, reply.job.queue, reply.job.status, reply.created) == ("a", "default", Status.CONCLUDED, False)


async def test_a_key_may_be_held_from_the_enqueue_on_alone(rig: Rig) -> None:
    """For its time: the first id and number are answered, also when the job has ended; then there is a new one, though the first lives."""
    once = Unique("k", "enqueued", 300.0)
    first = await rig.backend.enqueue(spec("a", unique=once))
    (job,) = await rig.take_all(lease_seconds=1_000)
    await rig.advance(299)
    again = await rig.backend.enqueue(spec("b", unique=once))
    assert (again.created, again.job.id, again.job.number) == (False, "a", first.job.number)
    await rig.advance(1)
    assert (await rig.backend.enqueue(spec("b", unique=once))).created
    await rig.backend.conclude("a", token(job), SUCCEEDED)
    await rig.finish("c", queue="other", unique=once)
    assert (await rig.backend.enqueue(spec("d", queue="other", unique=once))).job.id == "c"
    assert (await raised(rig.backend.enqueue(spec(unique=Unique("k", "enqueued"))))).field == "unique.for"
