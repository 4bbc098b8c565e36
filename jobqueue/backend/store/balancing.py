"""Moves partitions, one at a time, until all servers own equally many: the part of one server in it. balance.py decides what moves.

The server that is to have a partition acts. It first follows the owner as its standby, if it does so at all, so that clients wait only for
moments; then it asks the owner, which agrees if it sees the same; then it claims. Before that it asks the owners of all partitions whether
they serve.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from functools import partial

from jobqueue.backend.requests.moves import GivePartition
from jobqueue.backend.store.balance import Move, View, follows_rather, next_move
from jobqueue.backend.store.cluster import ClusterBackend
from jobqueue.backend.store.membership import Membership
from jobqueue.backend.store.signals import Signal
from jobqueue.errors import QueueError

_logger = logging.getLogger("jobqueue.cluster")

LOOK_SECONDS = 1.0
"""How often a server looks whether a partition should move to it."""

WARM_SECONDS = 60.0
"""How long a partition that is to move waits for its next owner to be warm. After that it moves, and the next owner reads the rows."""

STUCK_SECONDS = 120.0
"""How long a move can be due before the server that does not make it is left out: perhaps its clock is wrong, or it cannot be reached."""

CLAIM_SECONDS = 5.0
"""How long a claim can take before the next look."""


class Balancing:
    """backends: of all partitions, in order."""

    def __init__(self, membership: Membership, backends: Sequence[ClusterBackend]) -> None:
        self._membership = membership
        self._backends = backends
        self._clock = membership.clock
        self._due: Move | None = None
        self._due_since = 0.0
        self._left_out: set[str] = set()
        """Members to which a move has been due for too long, since the last change of members."""
        self._left_out_at = membership.changed_at
        self._task: asyncio.Task[None] | None = None
        for index, backend in enumerate(backends):
            backend.ownership.agrees = partial(self._agrees, index)
            backend.ownership.prefers = partial(self._prefers, index)

    def start(self) -> None:
        """Take part from now on. Needs a running loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Move nothing any more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def view(self) -> View:
        """What this server knows of all of them."""
        membership = self._membership
        members = [name for name in membership.since if name not in self._left_out]
        return View(self._clock.now(), membership.changed_at, members, [_owner(backend) for backend in self._backends])

    def _agrees(self, index: int, name: str) -> bool:
        move = next_move(self.view())
        return move is not None and (move.partition, move.target) == (index, name)

    def _prefers(self, index: int, name: str, other: str) -> bool:
        return follows_rather(self.view(), index, name, other)

    async def _run(self) -> None:
        while True:
            await Signal(self._clock).wait(self._clock.now() + LOOK_SECONDS)
            move = self._look()
            if move is not None and move.target == self._membership.name:
                try:
                    await self._fetch(move)
                except QueueError as error:
                    _logger.debug("partition %d does not move yet: %s", move.partition, error)
                except Exception:
                    # A defect. The partition is served where it is.
                    _logger.exception("partition %d does not move", move.partition)

    def _look(self) -> Move | None:
        """The move that is due, if any."""
        now = self._clock.now()
        if self._membership.changed_at != self._left_out_at:
            self._left_out_at = self._membership.changed_at
            self._left_out.clear()
        move = next_move(self.view())
        if move != self._due:
            self._due, self._due_since = move, now
        elif move is not None and now - self._due_since >= STUCK_SECONDS:
            _logger.warning("partition %d does not move to %s, which is left out", move.partition, move.target)
            self._left_out.add(move.target)
            self._due = None
        return self._due

    async def _fetch(self, move: Move) -> None:
        """Have a partition move to this server, if it is ready and all partitions are served. Raises QueueError."""
        backend = self._backends[move.partition]
        ownership = backend.ownership
        if ownership.leaving or ownership.problem is not None:
            return
        standby = ownership.standby
        if standby is not None and not standby.warm and self._clock.now() < self._due_since + WARM_SECONDS:
            standby.hurry()
            return
        await asyncio.gather(*(each.check() for each in self._backends))
        owner, target = ownership.owner, backend.target()
        if owner is None or owner.name != move.source or target is None or next_move(self.view()) != move:
            return
        _logger.info("partition %d moves here from %s", move.partition, move.source)
        await target.ask(GivePartition(to=self._membership.name, epoch=owner.epoch))
        ownership.take(owner.epoch)
        until = self._clock.now() + CLAIM_SECONDS
        while ownership.reign is None and self._clock.now() < until:
            await ownership.changed.wait(until)


def _owner(backend: ClusterBackend) -> str | None:
    """The owner of a partition, as far as this server knows; None if it does not serve."""
    ownership = backend.ownership
    owner = ownership.owner
    if ownership.reign is not None:
        return ownership.name
    if owner is None or owner.name == ownership.name or backend.lease_left <= 0:
        return None
    return owner.name
