"""Extend, release, conclude: what the holder of a lease may do, and what every other token may not. Lease expiry."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Kind
from jobqueue.errors import BadRequest, LeaseLost, NotInProgress, QueueError, TooLarge, UnknownJob
from jobqueue.model import Conclusion, Job, Outcome, Status, Verdict
from tests.factories import (
    FAILED,
    FINALLY_FAILED,
    FORGED,
    NOW,
    STATES,
    SUCCEEDED,
    bring,
    dequeue,
    enqueue,
    make_engine,
    token_of,
)

from .invariants import fingerprint, invariants

Use = Callable[[Engine, str, str], object]
USES: dict[str, Use] = {
    "extend": lambda engine, job_id, token: engine.extend(NOW, job_id, token),
    "release": lambda engine, job_id, token: engine.release(NOW, job_id, token),
    "release late": lambda engine, job_id, token: engine.release(NOW, job_id, token, 60.0),
    "succeed": lambda engine, job_id, token: engine.conclude(NOW, job_id, token, SUCCEEDED),
    "fail": lambda engine, job_id, token: engine.conclude(NOW, job_id, token, FAILED),
    "fail for good": lambda engine, job_id, token: engine.conclude(NOW, job_id, token, FINALLY_FAILED),
}
ENDED_BY_A_WORKER = ("succeeded", "failed")


def refused(engine: Engine, error: type[QueueError], use: Use, job_id: str, token: str) -> None:
    """Assert that this use of a lease raises exactly `error` and changes nothing."""
    before = fingerprint(engine)
    with pytest.raises(error) as caught:
        use(engine, job_id, token)
    assert type(caught.value) is error
    assert fingerprint(engine) == before
    assert engine.events == []


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", ["forged", "of an earlier attempt", "of another job", "in another case", "empty"])
def test_any_other_token_has_lost_the_lease_in_every_status(state: str, kind: str, use: Use) -> None:
    """A token that is not the live one is refused as `lease_lost`, whatever became of the job; a live lease is untouched."""
    engine = make_engine()
    placed = bring(engine, state)
    assert placed.earlier is not None
    other = {
        "forged": FORGED,
        "of an earlier attempt": placed.earlier,
        "of another job": bring(engine, "in_progress", queue="other").token or "",
        "in another case": (placed.token or placed.earlier).upper(),
        "empty": "",
    }[kind]
    refused(engine, LeaseLost, use, placed.job.id, other)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_unknown_job_is_unknown_whatever_the_token(use: Use) -> None:
    """An id nobody has is `unknown_job`."""
    engine = make_engine()
    refused(engine, UnknownJob, use, "nobody", bring(engine, "in_progress").token or "")


@pytest.mark.parametrize("state", ENDED_BY_A_WORKER)
def test_the_very_conclude_again_answers_the_same_job_and_changes_nothing(state: str) -> None:
    """The worker whose answer was lost may ask again, long after: it is told what it was told, and nothing happens."""
    engine = make_engine()
    placed = bring(engine, state)
    before = fingerprint(engine)
    verdict = SUCCEEDED if state == "succeeded" else FINALLY_FAILED
    for later in (0.0, 1.0, 100_000.0):
        assert engine.conclude(NOW + later, placed.job.id, placed.token or "", verdict) is placed.job
    assert fingerprint(engine) == before
    assert engine.events == []


@pytest.mark.parametrize("state", ENDED_BY_A_WORKER)
def test_the_very_conclude_again_is_refused_where_it_counts_once(state: str) -> None:
    """Whoever has the token from the job itself, as others may, did not end it by saying the same."""
    engine = make_engine()
    placed = bring(engine, state)
    verdict = msgspec.structs.replace(SUCCEEDED if state == "succeeded" else FINALLY_FAILED, once=True)
    refused(engine, NotInProgress, lambda e, i, t: e.conclude(NOW, i, t, verdict), placed.job.id, placed.token or "")


@pytest.mark.parametrize("said", [SUCCEEDED, FAILED], ids=["succeeded", "failed"])
def test_repeat_counts_by_what_was_said_when_a_cancel_overrode_it(said: Verdict) -> None:
    """A conclude that ended as cancelled is repeatable too; saying otherwise is not the same conclude."""
    engine = make_engine()
    placed = bring(engine, "cancelling")
    token = placed.token or ""
    engine.conclude(NOW, placed.job.id, token, said)
    assert placed.job.outcome is Outcome.CANCELLED
    engine.take_events()
    before = fingerprint(engine)
    assert engine.conclude(NOW, placed.job.id, token, said) is placed.job
    assert fingerprint(engine) == before
    other = FAILED if said is SUCCEEDED else SUCCEEDED
    refused(engine, NotInProgress, lambda e, i, t: e.conclude(NOW, i, t, other), placed.job.id, token)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (SUCCEEDED, FAILED),
        (SUCCEEDED, FINALLY_FAILED),
        (FINALLY_FAILED, SUCCEEDED),
        (Verdict(outcome=Outcome.SUCCEEDED, result=b"1"), SUCCEEDED),
        (Verdict(outcome=Outcome.SUCCEEDED, result=b"1"), Verdict(outcome=Outcome.SUCCEEDED, result=b"1.0")),
        (FINALLY_FAILED, Verdict(outcome=Outcome.FAILED, retry=False)),
        (FINALLY_FAILED, Verdict(outcome=Outcome.FAILED, error=b'"other"', retry=False)),
    ],
    ids=["other outcome", "other outcome, final", "success after failure", "no result", "other bytes", "no error", "other error"],
)
def test_same_token_with_another_verdict_is_not_in_progress(first: Verdict, second: Verdict) -> None:
    """The token that ended a job does not change its mind: another outcome, result or error is refused."""
    engine = make_engine()
    job = enqueue(engine)
    token = token_of(dequeue(engine))
    engine.conclude(NOW, job.id, token, first)
    engine.take_events()
    refused(engine, NotInProgress, lambda e, i, t: e.conclude(NOW, i, t, second), job.id, token)


def test_conclude_that_led_to_a_retry_is_not_repeatable() -> None:
    """A failure that did not end the job spent its lease: the same conclude again has lost it, in whatever status it comes."""
    engine = make_engine()
    job = enqueue(engine)
    token = token_of(dequeue(engine))
    engine.conclude(NOW, job.id, token, FAILED)
    engine.take_events()
    refused(engine, LeaseLost, USES["fail"], job.id, token)
    engine.tick(NOW + 1.0)
    dequeue(engine, NOW + 1.0)
    engine.take_events()
    refused(engine, LeaseLost, USES["fail"], job.id, token)


def test_retried_job_no_longer_knows_the_token_that_ended_it() -> None:
    """After a retry the conclude of the life before has lost its lease; it does not end the new life."""
    engine = make_engine()
    placed = bring(engine, "failed")
    engine.retry(NOW, placed.job.id)
    engine.take_events()
    refused(engine, LeaseLost, USES["fail for good"], placed.job.id, placed.token or "")


ENDINGS: dict[str, Callable[[Engine, Job, str], object]] = {
    "conclude succeeded": lambda engine, job, token: engine.conclude(NOW, job.id, token, SUCCEEDED),
    "conclude failed": lambda engine, job, token: engine.conclude(NOW, job.id, token, FAILED),
    "release": lambda engine, job, token: engine.release(NOW, job.id, token),
    "release with a delay": lambda engine, job, token: engine.release(NOW, job.id, token, 60.0),
    "lease expires": lambda engine, job, token: engine.tick(NOW + 300.0),
    "answer not delivered": lambda engine, job, token: engine.put_back(NOW, job.id, token),
}


@pytest.mark.parametrize("end", ENDINGS.values(), ids=ENDINGS)
def test_cancel_of_a_job_in_progress_ends_it_as_cancelled(end: Callable[[Engine, Job, str], object]) -> None:
    """The worker goes on undisturbed, is told at its next extend, and however the lease then ends, the job ends as cancelled."""
    engine = make_engine()
    job = enqueue(engine)
    token = token_of(dequeue(engine))
    engine.take_events()
    assert engine.cancel(NOW, job.id) is job
    assert job.status is Status.IN_PROGRESS
    assert [event.kind for event in engine.take_events()] == [Kind.CANCEL_REQUESTED]
    extended = engine.extend(NOW, job.id, token).lease
    assert extended is not None
    assert extended.cancel_requested
    assert extended.token == token
    engine.take_events()
    end(engine, job, token)
    assert job.outcome is Outcome.CANCELLED
    assert [event.kind for event in engine.take_events()] == [Kind.CONCLUDED]
    assert engine.queue("default").cancelled_total == 1
    assert engine.queue("default").failed_total == 0
    invariants(engine)


def test_success_keeps_the_error_of_the_attempt_before_it() -> None:
    """error is the last failure's, also of a job that succeeded in the end; a retry starts without one."""
    engine = make_engine()
    job = enqueue(engine)
    engine.conclude(NOW, job.id, token_of(dequeue(engine)), Verdict(outcome=Outcome.FAILED, error=b'"first"'))
    engine.tick(NOW + 1.0)
    engine.conclude(NOW + 1.0, job.id, token_of(dequeue(engine, NOW + 1.0)), SUCCEEDED)
    assert (job.outcome, job.error) == (Outcome.SUCCEEDED, b'"first"')


