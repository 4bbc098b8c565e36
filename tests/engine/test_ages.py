"""Jobs that wait for longer than their queue lets them: in time, whatever they went through; and none that may still wait."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from jobqueue.engine.ages import ENDED_MAX, PAUSE_SECONDS, SLICE
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import K_CONCLUDED
from jobqueue.engine.follow import Changes, begin, end, follow
from jobqueue.engine.restore import Stored, StoredQueue, restore
from jobqueue.model import EXPIRED, IN_PROGRESS, QUEUED, SCHEDULED, Job, JobChange, JobSpec, Outcome, Verdict, Want
from jobqueue.policy import PerKey, PolicyChange, QueuePolicy
from jobqueue.unique import Unique
from tests.factories import NOW, bring, dequeue, enqueue, make_engine, token_of

from .invariants import invariants
from .storing import stored_queues
from .test_restore import fresh

HOUR = 3_600.0
AGES = [None, 2.0, 10.0, 100.0, HOUR]
QUEUES = ["a", "b", "ordered", "dead"]


def policy(seconds: float | None, **more: object) -> QueuePolicy:
    """A policy with an expiry."""
    return QueuePolicy(expires_in=seconds, **more)  # type: ignore[arg-type] # passed on


def settle(engine: Engine, now: float, limit: int = 1_000) -> int:
    """Tick until nothing is due; how many ticks that took."""
    ticks = 0
    while (due := engine.next_deadline()) is not None and due <= now:
        engine.tick(now, limit)
        ticks += 1
    return ticks


def stored(engine: Engine) -> tuple[list[StoredQueue], list[Stored]]:
    """All of an engine, as if it had been written."""
    queues = stored_queues(engine)
    ended = [job for outcome in Outcome for job in engine.history.jobs(outcome)]
    changes = {job.number: change for change, job in enumerate(ended, 1)}
    return queues, [Stored(fresh(job), changes.get(job.number, 0)) for job in engine.jobs.oldest_first(0)]


def again(engine: Engine, now: float, standby: bool = False, seed: int = 1) -> Engine:
    """Another engine, begun from what was stored."""
    into = make_engine(seed)
    if standby:
        begin(into)
    queues, jobs = stored(engine)
    restore(into, queues, jobs, engine.jobs.next_number, engine.jobs.next_number)
    if standby:
        end(into)
    into.resume(now)
    return into


def waiting(engine: Engine, queue: str = "default") -> list[str]:
    """The ids of jobs that wait in a queue."""
    return [job.id for job in engine.jobs.oldest_first(0) if job.queue == queue and job.status in (QUEUED, SCHEDULED)]


# One by one.


def test_it_ends_as_expired_on_time() -> None:
    """Of few jobs each ends when its time is over, queued, delayed and held back alike; others stay."""
    engine = make_engine()
    engine.put_policy("default", policy(100.0), NOW)
    settle(engine, NOW)
    enqueue(engine, NOW, id="queued")
    enqueue(engine, NOW, id="delayed", delay=500.0)
    enqueue(engine, NOW, id="child", after=("queued",), after_failure="hold")
    enqueue(engine, NOW, id="elsewhere", queue="other")
    enqueue(engine, NOW + 50.0, id="later")
    settle(engine, NOW + 99.9)
    assert waiting(engine) == ["queued", "delayed", "child", "later"]
    settle(engine, NOW + 100.0)
    assert waiting(engine) == ["later"]
    assert {engine.job(name).outcome for name in ("queued", "delayed", "child")} == {EXPIRED}
    assert engine.queues["default"].expired_total == 3
    settle(engine, NOW + 150.0)
    assert waiting(engine) == []
    assert waiting(engine, "other") == ["elsewhere"]
    invariants(engine)


def test_nothing_is_kept_of_a_job_for_it() -> None:
    """No details, no due time: a plain job stays one."""
    engine = make_engine()
    engine.put_policy("default", policy(100.0), NOW)
    job = enqueue(engine)
    assert (job.expires_at, engine.deadlines.due(job), engine.queues["default"].ruled) == (None, None, False)


@pytest.mark.parametrize("seconds", [10.0, HOUR])
def test_it_may_be_late_by_a_tenth_or_a_minute_but_is_not_handed_out(seconds: float) -> None:
    """A cursor rests between two walks. What is too old meanwhile is passed over by a dequeue, which ends it."""
    engine = make_engine()
    engine.put_policy("default", policy(seconds), NOW)
    pause = min(PAUSE_SECONDS, seconds / 10)
    for name, late in (("a", 0.0), ("b", 0.3 * pause), ("c", 0.6 * pause)):
        enqueue(engine, NOW + late, id=name)
    settle(engine, NOW + seconds)
    settle(engine, NOW + seconds + 0.9 * pause)
    assert waiting(engine) == ["b", "c"]
    assert engine.dequeue(NOW + seconds + 0.5 * pause, Want())[0].id == "c"
    assert engine.job("b").outcome is EXPIRED
    enqueue(engine, NOW + seconds, id="d")
    assert waiting(engine) == ["d"]
    invariants(engine)


def test_with_a_worker_nothing_expires() -> None:
    """When the worker gives it back, or its lease ends, or it fails, it ends there; a success is one."""
    ends = {
        "release": lambda engine, job, now: engine.release(now, job.id, token_of(job)),
        "release later": lambda engine, job, now: engine.release(now, job.id, token_of(job), 5.0),
        "fail": lambda engine, job, now: engine.conclude(now, job.id, token_of(job), Verdict(outcome=Outcome.FAILED, retry_delay=5.0)),
        "lease ends": lambda engine, job, now: settle(engine, now + 300.0),
        "undelivered": lambda engine, job, now: engine.put_back(now, job.id, token_of(job)),
    }
    for name, act in ends.items():
        engine = make_engine()
        engine.put_policy("default", policy(100.0), NOW)
        job = enqueue(engine, NOW)
        dequeue(engine, NOW + 1.0)
        settle(engine, NOW + 200.0)
        assert job.status is IN_PROGRESS, name
        act(engine, job, NOW + 200.0)
        assert job.outcome is EXPIRED, name
        invariants(engine)
    engine = make_engine()
    engine.put_policy("default", policy(100.0), NOW)
    enqueue(engine, NOW)
    job = dequeue(engine, NOW)
    assert engine.conclude(NOW + 200.0, job.id, token_of(job), Verdict(outcome=Outcome.SUCCEEDED)).outcome is Outcome.SUCCEEDED


def test_it_holds_for_what_was_there_and_ends_with_the_policy() -> None:
    """A new, a shorter and a longer time count from each job's creation; none is none."""
    engine = make_engine()
    for age in (300.0, 200.0, 100.0, 0.0):
        enqueue(engine, NOW - age, id=f"{age:.0f}")
    engine.put_policy("default", policy(250.0), NOW)
    settle(engine, NOW)
    assert waiting(engine) == ["200", "100", "0"]
    engine.change_policy("default", PolicyChange(expires_in=150.0), NOW)
    settle(engine, NOW)
    assert waiting(engine) == ["100", "0"]
    engine.change_policy("default", PolicyChange(expires_in=1_000.0), NOW)
    settle(engine, NOW + 500.0)
    assert waiting(engine) == ["100", "0"]
    engine.change_policy("default", PolicyChange(expires_in=None), NOW)
    settle(engine, NOW + 5_000.0)
    assert waiting(engine) == ["100", "0"]
    assert engine.ages.cursors == {}
    invariants(engine)


