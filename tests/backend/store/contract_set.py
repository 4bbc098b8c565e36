"""What every StoreSet must pass (jobqueue/backend/store/stores.py), beside StoreContract, which each of its partitions must pass.

A store's own test module subclasses StoreSetContract and brings one fixture, `make_set`: a coroutine function that makes a StoreSet and
opens it with a number of partitions, or, for "unopened", does not open it. All that one test makes are the same place, which was empty when
the test began, and are closed after it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal

import pytest

from jobqueue.backend.group import NotNow
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.store.store import Fenced, Owner
from jobqueue.backend.store.stores import StoreSet

from .contract import LEASE, Kept, claimed, group, kept, moment, outcome, writer_of, written

MakeSet = Callable[[int | Literal["unopened"] | None], Awaitable[StoreSet]]


def _ownership(found: Owner | NotNow | None) -> tuple[str, int] | None:
    """Who owns a partition, under which epoch."""
    assert not isinstance(found, NotNow)
    return None if found is None else (found.name, found.epoch)


class StoreSetContract:
    """The rules of the StoreSet protocol."""

    # The number of partitions.

    @pytest.mark.parametrize(("asked", "made"), [(None, 1), (1, 1), (3, 3), (128, 128)])
    async def test_a_new_store_is_made_with_the_number_asked_for(self, make_set: MakeSet, asked: int | None, made: int) -> None:
        """It has one partition if no number is given, and everybody who opens it later finds what it was made with."""
        stores = await make_set(asked)
        assert stores.partitions == made
        assert len(list(stores)) == made
        assert (await make_set(None)).partitions == made
        assert (await make_set(made)).partitions == made

    @pytest.mark.parametrize(("made", "asked"), [(1, 3), (3, 1), (3, 4)])
    async def test_another_number_is_refused(self, make_set: MakeSet, made: int, asked: int) -> None:
        """Who asks for another number is told which one to give, and changes nothing."""
        stores = await make_set(made)
        epoch = await claimed(stores[0])
        with pytest.raises(
            CannotOpen, match=rf"was made with --partitions {made}, and cannot be used with --partitions {asked}: give {made}"
        ):
            await make_set(asked)
        await stores[0].renew(epoch, LEASE)
        assert (await make_set(None)).partitions == made

    async def test_of_two_that_make_it_at_once_one_number_wins(self, make_set: MakeSet) -> None:
        """Servers that open a new store at the same time with different numbers agree on one, and the others are refused."""
        made = await asyncio.gather(*(make_set(number) for number in (2, 3, 4)), return_exceptions=True)
        numbers = [found.partitions for found in made if not isinstance(found, BaseException)]
        assert len(numbers) == 1
        assert sum(isinstance(found, CannotOpen) for found in made) == 2
        assert (await make_set(None)).partitions == numbers[0]

    async def test_before_it_is_open_there_are_no_partitions(self, make_set: MakeSet) -> None:
        """Nobody knows how many there are, so nobody is given one."""
        stores = await make_set("unopened")
        with pytest.raises(RuntimeError):
            _ = stores.partitions
        with pytest.raises(IndexError):
            _ = stores[0]
        await stores.open(2)
        with pytest.raises(IndexError):
            _ = stores[2]
        assert stores[1] is stores[1]
        assert list(stores) == [stores[0], stores[1]]
        assert stores[1].path == stores.path

    async def test_what_is_inspected_is_not_made(self, make_set: MakeSet) -> None:
        """A place that no server has used is refused, and stays as it is; one that has been used says how many partitions it has."""
        looking = await make_set("unopened")
        with pytest.raises(CannotOpen, match="no server has used it yet"):
            await looking.inspect()
        await make_set(3)
        await looking.inspect()
        assert looking.partitions == 3
        assert await kept(looking[2], await claimed(looking[2])) == Kept(None, {}, [])

    # Apart.

    async def test_each_partition_has_its_own_owner(self, make_set: MakeSet) -> None:
        """Two partitions are owned by two servers under epochs of their own, and claims of one are no claims of the other."""
        one, other = await make_set(3), await make_set(3)
        first = await claimed(one[0])
        again = await claimed(one[0])
        second = await claimed(other[2], "b")
        assert again > first
        assert [_ownership(found) for found in await one.owners()] == [("a", again), None, ("b", second)]
        told = await other[0].claim("b", "b:1", LEASE)
        assert told[:3] == ("a", "a:1", again)
        await one[0].release(again)
        assert [_ownership(found) for found in await other.owners()] == [None, None, ("b", second)]
        await other[2].renew(second, LEASE)

    async def test_a_fence_of_one_does_not_touch_another(self, make_set: MakeSet) -> None:
        """A server that owned two partitions and lost one is refused there, and commits on in the other."""
        one, other = await make_set(3), await make_set(3)
        epochs = [await claimed(one[index]) for index in (0, 1)]
        writers = [writer_of(one[index], epoch) for index, epoch in enumerate(epochs)]
        for writer in writers:
            await written(writer, group({1: (b"s", b"p")}))
        taken = await claimed(other[1], "b", force=True)
        assert isinstance(await outcome(writers[1], group({2: (b"s", b"p")})), Fenced)
        with pytest.raises(Fenced):
            await one[1].standing(epochs[1])
        await written(writers[0], group({2: (b"s", b"p")}))
        await one[0].renew(epochs[0], LEASE)
        assert [job[0] for job in (await kept(one[0], epochs[0])).jobs] == [1, 2]
        assert [job[0] for job in (await kept(other[1], taken)).jobs] == [1]

    async def test_each_partition_has_its_own_rows(self, make_set: MakeSet) -> None:
        """The same numbers and queues in two partitions are different rows, for all who read them and for all who delete."""
        stores, beside = await make_set(3), await make_set(3)
        epochs = [await claimed(store) for store in stores]
        writers = [writer_of(store, epoch) for store, epoch in zip(stores, epochs, strict=True)]
        for index in (0, 2):
            own = b"%d" % index
            await written(writers[index], group({1: (own, own), 70_000: (own, own)}, queues={"q": own}, counters=own))
        await written(writers[0], group(gone=(1,), queues={"q": None}, counters=b"0"))
        left = [
            Kept(b"0", {}, [(70_000, b"0", b"0")]),
            Kept(None, {}, []),
            Kept(b"2", {"q": b"2"}, [(1, b"2", b"2"), (70_000, b"2", b"2")]),
        ]
        for index, expected in enumerate(left):
            assert await kept(stores[index], epochs[index]) == expected
            assert await moment(beside[index]) == expected
            rows = await beside[index].beside()
            assert (rows.counters(), [job[0] for job in rows.jobs()]) == (expected.counters, [job[0] for job in expected.jobs])
            assert await beside[index].counters() == expected.counters
            standing = await stores[index].standing(epochs[index])
            assert standing.counters == expected.counters
            assert standing.jobs in (len(expected.jobs), None)

    async def test_partitions_commit_at_the_same_time(self, make_set: MakeSet) -> None:
        """Commits of several partitions by one server are all carried out, each in its own."""
        stores = await make_set(8)
        epochs = [await claimed(store) for store in stores]
        writers = [writer_of(store, epoch) for store, epoch in zip(stores, epochs, strict=True)]
        for step in range(5):
            await asyncio.gather(*(written(writer, group({step + 1: (b"s", b"p")})) for writer in writers))
        found = await asyncio.gather(*(kept(store, epoch) for store, epoch in zip(stores, epochs, strict=True)))
        assert all([job[0] for job in rows.jobs] == [1, 2, 3, 4, 5] for rows in found)

    # In common.

    async def test_servers_are_of_the_store(self, make_set: MakeSet) -> None:
        """A server is announced once, for all partitions, and every partition names it."""
        one, other = await make_set(3), await make_set(3)
        await one.announce("a", "a:1")
        assert sorted(member[:2] for member in await other.announce("b", "b:1")) == [("a", "a:1"), ("b", "b:1")]
        assert sorted(member.name for member in await one.members()) == ["a", "b"]
        assert sorted(member.name for member in await one[2].announce("c", "c:1")) == ["a", "b", "c"]
        await other.depart("b")
        await other.depart("c")
        assert [member.name for member in await one.members()] == ["a"]

    async def test_it_tells_the_time(self, make_set: MakeSet) -> None:
        """The clock of the store and of each partition reads seconds since the epoch."""
        stores = await make_set(2)
        for found in (await stores.now(), await stores[1].now()):
            assert abs(found - time.time()) < 5

    async def test_a_partition_that_is_closed_leaves_the_others_open(self, make_set: MakeSet) -> None:
        """A closed partition says NotNow; the others go on until the set is closed."""
        stores = await make_set(2)
        epochs = [await claimed(store) for store in stores]
        writers = [writer_of(store, epoch) for store, epoch in zip(stores, epochs, strict=True)]
        await written(writers[1], group({1: (b"s", b"p")}))
        await stores[1].close()
        with pytest.raises(NotNow):
            await stores[1].owner()
        assert isinstance(await outcome(writers[1], group({1: (b"s", b"p")})), NotNow)
        await written(writers[0], group({1: (b"s", b"p")}))
        await stores.close()
        await stores.close()
        assert isinstance(await outcome(writers[0], group({2: (b"s", b"p")})), NotNow)
        with pytest.raises(NotNow):
            await stores.now()
