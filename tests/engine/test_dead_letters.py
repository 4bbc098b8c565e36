"""Dead letters: a job that fails for good moves to the queue that its queue's policy names, and a redrive moves it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from jobqueue.backend.rows import decode_job, decode_queue, encode_job, encode_queue
from jobqueue.backend.snapshots import copied
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Kind
from jobqueue.engine.restore import restore
from jobqueue.engine.sizes import ERROR_LEFT_OUT
from jobqueue.errors import BadRequest, IdConflict, LeaseLost, UnknownQueue
from jobqueue.model import Job, Outcome, Status, Verdict
from jobqueue.past import Attempt, Origin
from jobqueue.policy import Backoff, PerKey, PolicyChange, QueuePolicy
from tests.factories import FAILED, FINALLY_FAILED, NOW, SUCCEEDED, dequeue, drain_ids, enqueue, make_engine, make_spec, token_of

from .invariants import invariants

ONCE = QueuePolicy(max_attempts=1, backoff=Backoff(0.0, 1.0, 0.0), dead_letter="dead")


def engine_of(policy: QueuePolicy = ONCE, **limits: Any) -> Engine:
    engine = make_engine(**limits)
    engine.put_policy("default", policy)
    return engine


def fail(engine: Engine, now: float = NOW, queue: str = "default", verdict: Verdict = FAILED) -> Job:
    """Take the next job and fail it."""
    job = dequeue(engine, now, queue)
    return engine.conclude(now, job.id, token_of(job), verdict)


def run_out(engine: Engine) -> Job:
    job = dequeue(engine, lease_seconds=1.0)
    engine.tick(NOW + 1.0)
    return job


@pytest.mark.parametrize(
    ("end", "reason", "error"),
    [
        (lambda engine: fail(engine, verdict=Verdict(outcome=Outcome.FAILED, error=b'"why"')), "failed", b'"why"'),
        (lambda engine: fail(engine, verdict=FINALLY_FAILED), "failed", b'"broken"'),
        (run_out, "lease_expired", b'"lease_expired"'),
    ],
    ids=["out of attempts", "retry refused", "lease expired"],
)
def test_a_job_that_fails_for_good_moves(end: Callable[[Engine], Job], reason: Any, error: bytes) -> None:
    """Whatever makes the failure final: same id, number and payload, past and error kept, attempts from 0, and it says where it was."""
    engine = engine_of()
    made = enqueue(engine, payload=b"[1]", id="j", expires_in=500.0, description="d")
    number = made.number
    job = end(engine)
    at = NOW + (reason == "lease_expired")
    assert job is engine.job("j")
    assert (job.status, job.queue, job.number, job.payload, job.attempts) == (Status.QUEUED, "dead", number, b"[1]", 0)
    assert job.origin == Origin("default", at, reason, 1)
    assert job.error == error
    assert [(one.number, one.ended) for one in job.past] == [(1, reason)]
    assert (job.expires_at, job.run_at, job.description) == (None, at, "d")
    stats = engine.queue("default").stats()
    assert (stats.failed_total, stats.dead_lettered_total, stats.moved_out_total) == (1, 1, 0)
    assert engine.queue("dead").stats().moved_in_total == 1
    assert engine.history.counts()[Outcome.FAILED] == (0, 0)
    invariants(engine)


def test_attempts_are_used_up_first() -> None:
    """A failure that is to be retried stays where it is; the last one moves."""
    engine = engine_of(msgspec.structs.replace(ONCE, max_attempts=2))
    enqueue(engine)
    assert fail(engine).queue == "default"
    engine.tick(NOW)
    assert fail(engine).queue == "dead"


@pytest.mark.parametrize("how", ["cancelled", "released", "succeeded", "expired"])
def test_only_failures_move(how: str) -> None:
    """A job that is cancelled, given back, done or expired is no dead letter."""
    engine = engine_of()
    job = enqueue(engine, expires_in=5.0)
    if how == "expired":
        engine.tick(NOW + 5.0)
    else:
        token = token_of(dequeue(engine))
        if how == "cancelled":
            engine.cancel(NOW, job.id)
            engine.conclude(NOW, job.id, token, FAILED)
        elif how == "released":
            engine.release(NOW, job.id, token)
        else:
            engine.conclude(NOW, job.id, token, SUCCEEDED)
    assert job.queue == "default"
    assert job.origin is None
    assert "dead" not in engine.queues
    invariants(engine)


def test_the_events_name_both_queues() -> None:
    """It failed for good in one queue and is queued in the other, which the same step may have made: no conclusion, so waiters wait on."""
    engine = engine_of()
    enqueue(engine)
    dequeue(engine)
    engine.take_events()
    (job,) = engine.jobs.all()
    engine.conclude(NOW, job.id, token_of(job), FAILED)
    events = [(event.kind, event.queue) for event in engine.take_events()]
    assert events == [(Kind.QUEUE_CHANGED, "dead"), (Kind.DEAD_LETTERED, "default"), (Kind.QUEUED, "dead")]


def test_the_token_that_ended_it_is_lost() -> None:
    """As after every attempt that led to another: the token is that of no lease, and a repeat of the conclude says so."""
    engine = engine_of()
    job = enqueue(engine)
    token = token_of(dequeue(engine))
    engine.conclude(NOW, job.id, token, FAILED)
    with pytest.raises(LeaseLost):
        engine.conclude(NOW, job.id, token, FAILED)


def test_a_repeated_enqueue_finds_it() -> None:
    """Its producer may still repeat the enqueue, with the queue it named; another queue is a conflict, the dead-letter queue too."""
    engine = engine_of()
    enqueue(engine, id="j")
    job = fail(engine)
    assert engine.enqueue(NOW, make_spec(id="j")) == (job, False)
    for queue in ("dead", "other"):
        with pytest.raises(IdConflict):
            engine.enqueue(NOW, make_spec(id="j", queue=queue))


def test_it_fails_there_as_any_job_does() -> None:
    """With no dead-letter queue of its own, that queue's failures go to history, and a retry puts it back there."""
    engine = engine_of()
    engine.put_policy("dead", QueuePolicy(max_attempts=1))
    enqueue(engine, id="j")
    fail(engine)
    job = fail(engine, queue="dead")
    assert (job.outcome, job.queue, len(job.past)) == (Outcome.FAILED, "dead", 2)
    engine.retry(NOW, "j")
    assert (job.status, job.queue) == (Status.QUEUED, "dead")
    assert job.origin == Origin("default", NOW, "failed", 1)
    invariants(engine)


