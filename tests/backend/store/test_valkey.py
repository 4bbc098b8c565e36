"""ValkeyStore on one server: the rules of every Store, damage, and messages."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Literal

import pytest

from jobqueue.backend.store.store import Store
from jobqueue.backend.store.valkey import ValkeyStore, ValkeyStores
from tests.valkey import Node, needs_valkey, no_servers_left, single

from .contract import MakeStore, StoreContract
from .contract_set import MakeSet, StoreSetContract

__all__ = ["no_servers_left"]

_names = (f"t{number}-" for number in itertools.count())


@pytest.fixture
def node() -> Node:
    """The shared server."""
    needs_valkey()
    return single()


@pytest.fixture
def name() -> str:
    """What the test's own keys begin with."""
    return next(_names)


@pytest.fixture
async def make_store(node: Node, name: str) -> AsyncIterator[MakeStore]:
    """Makes and opens stores at the test's own place; closes them."""
    made: list[Store] = []

    async def make() -> Store:
        store = ValkeyStore(node.url, 0, name=name)
        made.append(store)
        await store.open()
        return store

    yield make
    for store in made:
        await store.close()


@pytest.fixture
async def make_set(node: Node, name: str) -> AsyncIterator[MakeSet]:
    """Makes stores of several partitions at the test's own place; closes them."""
    made: list[ValkeyStores] = []

    async def make(partitions: int | Literal["unopened"] | None) -> ValkeyStores:
        stores = ValkeyStores(node.url, 0, name=name)
        made.append(stores)
        if partitions != "unopened":
            await stores.open(partitions)
        return stores

    yield make
    for stores in made:
        await stores.close()


class TestContract(StoreContract):
    """What every store must pass."""


class TestPartition(StoreContract):
    """Each partition is a store."""

    @pytest.fixture
    def make_store(self, make_set: MakeSet) -> MakeStore:
        async def make() -> Store:
            return (await make_set(3))[2]

        return make


class TestStores(StoreSetContract):
    """What every store of several partitions must pass."""
