"""Leases that are over: one of zero seconds, one that is ended at once, and a success that comes when it has run out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobqueue.backend.rows import decode_job, encode_job
from jobqueue.engine.bulk import Bulk
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Kind
from jobqueue.engine.filters import Matching
from jobqueue.errors import BadRequest, LeaseLost, NotInProgress
from jobqueue.joblog import LogLine, LogPart
from jobqueue.model import Job, JobChange, Outcome, Status, Verdict, Want
from jobqueue.policy import PerKey, PolicyChange, QueuePolicy
from jobqueue.unique import Unique
from tests.factories import FAILED, NOW, SUCCEEDED, dequeue, enqueue, make_engine, make_spec, token_of

from .invariants import fingerprint, invariants

LATE = Verdict(outcome=Outcome.SUCCEEDED, result=b'"late"', late=True)


def run_out(engine: Engine, queue: str = "default", **fields: Any) -> str:
    """Take the next job and let its lease run out; its token."""
    token = token_of(dequeue(engine, queue=queue, **{"worker": "w", "lease_seconds": 10.0, **fields}))
    engine.tick(NOW + 10)
    return token


def lost(engine: Engine, token: str, verdict: Verdict = LATE, job_id: str = "j") -> None:
    """Assert that it is refused, and changes nothing."""
    before = fingerprint(engine)
    with pytest.raises(LeaseLost):
        engine.conclude(NOW + 11, job_id, token, verdict)
    assert fingerprint(engine) == before


# A success that comes late.


def test_a_late_success_ends_a_job_that_waits() -> None:
    """By the token of the lease that ran out: the result is there, who did it and since when, and a repeat is answered alike."""
    engine = make_engine()
    job = enqueue(engine, id="j")
    token = run_out(engine)
    engine.take_events()
    assert engine.conclude(NOW + 11, "j", token, LATE) is job
    assert (job.status, job.outcome, job.attempts) == (Status.CONCLUDED, Outcome.SUCCEEDED, 1)
    assert job.conclusion is not None
    assert (job.conclusion.result, job.conclusion.worker, job.conclusion.started_at) == (b'"late"', "w", NOW)
    assert [event.kind for event in engine.take_events()] == [Kind.CONCLUDED]
    assert engine.conclude(NOW + 12, "j", token, LATE) is job
    assert engine.events == []
    assert not engine.dequeue(NOW + 12, Want())
    with pytest.raises(NotInProgress):
        engine.conclude(NOW + 12, "j", token, SUCCEEDED)
    invariants(engine)


@pytest.mark.parametrize(
    "verdict", [SUCCEEDED, FAILED, Verdict(outcome=Outcome.FAILED, late=True)], ids=["not late", "failed", "failed late"]
)
def test_nothing_else_is_taken_late(verdict: Verdict) -> None:
    """Without `late` a lease that is over is lost as ever, and a failure has been counted already."""
    engine = make_engine()
    enqueue(engine, id="j")
    lost(engine, run_out(engine), verdict)


def test_a_late_success_in_time_is_like_any_other() -> None:
    """It ends the attempt while the lease lives, and a cancel request holds."""
    engine = make_engine()
    for cancelled in (False, True):
        job = enqueue(engine)
        token = token_of(dequeue(engine))
        if cancelled:
            engine.cancel(NOW, job.id)
        engine.conclude(NOW, job.id, token, LATE)
        assert job.outcome is (Outcome.CANCELLED if cancelled else Outcome.SUCCEEDED)
    invariants(engine)


def again_fails(engine: Engine) -> None:
    engine.conclude(NOW + 10, "j", token_of(dequeue(engine, NOW + 10)), FAILED)


def again_runs_out(engine: Engine) -> None:
    dequeue(engine, NOW + 10, lease_seconds=1.0)
    engine.tick(NOW + 11)


def again_released(engine: Engine, delay: float = 0.0) -> None:
    engine.release(NOW + 10, "j", token_of(dequeue(engine, NOW + 10)), delay)


def retried(engine: Engine) -> None:
    engine.cancel(NOW + 10, "j")
    engine.retry(NOW + 10, "j")


def redriven(engine: Engine) -> None:
    engine.change_policy("default", PolicyChange(max_attempts=1, dead_letter="dead"))
    again_runs_out(engine)
    engine.redrive(NOW + 11, "dead", [engine.job("j")], None)


def edited_by_bulk(engine: Engine) -> None:
    Bulk(engine, NOW, 0.0, "edit", Matching(queue="default"), JobChange(payload=b"2"), None, False).step(NOW, 0.0)


AGAIN: dict[str, Callable[[Engine], object]] = {
    "is in progress": lambda engine: dequeue(engine, NOW + 10),
    "failed": again_fails,
    "ran out again": again_runs_out,
    "was released": again_released,
    "was released with a delay": lambda engine: again_released(engine, 5.0),
    "was cancelled": lambda engine: engine.cancel(NOW + 10, "j"),
    "was retried": retried,
    "was redriven": redriven,
    "is another": lambda engine: engine.edit(NOW + 10, "j", JobChange(payload=b"2")),
    "is another, one of many": edited_by_bulk,
}


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
def test_who_is_later_than_that_has_lost_it(again: Callable[[Engine], object]) -> None:
    """Once the job was handed out again, or begins anew, or is to do something else, no earlier attempt ends it, now or later."""
    engine = make_engine()
    enqueue(engine, id="j")
    token = run_out(engine)
    again(engine)
    lost(engine, token)
    assert all(attempt.token is None for attempt in engine.job("j").past[:-1])
    invariants(engine)


LIKE: dict[str, Callable[[Engine], object]] = {
    "put back": lambda engine: engine.put_back(NOW + 10, "j", token_of(dequeue(engine, NOW + 10))),
    "edited in other ways": lambda engine: engine.edit(NOW + 10, "j", JobChange(description="new", priority=1)),
    "put off": lambda engine: engine.edit(NOW + 10, "j", JobChange(delay=9.0)),
    "moved": lambda engine: engine.edit(NOW + 10, "j", JobChange(queue="other")),
    "paused": lambda engine: engine.set_paused("default", True),
}


@pytest.mark.parametrize("meanwhile", LIKE.values(), ids=LIKE)
def test_a_job_that_waits_on_may_still_be_ended(meanwhile: Callable[[Engine], object]) -> None:
    """A hand-out whose answer was not delivered is none; and where and how long the job waits makes no difference."""
    engine = make_engine()
    job = enqueue(engine, id="j")
    token = run_out(engine)
    meanwhile(engine)
    engine.conclude(NOW + 11, "j", token, LATE)
    assert (job.outcome, engine.live) == (Outcome.SUCCEEDED, 0)
    invariants(engine)


def test_a_dead_letter_may_be_ended_where_it_waits() -> None:
    """The lease that ran out was the last: its worker's success is no failure after all. A next dead letter of it has another token."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(max_attempts=1, dead_letter="dead"))
    engine.put_policy("dead", QueuePolicy(max_attempts=1, dead_letter="buried"))
    job = enqueue(engine, id="j")
    first = run_out(engine)
    assert job.queue == "dead"
    second = run_out(engine, "dead")
    assert (job.queue, job.received) == ("buried", 2)
    lost(engine, first)
    engine.conclude(NOW + 11, "j", second, LATE)
    assert (job.outcome, job.queue) == (Outcome.SUCCEEDED, "buried")
    assert engine.queue("buried").stats().succeeded_total == 1
    invariants(engine)


