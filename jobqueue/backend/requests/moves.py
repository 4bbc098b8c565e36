"""The request with which a server asks the owner of a partition for it, in order to spread the partitions evenly (store/balancing.py)."""

from __future__ import annotations

from jobqueue.backend.requests.request import BetweenServers, Owner
from jobqueue.errors import StorageUnavailable


class GivePartition(BetweenServers[bool], frozen=True, tag="partitions.give"):
    """End all running operations, commit them, and leave the partition to the server `to`, which claims it when it gets the answer.

    epoch: that of the owner who is asked. The owner keeps its lease in the store until then, so that no other server can claim meanwhile.
    Raises StorageUnavailable if the owner does not agree, Moved if it is not the owner of that epoch. What carries it out is the ownership
    of a server on a store, not a queue.
    """

    to: str
    epoch: int

    async def serve(self, owner: Owner) -> bool:
        raise StorageUnavailable("no other server can have what this one holds by itself")


MOVES = (GivePartition,)
