"""Time passing: what is due is done, in order, and no more of it at once than asked."""

from __future__ import annotations

from random import Random

from jobqueue.clock import ManualClock, Timer
from jobqueue.engine.engine import Engine
from jobqueue.engine.events import Kind
from jobqueue.model import Outcome, Status, Want
from tests.engine.invariants import fingerprint, invariants
from tests.factories import NOW, dequeue, drain_ids, enqueue, make_engine, token_of


def test_nothing_due_changes_nothing() -> None:
    """A tick before anything is due, and one of an empty engine, is no event and no change."""
    engine = make_engine()
    engine.tick(NOW)
    enqueue(engine, delay=10.0)
    enqueue(engine, expires_in=10.0)
    dequeue(engine)
    engine.take_events()
    before = fingerprint(engine)
    engine.tick(NOW + 9.999)
    assert fingerprint(engine) == before


def test_jobs_join_their_queue_in_the_order_of_their_run_at() -> None:
    """However late the tick and however the jobs came, the one that was to run first stands first."""
    engine, delays = make_engine(), list(range(1, 200))
    Random(3).shuffle(delays)
    for delay in delays:
        enqueue(engine, id=str(delay), delay=float(delay))
    engine.tick(NOW + 1_000.0)
    assert drain_ids(engine, NOW + 1_000.0) == [str(delay) for delay in range(1, 200)]


def test_late_tick_ends_leases_in_the_order_of_their_expiry() -> None:
    """A lease that was extended past another's end is ended after it, though it had been due before."""
    engine = make_engine()
    enqueue(engine, id="extended", max_attempts=1), enqueue(engine, id="silent", max_attempts=1)
    extended, _ = engine.dequeue(NOW, Want(limit=2, lease_seconds=10.0))
    engine.extend(NOW, "extended", token_of(extended), 20.0)
    engine.tick(NOW + 30.0)
    assert [job.id for job in engine.history.jobs(Outcome.FAILED)] == ["silent", "extended"]


def test_job_put_off_after_a_first_attempt_keeps_its_place() -> None:
    """A job that was handed out and released with a delay stands ahead of those that waited, when its time comes."""
    engine = make_engine()
    for name in ("released", "waiting"):
        enqueue(engine, id=name)
    engine.release(NOW, "released", token_of(dequeue(engine)), 20.0)
    engine.tick(NOW + 20.0)
    assert drain_ids(engine, NOW + 20.0) == ["released", "waiting"]


def test_limit_bounds_one_tick_and_the_rest_stays_due() -> None:
    """A herd is done in slices: no job is lost between them, and next_deadline says that more is due at once."""
    engine = make_engine()
    for n in range(25):
        enqueue(engine, id=f"{n:02}", delay=10.0 + n / 1_000.0)
    for done in (10, 20, 25):
        upcoming = engine.next_deadline()
        assert upcoming is not None
        assert upcoming <= NOW + 60.0
        engine.tick(NOW + 60.0, limit=10)
        assert engine.queue("default").queued == done
        invariants(engine)
    assert engine.next_deadline() is None
    assert drain_ids(engine, NOW + 60.0) == [f"{n:02}" for n in range(25)]


def test_limit_counts_what_is_only_looked_at() -> None:
    """A hundred leases that were extended, and so are not due, cost their share of a tick's limit: they are set anew in slices too."""
    engine = make_engine()
    for n in range(100):
        enqueue(engine, id=f"{n:03}")
    taken = engine.dequeue(NOW, Want(limit=100, lease_seconds=10.0))
    for job in taken[:-1]:
        engine.extend(NOW + 9.0, job.id, token_of(job), 300.0)
    silent, ticks = taken[-1], 0
    while silent.lease is not None:
        engine.tick(NOW + 20.0, limit=10)
        ticks += 1
    assert ticks == 10
    assert engine.queue("default").in_progress == 99
    invariants(engine)


def test_herd_of_expired_leases_comes_back_in_its_old_order() -> None:
    """A thousand leases that end in one instant leave the queue as it was before they were taken."""
    engine = make_engine()
    made = [enqueue(engine, id=str(n)) for n in range(1_000)]
    taken = engine.dequeue(NOW, Want(limit=1_000))
    for job in Random(1).sample(taken, 500):
        engine.extend(NOW + 1.0, job.id, token_of(job), 200.0)
    engine.tick(NOW + 300.0, limit=2_000)
    assert engine.queue("default").jobs() == made
    assert engine.queue("default").in_progress == 0
    invariants(engine)


def test_expiry_before_run_at_wins_and_run_at_before_expiry_queues() -> None:
    """A job that expires before its time ends; one whose time comes first is queued, then expires if nobody takes it."""
    engine = make_engine()
    never, briefly = enqueue(engine, delay=20.0, expires_in=10.0), enqueue(engine, delay=5.0, expires_in=10.0)
    engine.tick(NOW + 5.0)
    assert (never.status, briefly.status) == (Status.SCHEDULED, Status.QUEUED)
    engine.tick(NOW + 10.0)
    assert (never.outcome, briefly.outcome) == (Outcome.EXPIRED, Outcome.EXPIRED)
    invariants(engine)


def test_events_say_what_came_of_each() -> None:
    """One event a job: queued again, or ended."""
    engine = make_engine()
    enqueue(engine, id="last", max_attempts=1, priority=0)
    enqueue(engine, id="again", priority=1)
    engine.dequeue(NOW, Want(limit=2))
    enqueue(engine, id="delayed", delay=100.0)
    enqueue(engine, id="expiring", expires_in=200.0)
    engine.take_events()
    engine.tick(NOW + 300.0)
    told = {event.job.id: (event.kind, event.job.outcome) for event in engine.take_events() if event.job is not None}
    assert told == {
        "delayed": (Kind.QUEUED, None),
        "expiring": (Kind.CONCLUDED, Outcome.EXPIRED),
        "last": (Kind.CONCLUDED, Outcome.FAILED),
        "again": (Kind.QUEUED, None),
    }


class Ticker:
    """What a shell does with an engine and a clock: one timer, set for next_deadline."""

    def __init__(self, engine: Engine, clock: ManualClock) -> None:
        self.engine, self.clock = engine, clock
        self.timer: Timer | None = None
        self.ticks = 0

    def arm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        due = self.engine.next_deadline()
        self.timer = None if due is None else self.clock.call_at(due, self.run)

    def run(self) -> None:
        self.ticks += 1
        self.engine.tick(self.clock.now())
        self.arm()


def test_ticker_that_sleeps_until_next_deadline_does_everything_on_time() -> None:
    """Woken at next_deadline and never else, an engine runs a job through delay, lease, retries and expiry on the moment."""
    engine, clock = make_engine(), ManualClock()
    ticker = Ticker(engine, clock)
    job = enqueue(engine, clock.now(), delay=10.0, lease_seconds=30.0, expires_in=100.0)
    ticker.arm()
    clock.advance(10.0)
    assert job.status is Status.QUEUED
    token = token_of(dequeue(engine, clock.now()))
    ticker.arm()
    for _ in range(4):
        clock.advance(15.0)
        engine.extend(clock.now(), job.id, token)
        ticker.arm()
    clock.advance(29.999)
    assert job.status is Status.IN_PROGRESS
    clock.advance(0.001)
    assert job.outcome is Outcome.EXPIRED
    assert job.conclusion is not None
    assert job.conclusion.concluded_at == clock.now() == NOW + 100.0
    clock.advance(1e6)
    assert ticker.ticks <= 6
    assert engine.next_deadline() is None
