"""What a job remembers of its attempts that did not succeed."""

from __future__ import annotations

import pytest

from jobqueue.model import Outcome, Verdict
from jobqueue.past import Attempt
from tests.factories import NOW, SUCCEEDED, dequeue, enqueue, make_engine, token_of

from .invariants import invariants


def failing(error: bytes | None, retry: bool = True) -> Verdict:
    """A failure whose next attempt is due at once."""
    return Verdict(outcome=Outcome.FAILED, error=error, retry=retry, retry_delay=0.0 if retry else None)


def test_each_failed_attempt_is_remembered() -> None:
    """Worker, start, end, how it ended and its error, oldest first, the final one too; success is the conclusion's to tell."""
    engine = make_engine()
    job = enqueue(engine, id="j", max_attempts=4)
    assert job.past == ()
    engine.conclude(NOW + 2, "j", token_of(dequeue(engine, NOW + 1, worker="w-1")), failing(b'"first"'))
    engine.tick(NOW + 2)
    dequeue(engine, NOW + 3, worker="w-2", lease_seconds=10.0)
    engine.tick(NOW + 13)
    engine.conclude(NOW + 15, "j", token_of(dequeue(engine, NOW + 14)), failing(None))
    engine.tick(NOW + 15)
    past = (
        Attempt(1, "w-1", NOW + 1, NOW + 2, "failed", b'"first"'),
        Attempt(2, "w-2", NOW + 3, NOW + 13, "lease_expired", None),
        Attempt(3, None, NOW + 14, NOW + 15, "failed", None),
    )
    assert job.past == past
    last = token_of(dequeue(engine, NOW + 16, worker="w-4"))
    engine.conclude(NOW + 17, "j", last, SUCCEEDED)
    engine.conclude(NOW + 18, "j", last, SUCCEEDED)
    assert (job.past, job.error) == (past, None)
    assert job.conclusion is not None
    assert (job.conclusion.worker, job.conclusion.started_at, job.conclusion.concluded_at) == ("w-4", NOW + 16, NOW + 17)


def test_final_failure_is_remembered_once() -> None:
    """The attempt that ends the job is in the list too, and a repeat of its conclude adds nothing."""
    engine = make_engine()
    job = enqueue(engine, id="j")
    token = token_of(dequeue(engine))
    for _ in range(2):
        engine.conclude(NOW, "j", token, failing(b"1", retry=False))
    assert [(attempt.number, attempt.error) for attempt in job.past] == [(1, b"1")]
    invariants(engine)


@pytest.mark.parametrize("cancelled", [False, True])
def test_last_lease_that_runs_out_is_remembered(cancelled: bool) -> None:
    """It ends the job, as failed or, if that was asked for, as cancelled."""
    engine = make_engine()
    job = enqueue(engine, id="j", max_attempts=1)
    dequeue(engine, lease_seconds=10.0)
    if cancelled:
        engine.cancel(NOW, "j")
    engine.tick(NOW + 10)
    assert job.outcome is (Outcome.CANCELLED if cancelled else Outcome.FAILED)
    assert job.past == (Attempt(1, None, NOW, NOW + 10, "lease_expired", None),)


def test_attempt_that_was_given_back_is_not_remembered() -> None:
    """A release, and an answer that could not be delivered, do not count, so the next attempt has their number."""
    engine = make_engine()
    job = enqueue(engine, id="j")
    engine.release(NOW, "j", token_of(dequeue(engine, worker="gave back")))
    engine.put_back(NOW, "j", token_of(dequeue(engine, worker="never heard")))
    engine.conclude(NOW, "j", token_of(dequeue(engine, worker="w")), failing(None))
    assert [(attempt.number, attempt.worker) for attempt in job.past] == [(1, "w")]


def test_only_the_last_attempts_are_remembered() -> None:
    """A job may have a thousand attempts: what it remembers is bounded."""
    engine = make_engine(past_attempts_max=3)
    job = enqueue(engine, id="j", max_attempts=5)
    for number in range(1, 6):
        engine.conclude(NOW, "j", token_of(dequeue(engine)), failing(b"%d" % number))
        engine.tick(NOW)
    assert [(attempt.number, attempt.error) for attempt in job.past] == [(3, b"3"), (4, b"4"), (5, b"5")]


def test_long_error_is_kept_as_the_jobs_own_alone() -> None:
    """An error of the bound's size is remembered with its attempt; of one byte more only that the attempt failed."""
    engine = make_engine(past_error_bytes_max=10)
    job = enqueue(engine, id="j")
    for size in (8, 9):
        engine.conclude(NOW, "j", token_of(dequeue(engine)), failing(b'"%b"' % (b"x" * size)))
        engine.tick(NOW)
    assert [attempt.error for attempt in job.past] == [b'"xxxxxxxx"', None]
    assert job.error == b'"xxxxxxxxx"'


def test_retried_job_starts_anew() -> None:
    """Its attempts are counted from 0 again, and those of its former life are forgotten."""
    engine = make_engine()
    job = enqueue(engine, id="j")
    engine.conclude(NOW, "j", token_of(dequeue(engine)), failing(b"1", retry=False))
    engine.retry(NOW, "j")
    assert (job.attempts, job.past) == (0, ())
    invariants(engine)
