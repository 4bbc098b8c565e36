"""The local backend behind a link: everything the suite does goes through RemoteBackend, a real socket and PeerServer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from jobqueue.backend.local import LocalBackend
from jobqueue.backend.store.frames import Identity, Link
from jobqueue.backend.store.front import FrontLink
from jobqueue.backend.store.peer import OwnerLink, PeerServer
from jobqueue.backend.store.remote import RemoteBackend
from jobqueue.clock import ManualClock
from jobqueue.limits import Limits
from jobqueue.model import Job

from .rig import LocalRig

SECRET = "correct horse battery staple"


class Between:
    """An owner and its fronts, over socket pairs. clock: of the links alone, so that letting the engine's time pass breaks none."""

    def __init__(self, local: LocalBackend, limits: Limits) -> None:
        self.local = local
        self.limits = limits
        self.clock = ManualClock()
        self.server = PeerServer(local, Identity("owner", SECRET), limits, clock=self.clock)
        self.fronts: list[RemoteBackend] = []
        self.address: str | None = "owner:1"
        self.returned: list[Job] = []
        """Jobs that fronts had no link to refuse by."""

    def front(self, name: str = "front") -> RemoteBackend:
        """One more server that is not the owner."""
        identity, returns = Identity(name, SECRET), self.returned.extend
        made = RemoteBackend(lambda: self.address, identity, self.limits, clock=self.clock, dial=self.dial, return_jobs=returns)
        self.fronts.append(made)
        return made

    async def dial(self, factory: Callable[[], Link], address: str) -> object:
        """Connect a front."""
        loop = asyncio.get_running_loop()
        mine, theirs = socket.socketpair()
        for each in (mine, theirs):
            each.setblocking(False)
        await loop.connect_accepted_socket(self.server, theirs)
        return await loop.create_connection(factory, sock=mine)

    @property
    def links(self) -> list[FrontLink | OwnerLink]:
        """Every link that is up, both sides of each."""
        return [*self.server.links, *(link for front in self.fronts for link in front.links if link.broken is None)]

    @property
    def under_way(self) -> bool:
        """Whether anything is sent that is not read yet."""
        return any(link.unwritten_bytes for link in self.links) or sum(link.bytes_out - link.bytes_in for link in self.links) != 0

    @property
    def moved(self) -> int:
        """Grows with all that is sent."""
        return sum(link.bytes_out for link in self.links)

    async def close(self) -> None:
        """End everything."""
        for front in self.fronts:
            await front.close()
        await self.server.close()


class RemoteRig(LocalRig):
    """A front and an owner in one loop."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        assert isinstance(self.backend, LocalBackend)
        self.local = self.backend
        self.between = Between(self.local, limits)
        self.backend = self.between.front()  # type: ignore[assignment]

    async def idle(self) -> None:
        # Bounded, since what was on its way over a link that broke is never read.
        for _ in range(1_000):
            before = self.between.moved
            await super().idle()
            if self.between.moved == before and not self.between.under_way:
                return

    async def waiters(self) -> int:
        return self.local.totals().waiters

    async def close(self) -> None:
        await super().close()
        await self.between.close()
        await self.local.close()
