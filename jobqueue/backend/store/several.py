"""All partitions of one server: each has its own backend, ownership and standby; membership and balancing are common to them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from jobqueue.backend.store.balancing import Balancing
from jobqueue.backend.store.cluster import ClusterBackend
from jobqueue.backend.store.membership import Membership


class Several:
    """backends: of all partitions, in order; their ownerships share the membership. Closing it leaves the store open."""

    def __init__(self, membership: Membership, backends: Sequence[ClusterBackend]) -> None:
        self.membership = membership
        self.backends = list(backends)
        self.balancing = Balancing(membership, self.backends)

    def start(self) -> None:
        """Take part. Needs a running loop and an open store."""
        self.membership.start()
        for backend in self.backends:
            backend.ownership.start()
        self.balancing.start()

    def owns(self, partition: int) -> bool:
        """Whether this server serves a partition as its owner."""
        return self.backends[partition].ownership.reign is not None

    async def handed_over(self) -> None:
        """Hand over all partitions that this server owns, a few at a time; return when it owns none."""
        await self.balancing.close()
        await asyncio.gather(*(backend.ownership.handed_over() for backend in self.backends))

    async def close(self) -> None:
        """Hand over, close all backends, and take this server off the list of members."""
        await self.handed_over()
        await asyncio.gather(*(backend.close() for backend in self.backends))
        await self.membership.close()
