"""The ring buffer: order, removal anywhere, growing, sweeping, shrinking."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.engine.ring import Ring
from jobqueue.model import Job
from tests.factories import NOW, enqueue, loose_jobs, make_engine


def test_empty_ring_has_nothing() -> None:
    """An empty ring peeks as None, pops as IndexError and lists nothing."""
    ring = Ring()
    assert (len(ring), ring.peek(), ring.jobs()) == (0, None, [])
    with pytest.raises(IndexError):
        ring.popleft()


def test_what_goes_in_first_comes_out_first_through_many_growths() -> None:
    """A thousand jobs leave in the order they came, the ring having grown on the way."""
    ring, made = Ring(), loose_jobs(1_000)
    for job in made:
        ring.append(job)
    assert ring.capacity == 1_024
    assert [ring.popleft() for _ in made] == made
    assert len(ring) == 0


def test_full_ring_that_wraps_around_grows_in_order() -> None:
    """Growing when the front stands anywhere inside keeps the order, and every job can still be removed."""
    for turned, first in product(range(16), (0, 15, 16)):
        # Positions begin at the first job's number, and which half of the larger ring a position is in depends on it.
        ring, made = Ring(), loose_jobs(first + 16 + turned)[first:]
        for job in made[:16]:
            ring.append(job)
        for _ in range(turned):
            ring.popleft()
        for job in made[16:]:
            ring.append(job)
        assert ring.capacity == 16
        assert ring.jobs() == made[turned:]
        extra = loose_jobs(1)[0]
        ring.append(extra)
        assert ring.capacity == 32
        assert ring.jobs() == [*made[turned:], extra]
        for job in [*made[turned:], extra]:
            ring.remove(job)
        assert len(ring) == 0


@pytest.mark.parametrize("first", [0, 1, 100, 511, 900, 1_000, 1_023])
def test_a_ring_that_shrinks_moves_no_job(first: int) -> None:
    """Wherever the jobs that are left stand, across the end too, they keep order and places, and can be removed and followed."""
    ring, made = Ring(), loose_jobs(first + 1_000)[first:]
    for job in made:
        ring.append(job)
    places = {job.id: job.slot for job in made}
    while ring.capacity == 1_024:
        assert ring.popleft() is made.pop(0)
    assert ring.capacity < 1_024
    assert ring.jobs() == made
    assert {job.id: job.slot for job in made} == {job.id: places[job.id] for job in made}
    more = loose_jobs(first + 1_100)[first + 1_000 :]
    for job in more:
        ring.append(job)
    middle = made.pop(len(made) // 2)
    ring.remove(middle)
    assert [ring.popleft() for _ in range(len(ring))] == [*made, *more]


@pytest.mark.parametrize("at", range(16))
def test_removal_takes_out_that_job_alone_wherever_it_stands(at: int) -> None:
    """The other jobs keep their order, the front is never a hole, and the job says that it is in no ring."""
    ring, made = Ring(), loose_jobs(16)
    for job in made:
        ring.append(job)
    ring.remove(made[at])
    rest = made[:at] + made[at + 1 :]
    assert made[at].slot == -1
    assert ring.jobs() == rest
    assert ring.peek() is rest[0]
    with pytest.raises(AssertionError):
        ring.remove(made[at])
    assert [ring.popleft() for _ in rest] == rest


def test_job_of_another_ring_is_not_removed() -> None:
    """A slot that means a place in another ring takes nothing out of this one."""
    here, there = Ring(), Ring()
    mine, theirs = loose_jobs(2)
    here.append(mine)
    there.append(theirs)
    with pytest.raises(AssertionError):
        here.remove(theirs)
    assert here.jobs() == [mine]


def test_holes_are_swept_instead_of_growing() -> None:
    """One job that never leaves and a million that come and go behind it hold no more than the smallest ring."""
    ring, (stays, *passing) = Ring(), loose_jobs(8)
    ring.append(stays)
    for turn in range(10_000):
        job = passing[turn % len(passing)]
        ring.append(job)
        ring.remove(job)
    assert ring.jobs() == [stays]
    assert ring.capacity == 16


@pytest.mark.parametrize(("left", "capacity"), [(3, 64), (100, 1_024)])
def test_ring_gives_memory_back_after_a_burst(left: int, capacity: int) -> None:
    """Emptied from the front, from the back or in any order, a large ring shrinks, and what is left keeps its order."""
    for order in ("front", "front, taken", "back", "any"):
        ring, made = Ring(), loose_jobs(2_000)
        for job in made:
            ring.append(job)
        assert ring.capacity == 2_048
        leaving = made[:-left] if "front" in order else made[left:] if order == "back" else Random(1).sample(made, len(made) - left)
        for job in leaving:
            if order == "front, taken":
                assert ring.popleft() is job
            else:
                ring.remove(job)
        gone = {job.id for job in leaving}
        assert ring.jobs() == [job for job in made if job.id not in gone]
        assert ring.capacity <= capacity


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["append", "append", "pop", "remove"]), st.integers(0, 10_000)), max_size=400))
def test_ring_is_a_list(steps: list[tuple[str, int]]) -> None:
    """Any mix of appends, pops and removals leaves what a plain list has."""
    ring, model, pool = Ring(), list[Job](), loose_jobs(400)
    for what, pick in steps:
        if what == "append":
            job = pool.pop()
            ring.append(job)
            model.append(job)
        elif model and what == "pop":
            assert ring.popleft() is model.pop(0)
        elif model:
            job = model.pop(pick % len(model))
            ring.remove(job)
        assert len(ring) == len(model)
        assert ring.peek() is (model[0] if model else None)
        assert 16 <= ring.capacity <= max(128, 16 * len(model))
    assert ring.jobs() == model


def test_engine_removes_from_deep_inside_a_lane() -> None:
    """Cancelling every other job of a queue leaves the rest in order."""
    engine = make_engine()
    made = [enqueue(engine, id=str(n)) for n in range(100)]
    for job in made[::2]:
        engine.cancel(NOW, job.id)
    assert [job.id for job in engine.queue("default").jobs()] == [job.id for job in made[1::2]]