def test_dead_letters_may_have_dead_letters() -> None:
    """A chain of queues: the origin is where it failed last, and its producer still finds it."""
    engine = engine_of()
    engine.put_policy("dead", msgspec.structs.replace(ONCE, dead_letter="buried"))
    enqueue(engine, id="j")
    fail(engine)
    job = fail(engine, NOW + 1, "dead")
    assert (job.queue, job.home) == ("buried", "default")
    assert job.origin == Origin("dead", NOW + 1, "failed", 2)
    dequeue(engine, NOW + 2, "buried")
    assert (job.attempts, job.received) == (1, 3)
    assert engine.enqueue(NOW, make_spec(id="j"))[1] is False
    invariants(engine)


@pytest.mark.parametrize("queue", ["default", "b", "c"])
def test_no_circles(queue: str) -> None:
    """A queue cannot name itself, nor one that leads back to it, by PUT or PATCH; refused, nothing is made or changed."""
    engine = make_engine()
    engine.put_policy("b", QueuePolicy(dead_letter="default"))
    engine.put_policy("c", QueuePolicy(dead_letter="b"))
    for put in (
        lambda: engine.put_policy("default", QueuePolicy(dead_letter=queue)),
        lambda: engine.change_policy("b", PolicyChange(dead_letter={"default": "b", "b": "c", "c": "c"}[queue])),
    ):
        with pytest.raises(BadRequest, match=r"circle|itself") as told:
            put()
        assert told.value.field == "dead_letter"
    assert "default" not in engine.queues
    assert engine.queue("b").policy.dead_letter == "default"


def test_a_bad_name_is_refused() -> None:
    """What could never be a queue's name is refused when it is set, not when a job fails."""
    with pytest.raises(BadRequest) as told:
        make_engine().put_policy("default", QueuePolicy(dead_letter="no such/queue"))
    assert told.value.field == "dead_letter"


@pytest.mark.parametrize("full", ["jobs", "queues", "keys"])
def test_where_there_is_no_room_history_takes_it(full: str) -> None:
    """The dead-letter queue is full, cannot be made, or has no room for the key: the job ends as failed, as ever, and that is counted."""
    engine = engine_of(queues_max=1 if full == "queues" else 10)
    if full == "jobs":
        engine.put_policy("dead", QueuePolicy(max_jobs=1))
        enqueue(engine, queue="dead")
    elif full == "keys":
        engine.put_policy("dead", QueuePolicy(per_key=PerKey(max_jobs=1)))
        enqueue(engine, queue="dead", key="k")
    enqueue(engine, key="k", id="j")
    job = fail(engine)
    assert (job.outcome, job.queue, job.origin) == (Outcome.FAILED, "default", None)
    assert engine.dead_letters_refused_total == 1
    assert engine.queue("default").stats().dead_lettered_total == 0
    invariants(engine)


