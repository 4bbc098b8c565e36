"""Claims whose jobs are gone are dropped, and as fast as clients can make them."""

from __future__ import annotations

from jobqueue.backend.store.claiming import Claiming
from jobqueue.backend.store.sweeping import AGE_SECONDS, HASTE_SECONDS, REST_SECONDS, SLICE, STEP_SECONDS, Sweep, Sweeping
from jobqueue.clock import ManualClock
from jobqueue.engine.claims import IdClaim
from jobqueue.limits import Limits
from jobqueue.model import JobSpec
from jobqueue.partition import Place, home_of, partition_of

from .partitions import Operation, Partition, ways

QUEUE = next(name for name in map("q{}".format, range(100)) if partition_of(name, 2) == 1)


async def _carry(partition: Partition, _name: str, operation: Operation) -> object:
    return await partition.carry_out(operation)


async def test_what_is_gone_is_dropped_in_haste_and_what_is_there_is_passed_over() -> None:
    """Two slices of claims without jobs, then one of claims with jobs: the first two are dropped at once, the third stays."""
    clock = ManualClock()
    home, other = (Partition(Place(index, 2), Limits(), clock) for index in range(2))
    sweep = Sweep(0, ways([home, other], _carry))
    names = [name for name in map("s{}".format, range(10 * SLICE)) if home_of(name, 2) == 0][: 3 * SLICE]
    for name in names[: 2 * SLICE]:
        home.engine.claims.claim(name, 1)
    claiming = Claiming(ways([home, other], _carry), Limits())
    await claiming.enqueue_batch([JobSpec(payload=b"1", id=name, queue=QUEUE) for name in names[2 * SLICE :]])
    assert await sweep.step(clock.now()) == REST_SECONDS
    assert len(home.engine.claims) == 3 * SLICE
    clock.advance(AGE_SECONDS)
    assert [await sweep.step(clock.now()) for _ in range(4)] == [HASTE_SECONDS, HASTE_SECONDS, STEP_SECONDS, REST_SECONDS]
    assert [name for name, _ in home.engine.claims.page(0, 10 * SLICE, 1 << 60)] == names[2 * SLICE :]
    # What was on its way under the claims that were dropped is refused now.
    assert other.engine.claims.floors == {0: 4 * SLICE}


async def test_only_homes_that_the_server_owns_are_swept() -> None:
    """And a young claim is left alone, since its job may be on its way."""
    clock = ManualClock()
    partitions = [Partition(Place(index, 2), Limits(), clock) for index in range(2)]
    names = [next(name for name in map("o{}".format, range(100)) if home_of(name, 2) == index) for index in range(2)]
    for index in range(2):
        partitions[index].engine.claims.claim(names[index], 1 - index)
    sweeping = Sweeping(ways(partitions, _carry), lambda home: home == 0, clock)
    await sweeping.turn()
    assert partitions[0].engine.claims.get(names[0]) == IdClaim(1, 1)
    clock.advance(AGE_SECONDS + REST_SECONDS)
    await sweeping.turn()
    assert partitions[0].engine.claims.get(names[0]) is None
    assert partitions[1].engine.claims.get(names[1]) is not None
