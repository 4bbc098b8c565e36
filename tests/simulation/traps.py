"""Kills a server in the middle of what several partitions have to do with each other: at each step of a claim, of a void, and of a move."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from jobqueue.backend.base import SentSpec
from jobqueue.backend.requests.claims import ClaimIds, DropClaims, VoidClaims
from jobqueue.engine.claims import CLAIM, FLOOR
from jobqueue.engine.events import Event

from .machines import NOWHERE

if TYPE_CHECKING:
    from .cluster import ClusterWorld
    from .member import Member

POINTS = (
    *("front asks", "front hears", "owner is asked", "owner steps", "owner answers"),
    *("owner gives", "heir claims"),
)


def of_claims(asked: Any) -> bool:
    """Whether a request is a step of an enqueue under a claim."""
    return isinstance(asked, ClaimIds | VoidClaims | DropClaims) or (isinstance(asked, SentSpec) and asked.claim > 0)


class Traps:
    """Of one world. At most one is set."""

    def __init__(self, world: ClusterWorld) -> None:
        self._world = world
        self._point: str | None = None
        self._victim: asyncio.Future[Member] | None = None

    async def set(self, point: str, seconds: float) -> Member | None:
        """Wait so long for a server to come to a point, and kill it there. Returns which; None if none came, or another trap is set."""
        if self._point is not None:
            return None
        self._point, self._victim = point, self._world.loop.create_future()
        try:
            async with asyncio.timeout(seconds):
                return await self._victim
        except TimeoutError:
            return None
        finally:
            self._point = None

    def at(self, point: str, member: Member, asked: Any = None) -> None:
        """A server is at a point. asked: the request that it has to do with; only those of claims count."""
        if self._point != point or (asked is not None and not of_claims(asked)):
            return
        if not member.gone and not member.stopping and member.machine.running and self._victim is not None and not self._victim.done():
            self._world.history.note("trapped:", member.name, point)
            # Nothing of it is sent from here on; the rest of its end waits for the end of this step.
            member.machine.dead = True
            self._world.loop.call_soon(self._dies, member, self._victim, context=NOWHERE)
            self._point = "none"

    @staticmethod
    def _dies(member: Member, victim: asyncio.Future[Member]) -> None:
        member.die()
        if not victim.done():
            victim.set_result(member)

    def appended(self, member: Member, events: Iterable[Event]) -> None:
        """An owner has made a step, which is not committed."""
        if self._point == "owner steps" and any(event.queue.startswith((CLAIM, FLOOR)) for event in events):
            self.at("owner steps", member)
