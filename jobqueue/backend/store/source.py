"""The link of a server, or of another program that may connect, that follows the owner's commits (feed.py)."""

from __future__ import annotations

from typing import Any, Protocol

from jobqueue.backend.following import RowChanges
from jobqueue.backend.store import messages as m
from jobqueue.backend.store.frames import Identity
from jobqueue.backend.store.front import FrontLink
from jobqueue.backend.store.remote import RemoteBackend
from jobqueue.clock import Clock
from jobqueue.limits import Limits


class Ear(Protocol):
    """The receiver of the groups. Called in the loop, in order; it must not wait."""

    def handed(self, number: int, changes: RowChanges) -> None:
        """A group is about to be committed."""

    def committed(self, number: int) -> None:
        """The group of this number is committed. Earlier groups are too, or everything that they held is in it."""

    def over(self, reason: str) -> None:
        """There will be no more groups. Can be called twice."""


class Source(Protocol):
    """The connection of a follower to one owner. Every error that it raises is a QueueError: Moved if the owner cannot be reached."""

    async def follow(self, ear: Ear, standby: bool) -> tuple[str, int]:
        """Receive all groups from now on; call this once. Returns the reign, and the number of the group before the first. Groups can come
        before this returns. standby: follow in order to take over, which is refused (StorageUnavailable) while another follower does.
        """

    async def mark(self) -> int:
        """The number of the last group that the owner has handed to its writer; by then the follower has received it."""

    def tell(self, behind: int, warm: bool) -> None:
        """Report the follower's state."""

    async def close(self) -> None:
        """Stop following."""


class FollowLink(FrontLink):
    """A link on which groups arrive without being requested."""

    def __init__(self, identity: Identity, limits: Limits, clock: Clock, address: str, partition: int = 0) -> None:
        super().__init__(identity, limits, clock, address, partition=partition)
        self.ear: Ear | None = None
        self.follows = 0
        """The number of the request to follow."""
        self._part = RowChanges()

    def got(self, message: Any) -> None:
        """See Link."""
        kind, ear = type(message), self.ear
        if ear is not None and message.n == self.follows:
            if kind is m.GotGroup:
                part = RowChanges(message.states, message.payloads, message.queues, message.counters)
                if self._part:
                    self._part.add(part)
                    part = self._part
                if message.more:
                    self._part = part
                else:
                    self._part = RowChanges()
                    ear.handed(message.number, part)
                return
            if kind is m.GotCommitted:
                ear.committed(message.number)
                return
            if kind is m.Failed and message.n not in self.asked:
                ear.over(message.error.detail)
                return
        super().got(message)

    def lost(self, reason: str) -> None:
        """See Link."""
        super().lost(reason)
        if self.ear is not None:
            self.ear.over(reason)


class LinkSource(RemoteBackend):
    """A Source over its own link: groups must not delay requests, and requests must not delay groups."""

    def _new_link(self, address: str) -> FollowLink:
        return FollowLink(self.identity, self.limits, self.clock, address, self.partition)

    async def follow(self, ear: Ear, standby: bool) -> tuple[str, int]:
        """See Source."""
        link = await self._linked()
        assert isinstance(link, FollowLink)
        link.ear, link.follows = ear, link.newest + 1
        answer = await link.ask(m.GotFollowing, m.FOLLOW, standby)
        return answer.reign, answer.number

    async def mark(self) -> int:
        """See Source."""
        return (await self._ask(m.GotCount, m.MARK)).count

    def tell(self, behind: int, warm: bool) -> None:
        """See Source."""
        link = self.link
        if isinstance(link, FollowLink):
            link.send((m.FOLLOWED, link.follows, behind, warm))
