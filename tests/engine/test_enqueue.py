"""Submitting: repeated ids, delays, expiry, and what happens when the server or a queue is full."""

from __future__ import annotations

from typing import Any

import pytest

from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Kind
from jobqueue.errors import BadRequest, IdConflict, QueueError, QueueFull, TooLarge, TooManyQueues
from jobqueue.limits import Limits
from jobqueue.model import JobSpec, Outcome, Status
from jobqueue.policy import Backoff, QueuePolicy
from tests.factories import NOW, STATES, SUCCEEDED, bring, dequeue, drain_ids, enqueue, make_engine, make_spec, token_of

from .invariants import fingerprint, invariants

FULL: dict[str, Any] = {
    "id": "job",
    "type": "mail",
    "description": "one",
    "priority": 3,
    "expires_in": 9_000.0,
    "max_attempts": 4,
    "backoff": Backoff(1.0, 2.0, 3.0),
    "lease_seconds": 300.0,
}
OTHER: dict[str, Any] = {
    "payload": b"1 ",
    "queue": "other",
    "type": "post",
    "description": "two",
    "priority": 4,
    "max_attempts": 5,
    "backoff": Backoff(1.0, 2.0, 4.0),
    "lease_seconds": 301.0,
}
TIMES: dict[str, Any] = {"delay": 10.0, "run_at": NOW + 10.0, "expires_in": 9_000.5}


def refused(engine: Engine, error: type[QueueError], spec: JobSpec) -> QueueError:
    """Assert that the spec is refused with exactly `error` and changes nothing."""
    before = fingerprint(engine)
    with pytest.raises(error) as caught:
        engine.enqueue(NOW, spec)
    assert type(caught.value) is error
    assert fingerprint(engine) == before
    return caught.value


def test_new_job_is_queued_and_told_of() -> None:
    """A first enqueue makes a queued job with a place, an id that sorts by time and one event."""
    engine = make_engine()
    job, created = engine.enqueue(NOW, make_spec(b'{"a":1}'))
    assert created
    assert (job.status, job.attempts, job.queue, job.priority, job.payload) == (Status.QUEUED, 0, "default", 5, b'{"a":1}')
    assert [event.kind for event in engine.take_events()] == [Kind.QUEUE_CHANGED, Kind.ENQUEUED]
    assert engine.job(job.id) is job
    invariants(engine)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("content", [{}, FULL], ids=["little said", "much said"])
def test_same_id_with_the_same_content_is_the_same_job_in_every_status(state: str, content: dict[str, Any]) -> None:
    """A repeated enqueue answers with the job there is, whatever became of it, and changes nothing."""
    engine = make_engine()
    placed = bring(engine, state, **{"id": "job", **content})
    before = fingerprint(engine)
    for later in (0.0, 100_000.0):
        assert engine.enqueue(NOW + later, placed.spec) == (placed.job, False)
    assert fingerprint(engine) == before


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("field", [*OTHER, *TIMES])
def test_same_id_with_other_content_conflicts_in_every_status(state: str, field: str) -> None:
    """One field that differs, by value, by being said or by not being said, is a conflict that names it and changes nothing."""
    engine = make_engine()
    placed = bring(engine, state, **FULL)
    said = {name: getattr(placed.spec, name) for name in JobSpec.__struct_fields__}
    others = [{**OTHER, **TIMES}[field]]
    if said[field] is not None and field not in ("payload", "queue", "priority"):
        others.append(None)
    for other in others:
        error = refused(engine, IdConflict, JobSpec(**{**said, field: other}))
        assert error.field == field


