"""Queues: policies, pausing, deleting, purging, redriving, counts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobqueue.engine.events import Kind
from jobqueue.errors import BadRequest, QueueFull, QueueNotEmpty, TooManyQueues, UnknownQueue
from jobqueue.model import Job, Outcome, QueueStats, Status, Want
from jobqueue.policy import Backoff, QueuePolicy
from tests.factories import FAILED, FINALLY_FAILED, NOW, SUCCEEDED, bring, dequeue, enqueue, make_engine, token_of

from .invariants import fingerprint, invariants


def all_of(slices: Iterator[list[Job]]) -> list[Job]:
    """Every job of some slices, as one list."""
    return [job for jobs in slices for job in jobs]


def test_new_queue_has_the_servers_defaults() -> None:
    """A queue made by its first job has the policy that the limits describe."""
    engine = make_engine(lease_seconds_default=77.0, max_attempts_default=2)
    enqueue(engine)
    assert engine.queue("default").policy == QueuePolicy(lease_seconds=77.0, max_attempts=2)


def test_put_policy_makes_a_queue_or_changes_one() -> None:
    """True for a queue it made, False for one it changed; the whole policy is replaced either way."""
    engine = make_engine()
    policy = QueuePolicy(lease_seconds=5.0, max_attempts=9, max_jobs=3, paused=True)
    assert engine.put_policy("a", policy) is True
    assert engine.put_policy("a", policy) is False
    assert engine.queue("a").policy == policy
    assert engine.put_policy("a", QueuePolicy()) is False
    assert engine.queue("a").policy == QueuePolicy()


@pytest.mark.parametrize(
    ("field", "policy"),
    [
        ("lease_seconds", QueuePolicy(lease_seconds=0.5)),
        ("max_attempts", QueuePolicy(max_attempts=0)),
        ("backoff.factor", QueuePolicy(backoff=Backoff(factor=0.5))),
        ("max_jobs", QueuePolicy(max_jobs=0)),
    ],
)
def test_bad_policy_names_its_field_and_makes_no_queue(field: str, policy: QueuePolicy) -> None:
    """A policy that is not allowed changes nothing, nor makes the queue it was for."""
    engine = make_engine()
    before = fingerprint(engine)
    with pytest.raises(BadRequest) as caught:
        engine.put_policy("a", policy)
    assert caught.value.field == field
    assert fingerprint(engine) == before


def test_policy_for_one_queue_too_many_is_refused() -> None:
    """queues_max bounds queues that are made by their policy as well."""
    engine = make_engine(queues_max=1)
    engine.put_policy("a", QueuePolicy())
    engine.take_events()
    before = fingerprint(engine)
    with pytest.raises(TooManyQueues):
        engine.put_policy("b", QueuePolicy())
    assert fingerprint(engine) == before


def test_max_attempts_is_the_jobs_else_the_queues_as_it_is_now() -> None:
    """A job's own max_attempts wins; else the queue's of this moment decides, not that of the enqueue."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(max_attempts=1))
    own, plain = enqueue(engine, id="own", max_attempts=2), enqueue(engine, id="plain")
    for job in engine.dequeue(NOW, Want(limit=2)):
        engine.conclude(NOW, job.id, token_of(job), FAILED)
    assert (own.status, plain.outcome) == (Status.SCHEDULED, Outcome.FAILED)
    engine.put_policy("default", QueuePolicy(max_attempts=3))
    engine.retry(NOW, plain.id)
    engine.conclude(NOW, plain.id, token_of(dequeue(engine)), FAILED)
    assert plain.status is Status.SCHEDULED


def test_pause_and_resume_tell_once_of_a_change() -> None:
    """Pausing twice is the same as once; only a true change says QUEUE_PAUSED or QUEUE_RESUMED, by whichever operation it comes."""
    engine = make_engine()
    engine.put_policy("a", QueuePolicy())
    engine.take_events()
    for paused, kinds in ((True, [Kind.QUEUE_PAUSED]), (True, []), (False, [Kind.QUEUE_RESUMED]), (False, [])):
        engine.set_paused("a", paused)
        assert [event.kind for event in engine.take_events()] == kinds
        assert engine.queue("a").policy.paused is paused
    engine.put_policy("a", QueuePolicy(paused=True))
    engine.take_events()
    engine.put_policy("a", QueuePolicy())
    assert [event.kind for event in engine.take_events()] == [Kind.QUEUE_RESUMED]


