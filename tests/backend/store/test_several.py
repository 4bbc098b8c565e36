"""Servers on a store of three partitions: who takes a partition over, when partitions move, and that no client sees an error of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from jobqueue.backend.store.balance import CALM_SECONDS, order, salt_of
from jobqueue.backend.store.balancing import STUCK_SECONDS
from jobqueue.backend.store.ownership import LEASE_SECONDS
from jobqueue.errors import StorageUnavailable
from jobqueue.model import Job
from jobqueue.partition import partition_of
from tests.conformance.rig import raised, spec, token, want

from .members import Cluster

P = 3

QUEUES = [next(name for name in map(str, range(100)) if partition_of(name, P) == partition) for partition in range(P)]
"""A queue in each partition."""


def owners(cluster: Cluster) -> list[str]:
    """The owner of each partition; each is to have one."""
    found = [cluster.owners_of(partition) for partition in range(P)]
    assert all(len(each) == 1 for each in found), found
    return [each[0] for each in found]


async def balanced(cluster: Cluster) -> list[str]:
    """Who owns what once nothing moves any more."""
    await cluster.advance(CALM_SECONDS + 12)
    return owners(cluster)


@pytest.fixture(params=[True, False], ids=["standbys", "no standbys"])
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """Three servers that own a partition each."""
    made = Cluster("a", "b", "c", partitions=P, standbys=request.param)
    await made.start()
    assert sorted(await balanced(made)) == ["a", "b", "c"]
    yield made
    await made.close()


async def put(cluster: Cluster, name: str, partition: int) -> str:
    """Enqueue a job at a server; returns its id."""
    return (await cluster.done(cluster[name].stacks[partition].backend.enqueue(spec(queue=QUEUES[partition])))).job.id


async def take(cluster: Cluster, name: str, partition: int, wait: float = 0.0) -> list[Job]:
    taking = cluster[name].stacks[partition].backend.dequeue(want(QUEUES[partition]), wait)
    async with taking as jobs:
        taking.delivered()
    return jobs


class Traffic:
    """Clients of all partitions at one server, whose every request is to succeed: each enqueues a job, takes it and releases it."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name
        self.done = Counter[int]()
        self.tasks = [cluster.do(self._client(partition)) for partition in range(P)]

    async def _client(self, partition: int) -> None:
        clock = self.cluster[self.name].clock
        backend = self.cluster[self.name].stacks[partition].backend
        while True:
            made = await backend.enqueue(spec(queue=QUEUES[partition]))
            assert made.created
            taking = backend.dequeue(want(QUEUES[partition]), 5.0)
            async with taking as jobs:
                taking.delivered()
            (job,) = jobs
            await backend.release(job.id, token(job), 3_600.0)
            self.done[partition] += 1
            passed = asyncio.Event()
            clock.call_at(clock.now() + 0.05, passed.set)
            await passed.wait()

    def stop(self) -> None:
        for task in self.tasks:
            if task.done():
                task.result()
            task.cancel()


async def test_the_first_server_owns_all_until_others_have_been_there_for_a_while() -> None:
    """Partitions without an owner are claimed at once by whoever is there; they move when the members have been the same for a while."""
    made = Cluster("a", "b", "c", partitions=P)
    await made.start()
    assert owners(made) == ["a"] * P
    await made.advance(CALM_SECONDS - 2)
    assert owners(made) == ["a"] * P
    await made.advance(15)
    assert sorted(owners(made)) == ["a", "b", "c"]
    await made.close()


async def test_the_partition_of_a_server_that_dies_goes_to_the_named_one_and_the_others_stay(cluster: Cluster) -> None:
    """One of the two that are left takes it over with all its jobs; what those own stays where it is, then and later."""
    before = owners(cluster)
    lost = before.index("b")
    made = [await put(cluster, "a", partition) for partition in range(P)]
    epochs = [shared.epoch for shared in cluster.shared_set.parts]
    standby = cluster["a"].stacks[lost].ownership.standby
    named = order(["a", "c"], salt_of(lost))[0]
    if standby is not None:
        # The standby is the one that is named, by now.
        assert cluster[named].stacks[lost].ownership.standby.warm  # type: ignore[union-attr]
    cluster["b"].die()
    await cluster.advance(LEASE_SECONDS + 2)
    after = [named if name == "b" else name for name in before]
    assert owners(cluster) == after
    for partition in range(P):
        assert [job.id for job in await cluster.done(take(cluster, "c", partition))] == [made[partition]]
    await cluster.advance(CALM_SECONDS + 10)
    assert owners(cluster) == after
    assert [shared.epoch - epoch for shared, epoch in zip(cluster.shared_set.parts, epochs, strict=True)] == [
        int(partition == lost) for partition in range(P)
    ]


async def test_a_server_that_joins_is_given_its_part_and_no_client_sees_an_error(cluster: Cluster) -> None:
    """After thirty seconds of calm one partition moves to it, by a planned hand-over; requests wait for moments."""
    cluster["b"].die()
    await cluster.advance(LEASE_SECONDS + 2)
    before = owners(cluster)
    assert sorted(Counter(before).values()) == [1, 2]
    cluster.add("d")
    await cluster.start("d")
    traffic = [Traffic(cluster, name) for name in ("a", "c", "d")]
    await cluster.advance(CALM_SECONDS - 2)
    assert owners(cluster) == before
    for _ in range(60):
        await cluster.advance(0.25)
        assert sum(len(cluster.owners_of(partition)) for partition in range(P)) >= P - 1, "one at a time"
    after = owners(cluster)
    assert sorted(after) == ["a", "c", "d"]
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1
    for each in traffic:
        each.stop()
        assert all(each.done[partition] > 50 for partition in range(P))


