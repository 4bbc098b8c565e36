"""Listings by when jobs ended."""

from __future__ import annotations

import pytest

from jobqueue.engine.engine import Engine
from jobqueue.errors import BadRequest
from jobqueue.model import CONCLUDED, FAILED, QUEUED, SUCCEEDED, JobFilter, Outcome, Verdict
from jobqueue.policy import PerKey, QueuePolicy
from tests.factories import NOW, dequeue, enqueue, make_engine, token_of


def end(engine: Engine, job_id: str, at: float, outcome: Outcome = FAILED, queue: str = "q", **fields: object) -> None:
    enqueue(engine, id=job_id, queue=queue, **fields)
    token = token_of(dequeue(engine, at, queue=queue))
    engine.conclude(at, job_id, token, Verdict(outcome=outcome, retry=outcome is not FAILED))


def listed(engine: Engine, **wanted: object) -> list[str]:
    """The ids of all pages."""
    found: list[str] = []
    before = None
    while True:
        jobs, before = engine.page(JobFilter(by_end=True, before=before, **wanted))  # type: ignore[arg-type] # as they are
        found += [job.id for job in jobs]
        if before is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_jobs_are_listed_by_when_they_ended(limit: int) -> None:
    """Not by when they were made, whatever the size of a page; outcomes are merged where none is asked for."""
    engine = make_engine()
    for job_id in ("old", "new"):
        enqueue(engine, id=job_id, queue="w")
    tokens = {job.id: token_of(job) for job in (dequeue(engine, queue="w"), dequeue(engine, queue="w"))}
    engine.conclude(NOW + 1, "new", tokens["new"], Verdict(outcome=FAILED, retry=False))
    end(engine, "good", NOW + 2, SUCCEEDED)
    engine.conclude(NOW + 3, "old", tokens["old"], Verdict(outcome=FAILED, retry=False))
    assert listed(engine, outcome=FAILED, limit=limit) == ["old", "new"]
    assert listed(engine, limit=limit) == ["old", "good", "new"]
    assert listed(engine, status=CONCLUDED, queue="q", limit=limit) == ["good"]


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_jobs_that_ended_at_once_are_each_listed_once(limit: int) -> None:
    """A batch ends many in one step."""
    engine = make_engine()
    for number in range(10):
        end(engine, f"j{number}", NOW)
    assert sorted(listed(engine, outcome=FAILED, limit=limit)) == [f"j{number}" for number in range(10)]


def test_a_listing_of_more_than_a_cursor_can_tell_apart_ends() -> None:
    """Five thousand that were cancelled in one millisecond are listed as far as cursors go, none of them twice."""
    engine = make_engine()
    for number in range(5_000):
        enqueue(engine, id=f"j{number}")
        engine.cancel(NOW, f"j{number}")
    found = listed(engine, limit=1_000)
    assert len(found) == len(set(found)) == 4_095


def test_a_failure_that_halts_its_key_is_listed_in_its_place() -> None:
    """It is in no history."""
    engine = make_engine()
    engine.put_policy("k", QueuePolicy(per_key=PerKey(order="halt")), NOW)
    end(engine, "first", NOW + 1)
    end(engine, "halts", NOW + 2, queue="k", key="a")
    end(engine, "last", NOW + 3)
    assert len(engine.pinned) == 1
    assert listed(engine, outcome=FAILED, limit=1) == ["last", "halts", "first"]


def test_jobs_that_go_between_two_pages_move_no_other() -> None:
    """One that was shown is retried, one that was not is forgotten."""
    engine = make_engine()
    for number in range(6):
        end(engine, f"j{number}", NOW + number)
    first, cursor = engine.page(JobFilter(by_end=True, outcome=FAILED, limit=3))
    assert [job.id for job in first] == ["j5", "j4", "j3"]
    engine.retry(NOW + 9, "j3")
    job = engine.job("j1")
    engine.history.remove(job)
    engine.forget([job])
    assert [job.id for job in engine.page(JobFilter(by_end=True, outcome=FAILED, before=cursor))[0]] == ["j2", "j0"]


def test_live_jobs_have_no_such_order() -> None:
    """The error names the field."""
    with pytest.raises(BadRequest) as error:
        make_engine().page(JobFilter(by_end=True, status=QUEUED))
    assert error.value.field == "order"


def test_a_page_looks_at_a_bounded_number_of_jobs() -> None:
    """It may be empty, and says where to go on."""
    engine = make_engine(page_scan_max=1_000)
    for number in range(1_500):
        end(engine, f"j{number}", NOW + number)
    end(engine, "seldom", NOW - 1, queue="r")
    found, cursor = engine.page(JobFilter(by_end=True, queue="nobody's"))
    assert found == []
    assert cursor is not None
    assert engine.page(JobFilter(by_end=True, queue="nobody's", before=cursor)) == ([], None)
