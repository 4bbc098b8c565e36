"""The wait before a failed job's next attempt: exponential, with full jitter, capped, and the same for the same seed."""

from __future__ import annotations

from random import Random

import pytest

from jobqueue.engine.engine import Engine
from jobqueue.errors import BadRequest
from jobqueue.ids import Ids
from jobqueue.limits import Limits
from jobqueue.model import Outcome, Status, Verdict
from jobqueue.policy import Backoff, QueuePolicy
from tests.factories import FAILED, NOW, dequeue, enqueue, entropy, make_engine, token_of

from .invariants import invariants


class Highest(Random):
    """A source whose every uniform number is the upper bound: the backoff's ceiling without its jitter."""

    def uniform(self, a: float, b: float) -> float:
        return b


def waits(engine: Engine, failures: int, **fields: object) -> list[float]:
    """How long a job made of `fields` is put off after each of its failures."""
    job = enqueue(engine, max_attempts=1_000, **fields)
    now, found = NOW, []
    for _ in range(failures):
        engine.conclude(now, job.id, token_of(dequeue(engine, now)), FAILED)
        assert job.run_at is not None
        assert job.status is Status.SCHEDULED
        found.append(job.run_at - now)
        now = job.run_at
        engine.tick(now)
    invariants(engine)
    return found


def ceilings(backoff: Backoff, failures: int) -> list[float]:
    return waits(Engine(Limits(), Ids(entropy()), Highest()), failures, backoff=backoff)


@pytest.mark.parametrize(
    ("backoff", "wanted"),
    [
        (Backoff(1.0, 2.0, 300.0), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]),
        (Backoff(2.0, 3.0, 50.0), [2, 6, 18, 50, 50]),
        (Backoff(5.0, 1.0, 300.0), [5, 5, 5, 5]),
        (Backoff(10.0, 2.0, 3.0), [3, 3, 3]),
        (Backoff(0.0, 2.0, 300.0), [0, 0, 0]),
        (Backoff(1.0, 2.0, 0.0), [0, 0, 0]),
    ],
    ids=["default", "steeper", "constant", "cap below base", "none by base", "none by cap"],
)
def test_ceiling_grows_by_the_factor_up_to_the_cap(backoff: Backoff, wanted: list[float]) -> None:
    """Before attempt n + 1 a job waits at most min(cap, base * factor ** (n - 1)) seconds."""
    assert ceilings(backoff, len(wanted)) == pytest.approx(wanted)


def test_ceiling_too_large_for_a_number_is_the_cap() -> None:
    """A factor of 100 leaves the range of floats at the 155th failure; the cap holds from first to last."""
    found = ceilings(Backoff(1.0, 100.0, 7.0), 999)
    assert found[0] == pytest.approx(1.0)
    assert found[1:] == pytest.approx([7.0] * 998)


def test_base_of_zero_means_no_wait_however_many_the_failures() -> None:
    """Zero times a factor too large for a number is still zero."""
    assert ceilings(Backoff(0.0, 100.0, 300.0), 200) == [0.0] * 200


def test_jitter_is_full() -> None:
    """The wait is spread evenly from nothing to its ceiling: every tenth of it is hit about as often as any other."""
    engine = make_engine(7)
    found = waits(engine, 999, backoff=Backoff(100.0, 1.0, 100.0))
    assert 0.0 <= min(found) < 2.0
    assert 98.0 < max(found) <= 100.0
    tenths = [sum(1 for wait in found if n * 10 <= wait < (n + 1) * 10) for n in range(10)]
    assert all(60 <= count <= 140 for count in tenths)


def test_same_seed_same_waits() -> None:
    """A seeded random source repeats itself; another seed says otherwise."""
    assert waits(make_engine(1), 20) == waits(make_engine(1), 20)
    assert waits(make_engine(1), 20) != waits(make_engine(2), 20)


def test_job_overrides_its_queue() -> None:
    """A job's own backoff counts; without one the queue's, as it is at the failure."""
    engine = Engine(Limits(), Ids(entropy()), Highest())
    engine.put_policy("default", QueuePolicy(max_attempts=9, backoff=Backoff(20.0, 1.0, 20.0)))
    assert waits(engine, 1, backoff=Backoff(3.0, 1.0, 3.0)) == pytest.approx([3.0])
    engine = Engine(Limits(), Ids(entropy()), Highest())
    job = enqueue(engine)
    engine.put_policy("default", QueuePolicy(max_attempts=9, backoff=Backoff(20.0, 1.0, 20.0)))
    engine.conclude(NOW, job.id, token_of(dequeue(engine)), FAILED)
    assert job.run_at == NOW + 20.0


def test_no_wait_is_still_scheduled_until_the_next_tick() -> None:
    """A backoff of nothing is due at once, which is what next_deadline says."""
    engine = Engine(Limits(), Ids(entropy()), Highest())
    job = enqueue(engine, backoff=Backoff(0.0, 1.0, 0.0))
    engine.conclude(NOW, job.id, token_of(dequeue(engine)), FAILED)
    assert job.status is Status.SCHEDULED
    upcoming = engine.next_deadline()
    assert upcoming is not None
    assert upcoming <= NOW + 300.0
    engine.tick(NOW)
    assert job.status is Status.QUEUED


def test_lease_expiry_waits_for_nothing() -> None:
    """Only a failure that was said is put off; a lost worker's job goes to the next at once."""
    engine = make_engine()
    job = enqueue(engine, backoff=Backoff(100.0, 2.0, 100.0))
    dequeue(engine)
    engine.tick(NOW + 300.0)
    assert job.status is Status.QUEUED


def test_a_worker_may_say_when_to_try_again() -> None:
    """Its delay takes the backoff's place for this once, counts as an attempt, and ends with the attempts."""
    engine = make_engine()
    job = enqueue(engine, max_attempts=2, backoff=Backoff(1.0, 2.0, 1.0))
    later = Verdict(outcome=Outcome.FAILED, retry_delay=3_600.0)
    engine.conclude(NOW, job.id, token_of(dequeue(engine)), later)
    assert (job.status, job.run_at, job.attempts) == (Status.SCHEDULED, NOW + 3_600.0, 1)
    engine.tick(NOW + 3_600.0)
    engine.conclude(NOW + 3_600.0, job.id, token_of(dequeue(engine, NOW + 3_600.0)), later)
    assert (job.outcome, job.attempts) == (Outcome.FAILED, 2)
    invariants(engine)


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict(outcome=Outcome.SUCCEEDED, retry_delay=1.0),
        Verdict(outcome=Outcome.FAILED, retry=False, retry_delay=1.0),
        Verdict(outcome=Outcome.FAILED, retry_delay=-1.0),
        Verdict(outcome=Outcome.FAILED, retry_delay=31 * 86_400.0),
    ],
)
def test_a_delay_that_cannot_be_is_refused_and_changes_nothing(verdict: Verdict) -> None:
    """One beyond the bounds, or beside an end that is not tried again."""
    engine = make_engine()
    job = enqueue(engine)
    token = token_of(dequeue(engine))
    with pytest.raises(BadRequest) as caught:
        engine.conclude(NOW, job.id, token, verdict)
    assert caught.value.field == "retry_delay"
    assert (job.status, job.lease is not None) == (Status.IN_PROGRESS, True)