async def test_a_server_that_ends_hands_over_all_it_owns_and_no_client_sees_an_error(cluster: Cluster) -> None:
    """As each step of a rolling restart: the others have its partitions within moments, and keep their own."""
    before = owners(cluster)
    traffic = [Traffic(cluster, name) for name in ("a", "c")]
    await cluster.advance(1)
    began = cluster.clock.now()
    await cluster.done(cluster["b"].close())
    await cluster.advance(1)
    assert cluster.clock.now() - began < 3
    after = owners(cluster)
    assert [name for name in after if name == "b"] == []
    assert [name for name, was in zip(after, before, strict=True) if was != "b"] == [was for was in before if was != "b"]
    await cluster.advance(2)
    for each in traffic:
        each.stop()
        assert all(each.done[partition] > 10 for partition in range(P))


async def test_nothing_moves_while_a_partition_has_no_serving_owner() -> None:
    """A server that has joined gets nothing until every partition is served again."""
    made = Cluster("a", "b", partitions=P)
    await made.start()
    assert sorted(Counter(await balanced(made)).values()) == [1, 2]
    made.add("c")
    await made.start("c")
    few = next(partition for partition, name in enumerate(owners(made)) if Counter(owners(made))[name] == 1)
    # Its rows cannot be stored, and the owner of the partition says so.
    (name,) = made.owners_of(few)
    made[name].stacks[few].store.busy = True
    asking = made.do(made[name].stacks[few].backend.enqueue(spec(queue=QUEUES[few])))
    await made.advance(1)
    await raised(asking)
    before = owners(made)
    await made.advance(1.5)
    assert type(await raised(made[name].stacks[few].backend.hasty.check())) is StorageUnavailable
    assert owners(made) == before
    await made.close()


async def test_a_server_whose_clock_is_off_gets_nothing_and_holds_nobody_up() -> None:
    """It is left out after a while, and the others share the partitions."""
    made = Cluster("a", "b", "c", partitions=P, off={"b": 9.0})
    await made.start()
    await made.advance(CALM_SECONDS + STUCK_SECONDS + 20)
    assert sorted(Counter(owners(made)).items()) == [("a", 2), ("c", 1)]
    await made.close()


async def test_an_heir_that_dies_leaves_the_partition_to_its_owner(cluster: Cluster) -> None:
    """Whoever was given a partition and does not claim it has two seconds; then the owner has it again, with all jobs."""
    before = owners(cluster)
    partition = before.index("a")
    made = await put(cluster, "c", partition)
    ownership = cluster["a"].stacks[partition].ownership
    ownership.agrees = lambda name: True
    epoch = cluster.shared_set.parts[partition].epoch
    await cluster.done(ownership.give("b", epoch))
    await cluster.advance(1)
    assert cluster.owners_of(partition) == []
    await cluster.advance(2)
    assert owners(cluster) == before
    assert [job.id for job in await cluster.done(take(cluster, "c", partition))] == [made]


async def test_an_owner_gives_nothing_that_it_does_not_think_due(cluster: Cluster) -> None:
    """It refuses a server that sees it otherwise, or asks for an epoch that is over, and goes on."""
    partition = owners(cluster).index("a")
    ownership = cluster["a"].stacks[partition].ownership
    epoch = cluster.shared_set.parts[partition].epoch
    assert type(await raised(ownership.give("b", epoch))) is StorageUnavailable
    ownership.agrees = lambda name: True
    assert "not the owner" in str(await raised(ownership.give("b", epoch - 1)))
    assert cluster.owners_of(partition) == ["a"]


async def test_the_hasty_one_does_not_wait_for_an_owner(cluster: Cluster) -> None:
    """While a partition has no owner, whoever has others to ask hears so at once; who has none waits for the next owner."""
    partition = owners(cluster).index("b")
    made = await put(cluster, "a", partition)
    for name in ("a", "c"):
        cluster[name].stacks[partition].ownership.leaving = True
    cluster["b"].die()
    await cluster.advance(LEASE_SECONDS + 1)
    backend = cluster["a"].stacks[partition].backend
    began = cluster.clock.now()
    for asking in (
        backend.hasty.enqueue(spec(queue=QUEUES[partition])),
        backend.hasty.job(made),
        backend.hasty.check(),
        backend.hasty.dequeue(want(QUEUES[partition]), 9).__aenter__(),
    ):
        assert isinstance(await raised(asking), StorageUnavailable)
    assert cluster.clock.now() == began
    waiting = cluster.do(backend.job(made))
    await cluster.idle()
    cluster["a"].stacks[partition].ownership.leaving = False
    cluster["a"].stacks[partition].ownership.doubt()
    await cluster.advance(1)
    assert waiting.result().id == made
    assert [job.id for job in await cluster.done(_taken(backend.hasty, QUEUES[partition]))] == [made]


async def _taken(backend: object, queue: str) -> list[Job]:
    taking = backend.dequeue(want(queue), 0.0)  # type: ignore[attr-defined]
    async with taking as jobs:
        taking.delivered()
    return jobs
