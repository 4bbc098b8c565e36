"""A ValkeyStore over TLS, with servers that speak it themselves: clients' links, replication, and the cluster's own bus."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobqueue.backend.group import NotNow
from jobqueue.backend.store.valkey import ValkeyStore
from jobqueue.backend.store.valkey_wire import slot_of
from tests.valkey import Node, Tls, cluster, in_step, needs_tls, until

from .contract import LEASE, claimed, group, kept, outcome, writer_of, written

Open = Callable[..., Awaitable[ValkeyStore]]


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    needs_tls()
    return Tls(tmp_path)


@pytest.fixture
async def opened(tls: Tls) -> AsyncIterator[Open]:
    """Opens stores that believe in the servers' authority; closes them."""
    made: list[ValkeyStore] = []

    async def make(nodes: list[Node], acknowledge: Any) -> ValkeyStore:
        trusting = ssl.create_default_context(cafile=str(tls.trusted))
        store = ValkeyStore("valkeys://" + ",".join(f"127.0.0.1:{node.tls_port}" for node in nodes), acknowledge, tls=trusting)
        made.append(store)
        await store.open()
        return store

    yield make
    for store in made:
        await store.close()


async def test_a_primary_with_a_replica(tls: Tls, opened: Open) -> None:
    """Both are found and reached by TLS alone, and a commit is acknowledged by the replica."""
    primary = Node(tls, min_replicas_to_write=1)
    replica = Node(tls, replicaof=f"127.0.0.1 {primary.tls_port}", min_replicas_to_write=1)
    try:
        in_step(primary, 1)
        store = await opened([replica], 1)
        epoch = await claimed(store)
        await written(writer_of(store, epoch), group({1: (b"s", b"p")}))
        assert [job[:2] for job in (await kept(store, epoch)).jobs] == [(1, b"s")]
        stranger = ValkeyStore(f"valkeys://127.0.0.1:{primary.tls_port}", 0)
        with pytest.raises(NotNow, match="certificate"):
            await stranger.open()
        await stranger.close()
    finally:
        replica.remove()
        primary.remove()


async def test_a_cluster_whose_primary_moves_and_dies(tls: Tls, opened: Open) -> None:
    """Its nodes are found under the ports of TLS; MOVED is followed, and after a death the one that takes over is found."""
    nodes = cluster(replicas=1, tls=tls, min_replicas_to_write=0)
    try:
        store = await opened([nodes[0]], 0)
        epoch = await claimed(store)
        writer = writer_of(store, epoch)
        await written(writer, group({1: (b"s", b"p")}))
        place = store._link.primary(slot_of(store._keys))
        assert place is not None
        first = next(node for node in nodes if node.tls_port == place.port)
        in_step(first, 1)
        name = first.tell("CLUSTER", "MYID")
        replica = next(node for node in nodes if any(b"myself" in line and name in line for line in slaves(node)))
        replica.tell("CLUSTER", "FAILOVER")
        until("the replica took over", lambda: str(first.ask("HLEN", f"{store._keys}o")).startswith("MOVED"))
        await written(writer, group({2: (b"s", b"p")}))
        in_step(replica, 1)
        replica.kill()
        rows = group({3: (b"s", b"p")})
        while isinstance(error := await outcome(writer, rows), NotNow):
            pass
        assert error is None
        await store.renew(epoch, LEASE)
        assert [job[0] for job in (await kept(store, epoch)).jobs] == [1, 2, 3]
        assert {place.port for place in store._link.nodes} <= {node.tls_port for node in nodes}
    finally:
        for node in nodes:
            node.remove()


def slaves(node: Node) -> list[bytes]:
    """Lines of CLUSTER NODES about replicas."""
    return [line for line in node.tell("CLUSTER", "NODES").splitlines() if b"slave " in line]