def test_a_queue_that_joins_a_value_has_its_jobs_looked_at() -> None:
    """The cursor that others have gone on with begins anew."""
    engine = make_engine()
    engine.put_policy("default", policy(100.0), NOW)
    enqueue(engine, NOW - 500.0, queue="other", id="old")
    enqueue(engine, NOW)
    settle(engine, NOW + 10.0)
    engine.put_policy("other", policy(100.0), NOW + 10.0)
    settle(engine, NOW + 10.0)
    assert engine.job("old").outcome is EXPIRED
    assert len(engine.ages.cursors) == 1
    engine.delete_queue("other")
    assert [*engine.ages.cursors[100.0].queues] == ["default"]
    invariants(engine)


def test_what_moves_in_is_as_old_as_it_was() -> None:
    """By an edit, as a dead letter, by a redrive and by a retry: it ends in the queue that it came to, with what it held let go of."""
    engine = make_engine()
    engine.put_policy("short", policy(100.0), NOW)
    engine.put_policy("default", QueuePolicy(dead_letter="short", max_attempts=1), NOW)
    late = NOW + 200.0
    enqueue(engine, NOW, id="edited", queue="other", unique=Unique("u"))
    engine.edit(late, "edited", JobChange(queue="short"))
    enqueue(engine, NOW, id="dead", tags=("t",), unique=Unique("v"))
    dequeue(engine, late)
    engine.conclude(late, "dead", token_of(engine.job("dead")), Verdict(outcome=Outcome.FAILED))
    enqueue(engine, NOW, id="retried", queue="short", unique=Unique("w"))
    engine.cancel(NOW, "retried")
    engine.retry(late, "retried")
    enqueue(engine, NOW, id="delayed", queue="other", delay=9_999.0)
    engine.edit(late, "delayed", JobChange(queue="short"))
    for name in ("edited", "dead", "retried", "delayed"):
        job = engine.job(name)
        assert (job.outcome, job.queue) == (EXPIRED, "short")
    assert engine.queues["short"].live == 0
    assert engine.uniques.holders == {}
    invariants(engine)