def test_queue_with_the_default_policy_can_be_paused_whatever_the_limits() -> None:
    """Limits that a server starts with never make its own default policy a bad request."""
    engine = make_engine(delay_seconds_max=60.0)
    enqueue(engine)
    engine.set_paused("default", True)
    assert engine.queue("default").policy.paused


def test_unknown_queue_is_unknown_to_every_operation() -> None:
    """What needs a queue to be there says that it is not, and makes none."""
    engine = make_engine()
    for operation in (
        engine.queue,
        engine.delete_queue,
        lambda name: engine.waiting(name, 5),
        lambda name: engine.failed(name, 5),
        lambda name: engine.set_paused(name, True),
    ):
        with pytest.raises(UnknownQueue):
            operation("a")
    assert engine.queues == {}
    assert engine.events == []


@pytest.mark.parametrize("state", ["scheduled", "queued", "in_progress", "cancelling"])
def test_queue_with_a_live_job_is_not_deleted(state: str) -> None:
    """Whatever a live job's status, its queue stays."""
    engine = make_engine()
    bring(engine, state)
    before = fingerprint(engine)
    with pytest.raises(QueueNotEmpty):
        engine.delete_queue("default")
    assert fingerprint(engine) == before


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "expired"])
def test_deleted_queue_leaves_its_history_and_a_retry_makes_it_again(state: str) -> None:
    """Concluded jobs stay findable; retrying one makes the queue anew, with the default policy, or says why it cannot."""
    engine = make_engine(queues_max=1)
    engine.put_policy("default", QueuePolicy(lease_seconds=9.0))
    placed = bring(engine, state)
    engine.delete_queue("default")
    assert [event.kind for event in engine.take_events()] == [Kind.QUEUE_DELETED]
    assert engine.job(placed.job.id) is placed.job
    invariants(engine)
    if state == "succeeded":
        return
    engine.put_policy("other", QueuePolicy())
    engine.take_events()
    before = fingerprint(engine)
    with pytest.raises(TooManyQueues):
        engine.retry(NOW, placed.job.id)
    assert fingerprint(engine) == before
    engine.delete_queue("other")
    engine.retry(NOW, placed.job.id)
    assert engine.queue("default").policy == engine.default_policy
    assert dequeue(engine) is placed.job


@pytest.mark.parametrize("bound", ["jobs_max", "payload", "max_jobs"])
def test_retry_needs_room_like_an_enqueue(bound: str) -> None:
    """A concluded job does not come back into a server or a queue that is full, and stays in history as it was."""
    engine = make_engine(jobs_max=1 if bound == "jobs_max" else 9, payload_bytes_max=10, payload_total_bytes_max=10)
    if bound == "max_jobs":
        engine.put_policy("default", QueuePolicy(max_jobs=1))
    placed = bring(engine, "failed", payload=b"xxx")
    blocking = enqueue(engine, payload=b"x" * 8 if bound == "payload" else b"x")
    engine.take_events()
    before = fingerprint(engine)
    with pytest.raises(QueueFull):
        engine.retry(NOW, placed.job.id)
    assert fingerprint(engine) == before
    engine.cancel(NOW, blocking.id)
    assert engine.retry(NOW, placed.job.id).status is Status.QUEUED
    invariants(engine)


def test_purge_cancels_what_waits_and_leaves_what_is_worked_on() -> None:
    """Queued and scheduled jobs of the queue end as cancelled; leases and other queues are untouched."""
    engine = make_engine()
    worked_on = enqueue(engine)
    dequeue(engine)
    returned = enqueue(engine, priority=0)
    engine.release(NOW, returned.id, token_of(dequeue(engine)))
    jobs = [returned, *(enqueue(engine, priority=p) for p in (1, 9)), enqueue(engine, delay=10.0)]
    elsewhere = enqueue(engine, queue="other")
    waiting = all_of(engine.waiting("default", 2))
    assert waiting == jobs
    assert engine.purge(NOW, "default", waiting) == 4
    assert [job.outcome for job in jobs] == [Outcome.CANCELLED] * 4
    assert (worked_on.status, elsewhere.status) == (Status.IN_PROGRESS, Status.QUEUED)
    assert engine.queue("default").cancelled_total == 4
    invariants(engine)


