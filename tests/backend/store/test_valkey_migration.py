"""A slot that is migrated while its queue is owned: key by key, as all versions can, with ASK, TRYAGAIN and MOVED; and as a whole."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from jobqueue.backend.group import NotNow
from jobqueue.backend.store.valkey import ValkeyStore
from jobqueue.backend.store.valkey_wire import slot_of
from tests.valkey import START_SECONDS, Node, cluster, needs_valkey

from .contract import claimed, group, kept, outcome, writer_of, written

LONG = 600.0
"""A lease that no test outlives."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    needs_valkey()
    made = cluster(replicas=0)
    yield made
    for node in made:
        node.remove()


class Migration:
    """A slot's way from its node to another one."""

    def __init__(self, nodes: list[Node], slot: int, source: Node) -> None:
        self._nodes, self._slot, self._source = nodes, slot, source
        self._target = next(node for node in nodes if node is not source)
        self._names = [node.tell("CLUSTER", "MYID") for node in (source, self._target)]

    def begin(self) -> None:
        self._target.tell("CLUSTER", "SETSLOT", self._slot, "IMPORTING", self._names[0])
        self._source.tell("CLUSTER", "SETSLOT", self._slot, "MIGRATING", self._names[1])

    def keys(self) -> list[str]:
        """What has not moved yet."""
        return [key.decode() for key in self._source.tell("CLUSTER", "GETKEYSINSLOT", self._slot, 100)]

    def move(self, key: str) -> None:
        assert self._source.tell("MIGRATE", "127.0.0.1", self._target.port, key, 0, 5_000) == b"OK"

    def end(self) -> None:
        others = [node for node in self._nodes if node not in (self._source, self._target)]
        for node in (self._target, self._source, *others):
            node.tell("CLUSTER", "SETSLOT", self._slot, "NODE", self._names[1])


@pytest.mark.parametrize("first", ["b", "o", "j:0", "p:0", "c", "q", "t"])
async def test_nothing_is_written_while_keys_move(nodes: list[Node], first: str) -> None:
    """Whichever key goes first, a commit is NotNow with the reason until the last has gone, then goes through, and all rows fit each other.

    Somebody reads a moment meanwhile, so that what a commit would note is there too.
    """
    store = ValkeyStore(nodes[0].url, 0, name=f"move-{first.replace(':', '')}")
    try:
        await store.open()
        epoch = await claimed(store, seconds=LONG)
        writer = writer_of(store, epoch, LONG)
        await written(writer, group({1: (b"s", b"p"), 20_000: (b"s", b"p")}, queues={"q": b"row"}))
        slot = slot_of(store._keys)
        place = store._link.primary(slot)
        assert place is not None
        source = next(node for node in nodes if node.port == place.port)
        source.tell("HSET", f"{store._keys}t", "token", "reader", "until", f"{time.time() + LONG:.6f}")
        moving = Migration(nodes, slot, source)
        moving.begin()
        keys = sorted(moving.keys(), key=lambda key: (not key.endswith(f":{first}"), key))
        assert keys[0] == f"{store._keys}{first}"
        number = 1
        for key in keys:
            number += 1
            error = await outcome(writer, group({number: (b"s", b"p"), 20_000 + number: (b"s", b"p")}, queues={"q": b"other"}))
            assert isinstance(error, NotNow)
            assert "the slot is being migrated key by key" in str(error)
            moving.move(key)
        with pytest.raises(NotNow, match="migrated key by key"):
            await store.rows(epoch)
        moving.end()
        await written(writer, group({100: (b"s", b"p"), 20_100: (b"s", b"p")}))
        await store.renew(epoch, LONG)
        rows = await store.rows(epoch)
        assert rows.count() == 4
        assert [job[0] for job in (await kept(store, epoch)).jobs] == [1, 100, 20_000, 20_100]
    finally:
        await store.close()


async def test_a_slot_that_is_migrated_at_once(nodes: list[Node]) -> None:
    """Valkey 9 moves a slot as a whole: commits go on before, and at its new node after."""
    if str(nodes[0].ask("CLUSTER", "GETSLOTMIGRATIONS")).startswith("ERR"):
        pytest.skip("this server moves slots key by key alone: it is older than Valkey 9")
    store = ValkeyStore(nodes[0].url, 0, name="at-once")
    try:
        await store.open()
        epoch = await claimed(store, seconds=LONG)
        writer = writer_of(store, epoch, LONG)
        slot = slot_of(store._keys)
        place = store._link.primary(slot)
        assert place is not None
        source = next(node for node in nodes if node.port == place.port)
        target = next(node for node in nodes if node is not source)
        await written(writer, group({1: (b"s", b"p")}))
        source.tell("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.tell("CLUSTER", "MYID"))
        number = 1
        deadline = time.monotonic() + START_SECONDS
        while not str(source.ask("HLEN", f"{store._keys}o")).startswith("MOVED"):
            assert time.monotonic() < deadline
            number += 1
            rows = group({number: (b"s", b"p")})
            while isinstance(error := await outcome(writer, rows), NotNow):
                pass
            assert error is None
        await written(writer, group({number + 1: (b"s", b"p")}))
        place = store._link.primary(slot)
        assert place is not None
        assert place.port == target.port
        assert [job[0] for job in (await kept(store, epoch)).jobs] == list(range(1, number + 2))
    finally:
        await store.close()
