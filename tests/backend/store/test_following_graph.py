"""A standby that follows an owner has the history of one that is restored from its rows, parents that were kept until now included."""

from __future__ import annotations

from jobqueue.engine.engine import Engine
from jobqueue.limits import Limits
from jobqueue.model import JobSpec, Outcome, Verdict, Want
from tests.engine.invariants import invariants
from tests.factories import token_of

from .test_following import Owner

LIMITS = Limits()


def test_parents_come_into_history_behind_their_last_child() -> None:
    """They ended before it, and were kept for it: they are what is forgotten later."""
    owner = Owner(Engine(LIMITS))
    owner.join(Engine(LIMITS))
    owner.read()
    owner.begin()
    twin = owner.twin
    assert twin is not None
    engine, now = owner.engine, owner.clock.now()
    for job_id, after in (("a", ()), ("b", ("a",)), ("c", ("a", "b")), ("d", ("a",))):
        engine.enqueue(now, JobSpec(payload=b"1", id=job_id, after=after))
    for _ in range(4):
        (job,) = engine.dequeue(now, Want())
        engine.conclude(now, job.id, token_of(job), Verdict(outcome=Outcome.SUCCEEDED))
        owner.append(engine.take_events())
        owner.commit()
        for _ in twin.steps():
            pass
    invariants(twin.engine)
    orders = [[job.id for job in each.history.jobs(Outcome.SUCCEEDED)] for each in (engine, twin.engine, owner.restored(LIMITS))]
    assert orders == [["d", "c", "a", "b"]] * 3
    owner.close()
