"""The store of these tests is one: it keeps the rules of the protocol."""

from __future__ import annotations

import pytest

from jobqueue.backend.store.store import Store
from jobqueue.clock import SystemClock

from .contract import MakeStore, StoreContract
from .memory import MemoryStore, Shared


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def make_store(self) -> MakeStore:
        shared = Shared(SystemClock())

        async def make() -> Store:
            return MemoryStore(shared)

        return make
