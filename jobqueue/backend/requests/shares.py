"""What the owner of the first partition asks the others, to move shares of the server's bounds to where they are needed.

A share that has become smaller is answered only when it is in force, and no share becomes larger before that: see backend/store/sharing.py.
Shares are in memory only, see engine/shares.py.
"""

from __future__ import annotations

import msgspec

from jobqueue.backend.requests.request import BetweenServers, Owner
from jobqueue.engine.engine import Engine
from jobqueue.engine.shares import Share

Turn = tuple[int, int]
"""Which request is newer: the epoch of the owner that sends it, then a number that this owner counts. Older ones have no effect."""


class Held(msgspec.Struct, frozen=True):
    """A partition's share, and how much of it is in use: by live jobs, and by what takes room from them."""

    share: Share
    used: Share


def used(engine: Engine) -> Share:
    """How much of the share is in use."""
    share = engine.share
    return Share(share.jobs - engine.jobs_max + engine.live, share.bytes - engine.bytes_max + engine.live_bytes)


def set_share(engine: Engine, share: Share) -> None:
    """Set the share, but not below what is in use, which always stays."""
    least, before = used(engine), engine.share
    share = engine.share = Share(max(share.jobs, least.jobs), max(share.bytes, least.bytes))
    engine.jobs_max += share.jobs - before.jobs
    engine.bytes_max += share.bytes - before.bytes


def _held(owner: Owner) -> Held:
    return Held(owner.engine.share, used(owner.engine))


class GetShare(BetweenServers[Held], frozen=True, tag="shares.get"):
    """The partition's share. From then on, requests with an older turn have no effect."""

    turn: Turn

    async def serve(self, owner: Owner) -> Held:
        owner.engine.share_turn = max(owner.engine.share_turn, self.turn)
        return _held(owner)


class SetShare(BetweenServers[Held], frozen=True, tag="shares.set"):
    """Set the partition's share, but not below what is in use. Answers what it is then."""

    turn: Turn
    share: Share

    async def serve(self, owner: Owner) -> Held:
        engine = owner.engine
        if self.turn >= engine.share_turn:
            engine.share_turn = self.turn
            set_share(engine, self.share)
        return _held(owner)


SHARES = (GetShare, SetShare)