def test_repeat_is_compared_with_what_was_said_and_not_with_what_it_means() -> None:
    """A default that is spelled out is other content than a default that is not: the server's defaults may change in between."""
    engine = make_engine()
    enqueue(engine, id="a")
    for said in ({"max_attempts": 5}, {"lease_seconds": 300.0}, {"backoff": Backoff()}):
        refused(engine, IdConflict, make_spec(id="a", **said))
    for said in ({"queue": "default"}, {"priority": 5}, {"delay": 0.0}):
        assert engine.enqueue(NOW, make_spec(id="a", **said))[1] is False
    enqueue(engine, id="b", expires_in=5.0)
    assert engine.enqueue(NOW, make_spec(id="b", delay=0.0, expires_in=5.0))[1] is False


def test_repeat_is_answered_when_the_server_is_full() -> None:
    """A known id needs no room."""
    engine = make_engine(jobs_max=1)
    job = enqueue(engine, id="a")
    refused(engine, QueueFull, make_spec(id="b"))
    assert engine.enqueue(NOW, make_spec(id="a")) == (job, False)


def test_repeat_of_a_run_at_is_answered_after_the_wall_clock_moved() -> None:
    """run_at is compared as it was sent, in UTC, whatever the skew was then and is now."""
    engine = make_engine()
    spec = make_spec(id="a", run_at=NOW + 100.0)
    job, _ = engine.enqueue(NOW, spec, skew=40.0)
    assert job.run_at == NOW + 60.0
    assert engine.enqueue(NOW, spec, skew=-1_000.0) == (job, False)


def test_delay_and_run_at_schedule_a_job() -> None:
    """Both mean "not before": the job is scheduled, and joins the back of its queue when its time comes."""
    engine = make_engine()
    late, by_time, now = enqueue(engine, delay=20.0), enqueue(engine, run_at=NOW + 10.0), enqueue(engine)
    assert (late.status, by_time.status, now.status) == (Status.SCHEDULED, Status.SCHEDULED, Status.QUEUED)
    assert (late.run_at, by_time.run_at) == (NOW + 20.0, NOW + 10.0)
    engine.tick(NOW + 15.0)
    after = enqueue(engine, now=NOW + 16.0)
    engine.tick(NOW + 20.0)
    assert engine.queue("default").jobs() == [now, by_time, after, late]
    invariants(engine)


@pytest.mark.parametrize("run_at", [NOW, NOW - 0.001, 0.0, -1e12])
def test_run_at_that_is_not_ahead_means_now(run_at: float) -> None:
    """A run_at of this moment or of any past is a job for now, and says so; asked again, it is the same job."""
    engine = make_engine()
    job = enqueue(engine, id="a", run_at=run_at)
    assert job.run_at == NOW
    assert engine.enqueue(NOW + 5.0, make_spec(id="a", run_at=run_at)) == (job, False)
    assert job.status is Status.QUEUED
    assert dequeue(engine) is job


def test_job_with_a_past_run_at_waits_since_it_was_created() -> None:
    """How long the oldest job has waited counts from when it could first be taken, not from a run_at before it existed."""
    engine = make_engine()
    enqueue(engine, run_at=NOW - 1_000_000.0)
    assert engine.queue("default").stats().oldest_queued_at == NOW


def test_delayed_and_retried_jobs_wait_since_they_could_be_taken() -> None:
    """The oldest waits since its run_at, or since its retry, not since it was made."""
    engine = make_engine()
    enqueue(engine, queue="delayed", delay=50.0)
    assert engine.queue("delayed").stats().oldest_queued_at is None
    engine.tick(NOW + 60.0)
    assert engine.queue("delayed").stats().oldest_queued_at == NOW + 50.0
    engine.retry(NOW + 70.0, bring(engine, "failed", queue="retried").job.id)
    assert engine.queue("retried").stats().oldest_queued_at == NOW + 70.0


def test_no_delay_is_queued_at_once() -> None:
    """delay 0 is a job for now."""
    engine = make_engine()
    assert enqueue(engine, delay=0.0).status is Status.QUEUED


