"""The store of these tests is one: it keeps the rules of the protocol."""

from __future__ import annotations

from typing import Literal

import pytest

from jobqueue.backend.store.store import Store
from jobqueue.clock import SystemClock

from .contract import MakeStore, StoreContract
from .contract_set import MakeSet, StoreSetContract
from .memory import MemoryStore, MemoryStores, Shared, SharedSet


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        shared = Shared(SystemClock())

        async def make() -> Store:
            return MemoryStore(shared)

        return make


class TestPartition(StoreContract):
    """Each partition is a store."""

    @pytest.fixture
    def make_store(self) -> MakeStore:
        shared = SharedSet(SystemClock())

        async def make() -> Store:
            stores = MemoryStores(shared)
            await stores.open(3)
            return stores[2]

        return make


class TestMemoryStores(StoreSetContract):
    @pytest.fixture
    def make_set(self) -> MakeSet:
        shared = SharedSet(SystemClock())

        async def make(partitions: int | Literal["unopened"] | None) -> MemoryStores:
            stores = MemoryStores(shared)
            if partitions != "unopened":
                await stores.open(partitions)
            return stores

        return make