def test_conclusion_says_who_ended_the_job_and_what_they_said() -> None:
    """The worker, when its attempt began, its token and its word; of an expiry only the first two; of a cancel nothing."""
    engine = make_engine()
    for _ in range(3):
        enqueue(engine, max_attempts=1)
    concluded, expired, cancelled = (engine.job(job_id) for job_id in list(engine.jobs.by_id))
    token = token_of(dequeue(engine, worker="w"))
    dequeue(engine, NOW + 1.0, worker="w")
    engine.conclude(NOW + 2.0, concluded.id, token, Verdict(outcome=Outcome.SUCCEEDED, result=b"1"))
    engine.tick(NOW + 301.0)
    engine.cancel(NOW + 302.0, cancelled.id)
    assert [job.conclusion for job in (concluded, expired, cancelled)] == [
        Conclusion(Outcome.SUCCEEDED, NOW + 2.0, b"1", token, Outcome.SUCCEEDED, "w", NOW),
        Conclusion(Outcome.FAILED, NOW + 301.0, None, None, None, "w", NOW + 1.0),
        Conclusion(Outcome.CANCELLED, NOW + 302.0),
    ]


def test_cancelled_work_keeps_what_its_worker_said() -> None:
    """The result of a worker that finished in spite of the cancel is kept with the job."""
    engine = make_engine()
    placed = bring(engine, "cancelling")
    engine.conclude(NOW, placed.job.id, placed.token or "", Verdict(outcome=Outcome.SUCCEEDED, result=b'"done"'))
    assert placed.job.conclusion is not None
    assert placed.job.conclusion.result == b'"done"'


