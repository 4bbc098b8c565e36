"""Drops claims whose jobs are gone. The server that owns a home does this for the home's claims, a slice at a time.

A claim is looked at once it is old enough that its job was made, if it ever was. Nothing depends on that: its partition refuses whatever
comes later, and the enqueue claims anew.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from jobqueue.backend.base import Backend
from jobqueue.backend.requests.claims import Drop, DropClaims, ListClaims, Listed, VoidClaims
from jobqueue.backend.store.signals import Signal
from jobqueue.clock import Clock
from jobqueue.errors import QueueError

AGE_SECONDS = 60.0
"""How old a claim is at least before its job is asked after."""

SLICE = 500
"""Claims looked at in one step."""

STEP_SECONDS, HASTE_SECONDS, REST_SECONDS = 0.25, 0.02, 30.0
"""The time until the next step: usually, after one that dropped at least a tenth of what it looked at, and after a pass over all claims of
a home. History forgets the oldest jobs first, so what can be dropped lies together; claims have to be dropped faster than clients can make
them, or they would reach their bound."""

_MARK_SECONDS = 1.0
"""How exactly the age of claims is known."""

_logger = logging.getLogger("jobqueue.queue")


class Sweep:
    """The passes over the claims of one home."""

    def __init__(self, home: int, partitions: Sequence[Backend]) -> None:
        self._home = home
        self._partitions = partitions
        self._skip = 0
        self._marks: deque[tuple[float, int]] = deque()
        """Times, and the numbers from which on claims were made after that."""
        self._below = 0

    async def step(self, now: float) -> float:
        """Look at some claims, at the engine time `now`. Returns after how many seconds to call it again. Raises the errors of requests."""
        while self._marks and self._marks[0][0] <= now - AGE_SECONDS:
            self._below = self._marks.popleft()[1]
        home = self._partitions[self._home]
        page = await home.ask(ListClaims(below=self._below, skip=self._skip, limit=SLICE))
        if not self._marks or self._marks[-1][0] <= now - _MARK_SECONDS:
            self._marks.append((now, page.next_number))
        drops: list[Drop] = []
        for index in sorted({claim.partition for claim in page.claims}):
            drops += await self._void(index, [claim for claim in page.claims if claim.partition == index])
        dropped = await home.ask(DropClaims(claims=tuple(drops))) if drops else 0
        if len(page.claims) < SLICE:
            self._skip = 0
            return REST_SECONDS
        self._skip += SLICE - dropped
        return HASTE_SECONDS if dropped >= SLICE // 10 else STEP_SECONDS

    async def _void(self, index: int, claims: Sequence[Listed]) -> list[Drop]:
        """The void ones of the claims of one partition."""
        request = VoidClaims(home=self._home, ids=tuple(claim.id for claim in claims), below=1 + max(claim.number for claim in claims))
        voided = await self._partitions[index].ask(request)
        return [Drop(claim.id, claim.number) for claim, known in zip(claims, voided.known, strict=True) if not known]


class Sweeping:
    """Sweeps the homes that this server owns. owns: whether it owns a partition now."""

    def __init__(self, partitions: Sequence[Backend], owns: Callable[[int], bool], clock: Clock) -> None:
        self._owns = owns
        self._clock = clock
        self._sweeps = [Sweep(home, partitions) for home in range(len(partitions))]
        self._due = [0.0] * len(partitions)
        self._signal = Signal(clock)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self.turn()
            await self._signal.wait(max(min(self._due), self._clock.now() + HASTE_SECONDS))

    async def turn(self) -> None:
        """Take a step in each home in which one is due."""
        for home, sweep in enumerate(self._sweeps):
            now = self._clock.now()
            if now < self._due[home]:
                continue
            if not self._owns(home):
                self._due[home] = now + REST_SECONDS
                continue
            try:
                self._due[home] = now + await sweep.step(now)
            except QueueError as error:
                # The partition that was asked has no owner now, or drains.
                self._due[home] = now + REST_SECONDS
                _logger.debug("claims of partition %d are not swept now: %s", home, error)