def test_purge_in_slices_passes_over_what_moved_on_meanwhile() -> None:
    """Between slices jobs are taken, end, are forgotten: the purge touches none of them."""
    engine = make_engine(history_jobs_max=1)
    taken, ended, forgotten, waits = (enqueue(engine, id=name) for name in ("taken", "ended", "forgotten", "waits"))
    waiting = all_of(engine.waiting("default", 2))
    dequeue(engine)
    engine.cancel(NOW, forgotten.id)
    engine.cancel(NOW, ended.id)
    assert forgotten.id not in engine.jobs.by_id
    assert engine.purge(NOW, "default", waiting) == 1
    assert (taken.status, waits.outcome) == (Status.IN_PROGRESS, Outcome.CANCELLED)
    invariants(engine)


def test_failed_lists_one_queues_failures_oldest_first() -> None:
    """Only failed jobs, only this queue's, in the order in which they failed."""
    engine = make_engine()
    first, second = bring(engine, "failed").job, bring(engine, "failed").job
    bring(engine, "cancelled"), bring(engine, "succeeded"), bring(engine, "failed", queue="other")
    assert all_of(engine.failed("default", 2)) == [first, second]


def test_redrive_retries_in_order_and_stops_when_the_queue_is_full() -> None:
    """Failed jobs come back oldest first, as many as there is room for; the rest stay failed."""
    engine = make_engine()
    jobs = [bring(engine, "failed", id=str(n)).job for n in range(4)]
    engine.put_policy("default", QueuePolicy(max_jobs=3))
    assert engine.retry_failed(NOW, "default", all_of(engine.failed("default", 2))) == 3
    assert engine.queue("default").jobs() == jobs[:3]
    assert all_of(engine.failed("default", 2)) == jobs[3:]
    invariants(engine)


def test_redrive_passes_over_what_is_no_longer_failed() -> None:
    """Between slices a job may be retried and end otherwise, or be forgotten and its id used anew."""
    engine = make_engine(history_jobs_max=2)
    old = bring(engine, "failed", id="old").job
    retried = bring(engine, "failed", id="retried").job
    listed = all_of(engine.failed("default", 2))
    engine.retry(NOW, retried.id)
    engine.conclude(NOW, retried.id, token_of(dequeue(engine)), SUCCEEDED)
    bring(engine, "failed", id="x"), bring(engine, "failed", id="y")
    assert engine.jobs.find("old") is None
    new = bring(engine, "failed", id="old").job
    assert new is not old
    assert engine.retry_failed(NOW, "default", listed) == 0
    assert (new.outcome, retried.outcome) == (Outcome.FAILED, Outcome.SUCCEEDED)
    invariants(engine)


def test_stats_count_what_happened() -> None:
    """Every total and every count of a queue after one of each."""
    engine = make_engine()
    for state in ("succeeded", "failed", "cancelled", "in_progress"):
        bring(engine, state, worked=False)
    bring(engine, "expired", worked=False, expires_in=1.0)
    retried = bring(engine, "cancelled", worked=False).job
    engine.retry(NOW, retried.id)
    enqueue(engine, NOW + 1.0, delay=10.0), enqueue(engine, NOW + 1.0)
    assert engine.queue("default").stats() == QueueStats(
        name="default",
        policy=engine.default_policy,
        scheduled=1,
        queued=2,
        in_progress=1,
        oldest_queued_at=NOW,
        waiters=0,
        enqueued_total=8,
        dequeued_total=3,
        redelivered_total=0,
        succeeded_total=1,
        failed_total=1,
        attempts_failed_total=1,
        cancelled_total=2,
        expired_total=1,
        retried_total=1,
        created_at=NOW,
        modified_at=NOW,
    )


def test_failing_finally_spares_the_attempts_that_are_left() -> None:
    """retry false ends the job at its first failure."""
    engine = make_engine()
    job = enqueue(engine, max_attempts=10)
    engine.conclude(NOW, job.id, token_of(dequeue(engine)), FINALLY_FAILED)
    assert (job.outcome, job.attempts, job.error) == (Outcome.FAILED, 1, b'"broken"')
