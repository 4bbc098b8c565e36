"""A job that waits for what is no time is scheduled for none; expiry, cancel and edits reach it, and it runs when it is let go."""

from __future__ import annotations

import pytest

from jobqueue.engine.engine import Engine
from jobqueue.engine.restore import Inconsistent, Stored, StoredQueue, restore
from jobqueue.model import Details, Extra, Job, JobChange, Outcome, Status
from tests.factories import NOW, drain_ids, enqueue, make_engine

from .invariants import invariants


def held(queue: str = "default", **details: object) -> tuple[Engine, Job]:
    """An engine with a job that is held back, as it comes from where it was stored."""
    engine = make_engine()
    extra = Extra(after=("parent",), not_before=details.pop("not_before", None))  # type: ignore[arg-type]
    job = Job("held", 1, queue, 5, b"1", NOW, Status.SCHEDULED, details=Details(seq=0, extra=extra, **details))  # type: ignore[arg-type]
    stored = StoredQueue(queue, engine.default_policy, (1, *[0] * 11))
    restore(engine, [stored], [Stored(job, 1)], 2, 2)
    return engine, job


def test_it_is_not_due_at_any_time() -> None:
    """However late it gets, nobody is handed it."""
    engine, job = held()
    engine.tick(NOW + 1e6)
    assert (job.status, job.run_at, drain_ids(engine)) == (Status.SCHEDULED, None, [])
    invariants(engine)


def test_it_expires_and_can_be_cancelled() -> None:
    """It is a waiting job like any other."""
    engine, job = held(expires_at=NOW + 10)
    engine.tick(NOW + 10)
    assert job.outcome is Outcome.EXPIRED
    invariants(engine)
    engine, job = held()
    engine.cancel(NOW, "held")
    assert job.outcome is Outcome.CANCELLED
    invariants(engine)


def test_let_go_it_joins_the_back() -> None:
    """It stands behind those that came while it was held back, and waits since it was let go."""
    engine, job = held()
    enqueue(engine, NOW + 1, id="later")
    engine.let_run(job, engine.queues["default"], NOW + 2)
    assert job.run_at == NOW + 2
    invariants(engine)
    assert drain_ids(engine, NOW + 3) == ["later", "held"]


def test_let_go_before_its_own_time_it_waits_for_that() -> None:
    """A delay is reckoned from the enqueue on, held back or not."""
    engine, job = held(not_before=NOW + 10)
    engine.let_run(job, engine.queues["default"], NOW + 2)
    assert (job.status, job.run_at, job.held_back) == (Status.SCHEDULED, NOW + 10, False)
    invariants(engine)
    engine.tick(NOW + 10)
    assert drain_ids(engine, NOW + 10) == ["held"]


def test_an_edit_lets_nothing_go() -> None:
    """A new time is kept for when it is let go; a new queue or expiry holds at once."""
    engine, job = held()
    engine.edit(NOW, "held", JobChange(delay=20.0, expires_in=100.0))
    engine.edit(NOW, "held", JobChange(queue="other", priority=1))
    engine.tick(NOW + 50)
    assert (job.held_back, job.queue, job.priority) == (True, "other", 1)
    invariants(engine)
    engine.let_run(job, engine.queues["other"], NOW + 10)
    assert job.run_at == NOW + 20
    invariants(engine)


def test_without_anything_to_hold_it_back_it_is_refused() -> None:
    """What is stored of it contradicts itself."""
    engine = make_engine()
    job = Job("held", 1, "default", 5, b"1", NOW, Status.SCHEDULED, details=Details(seq=0))
    with pytest.raises(Inconsistent, match="holds it back"):
        restore(engine, [StoredQueue("default", engine.default_policy, (1, *[0] * 11))], [Stored(job, 1)], 2, 2)
