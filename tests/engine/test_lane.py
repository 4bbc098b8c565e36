"""The lane: first in, first out, and a way back to one's old place."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.engine.lane import Lane
from jobqueue.model import Job
from tests.factories import loose_jobs


def take(lane: Lane) -> Job:
    job = lane.peek()
    assert job is not None
    lane.remove(job)
    return job


def test_empty_lane_has_nothing() -> None:
    """An empty lane is falsy, peeks as None and lists nothing."""
    lane = Lane()
    assert not lane
    assert (lane.peek(), lane.jobs()) == (None, [])


def test_jobs_that_come_back_in_any_order_stand_in_their_old_order() -> None:
    """Whatever the order in which four taken jobs return, they leave again as they did, ahead of those that never left."""
    for order in permutations(range(4)):
        lane, made = Lane(), loose_jobs(6)
        for job in made:
            lane.append(job)
        for _ in range(4):
            take(lane)
        for n in order:
            lane.give_back(made[n])
        assert lane.jobs() == made
        assert [take(lane) for _ in made] == made
        assert not lane


def test_returned_job_stands_ahead_of_all_that_never_left_and_of_newcomers() -> None:
    """One that comes back is next, though others came since."""
    lane, made = Lane(), loose_jobs(4)
    for job in made[:2]:
        lane.append(job)
    first = take(lane)
    lane.append(made[2])
    lane.give_back(first)
    lane.append(made[3])
    assert [take(lane) for _ in made] == made


def test_returned_job_that_is_removed_leaves_no_ghost() -> None:
    """A job that came back and was then taken out, even more than once, is not seen again and hides nobody."""
    lane, (a, b, c) = Lane(), loose_jobs(3)
    for job in (a, b, c):
        lane.append(job)
    take(lane), take(lane)
    for _ in range(3):
        lane.give_back(a)
        lane.give_back(b)
        lane.remove(a)
        assert lane.peek() is b
        assert lane.jobs() == [b, c]
        lane.remove(b)
        assert lane.peek() is c
        assert lane.jobs() == [c]
    lane.give_back(b)
    lane.give_back(a)
    assert lane.jobs() == [a, b, c]
    assert len(lane) == 3


def test_job_that_comes_back_again_is_there_once() -> None:
    """Coming and going beside another job that came back, a job is listed once and leaves once, in its place."""
    lane, (a, b, c) = Lane(), loose_jobs(3)
    lane.give_back(b)
    for job in (a, c):
        for _ in range(3):
            lane.give_back(job)
            lane.remove(job)
        lane.give_back(job)
    assert lane.jobs() == [a, b, c]
    assert [take(lane) for _ in range(len(lane))] == [a, b, c]


def test_one_job_alone_that_comes_and_goes_leaves_no_trail() -> None:
    """A job that is taken and given back ten thousand times in an otherwise empty lane does not fill memory."""
    lane, (job,) = Lane(), loose_jobs(1)
    for _ in range(10_000):
        lane.give_back(job)
        assert take(lane) is job
    assert len(lane._heap) <= 65


@pytest.mark.parametrize("staying", [1, 40])
def test_stale_entries_of_returned_jobs_are_swept(staying: int) -> None:
    """A job that is given back and taken out ten thousand times behind some that stay does not fill memory."""
    lane, (*stay, b) = Lane(), loose_jobs(staying + 1)
    for job in stay:
        lane.give_back(job)
    for _ in range(10_000):
        lane.give_back(b)
        lane.remove(b)
    assert lane.jobs() == stay
    # A heap of stale entries has no other face than its memory.
    assert len(lane._heap) <= max(64, 2 * staying) + 1


def test_ring_grows_sweeps_and_shrinks_beside_jobs_that_came_back() -> None:
    """Whatever the ring does to its memory, jobs that came back stand ahead of it, once each, in their old order."""
    lane, made = Lane(), loose_jobs(2_000)
    for job in made[:8]:
        lane.append(job)
    back = [take(lane) for _ in range(5)]
    for job in reversed(back):
        lane.give_back(job)
    for job in made[8:]:
        lane.append(job)
    assert lane.jobs() == made
    assert len(lane) == 2_000
    for job in made[5:1_990]:
        lane.remove(job)
    assert lane.jobs() == back + made[1_990:]
    assert [take(lane) for _ in range(15)] == back + made[1_990:]
    assert (lane.peek(), len(lane)) == (None, 0)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["append", "append", "take", "take", "back", "remove"]), st.integers(1, 20), st.integers(0, 1_000)),
        max_size=60,
    )
)
def test_lane_is_a_list_in_order_of_age(steps: list[tuple[str, int, int]]) -> None:
    """Any mix of joining, taking, coming back and removing, by the handful, leaves a list kept in order of age."""
    lane, pool = Lane(), loose_jobs(1_200)
    pool.reverse()
    here, taken = list[Job](), list[Job]()
    for what, times, pick in steps:
        for _ in range(times):
            if what == "append":
                lane.append(pool[-1])
                here.append(pool.pop())
            elif what == "take" and here:
                taken.append(here.pop(0))
                assert take(lane) is taken[-1]
            elif what == "back" and taken:
                job = taken.pop(pick % len(taken))
                lane.give_back(job)
                here = sorted([*here, job], key=lambda one: one.seq)
            elif what == "remove" and here:
                lane.remove(here.pop(pick % len(here)))
        assert len(lane) == len(here)
        assert lane.peek() is (here[0] if here else None)
        assert lane.jobs() == here
