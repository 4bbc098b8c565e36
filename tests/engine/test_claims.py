"""Claims of ids, and floors, in one engine: see docs/decisions/0044-partitions.md."""

from __future__ import annotations

import pytest

from jobqueue.engine.claims import IdClaim
from jobqueue.engine.engine import Engine
from jobqueue.engine.restore import Inconsistent, restore
from jobqueue.errors import IdConflict
from jobqueue.limits import Limits
from jobqueue.model import JobSpec
from jobqueue.partition import ClaimVoid, Place, home_of, partition_of
from tests.factories import NOW

HERE, ELSEWHERE = (next(name for name in map("x{}".format, range(100)) if home_of(name, 2) == index) for index in (0, 1))
QUEUE = next(name for name in map("q{}".format, range(100)) if partition_of(name, 2) == 0)


class Sent(JobSpec, kw_only=True):
    """As one server sends it to another."""

    claim: int = 0  # type: ignore[misc]


@pytest.fixture
def engine() -> Engine:
    """Partition 0 of 2."""
    return Engine(Limits(jobs_max=40, history_jobs_max=2), place=Place(0, 2))


def test_a_claim_stands_until_it_is_dropped_by_its_number(engine: Engine) -> None:
    """Whoever claims again gets what stands; a number that is over drops and replaces nothing."""
    claims = engine.claims
    first = claims.claim(HERE, 1)
    assert first == IdClaim(1, 1)
    assert claims.claim(HERE, 1) == claims.claim(HERE, 0, void=7) == claims.get(HERE) == first
    assert claims.claim(HERE, 1, void=1) == IdClaim(1, 3)
    assert not claims.drop(HERE, 1)
    assert claims.drop(HERE, 3)
    assert (claims.get(HERE), len(claims)) == (None, 0)
    claims.above(10)
    assert claims.claim(HERE, 1) == IdClaim(1, 11)


def test_an_id_that_a_job_of_the_home_has_is_not_claimed(engine: Engine) -> None:
    """The number 0 says so. An id that is claimed is not given to a job of the home, nor to one that the server itself makes."""
    engine.enqueue(NOW, JobSpec(payload=b"1", id=HERE, queue=QUEUE))
    assert engine.claims.claim(HERE, 1) == IdClaim(0, 0)
    other = next(name for name in map("y{}".format, range(100)) if home_of(name, 2) == 0)
    assert engine.claims.claim(other, 1) is not None
    with pytest.raises(ClaimVoid):
        engine.enqueue(NOW, JobSpec(payload=b"1", id=other, queue=QUEUE))
    with pytest.raises(IdConflict):
        engine.enqueue(NOW, engine.claims.ours(JobSpec(payload=b"1", id=other, queue=QUEUE)))


def test_a_job_is_made_under_a_claim_that_no_floor_has_passed(engine: Engine) -> None:
    """Without a claim none is made, unless the server makes it itself; a known job is answered whatever its claim."""
    with pytest.raises(ClaimVoid):
        engine.enqueue(NOW, JobSpec(payload=b"1", id=ELSEWHERE, queue=QUEUE))
    assert engine.claims.void(1, [ELSEWHERE], 5) == [False]
    assert engine.claims.void(1, [ELSEWHERE], 3) == [False]
    assert engine.claims.floors == {1: 5}
    with pytest.raises(ClaimVoid):
        engine.enqueue(NOW, Sent(payload=b"1", id=ELSEWHERE, queue=QUEUE, claim=4))
    assert engine.enqueue(NOW, Sent(payload=b"1", id=ELSEWHERE, queue=QUEUE, claim=5))[1]
    assert engine.claims.void(1, [ELSEWHERE], 100) == [True]
    assert engine.claims.floors == {1: 5}
    assert not engine.enqueue(NOW, Sent(payload=b"1", id=ELSEWHERE, queue=QUEUE, claim=1))[1]
    ours = engine.claims.ours(JobSpec(payload=b"1", id=next(n for n in map("z{}".format, range(100)) if home_of(n, 2)), queue=QUEUE))
    assert engine.enqueue(NOW, ours)[1]


def test_claims_are_bounded(engine: Engine) -> None:
    """There are as many as jobs, live and ended; then none is made until one is dropped. One that is void can still be replaced."""
    names = [name for name in map("b{}".format, range(200)) if home_of(name, 2) == 0]
    made = [engine.claims.claim(name, 1) for name in names[:42]]
    assert None not in made
    assert engine.claims.claim(names[42], 1) is None
    assert made[0] is not None
    assert engine.claims.claim(names[0], 1, void=made[0].number) is not None
    assert engine.claims.drop(names[1], 3)
    assert engine.claims.claim(names[42], 1) is not None


@pytest.mark.parametrize(
    ("claim", "floors", "fault"),
    [
        ((HERE, IdClaim(1, 9)), {}, "never given"),
        ((HERE, IdClaim(1, 0)), {}, "never given"),
        ((HERE, IdClaim(0, 1)), {}, "claimed for partition 0 in partition 0 of 2"),
        ((HERE, IdClaim(2, 1)), {}, "claimed for partition 2"),
        ((ELSEWHERE, IdClaim(1, 1)), {}, "in partition 0 of 2"),
        ((HERE, IdClaim(1, 1)), {0: 1}, "has the floor 1 for partition 0"),
        ((HERE, IdClaim(1, 1)), {2: 1}, "for partition 2"),
        ((HERE, IdClaim(1, 1)), {1: 0}, "has the floor 0"),
    ],
)
def test_stored_claims_that_cannot_be_are_refused(engine: Engine, claim: tuple[str, IdClaim], floors: dict[int, int], fault: str) -> None:
    """A store that says them is damaged, or is another partition's."""
    with pytest.raises(Inconsistent, match=fault):
        restore(engine, [], [], 5, 5, claims=[claim], floors=floors)


def test_what_is_stored_of_claims_is_restored(engine: Engine) -> None:
    """In the order of their numbers, whatever the order of the rows."""
    other = next(name for name in map("y{}".format, range(100)) if home_of(name, 2) == 0)
    restore(engine, [], [], 6, 6, claims=[(HERE, IdClaim(1, 3)), (other, IdClaim(1, 1))], floors={1: 4})
    assert engine.claims.page(0, 10, 100) == [(other, IdClaim(1, 1)), (HERE, IdClaim(1, 3))]
    assert engine.claims.page(1, 10, 3) == []
    assert (engine.claims.floors, engine.jobs.next_number) == ({1: 4}, 7)