def test_extend_runs_from_now_for_as_long_as_the_lease_was_given_or_as_asked() -> None:
    """Without lease_seconds a heartbeat renews the lease's own length; with it, that length, shorter ones included, this once."""
    engine = make_engine()
    job = enqueue(engine)
    token = token_of(dequeue(engine, lease_seconds=100.0))
    for now, asked, expires in ((10.0, None, 110.0), (20.0, 500.0, 520.0), (30.0, 1.0, 31.0), (30.5, None, 130.5)):
        engine.extend(NOW + now, job.id, token, asked)
        assert job.lease is not None
        assert job.lease.expires_at == NOW + expires
        invariants(engine)
    engine.tick(NOW + 130.4)
    assert job.lease is not None
    engine.tick(NOW + 130.5)
    assert job.lease is None


def test_extend_keeps_progress_and_message_it_is_not_given() -> None:
    """Progress and message stand until they are sent again; zero and the empty text are values."""
    engine = make_engine()
    job = enqueue(engine)
    token = token_of(dequeue(engine))
    for sent, shown in (((0.5, "half"), (0.5, "half")), ((None, None), (0.5, "half")), ((0.0, ""), (0.0, "")), ((1.0, None), (1.0, ""))):
        engine.extend(NOW, job.id, token, None, *sent)
        assert job.lease is not None
        assert (job.lease.progress, job.lease.message) == shown


@pytest.mark.parametrize(
    ("field", "use"),
    [
        ("lease_seconds", lambda engine, job_id, token: engine.extend(NOW, job_id, token, 0.999)),
        ("lease_seconds", lambda engine, job_id, token: engine.extend(NOW, job_id, token, 43_200.001)),
        ("progress", lambda engine, job_id, token: engine.extend(NOW, job_id, token, None, -0.001)),
        ("progress", lambda engine, job_id, token: engine.extend(NOW, job_id, token, None, 1.001)),
        ("progress", lambda engine, job_id, token: engine.extend(NOW, job_id, token, None, float("nan"))),
        ("message", lambda engine, job_id, token: engine.extend(NOW, job_id, token, None, None, "x" * 1_025)),
        ("message", lambda engine, job_id, token: engine.extend(NOW, job_id, token, None, None, "\x00")),
        ("delay", lambda engine, job_id, token: engine.release(NOW, job_id, token, -0.001)),
        ("delay", lambda engine, job_id, token: engine.release(NOW, job_id, token, 2_592_000.001)),
    ],
)
def test_value_out_of_bounds_names_its_field_and_changes_nothing(field: str, use: Use) -> None:
    """A heartbeat or a release with a bad value leaves the lease as it was."""
    engine = make_engine()
    placed = bring(engine, "in_progress")
    before = fingerprint(engine)
    with pytest.raises(BadRequest) as caught:
        use(engine, placed.job.id, placed.token or "")
    assert caught.value.field == field
    assert fingerprint(engine) == before


