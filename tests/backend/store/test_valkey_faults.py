"""ValkeyStore when something is wrong: servers that stand still, connections that say nothing, lost replies, failovers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from jobqueue.backend.group import Fatal, NotNow
from jobqueue.backend.store.store import Fenced
from jobqueue.backend.store.valkey import ValkeyStore
from jobqueue.backend.store.valkey_wire import Acknowledge, Patience, slot_of
from tests.valkey import Node, cluster, in_step, needs_valkey, single, until, with_replicas

from .contract import LEASE, claimed, group, kept, outcome, writer_of, written

QUICK = Patience(connect=0.5, call=1.0, settle=0.1, look=0.05, commit=2.0)

_names = (f"f{number}-" for number in itertools.count())

ROW = {1: (b"s", b"p")}

COMMIT = b"$9\r\njo_commit\r\n"
"""What a packet with a commit has in it, and one with the library does not, which says the name too."""


class Proxy:
    """A way to one server that can be watched and broken. dropped: replies that were swallowed."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.silent = False
        """Whether it takes what is sent and gives nothing back."""
        self.swallow: Callable[[bytes], bool] = lambda _sent: False
        """Whether the connection is to break after the server did what was sent, before it is answered."""
        self.sent: list[bytes] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    @property
    def url(self) -> str:
        return f"valkey://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers |= {writer, forth}
        cut = asyncio.Event()

        async def up() -> None:
            while data := await reader.read(1 << 16):
                self.sent.append(data)
                if self.swallow(data):
                    cut.set()
                forth.write(data)
            forth.close()

        async def down() -> None:
            while data := await back.read(1 << 16):
                if cut.is_set():
                    break
                if not self.silent:
                    writer.write(data)
            writer.close()

        with contextlib.suppress(ConnectionError):
            tasks = [asyncio.ensure_future(up()), asyncio.ensure_future(down())]
            self._tasks |= set(tasks)
            await asyncio.wait(tasks)

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@pytest.fixture
def name() -> str:
    return next(_names)


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A way to the shared server."""
    needs_valkey()
    made = await Proxy(single().port).start()
    yield made
    await made.close()


MakeStore = Callable[..., Any]


@pytest.fixture
async def store_at(name: str) -> AsyncIterator[MakeStore]:
    """Makes and opens stores; closes them."""
    made: list[ValkeyStore] = []

    async def make(url: str, acknowledge: Acknowledge = 0, patience: Patience = QUICK) -> ValkeyStore:
        store = ValkeyStore(url, acknowledge, name=name, patience=patience)
        made.append(store)
        await store.open()
        return store

    yield make
    for store in made:
        await store.close()


@contextlib.contextmanager
def removed(*nodes: Node) -> Iterator[None]:
    """Servers of one test, ended with it."""
    try:
        yield
    finally:
        for node in nodes:
            node.remove()


def commits(proxy: Proxy) -> int:
    return sum(data.count(COMMIT) for data in proxy.sent)


# Connections.


async def test_a_reply_that_is_lost_is_not_now(proxy: Proxy, store_at: MakeStore) -> None:
    """A commit that was done, but whose answer was lost, is NotNow and was sent once; sent again, it is as once."""
    store = await store_at(proxy.url)
    epoch = await claimed(store)
    writer = writer_of(store, epoch)
    await written(writer, group(ROW))
    before = commits(proxy)
    proxy.swallow = lambda data: COMMIT in data
    rows = group({2: (b"s", b"p")}, states={1: b"t"})
    assert isinstance(await outcome(writer, rows), NotNow)
    assert commits(proxy) == before + 1
    proxy.swallow = lambda _data: False
    await written(writer, rows)
    assert (await kept(store, epoch)).jobs == [(1, b"t", b"p"), (2, b"s", b"p")]


async def test_a_claim_whose_reply_is_lost_is_not_repeated(proxy: Proxy, store_at: MakeStore) -> None:
    """A claim that may have been granted raises NotNow; asked again by the same name, it is granted."""
    store = await store_at(proxy.url)
    proxy.swallow = lambda data: b"jo_claim" in data
    with pytest.raises(NotNow):
        await store.claim("a", "a:1", LEASE)
    proxy.swallow = lambda _data: False
    assert await claimed(store) == 2


async def test_a_connection_that_broke_is_made_again(proxy: Proxy, store_at: MakeStore) -> None:
    """When nothing was under way, a broken connection costs nobody an answer."""
    store = await store_at(proxy.url)
    epoch = await claimed(store)
    writer = writer_of(store, epoch)
    await written(writer, group(ROW))
    proxy.cut()
    while (await asyncio.gather(store.owner(), return_exceptions=True))[0] is None:
        pass
    assert isinstance(await outcome(writer, group(ROW)), NotNow | None)
    await written(writer, group(ROW))


async def test_a_half_open_connection_is_found_out(proxy: Proxy, store_at: MakeStore) -> None:
    """A server that takes everything and says nothing fails commits and questions in their time, and is found again after it."""
    store = await store_at(proxy.url)
    epoch = await claimed(store)
    writer = writer_of(store, epoch)
    await written(writer, group(ROW))
    proxy.silent = True
    assert isinstance(await outcome(writer, group(ROW)), NotNow)
    for asked in (store.owner(), store.renew(epoch, LEASE), store.rows(epoch), store.now()):
        with pytest.raises(NotNow):
            await asked
    proxy.silent = False
    await written(writer, group(ROW))
    await store.renew(epoch, LEASE)


async def test_nobody_there_is_not_now(store_at: MakeStore) -> None:
    """Where nobody listens, opening is NotNow and names the place."""
    with pytest.raises(NotNow, match=r"127\.0\.0\.1:1: cannot connect"):
        await store_at("valkey://127.0.0.1:1")


async def test_closing_ends_what_is_under_way(proxy: Proxy, store_at: MakeStore) -> None:
    """Closing a store answers the commit that is under way, and leaves no task behind."""
    store = await store_at(proxy.url)
    writer = writer_of(store, await claimed(store))
    await written(writer, group(ROW))
    arrived = asyncio.Event()
    proxy.silent = True
    proxy.swallow = lambda data: bool(arrived.set()) and COMMIT in data
    waiting = asyncio.ensure_future(outcome(writer, group(ROW)))
    await arrived.wait()
    await store.close()
    assert isinstance(await waiting, NotNow)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in others if "valkey_" in str(task.get_coro())]


async def test_what_was_left_in_a_buffer_does_no_harm(proxy: Proxy, store_at: MakeStore) -> None:
    """A commit that arrives after the one sent in its place is refused by the store, though its epoch is the right one."""
    store = await store_at(proxy.url)
    epoch = await claimed(store)
    writer = writer_of(store, epoch)
    await written(writer, group({1: (b"old", b"p")}))
    stale = next(data for data in proxy.sent if COMMIT in data)
    await written(writer, group(states={1: b"new"}))
    reader, other = await asyncio.open_connection("127.0.0.1", single().port)
    other.write(stale)
    assert (await reader.readline()).startswith(b"-PAST 2")
    other.close()
    assert (await kept(store, epoch)).jobs == [(1, b"new", b"p")]


async def test_functions_that_are_gone_are_brought_again(store_at: MakeStore) -> None:
    """A primary without the functions, as one that joined since, is given them, and the commit goes on."""
    needs_valkey()
    node = Node()
    with removed(node):
        store = await store_at(node.url)
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        for ask in (lambda: written(writer, group(ROW)), lambda: store.renew(epoch, LEASE)):
            node.tell("FUNCTION", "FLUSH")
            await ask()
        assert b"jqown1" in str(node.tell("FUNCTION", "LIST")).encode()


# Replicas.


async def test_fewer_replicas_than_asked_for_is_not_now(store_at: MakeStore) -> None:
    """A commit that too few replicas have is not acknowledged; once they are back, the group is, and is there once."""
    needs_valkey()
    primary, replica = with_replicas(1)
    with removed(primary, replica):
        for node in (primary, replica):
            node.tell("CONFIG", "SET", "min-replicas-to-write", 1)
        store = await store_at(primary.url, 1)
        primary.tell("CONFIG", "SET", "min-replicas-to-write", 0)
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        await written(writer, group(ROW))
        replica.stop()
        error = await outcome(writer, group({2: (b"s", b"p")}))
        assert isinstance(error, NotNow)
        assert "0 of 1 replicas have it" in str(error)
        with pytest.raises(NotNow, match="0 of 1 replicas"):
            await store.claim("a", "a:1", LEASE)
        replica.go_on()
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        await written(writer, group({2: (b"s", b"p")}))
        assert [number for number, _, _ in (await kept(store, epoch)).jobs] == [1, 2]


async def test_a_replica_that_was_made_primary_is_found(store_at: MakeStore) -> None:
    """Without a cluster: the old primary is a replica now and says READONLY; what was not done there is done at the new one."""
    needs_valkey()
    one, two = with_replicas(1)
    with removed(one, two):
        store = await store_at(f"{one.url},127.0.0.1:{two.port}")
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        await written(writer, group(ROW))
        in_step(one, 1)
        two.tell("REPLICAOF", "NO", "ONE")
        one.tell("REPLICAOF", "127.0.0.1", two.port)
        await written(writer, group({2: (b"s", b"p")}))
        await store.renew(epoch, LEASE)
        assert [number for number, _, _ in (await kept(store, epoch)).jobs] == [1, 2]


@pytest.mark.parametrize("finder", ["commit", "renewal"])
async def test_what_a_failover_forgot_is_sent_again(store_at: MakeStore, finder: str) -> None:
    """A new primary that lacks acknowledged commits is given them, in order, by the next commit or renewal."""
    needs_valkey()
    one, two = with_replicas(1)
    with removed(one, two):
        store = await store_at(f"{one.url},127.0.0.1:{two.port}")
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        await written(writer, group({1: (b"s", b"p")}))
        in_step(one, 1)
        # Not stopped: it would find in its buffers what was sent to it meanwhile.
        two.tell("REPLICAOF", "NO", "ONE")
        for number in (2, 3):
            await written(writer, group({number: (b"s", b"p")}, states={1: b"s%d" % number}))
        one.kill()
        assert two.tell("HGET", f"{store._keys}o", "change") == b"1"
        if finder == "commit":
            while isinstance(await outcome(writer, group({4: (b"s", b"p")})), NotNow):
                pass
        else:
            renewed = False
            while not renewed:
                with contextlib.suppress(NotNow):
                    await store.renew(epoch, LEASE)
                    renewed = True
            await asyncio.gather(*writer._tasks)
            assert two.tell("HGET", f"{store._keys}o", "change") == b"3"
        found = (await kept(store, epoch)).jobs
        assert found == [(number, b"s3" if number == 1 else b"s", b"p") for number in range(1, 5 if finder == "commit" else 4)]


async def test_what_nobody_has_any_more_ends_the_owner(store_at: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the store lost acknowledged commits that are no longer kept, the owner stops rather than leave a hole."""
    monkeypatch.setattr("jobqueue.backend.store.valkey_writer.REDO_BYTES_MAX", 0)
    needs_valkey()
    node = single()
    store = await store_at(node.url)
    writer = writer_of(store, await claimed(store))
    for number in (1, 2, 3):
        await written(writer, group({number: (b"s", b"p")}))
    node.tell("HSET", f"{store._keys}o", "change", 1)
    error = await outcome(writer, group({4: (b"s", b"p")}))
    assert isinstance(error, Fatal)
    assert "has lost" in str(error)