@pytest.mark.parametrize("run_at", [float("inf"), float("-inf"), float("nan"), NOW + 2_592_000.001])
def test_run_at_out_of_bounds_is_refused(run_at: float) -> None:
    """A run_at further ahead than the longest delay, or that is no number, is a bad request that names the field."""
    assert refused(make_engine(), BadRequest, make_spec(run_at=run_at)).field == "run_at"


def test_longest_run_at_counts_from_engine_time() -> None:
    """The longest delay is allowed to the millisecond, the wall clock's step taken off first."""
    engine = make_engine()
    engine.enqueue(NOW, make_spec(run_at=NOW + 500.0 + 2_592_000.0), skew=500.0)
    refused(engine, BadRequest, make_spec(run_at=NOW + 500.0 + 2_592_000.0))


@pytest.mark.parametrize("delay", [None, 60.0], ids=["queued", "scheduled"])
def test_waiting_job_expires_at_its_time(delay: float | None) -> None:
    """A job that nobody took by its expires_at is concluded as expired, at that moment and not before."""
    engine = make_engine()
    job = enqueue(engine, expires_in=30.0, delay=delay)
    engine.tick(NOW + 29.999)
    assert job.status is not Status.CONCLUDED
    engine.tick(NOW + 30.0)
    assert job.outcome is Outcome.EXPIRED
    assert engine.queue("default").expired_total == 1
    invariants(engine)


def test_expired_job_is_not_handed_out_before_tick_has_seen_it() -> None:
    """A dequeue that comes between a job's expiry and the tick passes it over, concludes it and takes the next."""
    engine = make_engine()
    job, following = enqueue(engine, expires_in=30.0), enqueue(engine)
    assert dequeue(engine, NOW + 30.0) is following
    assert job.outcome is Outcome.EXPIRED
    invariants(engine)


def test_expiry_does_not_touch_a_lease_but_the_wait_after_it() -> None:
    """While a worker holds it the lease decides; a job that is given back after its expiry ends as expired at once."""
    for give_back in ("release", "put_back", "tick"):
        engine = make_engine()
        job = enqueue(engine, expires_in=30.0)
        token = token_of(dequeue(engine))
        engine.tick(NOW + 40.0)
        assert job.status is Status.IN_PROGRESS
        engine.take_events()
        if give_back == "tick":
            engine.tick(NOW + 300.0)
        else:
            getattr(engine, give_back)(NOW + 40.0, job.id, token)
        assert job.outcome is Outcome.EXPIRED
        assert [event.kind for event in engine.take_events()] == [Kind.CONCLUDED]
        invariants(engine)


def test_job_put_off_beyond_its_expiry_ends_as_expired() -> None:
    """Released with a delay or failed with a backoff that ends after expires_at, a job expires when its time is over."""
    engine = make_engine()
    job = enqueue(engine, expires_in=30.0)
    engine.release(NOW, job.id, token_of(dequeue(engine)), 60.0)
    engine.tick(NOW + 30.0)
    assert job.outcome is Outcome.EXPIRED
    invariants(engine)


def test_expiry_late_in_a_lease_that_succeeds_does_not_matter() -> None:
    """A worker that finishes after expires_at has finished."""
    engine = make_engine()
    job = enqueue(engine, expires_in=30.0)
    token = token_of(dequeue(engine))
    engine.conclude(NOW + 40.0, job.id, token, SUCCEEDED)
    assert job.outcome is Outcome.SUCCEEDED


def test_jobs_max_bounds_live_jobs_alone() -> None:
    """With as many live jobs as allowed the next is `queue_full`; a concluded one makes room."""
    engine = make_engine(jobs_max=3)
    first, *_ = [enqueue(engine, queue=name) for name in ("a", "b", "c")]
    refused(engine, QueueFull, make_spec(queue="d"))
    dequeue(engine, queue="a")
    refused(engine, QueueFull, make_spec(queue="a"))
    engine.conclude(NOW, first.id, token_of(first), SUCCEEDED)
    enqueue(engine, queue="a")
    refused(engine, QueueFull, make_spec(queue="a"))
    invariants(engine)