@pytest.mark.parametrize("field", ["result", "error"])
def test_result_and_error_have_a_size(field: str) -> None:
    """A result or an error just inside the bound is kept, one byte more is `too_large` and changes nothing."""
    engine = make_engine(payload_bytes_max=10)
    placed = bring(engine, "in_progress")
    outcome = Outcome.SUCCEEDED if field == "result" else Outcome.FAILED
    before = fingerprint(engine)
    with pytest.raises(TooLarge) as caught:
        engine.conclude(NOW, placed.job.id, placed.token or "", Verdict(outcome=outcome, **{field: b"1" * 11}))
    assert caught.value.field == field
    assert fingerprint(engine) == before
    engine.conclude(NOW, placed.job.id, placed.token or "", Verdict(outcome=outcome, retry=False, **{field: b"1" * 10}))
    assert placed.job.status is Status.CONCLUDED


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.EXPIRED])
def test_worker_may_only_say_succeeded_or_failed(outcome: Outcome) -> None:
    """Cancelled and expired are the queue's words; a conclude that says one of them is a bad request and changes nothing."""
    engine = make_engine()
    placed = bring(engine, "in_progress")
    before = fingerprint(engine)
    with pytest.raises(BadRequest) as caught:
        engine.conclude(NOW, placed.job.id, placed.token or "", Verdict(outcome=outcome))
    assert caught.value.field == "outcome"
    assert fingerprint(engine) == before


def test_release_gives_the_attempt_back() -> None:
    """A released job has not spent an attempt: it can be given back more often than it may be tried."""
    engine = make_engine()
    job = enqueue(engine, max_attempts=2)
    for _ in range(5):
        assert dequeue(engine).attempts == 1
        engine.release(NOW, job.id, token_of(job))
        assert (job.attempts, job.status) == (0, Status.QUEUED)


def test_release_with_a_delay_waits_it_out() -> None:
    """A job released with a delay is scheduled, and queued when the delay has passed."""
    engine = make_engine()
    job = enqueue(engine)
    engine.release(NOW, job.id, token_of(dequeue(engine)), 30.0)
    assert (job.status, job.run_at) == (Status.SCHEDULED, NOW + 30.0)
    engine.tick(NOW + 29.999)
    assert job.status is Status.SCHEDULED
    engine.tick(NOW + 30.0)
    assert job.status is Status.QUEUED


def test_expired_lease_is_queued_again_until_attempts_run_out() -> None:
    """A job nobody concludes is handed out max_attempts times, then fails with `lease_expired`."""
    engine = make_engine()
    job = enqueue(engine, max_attempts=3, lease_seconds=10.0)
    for attempt in (1, 2, 3):
        assert dequeue(engine, NOW + 10.0 * (attempt - 1)).attempts == attempt
        engine.tick(NOW + 10.0 * attempt - 0.001)
        assert job.status is Status.IN_PROGRESS
        engine.tick(NOW + 10.0 * attempt)
        assert job.error == b'"lease_expired"'
        invariants(engine)
    assert job.outcome is Outcome.FAILED
    assert job.conclusion is not None
    assert (job.conclusion.token, job.conclusion.started_at) == (None, NOW + 20.0)


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_late_worker_after_the_expiry_has_lost_its_lease(use: Use) -> None:
    """Once tick has ended a lease, its token is refused: while the job waits, while another works on it, after it ended."""
    engine = make_engine()
    job = enqueue(engine, max_attempts=2)
    late = token_of(dequeue(engine))
    engine.tick(NOW + 300.0)
    engine.take_events()
    refused(engine, LeaseLost, use, job.id, late)
    token_of(dequeue(engine, NOW + 300.0))
    engine.take_events()
    refused(engine, LeaseLost, use, job.id, late)
    engine.tick(NOW + 600.0)
    engine.take_events()
    assert job.outcome is Outcome.FAILED
    refused(engine, LeaseLost, use, job.id, late)


