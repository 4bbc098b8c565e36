"""ValkeyStore on one server: the rules of every Store, damage, and messages."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator

import pytest

from jobqueue.backend.store.store import Store
from jobqueue.backend.store.valkey import ValkeyStore
from tests.valkey import Node, needs_valkey, no_servers_left, single

from .contract import MakeStore, StoreContract

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


class TestContract(StoreContract):
    """What every store must pass."""