def test_what_ended_for_good_stays_as_it_is() -> None:
    """A job whose last lease ran out, or that was to be cancelled, has ended; no success changes that."""
    for cancelled in (False, True):
        engine = make_engine()
        job = enqueue(engine, id="j", max_attempts=1)
        token = token_of(dequeue(engine, lease_seconds=10.0))
        if cancelled:
            engine.cancel(NOW, "j")
        engine.tick(NOW + 10)
        lost(engine, token)
        assert job.outcome is (Outcome.CANCELLED if cancelled else Outcome.FAILED)
        assert job.past[-1].token is None


@pytest.mark.parametrize("order", ["fifo", "halt"])
def test_the_next_of_a_key_may_go_then(order: Any) -> None:
    """It holds its key until it is ended, in an ordered queue; also when it was put off meanwhile, and a waiter is to be told."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(per_key=PerKey(order)))
    enqueue(engine, id="j", key="k")
    behind = enqueue(engine, key="k")
    token = run_out(engine)
    engine.edit(NOW + 10, "j", JobChange(delay=60.0))
    assert not engine.available("default")
    engine.take_events()
    engine.conclude(NOW + 11, "j", token, LATE)
    assert Kind.FREED in [event.kind for event in engine.take_events()]
    assert dequeue(engine, NOW + 11) is behind
    invariants(engine)


def test_what_waits_for_its_end_goes_on() -> None:
    """Jobs that are after it run, its unique key is free, and its group has one less."""
    engine = make_engine()
    job = enqueue(engine, id="j", unique=Unique("u"))
    child = enqueue(engine, after=("j",), queue="other")
    token = run_out(engine)
    assert engine.enqueue(NOW + 11, make_spec(unique=Unique("u")))[0] is job
    engine.conclude(NOW + 11, "j", token, LATE)
    assert child.status is Status.QUEUED
    assert engine.enqueue(NOW + 11, make_spec(unique=Unique("u")))[1]
    invariants(engine)


@pytest.mark.parametrize("on_conflict", ["follow", "replace"])
def test_no_job_is_ended_by_who_has_not_seen_what_was_asked_since(on_conflict: Any) -> None:
    """An enqueue that counts on the job that waits, or changes it, must have it run."""
    engine = make_engine()
    job = enqueue(engine, id="j", unique=Unique("u"))
    token = run_out(engine)
    assert engine.enqueue(NOW + 11, make_spec(payload=b"2", unique=Unique("u", on_conflict=on_conflict)))[0] is job
    assert engine.events
    lost(engine, token)
    invariants(engine)


def test_lines_come_with_it() -> None:
    """What a late success says goes into the log, under the same lease: what it had said before is not there twice."""
    engine = make_engine()
    job = enqueue(engine, id="j")
    token = token_of(dequeue(engine, lease_seconds=10.0))
    engine.append_log(NOW, "j", token, LogPart((LogLine("a", "info", NOW),), 0))
    engine.tick(NOW + 10)
    lines = LogLine("a", "info", NOW), LogLine("b", "info", NOW)
    engine.conclude(NOW + 11, "j", token, Verdict(outcome=Outcome.SUCCEEDED, log=LogPart(lines, 0), late=True))
    assert engine.logs.state(job.number).lines == 2
    invariants(engine)


def test_the_token_is_stored_with_the_newest_attempt_alone() -> None:
    """So a restart forgets nothing of it, and a job keeps one at most."""
    engine = make_engine()
    job = enqueue(engine, id="j")
    first, second = run_out(engine), None
    assert [attempt.token for attempt in job.past] == [first]
    second = token_of(dequeue(engine, NOW + 10, lease_seconds=1.0))
    assert [attempt.token for attempt in job.past] == [first], "until it is known that it was delivered"
    engine.tick(NOW + 11)
    assert [attempt.token for attempt in job.past] == [None, second]
    assert decode_job(job.number, encode_job(job, 1), b"1").job.past == job.past


# Leases of no time.


def test_a_lease_of_zero_is_over_in_the_next_tick() -> None:
    """The attempt counts; nobody was given more time for it by a server that stood still."""
    engine = make_engine()
    job = enqueue(engine, max_attempts=2)
    token = token_of(dequeue(engine, lease_seconds=0.0))
    engine.tick(NOW, stalled=NOW, held_until=NOW + 10)
    assert (job.status, job.attempts, job.past[-1].ended) == (Status.QUEUED, 1, "lease_expired")
    dequeue(engine, lease_seconds=0.0)
    lost(engine, token, job_id=job.id)
    engine.tick(NOW)
    assert job.outcome is Outcome.FAILED
    invariants(engine)


@pytest.mark.parametrize("where", ["dequeue", "job", "policy"])
def test_zero_is_a_number_wherever_it_is_given(where: str) -> None:
    """What says zero is not passed over for what comes after it: the dequeue, then the job, then the queue."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(lease_seconds=0.0 if where == "policy" else 60.0))
    enqueue(engine, lease_seconds=0.0 if where == "job" else 60.0 if where == "dequeue" else None)
    job = dequeue(engine, lease_seconds=0.0 if where == "dequeue" else None)
    assert job.lease is not None
    assert (job.lease.seconds, job.lease.expires_at) == (0.0, NOW)
    invariants(engine)