def test_a_full_server_takes_it() -> None:
    """It was live before, so it needs no room of the server; only its error may be left out, as that of any job that stays live."""
    engine = engine_of(jobs_max=1, payload_total_bytes_max=20, payload_bytes_max=20)
    enqueue(engine, payload=b"1" * 20)
    job = fail(engine, verdict=Verdict(outcome=Outcome.FAILED, error=b'"long long long"'))
    assert (job.queue, job.error) == ("dead", ERROR_LEFT_OUT)
    assert (engine.errors_left_out_total, engine.dead_letters_refused_total) == (1, 0)
    invariants(engine)


def test_a_dead_letter_halts_no_key() -> None:
    """What is to become of it has been said, so the key goes on; where the dead-letter queue has no room, it halts the key."""
    engine = engine_of(msgspec.structs.replace(ONCE, per_key=PerKey("halt")))
    engine.put_policy("dead", QueuePolicy(max_jobs=1))
    for name in "abc":
        enqueue(engine, id=name, key="k")
    assert fail(engine).queue == "dead"
    assert not engine.pinned
    assert [job.id for job in engine.pinned] == []
    job = fail(engine)
    assert (job.id, job.outcome) == ("b", Outcome.FAILED)
    assert list(engine.pinned) == [job]
    assert drain_ids(engine) == []
    invariants(engine)


def test_it_holds_its_key_nowhere() -> None:
    """In an ordered dead-letter queue it joins the back of its key, and holds it only once it has been handed out there."""
    engine = engine_of(msgspec.structs.replace(ONCE, max_attempts=2, per_key=PerKey("fifo")))
    engine.put_policy("dead", QueuePolicy(per_key=PerKey("fifo")))
    enqueue(engine, queue="dead", id="there", key="k")
    enqueue(engine, id="a", key="k")
    enqueue(engine, id="b", key="k")
    fail(engine)
    engine.tick(NOW)
    assert fail(engine).details.holds is False
    assert drain_ids(engine) == ["b"]
    assert drain_ids(engine, NOW, "dead") == ["there", "a"]
    invariants(engine)


def test_unlimited_attempts() -> None:
    """With max_attempts None a failure is final only if its worker says so, and what is kept of past attempts stays bounded."""
    engine = engine_of(msgspec.structs.replace(ONCE, max_attempts=None))
    job = enqueue(engine)
    for count in range(1, 2_000):
        now = NOW + count
        assert fail(engine, now).status is Status.SCHEDULED
        engine.tick(now)
    assert job.attempts == 1_999
    assert len(job.past) == engine.limits.past_attempts_max
    assert fail(engine, verdict=FINALLY_FAILED).queue == "dead"
    invariants(engine)


def test_it_is_restored_as_it_was() -> None:
    """Rows keep where it comes from and where it was enqueued, and what queues counted adds up after a restart."""
    engine = engine_of()
    enqueue(engine, id="j", tags=("t",))
    fail(engine)
    engine.change_policy("default", PolicyChange(max_attempts=None))
    other = make_engine()
    queues = [decode_queue(name, encode_queue(queue)) for name, queue in engine.queues.items()]
    jobs = [decode_job(job.number, encode_job(job, job.number), job.payload) for job in engine.jobs.all()]
    restore(other, queues, jobs, engine.jobs.next_number, engine.jobs.next_number)
    job = other.job("j")
    assert (job.queue, job.home, job.origin, job.tags) == ("dead", "default", Origin("default", NOW, "failed", 1), ("t",))
    assert other.queue("default").policy == engine.queue("default").policy
    assert other.queue("default").stats() == engine.queue("default").stats()
    assert copied(job, 5.0).origin == Origin("default", NOW + 5.0, "failed", 1)
    invariants(other)


# Redrive.


def redrive(engine: Engine, name: str = "dead", to: str | None = None, now: float = NOW) -> int:
    return sum(engine.redrive(now, name, jobs, to) for jobs in list(engine.dead_letters(name, to, 2)))


def test_redrive_moves_dead_letters_back() -> None:
    """Those that wait, in their order, each to where it failed, to begin anew; what was enqueued there and what is in progress stays."""
    engine = engine_of()
    engine.put_policy("other", ONCE)
    enqueue(engine, queue="dead", id="own")
    for name in "abc":
        enqueue(engine, id=name)
        fail(engine, verdict=Verdict(outcome=Outcome.FAILED, error=b'"why"'))
    enqueue(engine, queue="other", id="d")
    fail(engine, queue="other")
    assert drain_ids(engine, NOW, "dead")[:2] == ["own", "a"]
    for name in ("own", "b", "c", "d"):
        engine.put_back(NOW, name, token_of(engine.job(name)))
    assert redrive(engine, now=NOW + 9) == 3
    assert [job.id for job in engine.queue("default").jobs()] == ["b", "c"]
    assert [job.id for job in engine.queue("other").jobs()] == ["d"]
    assert [job.id for job in engine.queue("dead").jobs()] == ["own"]
    job = engine.job("b")
    assert (job.origin, job.error, job.past, job.attempts, job.run_at, job.home) == (None, None, (), 0, NOW + 9, "default")
    assert engine.queue("dead").stats().moved_out_total == 3
    invariants(engine)


