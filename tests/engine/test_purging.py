"""Purging a queue of all that lives in it."""

from __future__ import annotations

import pytest

from jobqueue.engine.engine import Engine
from jobqueue.engine.purging import Purge
from jobqueue.errors import LeaseLost, NotInProgress, UnknownQueue
from jobqueue.model import Outcome, Status, Verdict
from jobqueue.policy import Backoff, PerKey, PolicyChange, QueuePolicy
from jobqueue.unique import Unique
from tests.factories import FINALLY_FAILED, NOW, SUCCEEDED, dequeue, enqueue, make_engine, make_spec, token_of

from .invariants import invariants


def purge(engine: Engine, name: str = "default", count: int = 2) -> int:
    """Purge a queue in slices; how many jobs ended."""
    work = Purge(engine, name)
    return sum(work.step(NOW, part) for part in (*work.windows(count), *work.jobs(count)))


def test_every_live_job_ends_as_cancelled() -> None:
    """Queued, scheduled, returned and in progress, of every priority; what has ended and what is in another queue stays as it is."""
    engine = make_engine()
    done = enqueue(engine, id="done")
    engine.conclude(NOW, "done", token_of(dequeue(engine)), SUCCEEDED)
    back = enqueue(engine, id="back")
    engine.release(NOW, "back", token_of(dequeue(engine)))
    jobs = [back, *(enqueue(engine, priority=n % 10) for n in range(7)), enqueue(engine, delay=5.0)]
    other = enqueue(engine, queue="other")
    dequeue(engine, queue="other")
    leased = [dequeue(engine), dequeue(engine)]
    assert purge(engine) == len(jobs)
    assert {job.outcome for job in jobs} == {Outcome.CANCELLED}
    assert all(job in jobs for job in leased)
    assert (done.outcome, other.status) == (Outcome.SUCCEEDED, Status.IN_PROGRESS)
    assert engine.queue("default").stats().cancelled_total == len(jobs)
    invariants(engine)


def test_a_worker_is_told_that_its_job_has_ended() -> None:
    """Its token is known as that of a lease that is over; an older one, or a forged one, is lost as ever."""
    engine = make_engine()
    enqueue(engine, id="j")
    token = token_of(dequeue(engine, worker="w"))
    purge(engine)
    for act in (
        lambda: engine.extend(NOW, "j", token),
        lambda: engine.release(NOW, "j", token),
        lambda: engine.conclude(NOW, "j", token, SUCCEEDED),
        lambda: engine.conclude(NOW, "j", token, Verdict(outcome=Outcome.SUCCEEDED, late=True)),
    ):
        with pytest.raises(NotInProgress):
            act()
    with pytest.raises(LeaseLost):
        engine.extend(NOW, "j", "x" * 32)
    conclusion = engine.job("j").conclusion
    assert conclusion is not None
    assert (conclusion.worker, conclusion.started_at, conclusion.result) == ("w", NOW, None)
    invariants(engine)


def test_what_is_handed_out_meanwhile_ends_too() -> None:
    """A job of an ordered key that may go since the one before it was purged is in progress when the purge comes to it."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(per_key=PerKey("fifo")))
    jobs = [enqueue(engine, key="k") for _ in range(4)]
    dequeue(engine)
    work = Purge(engine, "default")
    slices = iter(work.jobs(1))
    ended = work.step(NOW, [jobs[0]])
    taken = dequeue(engine)
    ended += sum(work.step(NOW, part) for part in slices)
    assert (taken.outcome, ended) == (Outcome.CANCELLED, 4)
    invariants(engine)


def test_what_comes_meanwhile_stays() -> None:
    """A job that was enqueued after the purge began is not its."""
    engine = make_engine()
    enqueue(engine)
    work = Purge(engine, "default")
    slices = work.jobs(10)
    later = enqueue(engine)
    assert sum(work.step(NOW, part) for part in slices) == 1
    assert later.status is Status.QUEUED
    invariants(engine)


def test_halted_keys_go_on() -> None:
    """A failed job that halts its key is given up, and stays failed; what is enqueued then may go."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(backoff=Backoff(0.0, 1.0, 0.0), per_key=PerKey("halt")))
    failed = enqueue(engine, key="k")
    engine.conclude(NOW, failed.id, token_of(dequeue(engine)), FINALLY_FAILED)
    behind = enqueue(engine, key="k")
    assert failed in engine.pinned
    assert purge(engine) == 1
    assert (failed.outcome, behind.outcome, engine.pinned) == (Outcome.FAILED, Outcome.CANCELLED, {})
    again = enqueue(engine, key="k")
    assert dequeue(engine) is again
    invariants(engine)


@pytest.mark.parametrize("state", ["waits", "in progress", "ended", "forgotten"])
def test_unique_keys_are_forgotten(state: str) -> None:
    """A time for which a key is held ends, whatever has become of its job; other queues keep theirs."""
    engine = make_engine(history_jobs_max=0 if state == "forgotten" else 10)
    unique = Unique("u", for_=100.0)
    job = enqueue(engine, unique=unique)
    kept = enqueue(engine, unique=unique, queue="other")
    if state != "waits":
        token = token_of(dequeue(engine))
        if state != "in progress":
            engine.conclude(NOW, job.id, token, SUCCEEDED)
    assert engine.enqueue(NOW, make_spec(unique=unique))[0].number == job.number
    purge(engine)
    again, made = engine.enqueue(NOW, make_spec(unique=unique))
    assert (made, again.status) == (True, Status.QUEUED)
    assert engine.enqueue(NOW, make_spec(unique=unique, queue="other"))[0] is kept
    invariants(engine)


def test_a_unique_key_goes_with_its_job() -> None:
    """Also when only jobs are looked at, as at the end of a delete: what came in meanwhile holds nothing after it."""
    engine = make_engine()
    job = enqueue(engine, unique=Unique("u", "enqueued", 100.0))
    work = Purge(engine, "default")
    assert sum(work.step(NOW, part) for part in work.jobs(5)) == 1
    assert not engine.uniques.windows
    assert engine.enqueue(NOW, make_spec(unique=Unique("u", "enqueued", 100.0)))[0] is not job
    invariants(engine)


def test_children_are_cancelled_and_the_queue_is_empty() -> None:
    """Jobs that are after a purged one are cancelled, in other queues too; they end once."""
    engine = make_engine()
    enqueue(engine, id="parent")
    child = enqueue(engine, id="child", after=("parent",))
    other = enqueue(engine, id="other", after=("child",), queue="other")
    assert purge(engine) >= 1
    assert (child.outcome, other.outcome, engine.live) == (Outcome.CANCELLED, Outcome.CANCELLED, 0)
    invariants(engine)


def test_a_dead_letter_ends_where_it_is() -> None:
    """The queue that it came from keeps nothing of it, and a purge of that one leaves it alone."""
    engine = make_engine()
    engine.put_policy("default", QueuePolicy(max_attempts=1))
    engine.change_policy("default", PolicyChange(dead_letter="dead"))
    job = enqueue(engine)
    engine.conclude(NOW, job.id, token_of(dequeue(engine)), FINALLY_FAILED)
    assert (purge(engine), job.queue, job.status) == (0, "dead", Status.QUEUED)
    assert (purge(engine, "dead"), job.outcome) == (1, Outcome.CANCELLED)
    invariants(engine)


def test_an_unknown_queue_is_refused() -> None:
    """It is not made."""
    engine = make_engine()
    with pytest.raises(UnknownQueue):
        Purge(engine, "none")
    assert not engine.queues
