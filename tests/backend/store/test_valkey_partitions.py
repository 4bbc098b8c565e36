"""ValkeyStores of several partitions: their keys, rights and formats, and what fails of them when one primary of several does."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from jobqueue.backend.group import NotNow, Writer
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.store import valkey_checks
from jobqueue.backend.store.valkey import ValkeyPartition, ValkeyStores
from jobqueue.backend.store.valkey_checks import RIGHTS
from jobqueue.backend.store.valkey_wire import Acknowledge, Patience, slot_of
from tests.valkey import Node, cluster, in_step, needs_valkey, single, with_replicas

from .contract import claimed, group, kept, outcome, writer_of, written

QUICK = Patience(connect=0.5, call=1.0, settle=0.1, look=0.05, commit=2.0)
LONG = 600.0
"""A lease that no test outlives."""

PARTITIONS = 12
"""As many as it takes for each of three primaries to have some, and that of the store's own keys too."""

_names = (f"p{number}-" for number in itertools.count())

Opened = Callable[..., Awaitable[ValkeyStores]]


@pytest.fixture
def node() -> Node:
    needs_valkey()
    return single()


@pytest.fixture
def name() -> str:
    return next(_names)


@pytest.fixture
async def opened(name: str) -> AsyncIterator[Opened]:
    """Makes and opens stores; closes them."""
    made: list[ValkeyStores] = []

    async def make(url: str, partitions: int | None, acknowledge: Acknowledge = 0, patience: Patience = QUICK) -> ValkeyStores:
        stores = ValkeyStores(url, acknowledge, name=name, patience=patience)
        made.append(stores)
        await stores.open(partitions)
        return stores

    yield make
    for stores in made:
        await stores.close()


@contextlib.contextmanager
def removed(nodes: list[Node]) -> Iterator[list[Node]]:
    """Servers of one test, ended with it."""
    try:
        yield nodes
    finally:
        for node in nodes:
            node.remove()


def keys(node: Node, name: str) -> list[str]:
    """All keys of a store, without its name."""
    return sorted(key.decode().replace(name, "") for key in node.tell("KEYS", f"{{{name}*"))


async def owned(stores: ValkeyStores) -> list[tuple[ValkeyPartition, int, Writer]]:
    """Own all partitions, and commit something to each."""
    made = []
    for store in stores:
        epoch = await claimed(store, seconds=LONG)
        made.append((store, epoch, writer_of(store, epoch, LONG)))
        await written(made[-1][2], group({1: (b"s", b"p")}))
    return made


# Keys.


async def test_one_partition_has_the_keys_that_it_always_had(node: Node, opened: Opened, name: str) -> None:
    """A store of one partition has no key more than one that older servers made."""
    stores = await opened(node.url, None)
    await owned(stores)
    await stores.announce("a", "a:1")
    rows = ["{0}:b", "{0}:c", "{0}:j:0", "{0}:o", "{0}:p:0"]
    assert keys(node, name) == [*rows, "{}:members", "{}:meta"]
    assert node.tell("HGETALL", f"{{{name}}}:meta") == [b"format", b"%d" % valkey_checks.FORMAT, b"partitions", b"1"]


async def test_each_partition_has_its_own_keys(node: Node, opened: Opened, name: str) -> None:
    """All keys of one partition are in one slot, and say beside it what the next owner must know."""
    await owned(await opened(node.url, 2))
    rows = ["b", "c", "j:0", "meta", "o", "p:0"]
    assert keys(node, name) == [*(f"{{0}}:{row}" for row in rows), *(f"{{1}}:{row}" for row in rows), "{}:meta"]
    for meta in ("", "0", "1"):
        assert node.tell("HGET", f"{{{name}{meta}}}:meta", "partitions") == b"2"


async def test_what_is_left_of_another_store_is_refused(node: Node, opened: Opened, name: str) -> None:
    """Whoever deleted a part of a store's keys, and makes one with another number, is told to delete the rest."""
    await owned(await opened(node.url, 3))
    node.tell("DEL", f"{{{name}}}:meta")
    with pytest.raises(CannotOpen, match=rf"\{{{name}0}}:meta is of a store that was made with --partitions 3.*delete all keys"):
        await opened(node.url, 2)


async def test_rights_are_needed_for_every_partition(opened: Opened, name: str) -> None:
    """A user who can use the keys of some partitions only is refused at the start, with the rights that are needed."""
    needs_valkey()
    with removed([Node()]) as (node,):
        pattern, *rights = RIGHTS.format(name=name).split()
        url = f"valkey://joe:pw@127.0.0.1:{node.port}"
        node.tell("ACL", "SETUSER", "joe", "on", ">pw", f"~{{{name}}}*", f"~{{{name}0}}*", f"~{{{name}1}}*", *rights)
        with pytest.raises(CannotOpen, match=r"NOPERM.*the user needs ~\{"):
            await opened(url, 3)
        node.tell("ACL", "SETUSER", "joe", pattern)
        await owned(await opened(url, 3))