def test_payload_total_bounds_live_payloads_to_the_byte() -> None:
    """Payloads of live jobs fill the bound exactly; one byte more is `queue_full`; an empty payload still fits."""
    engine = make_engine(payload_bytes_max=10, payload_total_bytes_max=20)
    first = enqueue(engine, payload=b"x" * 10)
    enqueue(engine, payload=b"x" * 9)
    refused(engine, QueueFull, make_spec(b"xx", queue="new"))
    enqueue(engine, payload=b"x")
    refused(engine, QueueFull, make_spec(b"x"))
    enqueue(engine, payload=b"")
    engine.cancel(NOW, first.id)
    enqueue(engine, payload=b"x" * 10)
    assert engine.live_bytes == 20
    invariants(engine)


def test_payload_has_a_size() -> None:
    """A payload of the largest size is kept; one byte more is `too_large`, not `queue_full`."""
    engine = make_engine(payload_bytes_max=10)
    enqueue(engine, payload=b"x" * 10)
    assert refused(engine, TooLarge, make_spec(b"x" * 11)).field == "payload"


def test_queues_max_bounds_names() -> None:
    """One queue name too many is `too_many_queues` and makes no queue; the known ones go on, and a deleted one makes room."""
    engine = make_engine(queues_max=2)
    job = enqueue(engine, queue="a")
    enqueue(engine, queue="b")
    refused(engine, TooManyQueues, make_spec(queue="c"))
    enqueue(engine, queue="b")
    engine.cancel(NOW, job.id)
    engine.delete_queue("a")
    enqueue(engine, queue="c")
    assert set(engine.queues) == {"b", "c"}


def test_max_jobs_bounds_one_queue() -> None:
    """A queue's own max_jobs counts every live job of it, whatever its status, and no other queue's."""
    engine = make_engine()
    engine.put_policy("a", QueuePolicy(max_jobs=3))
    enqueue(engine, queue="a")
    dequeue(engine, queue="a")
    enqueue(engine, queue="a", delay=10.0)
    enqueue(engine, queue="a")
    engine.take_events()
    refused(engine, QueueFull, make_spec(queue="a"))
    enqueue(engine, queue="b")
    engine.put_policy("a", QueuePolicy(max_jobs=2))
    engine.take_events()
    refused(engine, QueueFull, make_spec(queue="a"))
    assert len(drain_ids(engine, NOW, "a")) == 1


@pytest.mark.parametrize("queue", ["", "a b", "a/b", "é", "x" * 81])
def test_bad_queue_name_is_refused_before_a_queue_is_made(queue: str) -> None:
    """A name that is none makes no queue."""
    engine = make_engine()
    assert refused(engine, BadRequest, make_spec(queue=queue)).field == "queue"
    assert engine.queues == {}


def test_bad_type_is_refused_before_a_queue_is_made() -> None:
    """A type with a control character makes no queue and no job."""
    engine = make_engine()
    assert refused(engine, BadRequest, make_spec(type="a\nb")).field == "type"
    assert engine.queues == {}


def test_default_bounds_are_the_documented_ones() -> None:
    """The bounds of a server nobody configured."""
    limits = Limits()
    assert (limits.jobs_max, limits.payload_total_bytes_max, limits.payload_bytes_max) == (1_000_000, 1 << 30, 1 << 20)
    assert (limits.queues_max, limits.history_jobs_max, limits.history_bytes_max) == (10_000, 10_000, 64 << 20)
    assert (limits.lease_seconds_min, limits.lease_seconds_default, limits.lease_seconds_max) == (1.0, 300.0, 43_200.0)
    assert (limits.delay_seconds_max, limits.batch_jobs_max, limits.max_attempts_default) == (30 * 86_400.0, 1_000, 5)