async def test_a_claim_that_a_failover_forgot_is_fenced(store_at: MakeStore) -> None:
    """When the next claim is given the same epoch, since a failover forgot this one, the two are told apart all the same."""
    needs_valkey()
    node = single()
    one, other = await store_at(node.url), await store_at(node.url)
    epoch = await claimed(one)
    writer = writer_of(one, epoch)
    node.tell("DEL", f"{one._keys}o")
    assert await claimed(other, "b") == epoch
    assert isinstance(await outcome(writer, group(ROW)), Fenced)
    with pytest.raises(Fenced):
        await one.renew(epoch, LEASE)


async def test_large_groups_in_parts_are_one(store_at: MakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of more rows than one call takes is committed in one transaction, and refused as one."""
    monkeypatch.setattr("jobqueue.backend.store.valkey_writer.PART_ROWS", 3)
    needs_valkey()
    one, other = await store_at(single().url), await store_at(single().url)
    epoch = await claimed(one)
    writer = writer_of(one, epoch)
    await written(writer, group(dict.fromkeys(range(1, 11), (b"s", b"p")), queues={"q": b"row"}))
    await written(writer, group(states={1: b"t"}))
    assert [number for number, _, _ in (await kept(one, epoch)).jobs] == list(range(1, 11))
    single().tell("HSET", f"{one._keys}o", "change", 0)
    await written(writer, group(dict.fromkeys(range(11, 21), (b"s", b"p"))))
    found = await kept(one, epoch)
    assert [(number, state) for number, state, _ in found.jobs] == [(number, b"t" if number == 1 else b"s") for number in range(1, 21)]
    await claimed(other, "b", force=True)
    assert isinstance(await outcome(writer, group(gone=tuple(range(1, 11)))), Fenced)


# A cluster.


def replicas_of(node: Node) -> list[bytes]:
    """The lines of replicas in what a node knows."""
    return [line for line in node.tell("CLUSTER", "NODES").splitlines() if b"slave " in line]


async def test_a_cluster_whose_primary_moves_and_stops(store_at: MakeStore) -> None:
    """When a replica takes over by agreement, MOVED is followed and no commit fails. When the primary stands still, its commit is given
    up, the one that takes over is found, and nothing acknowledged is lost; when the old one wakes, what it has in its buffers does no harm.
    """
    needs_valkey()
    nodes = cluster(replicas=1)
    with removed(*nodes):
        store = await store_at(",".join([nodes[0].url, *(f"127.0.0.1:{node.port}" for node in nodes[1:])]))
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        await written(writer, group({1: (b"s", b"p")}))
        await store.announce("a", "a:1")
        place = store._link.primary(slot_of(store._keys))
        first = next(node for node in nodes if node.port == place.port)
        in_step(first, 1)
        primary = first.tell("CLUSTER", "MYID")
        replica = next(node for node in nodes if any(b"myself" in line and primary in line for line in replicas_of(node)))
        replica.tell("CLUSTER", "FAILOVER")
        until("the replica took over", lambda: str(first.ask("HLEN", f"{store._keys}o")).startswith("MOVED"))
        for number in (11, 12):
            await written(writer, group({number: (b"s", b"p")}))
        await store.renew(epoch, LEASE)
        in_step(replica, 1)
        stopped = replica
        stopped.stop()
        rows = group({2: (b"s", b"p")}, states={1: b"t"})
        while isinstance(error := await outcome(writer, rows), NotNow):
            pass
        assert error is None
        stopped.go_on()
        await written(writer, group({3: (b"s", b"p")}))
        await store.renew(epoch, LEASE)
        assert [job[:2] for job in (await kept(store, epoch)).jobs] == [(1, b"t"), (2, b"s"), (3, b"s"), (11, b"s"), (12, b"s")]
        assert [member.name for member in await store.announce("a", "a:1")] == ["a"]