async def test_a_newer_format_is_told_beside_each_partition(node: Node, opened: Opened, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A newer server raises the format of every partition at its start, and an older one that runs owns none of them from then on."""
    old = await opened(node.url, 3)
    parts = await owned(old)
    with monkeypatch.context() as newer:
        newer.setattr(valkey_checks, "FORMAT", 9)
        newer.setattr(valkey_checks, "USABLE_FROM", 9)
        await opened(node.url, None)
    for meta in ("", "0", "1", "2"):
        assert node.tell("HMGET", f"{{{name}{meta}}}:meta", "format", "usable_from") == [b"9", b"9"]
    for store, epoch, _ in parts:
        with pytest.raises(CannotOpen, match="written by a newer jobqueue"):
            await store.standing(epoch)
    with pytest.raises(CannotOpen, match="written by a newer jobqueue"):
        await opened(node.url, 3)


# Connections.


async def test_commits_do_not_wait_for_the_replicas_of_each_other(opened: Opened) -> None:
    """While a replica is silent, the commits of all partitions wait for it at the same time, and none of them behind another."""
    needs_valkey()
    with removed(with_replicas(1, min_replicas_to_write=1)) as (primary, replica):
        parts = await owned(await opened(primary.url, 4, 1, Patience(call=60.0, commit=60.0)))
        replica.stop()
        waiting = [asyncio.ensure_future(outcome(writer, group({2: (b"s", b"p")}))) for _, _, writer in parts]
        while b"blocked_clients:4\r" not in await asyncio.to_thread(primary.tell, "INFO", "clients"):
            assert not any(one.done() for one in waiting)
        replica.go_on()
        assert await asyncio.gather(*waiting) == [None] * 4


async def test_partitions_share_all_other_connections(node: Node, opened: Opened, name: str) -> None:
    """A server has one connection for each partition that it commits to, one for its claim, and two for everything else."""
    stores = await opened(node.url, 3)
    parts = await owned(stores)
    for store, epoch, _ in parts:
        await store.renew(epoch, LONG)
        await kept(store, epoch)
    await stores.owners()
    lanes = sorted(lane for _, lane in stores.link._connections)
    assert lanes == ["calls", *(f"claims {index}" for index in range(3)), *(f"commits {index}" for index in range(3)), "rows"]


# Primaries.


class Spread:
    """A store whose partitions lie on all primaries of a cluster, and the one primary that fails: that of the store's own keys."""

    def __init__(self, stores: ValkeyStores, nodes: list[Node]) -> None:
        self.stores = stores
        port = self._port(stores.keys.meta)
        self.failing = next(node for node in nodes if node.port == port)
        self.hit = [index for index in range(PARTITIONS) if self._port(stores.keys.owner(index)) == port]
        self.others = [index for index in range(PARTITIONS) if index not in self.hit]
        assert self.hit
        assert len({self._port(stores.keys.owner(index)) for index in self.others}) == 2

    def _port(self, key: str) -> int:
        place = self.stores.link.primary(slot_of(key))
        assert place is not None
        return place.port


async def test_when_a_primary_stands_still_only_its_partitions_do(opened: Opened) -> None:
    """The partitions of one primary are NotNow while it says nothing. The others commit, and are taken over, though the keys of the whole
    store lie there too, and though a primary that has lost the functions is given them meanwhile. All go on when it does.
    """
    needs_valkey()
    with removed(cluster(replicas=0)) as nodes:
        stores, other = await opened(nodes[0].url, PARTITIONS), await opened(nodes[1].url, None)
        parts = await owned(stores)
        spread = Spread(stores, nodes)
        spread.failing.stop()
        waiting = {index: asyncio.ensure_future(outcome(parts[index][2], group({2: (b"s", b"p")}))) for index in spread.hit}
        next(node for node in nodes if node is not spread.failing).tell("FUNCTION", "FLUSH")
        for step in range(2, 20):
            await asyncio.gather(*(written(parts[index][2], group({step: (b"s", b"p")})) for index in spread.others))
        for index, owner in enumerate(await other.owners()):
            assert isinstance(owner, NotNow) == (index in spread.hit)
        with pytest.raises(NotNow):
            await other.announce("b", "b:1")
        taken = spread.others[0]
        epoch = await claimed(other[taken], "b", LONG, force=True)
        assert (await other[taken].standing(epoch)).jobs == 19
        assert len((await kept(other[taken], epoch)).jobs) == 19
        assert all(isinstance(error, NotNow) for error in await asyncio.gather(*waiting.values()))
        spread.failing.go_on()
        for index in spread.hit:
            while isinstance(error := await outcome(parts[index][2], group({2: (b"s", b"p")})), NotNow):
                pass
            assert error is None
            assert [job[0] for job in (await kept(*parts[index][:2])).jobs] == [1, 2]


async def test_when_a_primary_dies_its_partitions_go_on_at_its_replica(opened: Opened) -> None:
    """Commits of the other partitions go through while a replica takes over; then all commit, and nothing is lost."""
    needs_valkey()
    with removed(cluster(replicas=1)) as nodes:
        stores = await opened(nodes[0].url, PARTITIONS)
        parts = await owned(stores)
        spread = Spread(stores, nodes)
        in_step(spread.failing, 1)
        spread.failing.kill()

        async def hit(index: int) -> None:
            while isinstance(error := await outcome(parts[index][2], group({2: (b"s", b"p")})), NotNow):
                pass
            assert error is None

        back = asyncio.gather(*map(hit, spread.hit))
        step = 1
        while not back.done():
            step += 1
            await asyncio.gather(*(written(parts[index][2], group({step: (b"s", b"p")})) for index in spread.others))
        await back
        assert step > 2
        for index, (store, epoch, writer) in enumerate(parts):
            await store.renew(epoch, LONG)
            await written(writer, group(gone=(1,)))
            assert [job[0] for job in (await kept(store, epoch)).jobs] == list(range(2, (2 if index in spread.hit else step) + 1))