@pytest.mark.parametrize("seconds", [0.5, -1.0, 43_201.0, float("nan")])
def test_what_is_neither_zero_nor_a_length_is_refused(seconds: float) -> None:
    """And changes nothing."""
    engine = make_engine()
    enqueue(engine, id="j")
    token = token_of(dequeue(engine))
    before = fingerprint(engine)
    with pytest.raises(BadRequest, match=r"1 to 43200 seconds, or 0, is allowed"):
        engine.extend(NOW, "j", token, seconds)
    assert fingerprint(engine) == before


def test_extending_by_zero_ends_the_lease() -> None:
    """As if it had run out: the attempt counts, the job is at its old place, and its token is that of a lease that is over."""
    engine = make_engine()
    job = enqueue(engine, id="j")
    enqueue(engine)
    token = token_of(dequeue(engine, attempt_id="a", worker="w"))
    engine.take_events()
    assert engine.extend(NOW + 5, "j", token, 0.0, 0.5, "half") is job
    assert (job.status, job.attempts, job.lease) == (Status.QUEUED, 1, None)
    assert (job.past[-1].ended, job.past[-1].ended_at, job.past[-1].token) == ("lease_expired", NOW + 5, token)
    assert [event.kind for event in engine.take_events()] == [Kind.QUEUED]
    assert engine.leases_expired_total == 0, "nobody is missing"
    with pytest.raises(LeaseLost):
        engine.extend(NOW + 5, "j", token)
    assert not engine.replay(Want(attempt_id="a", worker="w"))
    assert dequeue(engine, NOW + 5) is job
    invariants(engine)