def test_redrive_to_another_queue() -> None:
    """All of them go there, which is made if need be; it is no dead letter there, and its producer still finds it."""
    engine = engine_of()
    enqueue(engine, id="j")
    job = fail(engine)
    assert redrive(engine, to="again") == 1
    assert (job.queue, job.origin, job.home) == ("again", None, "default")
    assert engine.enqueue(NOW, make_spec(id="j"))[1] is False
    invariants(engine)


def test_redrive_leaves_what_has_no_room() -> None:
    """Dead letters of a full queue stay, as they were; those of others go."""
    engine = engine_of(msgspec.structs.replace(ONCE, max_jobs=1))
    engine.put_policy("other", ONCE)
    for name, queue in (("a", "default"), ("b", "default"), ("c", "other")):
        enqueue(engine, id=name, queue=queue)
        fail(engine, queue=queue)
    assert redrive(engine) == 2
    job = engine.job("b")
    assert (job.queue, job.origin, len(job.past)) == ("dead", Origin("default", NOW, "failed", 1), 1)
    invariants(engine)


def test_redrive_sees_what_becomes_of_them_meanwhile() -> None:
    """Between two slices one is taken, one cancelled, one redriven by somebody else: none is moved, again or at all."""
    engine = engine_of()
    for name in "abcd":
        enqueue(engine, id=name)
        fail(engine)
    (jobs,) = engine.dead_letters("dead", None, 10)
    assert dequeue(engine, NOW, "dead").id == "a"
    engine.cancel(NOW, "b")
    assert engine.redrive(NOW, "dead", [engine.job("c")], None) == 1
    assert engine.redrive(NOW, "dead", jobs, None) == 1
    assert [job.id for job in engine.queue("default").jobs()] == ["c", "d"]
    invariants(engine)


def test_a_purge_under_way_leaves_dead_letters_elsewhere_alone() -> None:
    """A job that a purge was to cancel is taken and fails for good before its slice: it waits in another queue now, and stays."""
    engine = engine_of()
    job = enqueue(engine)
    (jobs,) = [part for part in engine.waiting("default", 10) if part]
    fail(engine)
    assert engine.purge(NOW, "default", jobs) == 0
    assert (job.status, job.queue) == (Status.QUEUED, "dead")


def test_a_retry_under_way_leaves_failures_elsewhere_alone() -> None:
    """A failed job is retried by hand, moves and fails there, before a retry of all that failed comes to it: that was another queue."""
    engine = engine_of()
    engine.put_policy("default", QueuePolicy(max_attempts=1))
    job = enqueue(engine)
    fail(engine)
    (jobs,) = [part for part in engine.failed("default", 10) if part]
    engine.put_policy("default", ONCE)
    engine.put_policy("dead", QueuePolicy(max_attempts=1))
    engine.retry(NOW, job.id)
    fail(engine)
    fail(engine, queue="dead")
    assert engine.retry_failed(NOW, "default", jobs) == 0
    assert job.outcome is Outcome.FAILED


def test_redrive_is_refused() -> None:
    """A queue that is not there, a name that is none, the queue itself."""
    engine = engine_of()
    with pytest.raises(UnknownQueue):
        redrive(engine, "no")
    for to in ("default", "not a name"):
        with pytest.raises(BadRequest) as told:
            redrive(engine, "default", to)
        assert told.value.field == "to"


def test_past_attempts_are_those_of_both_queues() -> None:
    """Attempts count anew, and what is kept of the ones before stays, the last of all of them."""
    engine = engine_of()
    job = enqueue(engine)
    fail(engine)
    engine.put_policy("dead", QueuePolicy(max_attempts=2, backoff=Backoff(0.0, 1.0, 0.0)))
    fail(engine, queue="dead")
    assert job.past == (Attempt(1, None, NOW, NOW, "failed", None),) * 2


def test_a_dead_letter_is_its_schedules_run_no_more() -> None:
    """A schedule whose run failed for good goes on; a redrive makes it its run again, and a restart knows which it is."""
    engine = engine_of()
    job = enqueue(engine, id="j")
    job.details = msgspec.structs.replace(job.details, extra=msgspec.structs.replace(job.details.extra, schedule="s"))
    engine.schedules.lives(job)
    fail(engine)
    assert engine.schedules.runs == {}
    engine.schedules.lives(job)
    assert engine.schedules.runs == {}
    assert redrive(engine) == 1
    assert engine.schedules.runs == {"s": {"j": None}}
