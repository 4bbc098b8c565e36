"""Moving shares of the server's bounds between partitions, once a second, by the owner of the first one.

Each turn reads all shares and what is used of them. If a partition is nearly full, or room is not given to anybody, the room that nobody
uses is divided anew: shares are made smaller first, and only what was given up is added to others. So the shares never add up to more than
the bound, whatever is lost on the way; at worst some room belongs to nobody until the next turn.

A partition that cannot be asked keeps what it had. If that is not known, no share becomes larger in this turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from jobqueue.backend.base import Backend
from jobqueue.backend.requests.shares import GetShare, Held, SetShare
from jobqueue.backend.store.signals import Signal
from jobqueue.clock import Clock
from jobqueue.engine.shares import Share, base, whole
from jobqueue.errors import QueueError
from jobqueue.limits import Limits

TURN_SECONDS = 1.0
"""How often shares move."""

HOT = 0.9
"""A partition that uses this part of its share needs more."""

SPARE = 0.99
"""If less than this part of the bound belongs to somebody, the rest is given out."""


def divided(total: int, least: int, shares: Sequence[int], used: Sequence[int]) -> list[int]:
    """New shares, from what the partitions have and use: each keeps what it uses and at least `least`; the rest goes to those that are
    nearly full, in proportion to their shares, or is divided equally if none is.
    """
    keep = [max(least, each) for each in used]
    room = max(0, total - sum(keep))
    weights = [max(1, share) if hot else 0 for share, hot in zip(shares, _hot(shares, used), strict=True)]
    if not any(weights):
        weights = [1] * len(shares)
    summed = sum(weights)
    return [kept + room * weight // summed for kept, weight in zip(keep, weights, strict=True)]


def _hot(shares: Sequence[int], used: Sequence[int]) -> list[bool]:
    return [use >= HOT * share for share, use in zip(shares, used, strict=True)]


def due(total: int, shares: Sequence[int], used: Sequence[int]) -> bool:
    """Whether the shares should be divided anew."""
    return sum(shares) < SPARE * total or any(_hot(shares, used)) or sum(shares) > total


class Sharing:
    """Divides the bounds in `limits` between the partitions. epoch: of the owner of the first partition, who does this."""

    def __init__(self, backends: Sequence[Backend], limits: Limits, epoch: int = 0) -> None:
        self._backends = backends
        self._whole = whole(limits)
        self._base = base(limits, len(backends))
        self._epoch = epoch
        self._count = 0
        self._known: dict[int, Share] = {}
        """The shares of partitions as they last said."""

    async def turn(self) -> None:
        """Move shares once. Partitions that cannot be asked are left as they are."""
        self._count += 1
        turn = (self._epoch, self._count)
        held = await self._all({index: GetShare(turn=turn) for index in range(len(self._backends))})
        if len(self._known) < len(self._backends):
            return
        before = {index: each.share for index, each in held.items()}
        wanted = self._wanted(held)
        # First what becomes smaller.
        smaller = {index: Share(min(new.jobs, before[index].jobs), min(new.bytes, before[index].bytes)) for index, new in wanted.items()}
        await self._all({index: SetShare(turn=turn, share=share) for index, share in smaller.items() if share != before[index]})
        jobs = self._whole.jobs - sum(share.jobs for share in self._known.values())
        size = self._whole.bytes - sum(share.bytes for share in self._known.values())
        larger: dict[int, Share] = {}
        for index, new in wanted.items():
            has = self._known[index]
            more = Share(min(max(0, new.jobs - has.jobs), max(0, jobs)), min(max(0, new.bytes - has.bytes), max(0, size)))
            if any(more):
                jobs, size = jobs - more.jobs, size - more.bytes
                larger[index] = Share(has.jobs + more.jobs, has.bytes + more.bytes)
        # Counted as given before it is known to have arrived.
        self._known |= larger
        await self._all({index: SetShare(turn=turn, share=share) for index, share in larger.items()})

    def _wanted(self, held: dict[int, Held]) -> dict[int, Share]:
        """The new shares of those that could be asked."""
        order = list(held)
        elsewhere = [share for index, share in self._known.items() if index not in held]
        divisions = []
        for name in Share._fields:
            total = getattr(self._whole, name) - sum(getattr(share, name) for share in elsewhere)
            shares = [getattr(held[index].share, name) for index in order]
            used = [getattr(held[index].used, name) for index in order]
            divisions.append(divided(total, getattr(self._base, name), shares, used) if due(total, shares, used) else shares)
        return {index: Share(*amounts) for index, *amounts in zip(order, *divisions, strict=True)}

    async def _all(self, requests: dict[int, GetShare] | dict[int, SetShare]) -> dict[int, Held]:
        answers = await asyncio.gather(*(self._backends[index].ask(each) for index, each in requests.items()), return_exceptions=True)
        found: dict[int, Held] = {}
        for index, answer in zip(requests, answers, strict=True):
            if isinstance(answer, Held):
                found[index] = answer
                self._known[index] = answer.share
            elif not isinstance(answer, QueueError):
                raise answer
        return found


class Lending:
    """Runs a Sharing on the server that owns the first partition. epoch: of this server's ownership of it now, None if it is not the owner.

    A new epoch begins anew: what the partitions have is asked again before any share becomes larger.
    """

    def __init__(self, backends: Sequence[Backend], limits: Limits, epoch: Callable[[], int | None], clock: Clock) -> None:
        self._backends = backends
        self._limits = limits
        self._epoch = epoch
        self._clock = clock
        self._signal = Signal(clock)
        self._sharing: tuple[int, Sharing] | None = None

    async def run(self) -> None:
        """Move shares until cancelled."""
        while True:
            await self.turn()
            await self._signal.wait(self._clock.now() + TURN_SECONDS)

    async def turn(self) -> None:
        """Move shares once, if this server is the owner."""
        epoch = self._epoch()
        if epoch is None:
            self._sharing = None
            return
        if self._sharing is None or self._sharing[0] != epoch:
            self._sharing = epoch, Sharing(self._backends, self._limits, epoch)
        await self._sharing[1].turn()
