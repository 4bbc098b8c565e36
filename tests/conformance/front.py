"""A server of two that does not own the queue: what the suite does goes from it over a link to the owner, and from there to a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from jobqueue.backend.store.store import Store
from jobqueue.limits import Limits
from tests.backend.store.memory import MemoryStore, Shared
from tests.servers import Servers

from .rig import LocalRig, Rig


class FrontRig(LocalRig):
    """The owner and a front, whole servers but for HTTP. stores: each one's own way to the same place."""

    lease_bytes = 32
    """A front gives each dequeue that has none an attempt_id, so that it may ask again."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.limits = limits

    async def opened(self, stores: Sequence[Store]) -> Self:
        """The rig, its servers started."""
        for store in stores:
            await store.open()
        self.servers = Servers(self.limits, self.clock, stores)
        await self.servers.start()
        reign = self.servers.reign
        self.local, self.journal = reign.local, reign.journal
        self.backend = self.servers.members[1].backend  # type: ignore[assignment]
        return self

    async def idle(self) -> None:
        # Bounded, since what was on its way over a link that broke is never read.
        for _ in range(1_000):
            before, ticket = self.servers.moved, self.local.ticket
            await super().idle()
            if self.journal.unwritten_bytes:
                await self.journal.committed(self.local.ticket)
            elif self.servers.moved == before and self.local.ticket == ticket and not self.servers.under_way:
                return

    async def advance(self, seconds: float, then: Any = None) -> None:
        if then is not None:
            await super().advance(seconds, then)
            return
        for _ in range(self.STEPS):
            self.clock.advance(seconds / self.STEPS)
            await self.idle()

    async def waiters(self) -> int:
        return self.local.totals().waiters

    async def close(self) -> None:
        await super().close()
        await self.servers.close()


async def in_memory(limits: Limits) -> Rig:
    """A rig on a store in memory."""
    rig = FrontRig(limits)
    shared = Shared(rig.clock)
    return await rig.opened([MemoryStore(shared), MemoryStore(shared)])
