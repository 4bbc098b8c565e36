"""A store of several partitions: what they have in common, and the place of each.

The number of partitions is P. It is fixed when the store is made and kept there, since it decides in which partition each row is. Each
partition has its own owner, epoch, rows, counters and numbers of changes; nothing that is done to one touches another. The servers that use
a store are listed once, for all partitions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from jobqueue.backend.group import NotNow
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.store.store import Member, Owner, Store


class StoreSet(Protocol):
    """All partitions of one store. Methods have deadlines and raise NotNow as those of a Store do."""

    @property
    def path(self) -> str:
        """Its name in messages and /stats: its URL without a password. Each partition's Store has the same."""

    @property
    def partitions(self) -> int:
        """P, once `open` or `inspect` has returned; RuntimeError before."""

    async def open(self, partitions: int | None = None) -> None:
        """Connect, check version, settings and rights, and upgrade what we install there, for all partitions.

        partitions: P, for a new store; a store that exists must have that many. None takes the number that the store has, and 1 for a new
        store. Raises NotNow; CannotOpen, also if the store was made with another number.
        """

    async def inspect(self) -> None:
        """Check what `open` checks, and change nothing. Raises NotNow; CannotOpen, also if no server has used it yet."""

    def __getitem__(self, index: int) -> Store:
        """A partition, the same object each time. It is open from the beginning, and is closed with the set; if it alone is closed, the
        others are not. What it says of members and time is that of the set. Raises IndexError, also before `open`.
        """

    def __iter__(self) -> Iterator[Store]:
        """All partitions in order."""

    async def owners(self) -> list[Owner | NotNow | None]:
        """The owner of each partition, in order, as Store.owner says it; NotNow for a partition whose place cannot answer now. Never raises
        NotNow.
        """

    async def announce(self, name: str, address: str) -> list[Member]:
        """Announce a server. Returns every server that was announced in the last minute, including this one. Raises NotNow."""

    async def members(self) -> list[Member]:
        """The servers that announced themselves in the last minute. Raises NotNow."""

    async def depart(self, name: str) -> None:
        """Take a server off the list. Raises NotNow."""

    async def now(self) -> float:
        """The store's wall clock: seconds since the epoch, UTC. In a store of several machines it is that of one of them. Raises NotNow."""

    async def close(self) -> None:
        """Close every connection, and with them each partition. Calling it again has no effect."""


def other_number(path: str, there: int, asked: int) -> CannotOpen:
    """The error of a server that asks for another number of partitions than the store has."""
    return CannotOpen(
        f"{path}: was made with --partitions {there}, and cannot be used with --partitions {asked}: give {there}, or leave it out. To "
        "change the number, copy the jobs to a new store: jobqueue backup, then jobqueue restore with --partitions"
    )