def test_its_own_expiry_holds_beside() -> None:
    """Whichever comes first."""
    engine = make_engine()
    engine.put_policy("default", policy(100.0), NOW)
    enqueue(engine, NOW, id="sooner", expires_in=50.0)
    enqueue(engine, NOW, id="never", expires_in=500.0)
    settle(engine, NOW + 50.0)
    assert waiting(engine) == ["never"]
    settle(engine, NOW + 100.0)
    assert waiting(engine) == []
    invariants(engine)


def test_a_server_at_rest_is_not_woken() -> None:
    """With no job that may become too old, a cursor looks again once in its time."""
    engine = make_engine()
    engine.put_policy("default", policy(HOUR), NOW)
    settle(engine, NOW)
    assert engine.next_deadline() == NOW + HOUR
    enqueue(engine, NOW + 1.0)
    settle(engine, NOW + HOUR)
    assert engine.next_deadline() == NOW + HOUR + PAUSE_SECONDS


def test_many_end_in_slices() -> None:
    """However many are due: a step ends so many and looks at so many, and others run between."""
    engine = make_engine()
    for number in range(3 * ENDED_MAX):
        enqueue(engine, NOW, id=f"a{number}")
    for _ in range(3 * SLICE):
        enqueue(engine, NOW, queue="other")
    for number in range(ENDED_MAX):
        enqueue(engine, NOW, id=f"b{number}")
    engine.put_policy("default", policy(10.0), NOW)
    left = [len(waiting(engine))]
    while left[-1]:
        engine.tick(NOW + 10.0, 1)
        left.append(len(waiting(engine)))
        assert left[-2] - left[-1] <= ENDED_MAX
        assert len(left) < 12
        invariants(engine)
    assert left.count(ENDED_MAX) >= 3, "the jobs of the other queue take steps of their own"


def test_a_queue_in_which_nothing_waits_costs_no_walk() -> None:
    """Its cursor passes over all that is too old at once."""
    engine = make_engine()
    for number in range(5 * SLICE):
        enqueue(engine, NOW, id=f"a{number}", queue="other")
    engine.put_policy("default", policy(10.0), NOW)
    assert settle(engine, NOW + 20.0, 1) <= 2
    assert engine.ages.cursors[10.0].number == 5 * SLICE


