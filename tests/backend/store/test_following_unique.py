"""A standby that follows an owner knows unique keys, and times that outlive their jobs, as one that is restored from its rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobqueue.engine.engine import Engine
from jobqueue.engine.purging import Purge
from jobqueue.engine.unique import Window
from jobqueue.limits import Limits
from jobqueue.model import JobChange, JobSpec, Outcome, Verdict, Want
from jobqueue.unique import Unique
from tests.engine.invariants import invariants
from tests.engine.unique_invariants import unique_fingerprint
from tests.factories import token_of

from .test_following import Owner

GOOD = Verdict(outcome=Outcome.SUCCEEDED)
LIMITS = Limits(history_jobs_max=1)


@pytest.fixture
def owner() -> Iterator[Owner]:
    """An engine that a twin follows from its first job on."""
    made = Owner(Engine(LIMITS))
    made.join(Engine(LIMITS))
    made.read()
    made.begin()
    yield made
    made.close()


def same(owner: Owner) -> dict[str, Window]:
    """Have all that has happened committed and followed; the times that the twin knows, by key."""
    owner.append(owner.engine.take_events())
    owner.commit()
    twin = owner.twin
    assert twin is not None
    for _ in twin.steps():
        pass
    again = owner.restored(LIMITS)
    assert unique_fingerprint(twin.engine) == unique_fingerprint(again) == unique_fingerprint(owner.engine)
    invariants(twin.engine)
    return {key: window for (_, key), window in twin.engine.uniques.windows.items()}


def test_it_knows_what_the_owner_knows(owner: Owner) -> None:
    """Holders, followers, times of jobs that live, that ended, that are forgotten, that moved; and what is over no more."""
    engine, now = owner.engine, owner.clock.now()

    def put(job_id: str, key: str, **terms: object) -> None:
        engine.enqueue(now, JobSpec(payload=b"1", id=job_id, queue="q", unique=Unique(key, **terms)))  # type: ignore[arg-type]

    def end() -> None:
        (job,) = engine.dequeue(now, Want(queues=("q",)))
        engine.conclude(now, job.id, token_of(job), GOOD)

    put("a", "k", for_=60.0)
    assert not same(owner)["k"].stored
    end()
    assert not same(owner)["k"].stored
    put("b", "other")
    same(owner)
    end()
    assert same(owner)["k"].stored
    put("c", "k", on_conflict="follow")
    put("d", "moves", for_=60.0)
    same(owner)
    engine.edit(now, "d", JobChange(queue="elsewhere"))
    assert same(owner)["moves"].stored
    now += 60
    engine.tick(now)
    assert same(owner) == {}
    assert engine.job("c").run_at == now


def test_it_knows_times_that_enqueues_alone_hold_and_that_a_purge_forgets(owner: Owner) -> None:
    """Two live jobs of a key are no contradiction, whichever of them changes; what is purged holds nothing."""
    engine, now = owner.engine, owner.clock.now()
    once = Unique("k", "enqueued", 60.0)

    def put(job_id: str) -> bool:
        return engine.enqueue(now, JobSpec(payload=b"1", id=job_id, queue="q", unique=once, lease_seconds=1_000.0))[1]

    assert put("a")
    assert same(owner)["k"].id == "a"
    now += 60
    engine.tick(now)
    assert put("b")
    assert same(owner)["k"].id == "b"
    (first,) = engine.dequeue(now, Want(queues=("q",)))
    assert (first.id, same(owner)["k"].id) == ("a", "b")
    work = Purge(engine, "q")
    for part in (*work.windows(1), *work.jobs(1)):
        work.step(now, part)
    owner.append(owner.engine.take_events())
    owner.commit()
    assert owner.twin is not None
    for _ in owner.twin.steps():
        pass
    # Of times that were over before it may know: it drops them when it takes over.
    assert not [window for window in owner.twin.engine.uniques.windows.values() if window.ends_at > now]
    assert put("c")
    assert same(owner)["k"].id == "c"
