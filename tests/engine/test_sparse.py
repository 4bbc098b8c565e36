"""The catalogue of one of several partitions, compared with the catalogue of the only one."""

from __future__ import annotations

import sys
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobqueue.engine.catalogue import Catalogue
from jobqueue.engine.sparse import SparseCatalogue, catalogue
from jobqueue.model import Job, Status
from jobqueue.partition import PARTITIONS_MAX, Place
from tests.factories import NOW


def job_of(number: int) -> Job:
    return Job(id=str(number), number=number, queue="q", priority=5, payload=b"1", created_at=NOW + number, status=Status.QUEUED)


def filled(place: Place, count: int) -> SparseCatalogue:
    made = SparseCatalogue(place)
    for _ in range(count):
        made.add(job_of(made.next_number))
    return made


@pytest.mark.parametrize("place", [Place(0, 2), Place(2, 3), Place(0, PARTITIONS_MAX), Place(127, PARTITIONS_MAX)])
def test_numbers_go_up_by_the_number_of_partitions(place: Place) -> None:
    """The first number is one above the index, the others follow at equal distances, and a number that no job is given is skipped."""
    made = filled(place, 3)
    first, count = place.index + 1, place.count
    assert [job.number for job in made.oldest_first(0)] == [first, first + count, first + 2 * count]
    assert made.take_number() == first + 3 * count
    assert made.next_number == first + 4 * count
    made.go_on(made.next_number + 1)
    assert made.next_number == first + 5 * count


def test_the_only_partition_has_the_usual_catalogue() -> None:
    """Whoever has no partitions pays nothing for them."""
    assert type(catalogue()) is Catalogue
    assert type(catalogue(Place(0, 2))) is SparseCatalogue


def same(sparse: Catalogue, plain: Catalogue, asked: list[int]) -> None:
    """Both hold the same jobs, and answer every question alike."""
    assert sparse.by_id == plain.by_id
    assert list(sparse.walk()) == list(plain.walk())
    assert list(sparse.newest_first(None)) == list(plain.newest_first(None))
    for number in asked:
        assert sparse.numbered(number) is plain.numbered(number)
        assert list(sparse.newest_first(number)) == list(plain.newest_first(number))
        assert list(sparse.oldest_first(number)) == list(plain.oldest_first(number))
        for count in (1, 100, 10_000):
            expected = list(plain.oldest_first(number))[:count]
            assert sparse.following(number, count)[: len(expected)] == expected
        at = NOW + number
        assert all(job.created_at >= at for job in plain.walk() if job.number >= sparse.not_before(at))
        assert all(job.created_at < at for job in plain.walk() if job.number <= sparse.all_before(at))


@settings(deadline=None, max_examples=60)
@given(st.integers(2, PARTITIONS_MAX), st.data())
def test_it_answers_as_a_catalogue_of_all_numbers_does(count: int, data: st.DataObject) -> None:
    """With numbers that fit and numbers that do not, and after any of them were removed or exchanged, all listings are the same."""
    sparse, plain = SparseCatalogue(Place(data.draw(st.integers(0, count - 1)), count)), Catalogue()
    random = Random(data.draw(st.integers(0, 10_000)))
    number = 0
    for _ in range(random.randrange(1, 400)):
        # From a store of one partition first, then of this one.
        number = number + random.randrange(1, 4 * count) if number < 10_000 else sparse.next_number
        for one in (sparse, plain):
            one.add(job_of(number))
        plain.exchange(plain.by_id[str(number)], sparse.by_id[str(number)])
    jobs = list(plain.walk())
    for job in random.sample(jobs, len(jobs) // 2):
        sparse.remove(job)
        plain.remove(job)
    for job in list(plain.walk())[::7]:
        other = job_of(job.number)
        sparse.exchange(job, other)
        plain.exchange(job, other)
    same(sparse, plain, [-1, 0, 1, number, number + 1, 10**30, *random.sample(range(1, number + 2), min(20, number))])


def test_a_walk_goes_on_while_jobs_come_and_go() -> None:
    """A walk shows every job that stays, in order and once, and none that is forgotten before its turn."""
    made = filled(Place(1, 3), 1_000)
    numbers = [job.number for job in made.walk()]
    walk = made.walk()
    assert [next(walk).number for _ in range(200)] == numbers[:200]
    gone = {numbers[at] for at in [5, *range(150, 650), 999]}
    for number in gone:
        made.remove(made.by_id[str(number)])
    for _ in range(500):
        made.add(job_of(made.next_number))
    rest = [job.number for job in walk]
    assert [number for number in rest if number in numbers] == [number for number in numbers[200:] if number not in gone]
    assert rest == sorted(set(rest))


def test_forgotten_numbers_leave_nothing_behind() -> None:
    """A chunk goes with its last job."""
    made = filled(Place(0, 16), 5_000)
    for job in list(made.by_id.values())[:-1]:
        made.remove(job)
    assert (len(made.by_id), len(made._lists)) == (1, 1)


def test_a_job_takes_little_more_than_in_the_catalogue_of_the_only_partition() -> None:
    """With the most partitions, the chunks of ten thousand jobs take less than 20 bytes a job."""
    made = filled(Place(3, PARTITIONS_MAX), 10_000)
    held = sys.getsizeof(made._lists) + sum(map(sys.getsizeof, made._lists.values()))
    assert held / 10_000 < 20