def test_a_default_delay() -> None:
    """Of new jobs that say none; 0 says that there is to be none, and a repeat is none the less one."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(delay=30.0), NOW)
    plain = enqueue(engine, NOW, id="plain")
    tagged = enqueue(engine, NOW, id="tagged", tags=("t",))
    unique = enqueue(engine, NOW, id="unique", unique=Unique("u", on_conflict="replace"))
    assert [(job.status, job.run_at) for job in (plain, tagged, unique)] == [(SCHEDULED, NOW + 30.0)] * 3
    assert engine.enqueue(NOW + 5.0, JobSpec(payload=b"1", id="plain")) == (plain, False)
    now = enqueue(engine, NOW, id="now", delay=0.0)
    later = enqueue(engine, NOW, id="later", delay=99.0)
    told = engine.enqueue(NOW, JobSpec(payload=b"1", id="told", run_at=NOW + 7.0))[0]
    assert [(job.status, job.run_at) for job in (now, later, told)] == [(QUEUED, None), (SCHEDULED, NOW + 99.0), (SCHEDULED, NOW + 7.0)]
    engine.enqueue(NOW + 10.0, JobSpec(payload=b"2", unique=Unique("u", on_conflict="replace")))
    assert unique.run_at == NOW + 40.0
    invariants(engine)
    settle(engine, NOW + 30.0)
    assert [job.id for job in engine.dequeue(NOW + 30.0, Want(limit=9))] == ["now", "told", "plain", "tagged"]
    engine.put_policy("default", QueuePolicy(delay=0.0), NOW)
    assert enqueue(engine, NOW).status is QUEUED
    invariants(engine)


def test_a_queue_of_one_policy_is_looked_at_once_by_an_enqueue() -> None:
    """What an enqueue has to look at is in one flag: a bound, a delay, limits and keys."""
    engine = make_engine()
    for number, (ruled, told) in enumerate(
        [
            (False, QueuePolicy(lease_seconds=5.0, expires_in=5.0)),
            (True, QueuePolicy(max_jobs=5)),
            (True, QueuePolicy(delay=5.0)),
            (True, QueuePolicy(concurrency=5)),
            (True, QueuePolicy(fair=True)),
        ]
    ):
        engine.put_policy(f"q{number}", told, NOW)
        assert engine.queues[f"q{number}"].ruled is ruled
        engine.put_policy(f"q{number}", QueuePolicy(), NOW)
        assert engine.queues[f"q{number}"].ruled is False
        engine.put_policy(f"q{number}", told, NOW)
        assert again(engine, NOW).queues[f"q{number}"].ruled is ruled


def test_times_of_a_queue() -> None:
    """It was made by its first job or its policy, and modified by somebody, not by jobs."""
    engine = make_engine()
    enqueue(engine, NOW)
    engine.put_policy("made", QueuePolicy(), NOW + 1.0)
    engine.set_paused("default", True, NOW + 2.0)
    engine.set_paused("default", True, NOW + 3.0)
    engine.change_policy("made", PolicyChange(max_jobs=5), NOW + 4.0)
    enqueue(engine, NOW + 5.0, queue="made")
    times = {name: (queue.stats().created_at, queue.stats().modified_at) for name, queue in engine.queues.items()}
    assert times == {"default": (NOW, NOW + 2.0), "made": (NOW + 1.0, NOW + 4.0)}


@pytest.mark.parametrize("standby", [False, True])
def test_after_a_restart_it_goes_on(standby: bool) -> None:
    """Nothing of it is stored: the cursor begins anew, whoever takes over."""
    engine = make_engine()
    engine.put_policy("default", policy(100.0), NOW)
    enqueue(engine, NOW, id="a")
    enqueue(engine, NOW + 50.0, id="b")
    later = again(engine, NOW + 120.0, standby)
    settle(later, NOW + 120.0)
    assert waiting(later) == ["b"]
    settle(later, NOW + 150.0)
    assert waiting(later) == []
    invariants(later)


def test_a_standby_learns_of_policies() -> None:
    """Of one that is new, one that is gone and a queue that is gone; it ends nothing by itself."""
    engine = make_engine()
    bring(engine, "queued", worked=False, id="a")
    standby = make_engine()
    begin(standby)
    queues, jobs = stored(engine)
    restore(standby, queues, jobs, engine.jobs.next_number, engine.jobs.next_number)
    engine.put_policy("default", policy(5.0), NOW)
    engine.put_policy("gone", policy(7.0), NOW)
    for _ in follow(standby, Changes([], [], stored(engine)[0], [], engine.jobs.next_number)):
        pass
    assert sorted(standby.ages.cursors) == [5.0, 7.0]
    assert waiting(standby) == ["a"]
    for _ in follow(standby, Changes([], [], [], ["gone"], engine.jobs.next_number)):
        pass
    assert sorted(standby.ages.cursors) == [5.0]
    end(standby)
    standby.resume(NOW + 5.0)
    settle(standby, NOW + 5.0)
    assert waiting(standby) == []


# Any sequence.


class Machine(RuleBasedStateMachine):
    """Jobs and policies under any sequence of operations, against what each job's age says."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = make_engine(max_attempts_default=3)
        self.now = NOW
        self.made = self.seed = 0
        for name, more in (("a", {"dead_letter": "dead"}), ("ordered", {"per_key": PerKey(order="fifo")})):
            self.engine.put_policy(name, QueuePolicy(**more), self.now)  # type: ignore[arg-type] # each its own
        for name in ("b", "dead"):
            self.engine.put_policy(name, QueuePolicy(), self.now)

    def jobs(self, *statuses: object) -> list[Job]:
        return [job for job in self.engine.jobs.oldest_first(0) if job.status in statuses]

    def done(self) -> None:
        """Whatever was due has happened; what expired had to."""
        settle(self.engine, self.now)
        for event in self.engine.take_events():
            job = event.job
            if event.kind is K_CONCLUDED and job is not None and job.outcome is EXPIRED:
                queue = self.engine.queues[job.queue]
                assert queue.too_old(job, self.now) or (job.expires_at is not None and job.expires_at <= self.now)

    @rule(queue=st.sampled_from(QUEUES), seconds=st.sampled_from(AGES))
    def policy(self, queue: str, seconds: float | None) -> None:
        """Retroactive."""
        self.engine.change_policy(queue, PolicyChange(expires_in=seconds), self.now)
        self.done()

    @rule(
        queue=st.sampled_from(QUEUES),
        delay=st.sampled_from([None, None, 5.0, 500.0]),
        expires_in=st.sampled_from([None, None, 3.0, 30.0]),
        key=st.sampled_from([None, "k"]),
        unique=st.sampled_from([None, Unique("u", on_conflict="follow")]),
    )
    def put(self, queue: str, delay: float | None, expires_in: float | None, key: str | None, unique: Unique | None) -> None:
        self.made += 1
        asked = JobSpec(payload=b"1", id=f"j{self.made}", queue=queue, delay=delay, expires_in=expires_in, key=key, unique=unique)
        self.engine.enqueue(self.now, asked)
        self.done()

    @rule(queue=st.sampled_from(QUEUES), limit=st.integers(1, 3))
    def take(self, queue: str, limit: int) -> None:
        """None that is too old."""
        for job in self.engine.dequeue(self.now, Want(queues=(queue,), limit=limit, lease_seconds=20.0)):
            assert not self.engine.queues[queue].too_old(job, self.now)
        self.done()

    @rule(pick=st.integers(0, 9), how=st.sampled_from(["release", "later", "fail", "retry", "succeed", "undelivered"]))
    def give_back(self, pick: int, how: str) -> None:
        leased = self.jobs(IN_PROGRESS)
        if not leased:
            return
        job = leased[pick % len(leased)]
        token, engine, now = token_of(job), self.engine, self.now
        if how in ("release", "later"):
            engine.release(now, job.id, token, 0.0 if how == "release" else 7.0)
        elif how == "undelivered":
            engine.put_back(now, job.id, token)
        else:
            outcome = Outcome.SUCCEEDED if how == "succeed" else Outcome.FAILED
            engine.conclude(now, job.id, token, Verdict(outcome=outcome, retry=how != "fail", retry_delay=4.0 if how == "retry" else None))
        self.done()

    @rule(pick=st.integers(0, 9), to=st.sampled_from(QUEUES))
    def move(self, pick: int, to: str) -> None:
        waits = self.jobs(QUEUED, SCHEDULED)
        if waits:
            self.engine.edit(self.now, waits[pick % len(waits)].id, JobChange(queue=to))
            self.done()

    @rule(pick=st.integers(0, 9))
    def retry(self, pick: int) -> None:
        ended = [job for job in self.engine.jobs.oldest_first(0) if job.outcome not in (None, Outcome.SUCCEEDED)]
        if ended and (job := ended[pick % len(ended)]).unique is None:
            self.engine.retry(self.now, job.id)
            self.done()

    @rule(to=st.sampled_from([None, "b"]))
    def redrive(self, to: str | None) -> None:
        self.engine.redrive(self.now, "dead", self.jobs(QUEUED, SCHEDULED), to)
        self.done()

    @rule(seconds=st.sampled_from([0.1, 0.9, 6.0, 12.0, 61.0, 90.0, HOUR / 2]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.done()

    @rule(standby=st.booleans())
    def restart(self, standby: bool) -> None:
        self.seed += 1
        self.engine = again(self.engine, self.now, standby, self.seed)
        self.done()

    @invariant()
    def all_is_well(self) -> None:
        """No job waits for longer than a tenth more, or a minute."""
        invariants(self.engine)
        for job in self.jobs(QUEUED, SCHEDULED):
            seconds = self.engine.queues[job.queue].expires_in
            if seconds is not None:
                assert self.now - job.created_at < seconds + min(PAUSE_SECONDS, seconds / 10) + 1e-6
        values = {queue.expires_in for queue in self.engine.queues.values()} - {None}
        assert set(self.engine.ages.cursors) == values


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
