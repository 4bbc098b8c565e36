"""Unique jobs: who is answered, who waits, and what becomes of a key when its holder ends, moves or is forgotten."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Kind
from jobqueue.engine.why import waiting_for
from jobqueue.errors import BadRequest, Duplicate, IdConflict, QueueFull
from jobqueue.model import CONCLUDED, IN_PROGRESS, QUEUED, SCHEDULED, Job, JobChange, JobSpec, Outcome, Verdict, Want
from jobqueue.policy import QueuePolicy
from jobqueue.unique import Unique
from tests.factories import NOW, make_engine, token_of

from .invariants import fingerprint, invariants

FAILED = Verdict(outcome=Outcome.FAILED, retry=False)
SUCCEEDED = Verdict(outcome=Outcome.SUCCEEDED)


@pytest.fixture
def engine() -> Engine:
    return make_engine()


def put(engine: Engine, job_id: str, now: float = NOW, queue: str = "q", payload: bytes | None = None, **unique: Any) -> tuple[Job, bool]:
    """Enqueue a job of the unique key "k". Names of other fields begin with `job_`."""
    more = {name.removeprefix("job_"): unique.pop(name) for name in list(unique) if name.startswith("job_")}
    spec = JobSpec(payload=payload or b'"%s"' % job_id.encode(), id=job_id, queue=queue, unique=Unique("k", **unique), **more)
    found = engine.enqueue(now, spec)
    invariants(engine)
    return found


def take(engine: Engine, now: float = NOW, queue: str = "q") -> Job:
    """Take the next job."""
    (job,) = engine.dequeue(now, Want(queues=(queue,)))
    invariants(engine)
    return job


def end(engine: Engine, job: Job, now: float = NOW, verdict: Verdict = SUCCEEDED) -> None:
    """Conclude a job."""
    engine.conclude(now, job.id, token_of(job), verdict)
    invariants(engine)


# Keep.


def test_keep_answers_the_holder(engine: Engine) -> None:
    """One that comes while the key is held is not made: the holder is answered, whether it waits, runs or is between two attempts."""
    first, made = put(engine, "a")
    assert made
    assert put(engine, "b") == (first, False)
    take(engine)
    assert put(engine, "b") == (first, False)
    engine.release(NOW, "a", token_of(first), 60.0)
    assert put(engine, "b") == (first, False)
    assert first.payload == b'"a"'
    assert engine.uniques.became["kept"] == 3


def test_a_key_is_free_once_its_holder_has_ended(engine: Engine) -> None:
    """However it ended, failure included: no lock outlives a job (sidekiq-unique-jobs#304)."""
    ends = {
        "a": lambda: end(engine, take(engine)),
        "b": lambda: end(engine, take(engine), verdict=FAILED),
        "c": lambda: engine.cancel(NOW, "c"),
        "d": lambda: engine.tick(NOW + 5),
        "e": lambda: engine.purge(NOW, "q", [job for part in engine.waiting("q", 10) for job in part]),
        "f": lambda: (take(engine), engine.tick(NOW + 1_000)),
    }
    engine.put_policy("q", QueuePolicy(max_attempts=1))
    for job_id, ended in ends.items():
        job, made = put(engine, job_id, job_expires_in=5.0 if job_id == "d" else None)
        assert made, job_id
        ended()
        assert job.status is CONCLUDED, job_id
    assert engine.uniques.holders == {}


def test_a_key_is_one_of_its_queue(engine: Engine) -> None:
    """The same key in another queue is another one."""
    put(engine, "a")
    assert put(engine, "b", queue="other")[1]


def test_the_id_is_looked_at_first(engine: Engine) -> None:
    """A repeat of an enqueue is answered its own job, also where its key is another's by now; one that differs conflicts."""
    job, _ = put(engine, "a", until="started")
    take(engine)
    put(engine, "b", until="started")
    assert put(engine, "a", until="started") == (job, False)
    with pytest.raises(IdConflict) as caught:
        put(engine, "a", until="concluded")
    assert caught.value.field == "unique"
    with pytest.raises(IdConflict):
        engine.enqueue(NOW, JobSpec(payload=b'"a"', id="a", queue="q"))


def test_until_started(engine: Engine) -> None:
    """The key is free once a worker was handed the job, and stays so when that comes back: the next trigger is not lost."""
    first, _ = put(engine, "a", until="started")
    assert put(engine, "b", until="started") == (first, False)
    take(engine)
    second, made = put(engine, "b", until="started")
    assert made
    assert second.status is QUEUED
    engine.release(NOW, "a", token_of(first), 0.0)
    assert put(engine, "c") == (second, False)


def test_a_hand_out_that_was_not_delivered_started_nothing(engine: Engine) -> None:
    """The key is held again, if nobody has come meanwhile; otherwise both run."""
    first, _ = put(engine, "a", until="started")
    take(engine)
    engine.put_back(NOW, "a", token_of(first))
    assert put(engine, "b", until="started") == (first, False)
    take(engine)
    second, _ = put(engine, "b", until="started")
    engine.put_back(NOW, "a", token_of(first))
    invariants(engine)
    assert put(engine, "c") == (second, False)
    assert [take(engine), take(engine)] == [first, second]


# Refuse.


def test_refuse_names_the_holder(engine: Engine) -> None:
    """Nothing is changed, and who has the key is said."""
    put(engine, "a")
    before = fingerprint(engine)
    with pytest.raises(Duplicate, match=r"'a' has the unique key 'k'") as caught:
        put(engine, "b", on_conflict="refuse")
    assert (caught.value.code, caught.value.field) == ("duplicate", "unique.key")
    assert fingerprint(engine) == before
    assert engine.uniques.became["refused"] == 1


# Replace.


def test_replace_debounces(engine: Engine) -> None:
    """Each trigger pushes the holder on and gives it its payload; the last one's is what runs, at its time."""
    job, _ = put(engine, "a", job_delay=10.0, on_conflict="replace")
    for count, at in enumerate((4, 9, 17)):
        new = {"job_delay": 10.0, "job_type": f"t{count}", "job_tags": (f"t{count}",), "payload": b"%d" % count}
        assert put(engine, f"b{at}", NOW + at, on_conflict="replace", **new) == (job, False)
    engine.tick(NOW + 26)
    assert (job.status, job.run_at, job.payload, job.type, job.tags, job.id) == (SCHEDULED, NOW + 27, b"2", "t2", ("t2",), "a")
    engine.tick(NOW + 27)
    assert take(engine, NOW + 27) is job
    assert engine.uniques.became["replaced"] == 3
    assert len(engine.jobs.by_id) == 1


def test_max_wait_ends_a_debounce(engine: Engine) -> None:
    """Triggers that never end do not keep the job from running (graphile/worker#583): it runs at most so long after its creation."""
    job, _ = put(engine, "a", job_delay=10.0, on_conflict="replace", max_wait=25.0)
    for at in range(1, 25):
        put(engine, "b", NOW + at, on_conflict="replace", job_delay=10.0, payload=b"%d" % at)
        engine.tick(NOW + at)
    assert (job.run_at, job.payload) == (NOW + 25, b"24")
    engine.tick(NOW + 25)
    assert job.status is QUEUED
    put(engine, "b", NOW + 30, on_conflict="replace", job_delay=10.0, payload=b"30")
    assert (job.status, job.payload) == (QUEUED, b"30")


def test_max_wait_of_a_later_one_counts_too(engine: Engine) -> None:
    """The shorter of the holder's and its own."""
    job, _ = put(engine, "a", job_delay=10.0, on_conflict="replace", max_wait=50.0)
    put(engine, "b", NOW + 5, job_delay=60.0, on_conflict="replace", max_wait=20.0)
    assert job.run_at == NOW + 20


def test_replace_leaves_a_running_job_alone(engine: Engine) -> None:
    """What a worker is at is never changed under it (oban#635): the later one waits for its end, and then runs with its own payload."""
    first, _ = put(engine, "a")
    take(engine)
    second, made = put(engine, "b", on_conflict="replace")
    assert made
    assert (first.payload, second.status, second.run_at) == (b'"a"', SCHEDULED, None)
    end(engine, first, NOW + 5)
    assert (second.status, second.run_at) == (QUEUED, NOW + 5)
    assert take(engine).payload == b'"b"'


def test_replace_without_a_time_runs_at_once(engine: Engine) -> None:
    """A holder that was to run later is due now; one that is between two attempts waits out its backoff."""
    job, _ = put(engine, "a", job_delay=10.0)
    put(engine, "b", on_conflict="replace")
    assert job.status is QUEUED
    take(engine)
    engine.conclude(NOW, "a", token_of(job), Verdict(outcome=Outcome.FAILED, retry_delay=30.0))
    put(engine, "c", NOW + 1, on_conflict="replace")
    assert (job.status, job.run_at, job.attempts, job.payload) == (SCHEDULED, NOW + 30, 1, b'"c"')


def test_what_was_replaced_is_not_compared(engine: Engine) -> None:
    """The holder's producer, whose answer was lost, is answered its job, whatever that does by now."""
    job, _ = put(engine, "a")
    put(engine, "b", on_conflict="replace")
    assert put(engine, "a") == (job, False)


def test_replace_renews_the_expiry(engine: Engine) -> None:
    """A job that is pushed on does not expire by the time of a trigger that it no longer stands for."""
    job, _ = put(engine, "a", job_delay=5.0, job_expires_in=10.0, on_conflict="replace")
    put(engine, "b", NOW + 4, job_delay=5.0, job_expires_in=10.0, on_conflict="replace")
    put(engine, "c", NOW + 8, job_delay=5.0, job_expires_in=10.0, on_conflict="replace")
    engine.tick(NOW + 13)
    assert job.status is QUEUED


def test_replace_needs_room(engine: Engine) -> None:
    """A payload that there is no room for is refused, and nothing is changed."""
    engine = make_engine(payload_total_bytes_max=400, payload_bytes_max=400)
    put(engine, "a")
    before = fingerprint(engine)
    with pytest.raises(QueueFull):
        put(engine, "b", on_conflict="replace", payload=b'"' + b"x" * 398 + b'"')
    assert fingerprint(engine) == before


# Follow.


def test_the_last_trigger_runs(engine: Engine) -> None:
    """Of those that come while a job runs the last is run after it, and those before it say what took their place (bullmq#3151, #3427)."""
    first, _ = put(engine, "a")
    take(engine)
    follower, made = put(engine, "b", on_conflict="follow")
    assert made
    assert (follower.status, follower.run_at) == (SCHEDULED, None)
    last, made = put(engine, "c", on_conflict="follow")
    assert made
    assert (follower.outcome, follower.error) == ("cancelled", b'{"superseded_by":"c"}')
    assert engine.dequeue(NOW, Want(queues=("q",))) == []
    end(engine, first)
    assert take(engine) is last
    assert put(engine, "d") == (last, False)
    assert engine.uniques.became == {"kept": 1, "replaced": 0, "followed": 2, "superseded": 1, "refused": 0}


def test_follow_keeps_a_holder_that_waits(engine: Engine) -> None:
    """It will see what the trigger stands for, also between two attempts."""
    first, _ = put(engine, "a")
    assert put(engine, "b", on_conflict="follow") == (first, False)
    take(engine)
    engine.release(NOW, "a", token_of(first), 30.0)
    assert put(engine, "b", on_conflict="follow") == (first, False)


@pytest.mark.parametrize("how", ["fails", "is cancelled", "loses its lease", "is moved", "is dead"])
def test_whatever_ends_the_holder_lets_the_follower_go(engine: Engine, how: str) -> None:
    """Success, failure, a cancel that its worker heeds, a lease that runs out for the last time, a move to another queue."""
    engine.put_policy("q", QueuePolicy(max_attempts=1, dead_letter="dead" if how == "is dead" else None))
    first, _ = put(engine, "a")
    take(engine)
    follower, _ = put(engine, "b", on_conflict="follow")
    if how == "is cancelled":
        engine.cancel(NOW, "a")
        assert follower.status is SCHEDULED
    if how == "loses its lease":
        engine.tick(NOW + 1_000)
    elif how == "is moved":
        engine.release(NOW, "a", token_of(first), 0.0)
        engine.edit(NOW, "a", JobChange(queue="other"))
    else:
        end(engine, first, verdict=FAILED)
    invariants(engine)
    assert follower.status is QUEUED
    assert take(engine, NOW + 1_000) is follower


def test_a_follower_has_its_own_time(engine: Engine) -> None:
    """Its delay counts from its enqueue, and the holder's end comes first; what is edited of it meanwhile holds."""
    first, _ = put(engine, "a")
    take(engine)
    follower, _ = put(engine, "b", on_conflict="follow", job_delay=60.0)
    assert follower.run_at is None
    end(engine, first, NOW + 10)
    assert (follower.status, follower.run_at) == (SCHEDULED, NOW + 60)
    engine.tick(NOW + 60)
    assert follower.status is QUEUED


def test_a_follower_may_expire_or_be_cancelled(engine: Engine) -> None:
    """Then nobody waits, and the next one follows in its place."""
    first, _ = put(engine, "a")
    take(engine)
    put(engine, "b", on_conflict="follow", job_expires_in=5.0)
    engine.tick(NOW + 5)
    put(engine, "c", on_conflict="follow")
    engine.cancel(NOW, "c")
    invariants(engine)
    end(engine, first)
    assert engine.uniques.followers == engine.uniques.holders == {}
    assert put(engine, "d")[1]


def test_a_follower_that_moves_waits_for_nothing(engine: Engine) -> None:
    """In another queue it takes the key if it is free there, and runs without it otherwise."""
    for queue in ("q", "other"):
        put(engine, f"a {queue}", queue=queue)
        take(engine, queue=queue)
    for to in ("other", "third"):
        follower, _ = put(engine, f"b {to}", on_conflict="follow")
        engine.edit(NOW, follower.id, JobChange(queue=to))
        invariants(engine)
        assert (follower.status, follower.queue) == (QUEUED, to)
    assert put(engine, "c", queue="third") == (engine.job("b third"), False)
    assert put(engine, "c", queue="other") == (engine.job("a other"), False)


def test_who_waits_is_told_for_whom(engine: Engine) -> None:
    """The reason names the key, the holder and its worker, or until when the key is held."""
    first, _ = put(engine, "a", for_=100.0)
    engine.dequeue(NOW, Want(queues=("q",), worker="w"))
    follower, _ = put(engine, "b", on_conflict="follow")
    (reason,) = waiting_for(engine, follower, 0)
    assert (reason.kind, reason.key, reason.job, reason.worker, reason.until) == ("unique", "k", "a", "w", NOW + 100)
    end(engine, first)
    (reason,) = waiting_for(engine, follower, 0)
    assert (reason.job, reason.worker, reason.until) == ("a", None, NOW + 100)


# For a time.


def test_a_key_may_be_held_for_a_time(engine: Engine) -> None:
    """From the enqueue on, concluded or not, started or not; then it is free."""
    first, _ = put(engine, "a", for_=60.0, until="started")
    end(engine, take(engine))
    engine.tick(NOW + 59)
    assert put(engine, "b", NOW + 59) == (first, False)
    with pytest.raises(Duplicate, match="'a'"):
        put(engine, "b", NOW + 59, on_conflict="refuse")
    engine.tick(NOW + 60)
    assert put(engine, "b", NOW + 60)[1]


def test_who_follows_a_time_runs_when_it_is_over(engine: Engine) -> None:
    """A throttle with its last trigger: it runs at the end of the time, and holds the key for its own from then on."""
    end(engine, put(engine, "a", for_=60.0)[0] and take(engine))
    follower, made = put(engine, "b", NOW + 10, for_=60.0, on_conflict="follow")
    assert made
    assert follower.status is SCHEDULED
    engine.tick(NOW + 60)
    end(engine, take(engine, NOW + 60), NOW + 61)
    engine.tick(NOW + 119)
    assert put(engine, "c", NOW + 119) == (follower, False)
    engine.tick(NOW + 120)
    assert put(engine, "c", NOW + 120)[1]


def test_a_time_that_ends_while_its_job_runs_frees_nothing(engine: Engine) -> None:
    """The holder holds on."""
    first, _ = put(engine, "a", for_=60.0)
    take(engine)
    engine.tick(NOW + 60)
    assert put(engine, "b", NOW + 60) == (first, False)


def test_a_time_outlives_history_and_its_queue(engine: Engine) -> None:
    """The first id is answered when nothing else is known of the job any more."""
    engine = make_engine(history_jobs_max=0)
    put(engine, "a", for_=60.0, job_type="t", job_priority=3)
    end(engine, take(engine))
    assert "a" not in engine.jobs.by_id
    engine.delete_queue("q")
    engine.take_events()
    for _ in range(2):
        job, made = put(engine, "b", NOW + 30, for_=60.0)
        assert (made, job.id, job.queue, job.status, job.type, job.priority, job.created_at) == (False, "a", "q", CONCLUDED, "t", 3, NOW)
    # Somebody else's job of that id is not it.
    engine.enqueue(NOW, JobSpec(payload=b"1", id="a", queue="other"))
    assert put(engine, "b")[0].number == 1
    engine.tick(NOW + 60)
    assert Kind.THING_CHANGED in {event.kind for event in engine.take_events()}
    assert put(engine, "b", NOW + 60)[1]


def test_a_time_stays_where_its_job_was(engine: Engine) -> None:
    """A dead letter holds no key of its old queue, but the time for which that was to be held is not over."""
    engine.put_policy("q", QueuePolicy(max_attempts=1, dead_letter="dead"))
    put(engine, "a", for_=60.0)
    end(engine, take(engine), verdict=FAILED)
    job, made = put(engine, "b")
    assert (made, job.id, job.queue, job.status) == (False, "a", "q", CONCLUDED)
    assert engine.job("a").queue == "dead"
    assert put(engine, "c", queue="dead") == (engine.job("a"), False)
    engine.tick(NOW + 60)
    assert put(engine, "b")[1]
    invariants(engine)


def test_there_is_a_bound_on_times() -> None:
    """One more is refused, by its field, and nothing is changed; without a time it goes in."""
    engine = make_engine(unique_windows_max=1)
    put(engine, "a", for_=60.0)
    spec = JobSpec(payload=b"1", id="b", queue="q", unique=Unique("other", for_=1.0))
    before = fingerprint(engine)
    with pytest.raises(QueueFull) as caught:
        engine.enqueue(NOW, spec)
    assert caught.value.field == "unique.for"
    assert fingerprint(engine) == before
    engine.enqueue(NOW, msgspec.structs.replace(spec, unique=Unique("other")))


# Retry, dead letters.


def test_a_retry_needs_its_key(engine: Engine) -> None:
    """It is refused while another job has it, and takes it otherwise; retrying all that failed passes it over."""
    first, _ = put(engine, "a")
    end(engine, take(engine), verdict=FAILED)
    put(engine, "b")
    before = fingerprint(engine)
    with pytest.raises(Duplicate, match="'b'"):
        engine.retry(NOW, "a")
    assert fingerprint(engine) == before
    assert engine.retry_failed(NOW, "q", [first]) == 0
    end(engine, take(engine))
    engine.retry(NOW, "a")
    assert put(engine, "c") == (first, False)
    assert take(engine) is first


def test_its_own_time_keeps_no_job_from_a_retry(engine: Engine) -> None:
    """The time is that job's; a job that only followed is refused meanwhile."""
    first, _ = put(engine, "a", for_=60.0)
    end(engine, take(engine), verdict=FAILED)
    put(engine, "b", on_conflict="follow")
    put(engine, "c", on_conflict="follow")
    with pytest.raises(Duplicate):
        engine.retry(NOW, "b")
    engine.retry(NOW, "a")
    invariants(engine)
    assert put(engine, "d") == (first, False)
    engine.tick(NOW + 60)
    assert engine.job("c").status is SCHEDULED
    end(engine, take(engine))
    assert take(engine).id == "c"


def test_a_dead_letter_that_comes_home_is_never_kept_back(engine: Engine) -> None:
    """It takes its key if that is free, and runs beside whoever has it otherwise (oban#1416: what is in is never stuck)."""
    engine.put_policy("q", QueuePolicy(max_attempts=1, dead_letter="dead"))
    for job_id in ("a", "b"):
        put(engine, job_id)
        end(engine, take(engine), verdict=FAILED)
    letters = [job for part in engine.waiting("dead", 10) for job in part]
    assert engine.redrive(NOW, "dead", letters, None) == 2
    invariants(engine)
    assert put(engine, "c") == (engine.job("a"), False)
    assert [take(engine).id, take(engine).id] == ["a", "b"]
    end(engine, engine.job("b"))
    assert put(engine, "c") == (engine.job("a"), False)


def test_nothing_that_is_in_is_ever_blocked(engine: Engine) -> None:
    """Only the enqueue and the retry look at keys: jobs of one key that came to be side by side all run, retries included."""
    jobs = []
    for job_id in ("a", "b", "c"):
        jobs.append(put(engine, job_id, until="started")[0])
        take(engine)
    for job in jobs:
        engine.conclude(NOW, job.id, token_of(job), Verdict(outcome=Outcome.FAILED, retry_delay=1.0))
    engine.tick(NOW + 1)
    assert len(engine.dequeue(NOW + 1, Want(queues=("q",), limit=10))) == 3
    invariants(engine)


# What is not allowed.


@pytest.mark.parametrize(
    ("unique", "field"),
    [
        (Unique(""), "unique.key"),
        (Unique("x" * 129), "unique.key"),
        (Unique("a\n"), "unique.key"),
        (Unique("k", for_=0.0), "unique.for"),
        (Unique("k", for_=1e9), "unique.for"),
        (Unique("k", for_=float("nan")), "unique.for"),
        (Unique("k", max_wait=1.0), "unique.max_wait"),
        (Unique("k", on_conflict="replace", max_wait=-1.0), "unique.max_wait"),
        (Unique("k", on_conflict="replace", max_wait=1e9), "unique.max_wait"),
    ],
)
def test_bad_terms_name_their_field(engine: Engine, unique: Unique, field: str) -> None:
    """They are refused, and nothing is changed."""
    before = fingerprint(engine)
    with pytest.raises(BadRequest) as caught:
        engine.enqueue(NOW, JobSpec(payload=b"1", unique=unique))
    assert caught.value.field == field
    assert fingerprint(engine) == before


def test_a_plain_job_weighs_what_it_did(engine: Engine) -> None:
    """Nothing is kept for a job without a unique key, and its key counts for one that has it."""
    engine.enqueue(NOW, JobSpec(payload=b"1"))
    assert engine.uniques.holders == {}
    assert engine.live_bytes == 1
    engine.enqueue(NOW, JobSpec(payload=b"1", unique=Unique("ä")))
    assert engine.live_bytes == 4
    assert engine.dequeue(NOW, Want())[0].status is IN_PROGRESS
