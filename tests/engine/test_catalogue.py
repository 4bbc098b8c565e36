"""Every job by id and by age, and the listing that is made of it."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.engine.catalogue import Catalogue
from jobqueue.engine.engine import Engine
from jobqueue.model import JobFilter, Outcome, Status
from tests.factories import NOW, bring, enqueue, loose_jobs, make_engine


def filled(count: int) -> Catalogue:
    catalogue = Catalogue()
    for job in loose_jobs(count):
        catalogue.add(job)
    return catalogue


def pages(engine: Engine, **wanted: Any) -> list[list[str]]:
    """Every page of a listing, following its cursors."""
    found, before = [], None
    while True:
        jobs, before = engine.page(JobFilter(before=before, **wanted))
        found.append([one.id for one in jobs])
        if before is None:
            return found


def test_newest_comes_first() -> None:
    """A thousand jobs, more than fit one chunk, are listed from the newest down, or from below a number."""
    catalogue = filled(1_000)
    assert [one.number for one in catalogue.newest_first(None)] == list(range(1_000, 0, -1))
    for before in (1_001, 1_000, 513, 512, 511, 257, 256, 255, 2, 1):
        assert [one.number for one in catalogue.newest_first(before)] == list(range(before - 1, 0, -1))


def test_a_walk_goes_on_while_jobs_come_and_go() -> None:
    """A walk shows every job that stays, in order and once, and none that is forgotten before its turn, chunks and all."""
    catalogue = filled(1_000)
    walk = catalogue.walk()
    assert [next(walk).number for _ in range(200)] == list(range(1, 201))
    for number in [5, *range(150, 650), 999, 1_000]:
        catalogue.remove(catalogue.by_id[str(number)])
    for job in loose_jobs(1_500)[1_000:]:
        catalogue.add(job)
    rest = [job.number for job in walk]
    assert [number for number in rest if number <= 1_000] == list(range(650, 999))
    assert rest == sorted(rest)


def test_cursor_outside_of_what_there_is_is_harmless() -> None:
    """A number that no job has had yet lists all, zero and less list none, one whose job is gone lists what is older."""
    catalogue = filled(300)
    assert len(list(catalogue.newest_first(10**30))) == 300
    assert list(catalogue.newest_first(0)) == list(catalogue.newest_first(-5)) == []
    catalogue.remove(catalogue.by_id["257"])
    assert next(iter(catalogue.newest_first(257))).number == 256
    assert next(iter(catalogue.newest_first(258))).number == 256


@settings(deadline=None)
@given(st.sets(st.integers(1, 1_200)), st.none() | st.integers(0, 1_300))
def test_listing_is_the_rest_in_order(gone: set[int], before: int | None) -> None:
    """Whatever was forgotten, whole chunks included, the rest is listed in order, and newcomers first."""
    catalogue = filled(1_200)
    for number in gone:
        catalogue.remove(catalogue.by_id[str(number)])
    catalogue.add(loose_jobs(catalogue.next_number)[-1])
    wanted = [n for n in range(1_201, 0, -1) if n not in gone and (before is None or n < before)]
    assert [one.number for one in catalogue.newest_first(before)] == wanted
    assert set(catalogue.by_id) == {str(n) for n in range(1, 1_202) if n not in gone}


def test_last_chunk_emptied_is_made_again_in_its_place() -> None:
    """Numbers that go on in a chunk that was dropped are still the newest."""
    catalogue = filled(260)
    for number in (257, 258, 259, 260):
        catalogue.remove(catalogue.by_id[str(number)])
    catalogue.add(loose_jobs(catalogue.next_number)[-1])
    assert [one.number for one in catalogue.newest_first(None)][:2] == [261, 256]


def test_forgotten_numbers_leave_nothing_behind() -> None:
    """A million jobs that came and went are no memory: a chunk goes with its last job."""
    catalogue = filled(5_000)
    for job in list(catalogue.by_id.values())[:-1]:
        catalogue.remove(job)
    assert (len(catalogue.by_id), len(catalogue._chunks)) == (1, 1)


def test_pages_are_disjoint_and_complete() -> None:
    """Following the cursors shows every job once, newest first, the last page without a cursor."""
    engine = make_engine()
    made = [enqueue(engine, id=str(n)).id for n in range(10)]
    assert pages(engine, limit=4) == [["9", "8", "7", "6"], ["5", "4", "3", "2"], ["1", "0"]]
    assert pages(engine, limit=5) == [["9", "8", "7", "6", "5"], ["4", "3", "2", "1", "0"]]
    assert pages(engine, limit=100) == [made[::-1]]
    assert pages(make_engine(), limit=4) == [[]]


def test_cursor_stands_still_while_jobs_come_and_go() -> None:
    """New jobs do not shift a listing that is under way, and a job forgotten at the cursor does not stop it."""
    engine = make_engine(history_jobs_max=0)
    for n in range(6):
        enqueue(engine, id=str(n))
    first, cursor = engine.page(JobFilter(limit=3))
    assert [one.id for one in first] == ["5", "4", "3"]
    enqueue(engine, id="new")
    engine.cancel(NOW, "3")
    engine.cancel(NOW, "2")
    rest, cursor = engine.page(JobFilter(limit=3, before=cursor))
    assert ([one.id for one in rest], cursor) == (["1", "0"], None)


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({"status": Status.QUEUED}, ["queued"]),
        ({"status": Status.IN_PROGRESS}, ["cancelling", "in_progress"]),
        ({"status": Status.CONCLUDED}, ["cancelled", "failed", "succeeded"]),
        ({"outcome": Outcome.FAILED}, ["failed"]),
        ({"outcome": Outcome.EXPIRED}, []),
        ({"status": Status.QUEUED, "outcome": Outcome.FAILED}, []),
        ({"queue": "queued"}, ["queued"]),
        ({"queue": "nowhere"}, []),
        ({"type": "odd"}, ["cancelled", "succeeded", "in_progress", "scheduled"]),
        ({"type": "odd", "status": Status.CONCLUDED}, ["cancelled", "succeeded"]),
    ],
)
def test_listing_shows_what_matches_every_condition(wanted: dict[str, Any], ids: list[str]) -> None:
    """Status, outcome, queue and type filter, alone and together."""
    engine = make_engine()
    for n, state in enumerate(("scheduled", "queued", "in_progress", "cancelling", "succeeded", "failed", "cancelled")):
        bring(engine, state, id=state, queue=state, type="even" if n % 2 else "odd")
    found, cursor = engine.page(JobFilter(**wanted))
    assert ([one.id for one in found], cursor) == (ids, None)


def test_a_page_looks_at_no_more_than_page_scan_max_jobs() -> None:
    """A rare match costs several pages, some of them empty, but no page walks everything; all are found in the end."""
    engine = make_engine(page_jobs_max=5, page_jobs_default=5, page_scan_max=5)
    rare = {3, 4, 17}
    for n in range(20):
        enqueue(engine, id=str(n), type="rare" if n in rare else "common")
    found = pages(engine, type="rare", limit=5)
    assert found == [["17"], [], [], ["4", "3"]]
    assert pages(engine, type="none", limit=5) == [[], [], [], []]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
def test_random_listing_is_complete_whatever_the_limit(limit: int) -> None:
    """Jobs of random fates, listed by queue in pages of any size, are each shown once and in order."""
    engine, random = make_engine(page_jobs_max=10, page_jobs_default=10, page_scan_max=10), Random(limit)
    for n in range(60):
        enqueue(engine, id=str(n), queue=random.choice("ab"))
    for n in random.sample(range(60), 20):
        engine.cancel(NOW, str(n))
    wanted = [one.id for one in engine.jobs.newest_first(None) if one.queue == "a"]
    assert [job_id for page in pages(engine, queue="a", limit=limit) for job_id in page] == wanted
