"""`jobqueue check --store` of several partitions: what is in the wrong one is damage, what claims say of jobs is counted."""

from __future__ import annotations

import pytest

from jobqueue.backend.contents import Contents
from jobqueue.backend.id_claims import encode_claim
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.splitting import split
from jobqueue.backend.store.filling import fill
from jobqueue.clock import ManualClock
from jobqueue.engine.claims import CLAIM, IdClaim
from jobqueue.partition import home_of
from jobqueue.process.inspecting import check
from tests.backend.store.memory import MemoryStores, SharedSet
from tests.moving import contents, living

COUNT = 3


async def filled() -> tuple[SharedSet, Contents]:
    """A store of three partitions with jobs, and what it holds."""
    shared = SharedSet(ManualClock(), partitions=COUNT)
    stores = MemoryStores(shared)
    await stores.open()
    rows = await living(21, 200, start=1_700_000_000.0)
    await fill(list(stores), split(rows, COUNT), contents(rows))
    return shared, contents(rows)


def claim(shared: SharedSet, name: str, home: int, partition: int) -> None:
    """A claim in the store."""
    shared.parts[home].queues[CLAIM + name] = encode_claim(IdClaim(partition, 1))


async def test_partitions_are_shown_one_by_one() -> None:
    """The whole, its contents, each partition with its owner, the ids, the servers."""
    shared, expected = await filled()
    shared.parts[1].claim("server-1", "a:1", 5.0, False)
    shared.common.announce("server-1", "a:1")
    first, second, *parts, ids, servers = (await check(MemoryStores(shared))).splitlines()
    assert first.startswith("memory://test: whole; ")
    assert first.endswith("; in 3 partitions")
    assert second == f"contents: {expected}"
    owners = ["nobody", "server-1 at a:1, epoch 2, its lease ends in 5.0 s", "nobody"]
    for index, (part, owner) in enumerate(zip(parts, owners, strict=True)):
        assert part.startswith(f"partition {index}: ")
        assert part.endswith(f"; owner: {owner}")
    assert "; 0 claims of jobs that are gone; 0 claims for another partition than the job's; 0 ids in two partitions" in ids
    assert servers == "servers: server-1 at a:1, seen 0.0 s ago"


async def test_claims_of_other_jobs_are_counted() -> None:
    """A claim whose job is gone is left by history until it is swept: it is no damage."""
    shared, _ = await filled()
    home = home_of("gone", COUNT)
    claim(shared, "gone", home, (home + 1) % COUNT)
    assert "; 1 claims of jobs that are gone; 0 claims for another" in await check(MemoryStores(shared))


@pytest.mark.parametrize(("away", "partition"), [(1, 2), (0, 0), (0, 7)])
async def test_a_claim_that_cannot_be_is_damage(away: int, partition: int) -> None:
    """In another partition than the id's home, for the home itself, or for a partition that there is not."""
    shared, _ = await filled()
    home = home_of("x", COUNT)
    claim(shared, "x", (home + away) % COUNT, partition if partition >= COUNT else (home + partition) % COUNT)
    with pytest.raises(CannotOpen, match="is damaged: the id 'x' is claimed for partition"):
        await check(MemoryStores(shared))


async def test_a_queue_or_a_job_in_another_partition_is_damage() -> None:
    """It is named, with where it is and where it belongs."""
    shared, _ = await filled()
    for part in shared.parts:
        for name in [name for name in part.queues if name.startswith(CLAIM)]:
            del part.queues[name]
    shared.parts.reverse()
    with pytest.raises(CannotOpen, match=r"is damaged: queue 'f.*' is in partition 0, not in 2"):
        await check(MemoryStores(shared))
