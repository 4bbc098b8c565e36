"""One operation on many jobs, a slice at a time: how much a slice does, and what becomes of jobs between finding and doing."""

from __future__ import annotations

from typing import Any

import pytest

from jobqueue.engine.bulk import SLICE, SLICE_LOOKS, Bulk
from jobqueue.engine.engine import Engine
from jobqueue.engine.filters import LOOKED_BYTES_MAX, Matching
from jobqueue.errors import BadRequest
from jobqueue.model import CANCELLED, JobChange, Outcome, Status, Verdict
from tests.factories import NOW, dequeue, enqueue, make_engine, make_spec, token_of

from .invariants import invariants


def begun(
    engine: Engine, action: Any, change: JobChange | None = None, cursor: str | None = None, dry_run: bool = False, **fields: Any
) -> Bulk:
    """One of them, nothing of it done."""
    return Bulk(engine, NOW, 0.0, action, Matching(**fields), change or JobChange(), cursor, dry_run)


def through(engine: Engine, action: Any, change: JobChange | None = None, **fields: Any) -> Bulk:
    """One of them, a request's part done."""
    bulk = begun(engine, action, change, **fields)
    while not bulk.enough:
        bulk.step(NOW, 0.0)
        invariants(engine)
    return bulk


def test_a_step_does_a_slice() -> None:
    """So many jobs and no more; a request does two slices, and the next goes on behind them."""
    engine = make_engine()
    for number in range(SLICE + 1):
        enqueue(engine, id=str(number))
    bulk = begun(engine, "cancel", queue="default")
    bulk.step(NOW, 0.0)
    assert (bulk.matched, bulk.done, bulk.cursor) == (SLICE, SLICE, f"{SLICE}-{SLICE + 2}")
    assert not bulk.enough
    bulk.step(NOW, 0.0)
    assert (bulk.done, bulk.cursor, bulk.enough) == (SLICE + 1, None, True)


def test_a_step_looks_at_so_many_jobs() -> None:
    """Also where none of them matches."""
    engine = make_engine()
    for _ in range(SLICE_LOOKS + 1):
        enqueue(engine)
    bulk = begun(engine, "cancel", tag="none")
    bulk.step(NOW, 0.0)
    assert (bulk.looked, bulk.cursor) == (SLICE_LOOKS, f"{SLICE_LOOKS}-{SLICE_LOOKS + 2}")
    bulk.step(NOW, 0.0)
    assert bulk.ended


def test_a_step_writes_so_many_bytes() -> None:
    """An edit that brings a large payload is given to few jobs at once."""
    engine = make_engine(payload_bytes_max=3 * 2**20, body_bytes_max=4 * 2**20)
    for number in range(4):
        enqueue(engine, id=str(number))
    bulk = begun(engine, "edit", JobChange(payload=b"1" * (2**21)), queue="default")
    bulk.step(NOW, 0.0)
    assert bulk.done == 2


def test_a_request_looks_through_so_many_bytes_of_errors() -> None:
    """Then it is answered, with what it found by then."""
    engine = make_engine()
    error = b'"' + b"x" * 200_000 + b'"'
    for number in range(LOOKED_BYTES_MAX // len(error) + 3):
        enqueue(engine, id=str(number))
        engine.conclude(NOW, str(number), token_of(dequeue(engine)), Verdict(outcome=Outcome.FAILED, error=error, retry=False))
    bulk = through(engine, "retry", error="yyy")
    assert bulk.cursor is not None
    assert through(engine, "retry", error="yyy", cursor=bulk.cursor).ended


def test_what_history_forgets_meanwhile_is_not_counted() -> None:
    """Cancelled jobs push out older ones, which were found in the same slice."""
    engine = make_engine(history_jobs_max=2)
    for number in range(5):
        enqueue(engine, id=str(number))
    engine.cancel(NOW, "0")
    engine.cancel(NOW, "1")
    bulk = through(engine, "forget", outcome=CANCELLED)
    assert (bulk.matched, bulk.done, set(engine.jobs.by_id)) == (2, 2, {"2", "3", "4"})
    bulk = through(engine, "cancel", status=Status.QUEUED)
    assert (bulk.matched, bulk.done, set(engine.jobs.by_id)) == (3, 3, {"3", "4"})


def test_a_retry_that_frees_a_place_for_none_counts_the_rest_as_refused() -> None:
    """Each is tried, whatever became of the one before."""
    engine = make_engine(jobs_max=2)
    for number in range(2):
        enqueue(engine, id=str(number))
        engine.cancel(NOW, str(number))
    enqueue(engine, id="live")
    bulk = through(engine, "retry", outcome=CANCELLED)
    assert (bulk.matched, bulk.done, bulk.refused) == (2, 1, {"queue_full": 1})


def test_times_are_looked_up() -> None:
    """Jobs of another time are not looked at, but for those near the first that is."""
    engine = make_engine()
    for number in range(1_000):
        engine.enqueue(NOW + number, make_spec())
    bulk = begun(engine, "cancel", dry_run=True, created_after=NOW + 900, created_before=NOW + 950)
    bulk.step(NOW, 0.0)
    assert (bulk.matched, bulk.ended) == (50, True)
    assert bulk.looked < 350


@pytest.mark.parametrize("cursor", ["", "1", "a-b", "1-2 ", "1-2\n", "-1-2", "\u0661-2", "1" * 19 + "-1"])
def test_a_cursor_that_was_not_answered_is_refused(cursor: str) -> None:
    """By its name."""
    with pytest.raises(BadRequest) as refused:
        begun(make_engine(), "cancel", cursor=cursor, tag="x")
    assert refused.value.field == "cursor"


def test_a_cursor_beyond_all_jobs_ends() -> None:
    """It may be of a server that was emptied since."""
    engine = make_engine()
    enqueue(engine)
    assert through(engine, "cancel", cursor="900-1000", tag="x").ended
