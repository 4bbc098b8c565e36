"""Rates: the bound over every stretch of time, whatever happens meanwhile, and timers that are neither late nor in vain."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.engine.bucket import Bucket
from jobqueue.engine.events import Kind
from jobqueue.model import Want
from jobqueue.policy import PerKey, PolicyChange, QueuePolicy, Rate
from tests.factories import NOW, dequeue, drain_ids, enqueue, make_engine, token_of

from .test_flow_traps import DONE, end, engine_with, restarted, ticked

rates = st.builds(
    lambda limit, per, burst: Rate(limit, per, min(burst, limit)),
    st.sampled_from([1, 3, 7, 10]),
    st.sampled_from([1.0, 7.0, 60.0]),
    st.sampled_from([1, 2, 5]),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.sampled_from([0.0, 0.1, 0.37, 1.0, 5.0, 30.0])),
        st.tuples(st.just("take"), st.integers(1, 6)),
        st.tuples(st.just("undelivered"), st.integers(0, 5)),
        st.tuples(st.just("release"), st.integers(0, 5)),
        st.tuples(st.just("rate"), rates),
        st.tuples(st.just("restart"), st.none()),
    ),
    max_size=40,
)


def within(times: list[float], rate: Rate) -> None:
    """Assert the bound over every stretch that begins and ends with a hand-out; no other is tighter."""
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            most = rate.limit * (times[last] - start) / rate.per + rate.burst
            assert last - first + 1 <= most + 1e-6, f"{last - first + 1} in {times[last] - start} s, {most} allowed"


@given(rate=rates, steps=steps, per_key=st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_stretch_of_time_sees_more_than_the_rate_allows(rate: Rate, steps: list[tuple[str, object]], per_key: bool) -> None:
    """Whatever is taken, given back late or early, changed or restarted: limit × time ÷ per + burst delivered hand-outs at most."""

    def policy(rate: Rate) -> QueuePolicy:
        return QueuePolicy(per_key=PerKey(rate=rate)) if per_key else QueuePolicy(rate=rate)

    engine, now = make_engine(), NOW
    engine.put_policy("default", policy(rate))
    ticked(engine, now)
    for _ in range(30):
        enqueue(engine, now, key="k")
    since: list[tuple[float, str]] = []
    """Hand-outs since the rate was last changed, by when and under which token."""
    for what, how in steps:
        if what == "pass":
            assert isinstance(how, float)
            while (due := engine.next_deadline()) is not None and due <= now + how:
                now = max(now, due)
                engine.tick(now)
            now += how if not (due is not None and due <= now) else 0.0
        elif what == "take":
            assert isinstance(how, int)
            since += [(now, token_of(job)) for job in engine.dequeue(now, Want(limit=how, lease_seconds=10_000.0))]
        elif what in ("undelivered", "release"):
            assert isinstance(how, int)
            held = [(job, job.lease.token) for job in engine.jobs.all() if job.lease is not None]
            if not held:
                continue
            job, token = held[how % len(held)]
            if what == "undelivered":
                assert engine.put_back(now, job.id, token)
                since = [one for one in since if one[1] != token]
            else:
                engine.release(now, job.id, token)
        elif what == "rate":
            assert isinstance(how, Rate)
            within([at for at, _ in since], rate)
            rate, since = how, []
            engine.put_policy("default", policy(rate))
            ticked(engine, now)
        else:
            engine = restarted(engine, now)
    within([at for at, _ in since], rate)


def test_what_was_not_delivered_is_given_back_and_a_release_is_not() -> None:
    """An answer that could not be written costs the rate nothing; a job that was had and given back has been handed out."""
    engine = engine_with(rate=Rate(1, 100.0))
    enqueue(engine)
    job = dequeue(engine)
    assert drain_ids(engine) == []
    engine.put_back(NOW, job.id, token_of(job))
    again = dequeue(engine)
    engine.release(NOW, again.id, token_of(again))
    assert drain_ids(engine) == []


def test_what_is_given_back_late_is_not_there_twice() -> None:
    """When it turns out after an hour that an answer was not delivered, its place in the rate has long come round again."""
    engine = engine_with(rate=Rate(1, 10.0), lease_seconds=1_000.0)
    for _ in range(3):
        enqueue(engine)
    lost = dequeue(engine)
    ticked(engine, NOW + 10)
    dequeue(engine, NOW + 10)
    engine.put_back(NOW + 11, lost.id, token_of(lost))
    ticked(engine, NOW + 11)
    assert drain_ids(engine, NOW + 11) == [], "one was handed out a second ago"
    ticked(engine, NOW + 20)
    assert drain_ids(engine, NOW + 20) == [lost.id]


@pytest.mark.parametrize("known", [True, False])
def test_a_rate_begins_empty_after_a_restart(known: bool) -> None:
    """Nobody knows what was taken before: neither of the queue, nor of a key, be it one that has no jobs at the time."""
    engine = engine_with(per_key=PerKey(rate=Rate(1, 60.0)))
    enqueue(engine, key="k")
    end(engine, dequeue(engine))
    if known:
        enqueue(engine, key="k")
    other = restarted(engine, NOW + 1)
    if not known:
        enqueue(other, NOW + 2, key="k")
    ticked(other, NOW + 2)
    assert drain_ids(other, NOW + 2) == []
    ticked(other, NOW + 60)
    assert drain_ids(other, NOW + 60) == []
    ticked(other, NOW + 61)
    assert len(drain_ids(other, NOW + 61)) == 1


def test_a_key_that_comes_long_after_a_restart_waits_for_nothing() -> None:
    """Once all buckets are full again the restart is forgotten, and nothing of it is kept for keys that came and went."""
    engine = restarted(engine_with(per_key=PerKey(rate=Rate(1, 60.0))), NOW)
    ticked(engine, NOW + 60)
    enqueue(engine, NOW + 61, key="k")
    job = dequeue(engine, NOW + 61)
    end(engine, job, now=NOW + 61)
    ticked(engine, NOW + 1_000)
    assert engine.queues["default"].stats().keys == 0
    assert engine.next_deadline() is None


def test_timers_of_rates_are_exact() -> None:
    """A thousand hand-outs at a rate: each at its very moment, after one turn of the ticker, and then there is nothing to wake for."""
    engine = engine_with(rate=Rate(3, 1.0), per_key=PerKey(rate=Rate(3, 1.0)))
    for _ in range(1_000):
        enqueue(engine, key="k")
    now, turns, handed = NOW, 0, 0
    while True:
        engine.take_events()
        jobs = engine.dequeue(now, Want(limit=5))
        handed += len(jobs)
        for job in jobs:
            engine.conclude(now, job.id, token_of(job), DONE)
        due = engine.next_deadline()
        if not engine.live:
            break
        assert due is not None
        assert due > now, "a ticker would spin"
        now, turns = due, turns + 1
        engine.tick(now)
        if engine.queues["default"].queued:
            assert engine.available("default") == (Kind.FREED in {event.kind for event in engine.take_events()})
    assert handed == 1_000
    assert abs(now - (NOW + 999 / 3)) < 1e-3
    assert turns <= 2_010


def test_changing_the_rate_is_minded_at_once() -> None:
    """A faster rate lets the next go when that allows, a slower one holds it for so long, none holds nothing."""
    for rate, at in ((Rate(1, 10.0), 10.0), (Rate(1, 1_000.0), 100.0), (None, 0.0)):
        engine = engine_with(rate=Rate(1, 100.0))
        for _ in range(2):
            enqueue(engine)
        dequeue(engine)
        engine.change_policy("default", PolicyChange(rate=rate))
        ticked(engine, NOW)
        if at:
            assert drain_ids(engine, NOW) == []
            assert engine.next_deadline() == NOW + at
            ticked(engine, NOW + at)
        assert len(drain_ids(engine, NOW + at)) == 1


@given(takes=st.lists(st.floats(0.0, 3.0), max_size=30), rate=rates)
def test_a_bucket_never_owes_more_than_its_size(takes: list[float], rate: Rate) -> None:
    """Whoever takes when it has nothing pays at most a whole bucket."""
    bucket, now = Bucket(), NOW
    for passing in takes:
        now += passing
        bucket.take(rate, now)
        at = bucket.reckon(rate, now)
        assert at is not None
        assert now <= at
        assert bucket.full_at <= now + rate.burst * rate.interval
