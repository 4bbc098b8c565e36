"""Unique keys that are held for a time from the enqueue on, whatever becomes of the job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobqueue.engine.engine import Engine
from jobqueue.errors import BadRequest, Duplicate
from jobqueue.model import Job, JobChange, JobSpec, Outcome, Status
from jobqueue.policy import QueuePolicy
from jobqueue.unique import Unique
from tests.factories import FINALLY_FAILED, NOW, SUCCEEDED, dequeue, enqueue, make_engine, make_spec, token_of

from .invariants import invariants

ONCE = Unique("u", "enqueued", 300.0)


def spec(**fields: Any) -> JobSpec:
    return make_spec(unique=Unique("u", "enqueued", 300.0, **fields))


def end(engine: Engine, job: Job) -> None:
    engine.conclude(NOW + 1, job.id, token_of(dequeue(engine, NOW + 1)), SUCCEEDED)


BECOMES: dict[str, Callable[[Engine, Job], object]] = {
    "waits": lambda engine, job: None,
    "in progress": lambda engine, job: dequeue(engine),
    "waits again": lambda engine, job: engine.release(NOW, job.id, token_of(dequeue(engine))),
    "succeeded": end,
    "cancelled": lambda engine, job: engine.cancel(NOW, job.id),
    "elsewhere": lambda engine, job: engine.edit(NOW, job.id, JobChange(queue="other")),
}


@pytest.mark.parametrize("forgets", [False, True])
@pytest.mark.parametrize("becomes", BECOMES.values(), ids=BECOMES)
def test_the_key_is_held_for_that_time_and_no_longer(becomes: Callable[[Engine, Job], object], forgets: bool) -> None:
    """The first id and number are answered within it, whatever has become of the job; after it there is a new one, whatever lives."""
    engine = make_engine(history_jobs_max=0 if forgets else 10)
    job = engine.enqueue(NOW, spec())[0]
    becomes(engine, job)
    for at in (NOW, NOW + 299.9):
        engine.tick(at)
        met, made = engine.enqueue(at, spec())
        assert (met.id, met.number, made) == (job.id, job.number, False)
        with pytest.raises(Duplicate):
            engine.enqueue(at, spec(on_conflict="refuse"))
    engine.tick(NOW + 300)
    again, made = engine.enqueue(NOW + 300, spec())
    assert (made, again.number != job.number, again.status) == (True, True, Status.QUEUED)
    assert engine.enqueue(NOW + 301, spec())[0] is again
    invariants(engine)


def test_a_time_is_needed() -> None:
    """Without `for` it would hold nothing."""
    engine = make_engine()
    with pytest.raises(BadRequest, match=r"unique\.for"):
        engine.enqueue(NOW, make_spec(unique=Unique("u", "enqueued")))
    assert not engine.queues


def test_a_job_beyond_its_time_keeps_nobody_out_and_is_kept_out_by_nobody() -> None:
    """A retry is no enqueue: it is not refused for a key that another has, and takes none."""
    engine = make_engine()
    job = engine.enqueue(NOW, spec())[0]
    engine.conclude(NOW, job.id, token_of(dequeue(engine)), FINALLY_FAILED)
    engine.tick(NOW + 300)
    other = engine.enqueue(NOW + 300, spec())[0]
    engine.retry(NOW + 301, job.id)
    assert (job.status, engine.enqueue(NOW + 301, spec())[0]) == (Status.QUEUED, other)
    engine.tick(NOW + 600)
    assert engine.enqueue(NOW + 600, spec())[1]
    invariants(engine)


def test_a_retry_within_its_time_holds_what_is_left_of_it() -> None:
    """The time is that of the enqueue."""
    engine = make_engine()
    job = engine.enqueue(NOW, spec())[0]
    engine.cancel(NOW, job.id)
    engine.retry(NOW + 100, job.id)
    assert engine.enqueue(NOW + 299, spec())[0] is job
    engine.tick(NOW + 300)
    assert engine.enqueue(NOW + 300, spec())[1]
    invariants(engine)


def test_a_replacement_changes_the_job_that_waits() -> None:
    """Within its time, which is not begun anew; one that a worker has is not touched, and one that comes waits for the end of the time."""
    engine = make_engine()
    job = engine.enqueue(NOW, spec())[0]
    met, made = engine.enqueue(NOW + 100, make_spec(payload=b"2", unique=Unique("u", "enqueued", 300.0, "replace")))
    assert (met, made, job.payload) == (job, False, b"2")
    dequeue(engine, NOW + 100)
    later, made = engine.enqueue(NOW + 200, spec(on_conflict="replace"))
    assert (made, later.held_back) == (True, True)
    engine.conclude(NOW + 250, job.id, token_of(job), SUCCEEDED)
    assert later.held_back
    invariants(engine)
    engine.tick(NOW + 300)
    assert later.status is Status.QUEUED
    engine.tick(NOW + 599)
    assert engine.enqueue(NOW + 599, spec())[0] is later, "it holds the key for its own time from then on"
    engine.tick(NOW + 600)
    assert engine.enqueue(NOW + 600, spec())[1]
    invariants(engine)


def test_a_follower_is_made_only_while_a_worker_has_it() -> None:
    """One that waits stands for both."""
    engine = make_engine()
    job = engine.enqueue(NOW, spec())[0]
    assert engine.enqueue(NOW, spec(on_conflict="follow"))[0] is job
    dequeue(engine)
    follower, made = engine.enqueue(NOW, spec(on_conflict="follow"))
    assert (made, follower.held_back) == (True, True)
    engine.cancel(NOW, follower.id)
    assert engine.enqueue(NOW, spec())[0] is job
    invariants(engine)


def test_a_follower_that_is_retried_waits_for_nothing() -> None:
    """It was cancelled while it waited for the key, and is to run now."""
    engine = make_engine()
    engine.enqueue(NOW, spec())
    dequeue(engine)
    follower, _ = engine.enqueue(NOW, spec(on_conflict="follow"))
    engine.cancel(NOW, follower.id)
    engine.retry(NOW, follower.id)
    assert (follower.status, engine.held_up(follower)) == (Status.QUEUED, False)
    invariants(engine)
    assert dequeue(engine) is follower


def test_others_of_the_key_mind_the_time() -> None:
    """A job that would hold the key until it is concluded meets it, and is met by one that holds it so."""
    engine = make_engine()
    job = engine.enqueue(NOW, spec())[0]
    assert engine.enqueue(NOW, make_spec(unique=Unique("u")))[0] is job
    end(engine, job)
    engine.tick(NOW + 300)
    other = enqueue(engine, NOW + 300, unique=Unique("u"))
    assert engine.enqueue(NOW + 900, spec())[0] is other
    invariants(engine)


def test_nothing_is_written_when_the_time_ends() -> None:
    """What is left of it follows from the job's row, so a million that end write none."""
    engine = make_engine()
    engine.enqueue(NOW, spec())
    engine.enqueue(NOW, spec(on_conflict="follow"))
    engine.take_events()
    engine.tick(NOW + 300)
    assert engine.events == []
    invariants(engine)


def test_a_dead_letter_leaves_its_key_where_it_was() -> None:
    """The time is held in the queue of the enqueue; in that of dead letters a job of the key is new."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(max_attempts=1, dead_letter="dead"))
    job = engine.enqueue(NOW, spec())[0]
    engine.conclude(NOW, job.id, token_of(dequeue(engine)), FINALLY_FAILED)
    assert (job.queue, job.outcome) == ("dead", None)
    met, made = engine.enqueue(NOW + 1, spec())
    assert (met.id, met.number, made) == (job.id, job.number, False)
    assert enqueue(engine, NOW + 1, unique=ONCE, queue="dead") is not job
    assert job.outcome is not Outcome.CANCELLED
    invariants(engine)
