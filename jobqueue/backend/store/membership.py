"""A server's membership of its store: it announces itself once a second, learns who else is there, and compares its clock with the store's.

There is one for each server, whatever the number of partitions that it owns.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from typing import Protocol

from jobqueue.backend.group import NotNow
from jobqueue.backend.store.clocks import StoreClock
from jobqueue.backend.store.signals import Signal
from jobqueue.backend.store.store import Member
from jobqueue.clock import Clock

_logger = logging.getLogger("jobqueue.cluster")

ANNOUNCE_SECONDS = 1.0

MEMBER_SECONDS = 3.5
"""A member that has not announced itself for this long is not expected to claim."""

CLOCK_WARN_SECONDS, CLOCK_SECONDS_MAX = 0.5, 5.0
"""How far this server's UTC can be from the store's: clients see its UTC, and use it to say when a job is to run."""


class Register(Protocol):
    """What a membership needs of a store; see Store."""

    async def announce(self, name: str, address: str) -> list[Member]:
        """See Store.announce."""

    async def depart(self, name: str) -> None:
        """See Store.depart."""

    async def now(self) -> float:
        """See Store.now."""


class Membership:
    """name: unique among the servers; address: of its peer port, as others reach it."""

    def __init__(self, register: Register, name: str, address: str, clock: Clock) -> None:
        self.name = name
        self.address = address
        self.clock = clock
        self.rows_clock = StoreClock(clock)
        """The clock for times in the rows."""
        self.members: list[Member] = []
        self.seen_at = clock.now()
        """The engine time of `members`."""
        self.since: dict[str, float] = {}
        """The members that are live, and from which engine time on this server has seen them without a break."""
        self.changed_at = clock.now()
        """The engine time at which the set of live members last changed, as far as this server knows."""
        self.clock_seconds: float | None = None
        """How far this server's UTC is ahead of the store's, at least; None until they were compared."""
        self.clock_off: str | None = None
        """Why this server's clock is too far off to own anything; None if it is not."""
        self._register = register
        self._task: asyncio.Task[None] | None = None

    @property
    def started(self) -> bool:
        """Whether this server announces itself."""
        return self._task is not None

    def start(self) -> None:
        """Announce this server from now on. Needs a running loop and an open store."""
        self._task = asyncio.get_running_loop().create_task(self._announce())

    async def close(self) -> None:
        """Take this server off the list."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        try:
            await self._register.depart(self.name)
        except NotNow as error:
            _logger.info("this server stays on the list of members for a minute: %s", error)

    @property
    def present(self) -> list[str]:
        """The names of the members that are live, as they were last seen."""
        return [member.name for member in self.members if member.seconds < MEMBER_SECONDS]

    async def _announce(self) -> None:
        rounds = 0
        while True:
            due = self.clock.now() + ANNOUNCE_SECONDS
            with contextlib.suppress(NotNow):
                self.members = await self._register.announce(self.name, self.address)
                self._saw()
                if rounds % 30 == 0:
                    await self.clock_agrees()
                rounds += 1
            await Signal(self.clock).wait(due)

    def _saw(self) -> None:
        now = self.seen_at = self.clock.now()
        present = set(self.present)
        if present != self.since.keys():
            self.changed_at = now
            self.since = {name: self.since.get(name, now) for name in sorted(present)}

    async def clock_agrees(self) -> bool:
        """Whether this server's UTC is close enough to the store's to own anything. Raises NotNow."""
        before, there, after = self.clock.now(), await self._register.now(), self.clock.now()
        self.rows_clock.compared(before, after, there)
        took = after - before
        off = before + took / 2 + self.clock.skew() - there
        # The moment in that time at which the store read its clock is not known.
        certain = abs(off) - took / 2
        self.clock_seconds = math.copysign(max(0.0, certain), off)
        if certain > CLOCK_SECONDS_MAX:
            if self.clock_off is None:
                _logger.error("this server does not claim ownership: its clock is %+.1f s off the store's", off)
            self.clock_off = f"its clock is {off:+.1f} s off the store's; {CLOCK_SECONDS_MAX:g} s are allowed"
            return False
        if certain > CLOCK_WARN_SECONDS:
            _logger.warning("this server's clock is %+.1f s off the store's; from %g s on it cannot be the owner", off, CLOCK_SECONDS_MAX)
        self.clock_off = None
        return True