def test_extending_by_zero_may_be_the_end() -> None:
    """Of the last attempt, or where a cancel was requested; or it makes a dead letter. What is said of the log is kept."""
    engine = make_engine()
    engine.put_policy("dying", QueuePolicy(max_attempts=1, dead_letter="dead"))
    failed, cancelled, letter = enqueue(engine, max_attempts=1), enqueue(engine), enqueue(engine, queue="dying")
    for job in (failed, cancelled, letter):
        token = token_of(dequeue(engine, queue=job.queue))
        if job is cancelled:
            engine.cancel(NOW, job.id)
        engine.extend(NOW, job.id, token, 0.0, log=LogPart((LogLine("bye", "info", NOW),), 0))
        assert engine.logs.state(job.number).lines == 1
    assert (failed.outcome, cancelled.outcome, letter.queue) == (Outcome.FAILED, Outcome.CANCELLED, "dead")
    assert failed.error == b'"lease_expired"'
    invariants(engine)


def test_a_lease_of_zero_may_be_extended_and_is_by_its_own_length_otherwise() -> None:
    """Whoever is quick enough has it for as long as it says; who says nothing has it for as long as before, which is not at all."""
    engine = make_engine()
    first, second = enqueue(engine), enqueue(engine)
    tokens = [token_of(dequeue(engine, lease_seconds=0.0)) for _ in range(2)]
    engine.extend(NOW, first.id, tokens[0], 30.0)
    engine.extend(NOW, second.id, tokens[1])
    engine.tick(NOW)
    assert (first.status, second.status) == (Status.IN_PROGRESS, Status.QUEUED)
    invariants(engine)


def test_zero_frees_what_a_lease_takes() -> None:
    """The next of a concurrency limit may go; of an ordered key the same job goes before those behind it."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(concurrency=1, per_key=PerKey("fifo")))
    job = enqueue(engine, key="k")
    enqueue(engine, key="k", priority=0)
    other = enqueue(engine, key="other", priority=9)
    token = token_of(dequeue(engine))
    assert engine.job(job.id).status is Status.QUEUED
    taken = next(each for each in engine.jobs.all() if each.status is Status.IN_PROGRESS)
    engine.extend(NOW, taken.id, token, 0.0)
    again = dequeue(engine)
    assert again is taken
    assert other.status is Status.QUEUED
    invariants(engine)


def job_ids(jobs: list[Job]) -> list[str]:
    return [job.id for job in jobs]


def test_one_dequeue_takes_several_for_no_time() -> None:
    """They are handed out once each in it, in order, and again in the next, after a tick."""
    engine = make_engine()
    for name in "abc":
        enqueue(engine, id=name)
    for _ in range(2):
        assert job_ids(engine.dequeue(NOW, Want(limit=3, lease_seconds=0.0))) == ["a", "b", "c"]
        assert not engine.dequeue(NOW, Want(limit=3, lease_seconds=0.0))
        engine.tick(NOW)
    invariants(engine)