def test_conclude_and_expiry_in_one_instant_have_one_winner() -> None:
    """At the very moment of expiry the lease lives until tick says otherwise: whichever is processed first wins, alone."""
    for conclude_first in (True, False):
        engine = make_engine()
        job = enqueue(engine)
        token = token_of(dequeue(engine))
        if conclude_first:
            engine.conclude(NOW + 300.0, job.id, token, SUCCEEDED)
            engine.tick(NOW + 300.0)
            assert job.outcome is Outcome.SUCCEEDED
        else:
            engine.tick(NOW + 300.0)
            with pytest.raises(LeaseLost):
                engine.conclude(NOW + 300.0, job.id, token, SUCCEEDED)
            assert job.status is Status.QUEUED
        invariants(engine)


def test_a_lease_that_ran_out_during_a_stall_is_held_longer_and_nothing_else_is() -> None:
    """After a stall, leases that are due are held until a given time and may be extended; run_at and expires_at are done as ever."""
    engine = make_engine()
    leased = enqueue(engine, queue="leased")
    token = token_of(dequeue(engine, queue="leased"))
    delayed, expiring = enqueue(engine, delay=10.0), enqueue(engine, expires_in=10.0)
    engine.take_events()
    engine.tick(NOW + 400.0, stalled=NOW + 400.0, held_until=NOW + 405.0)
    assert leased.lease is not None
    assert (leased.lease.token, leased.lease.expires_at) == (token, NOW + 405.0)
    assert (delayed.status, expiring.outcome) == (Status.QUEUED, Outcome.EXPIRED)
    invariants(engine)
    engine.extend(NOW + 404.0, leased.id, token)
    engine.tick(NOW + 405.0)
    assert leased.lease is not None
    engine.tick(NOW + 704.0)
    assert leased.status is Status.QUEUED


def test_a_lease_is_held_longer_once_however_many_stalls_there_are() -> None:
    """A worker that stays silent loses its lease when it has been held once, though the server stands still again at that moment."""
    engine = make_engine()
    job = enqueue(engine)
    dequeue(engine)
    engine.tick(NOW + 400.0, stalled=NOW + 400.0, held_until=NOW + 405.0)
    assert engine.next_deadline() == NOW + 405.0
    engine.tick(NOW + 406.0, stalled=NOW + 406.0, held_until=NOW + 407.0)
    assert job.status is Status.QUEUED


def test_a_lease_that_its_worker_extended_is_held_longer_in_the_next_stall_too() -> None:
    """Each stall counts for a worker that was heard from since the one before."""
    engine = make_engine()
    job = enqueue(engine)
    token = token_of(dequeue(engine))
    engine.tick(NOW + 400.0, stalled=NOW + 400.0, held_until=NOW + 405.0)
    engine.extend(NOW + 404.0, job.id, token, 10.0)
    engine.tick(NOW + 420.0, stalled=NOW + 420.0, held_until=NOW + 425.0)
    assert job.lease is not None
    assert job.lease.expires_at == NOW + 425.0


def test_a_lease_that_ends_as_the_stall_does_is_held_longer() -> None:
    """The very last moment of a stall is part of it."""
    engine = make_engine()
    job = enqueue(engine)
    dequeue(engine, lease_seconds=10.0)
    engine.tick(NOW + 10.0, stalled=NOW + 10.0, held_until=NOW + 15.0)
    assert job.lease is not None
    assert job.lease.expires_at == NOW + 15.0


def test_a_lease_that_ran_out_before_the_stall_is_not_held_longer() -> None:
    """What was due after the stall had ended is no matter of it."""
    engine = make_engine()
    job = enqueue(engine)
    dequeue(engine, lease_seconds=10.0)
    engine.tick(NOW + 10.0, stalled=NOW + 9.0, held_until=NOW + 19.0)
    assert job.status is Status.QUEUED


def test_leases_wait_until_the_server_has_read_what_was_sent() -> None:
    """A lease that ran out after `heard` is left; all else that is due is done, before and behind it."""
    engine = make_engine()
    early, late = enqueue(engine, queue="early"), enqueue(engine, queue="late")
    dequeue(engine, queue="early", lease_seconds=10.0), dequeue(engine, queue="late", lease_seconds=20.0)
    soon, later = enqueue(engine, delay=15.0), enqueue(engine, delay=25.0)
    engine.tick(NOW + 30.0, heard=NOW + 10.0)
    assert (early.status, late.status) == (Status.QUEUED, Status.IN_PROGRESS)
    assert (soon.status, later.status) == (Status.QUEUED, Status.QUEUED)
    assert engine.next_deadline() == NOW + 20.0
    invariants(engine)
    engine.tick(NOW + 30.0)
    assert late.status is Status.QUEUED
