"""The warm standby: a server that follows the owner's groups, so that it can take over without reading a million rows.

There is one at a time. The first server in the order to claim asks the owner for it at once, the others later. The standby stays the
standby until it or the owner goes, whatever servers join meanwhile, since one that is up to date is worth more than the first in the order.

It reads all rows once, independently of the owner, and then keeps an engine up to date (following.py). In any doubt (a missing group, a
broken link, an engine that does not match) it stops: then it starts again, or a takeover reads all rows as it would without a standby.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from jobqueue.backend.following import RowChanges, Twin
from jobqueue.backend.group import Fatal, NotNow
from jobqueue.backend.loading import CannotOpen
from jobqueue.backend.rows import BadRow
from jobqueue.backend.store.signals import Signal
from jobqueue.backend.store.source import Source
from jobqueue.backend.store.store import Owner, Store
from jobqueue.clock import Clock
from jobqueue.engine.engine import Engine
from jobqueue.engine.restore import Inconsistent
from jobqueue.errors import QueueError
from jobqueue.limits import MIB

_logger = logging.getLogger("jobqueue.cluster")

AGAIN_SECONDS = 2.0
"""How soon to ask again to be the standby."""

SICK_SECONDS = 30.0
"""How soon to try again after an error: it may persist, and all rows are read each time."""

TURN_SECONDS = 1.0
"""How long each member waits for the one before it in the order to claim."""

TELL_SECONDS = 1.0
"""How often this server reports to the owner how far it is."""

HELD_BYTES_MAX = 256 * MIB
"""The most data that can wait to be applied. A standby that is further behind starts again from the rows."""

Aside = Callable[[Callable[[], None]], Awaitable[None]]
"""Runs something long without blocking the loop."""

Connect = Callable[[str], Source]
"""Makes the Source for the owner at an address. It connects by itself."""


class _Over(Exception):
    """Following has ended. str() gives the reason."""


class Standby:
    """One server's part as the standby. engine: makes an empty one; connect, aside: injected for tests.

    whom: the owner to follow now, None if there is none or this server should not follow; turn: how many servers should ask before this
    one. ended: called when the owner sends nothing more, which can be the first sign that it has ended.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        engine: Callable[[], Engine],
        connect: Connect,
        *,
        aside: Aside = asyncio.to_thread,
        again_seconds: float = AGAIN_SECONDS,
    ) -> None:
        self.whom: Callable[[], Owner | None] = lambda: None
        self.turn: Callable[[], int] = lambda: 0
        self.ended: Callable[[], object] = lambda: None
        self._store = store
        self._clock = clock
        self.rows_clock: Clock = clock
        """The clock for times in the rows."""
        self._engine = engine
        self._connect = connect
        self._aside = aside
        self._again_seconds = again_seconds
        self._twin: Twin | None = None
        self._heard: deque[tuple[int, RowChanges | None]] = deque()
        """Messages of the owner that are not handled yet: groups, and numbers of those that are committed."""
        self._heard_bytes = 0
        self._over: str | None = None
        self._wake = Signal(clock)
        self._hurry = Signal(clock)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow the current owner, if there is one. Needs a running loop."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def hurry(self) -> None:
        """Try at once, if it pauses before it tries again."""
        self._hurry.notify()

    async def close(self) -> None:
        """Stop following."""
        if self._twin is not None:
            self._twin.abandon()
        self._twin = None
        await self._stop()

    async def _stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def warm(self) -> bool:
        """Whether there is an engine that has followed everything so far."""
        return self._twin is not None and self._twin.loaded

    @property
    def behind(self) -> int:
        """Groups that it has received and not applied."""
        return 0 if self._twin is None else self._twin.behind + sum(changes is not None for _, changes in self._heard)

    async def take(self) -> Twin | None:
        """Stop following, and hand out the result; None if that is not usable. `start` begins again."""
        if self._twin is not None and not self._twin.loaded:
            self._twin.abandon()
        await self._stop()
        twin, self._twin = self._twin, None
        if twin is None or not twin.loaded:
            return None
        try:
            self._hear(twin)
            for _ in twin.steps():
                await asyncio.sleep(0)
        except (Inconsistent, BadRow) as error:
            _logger.error("the standby's copy cannot be used: %s", error)
            return None
        return twin

    # The methods of Ear.

    def handed(self, number: int, changes: RowChanges) -> None:
        """See Ear."""
        self._heard.append((number, changes))
        self._heard_bytes += changes.size
        if self._heard_bytes > HELD_BYTES_MAX:
            # Later groups do not fit, which ends following.
            self._heard.clear()
            self._heard_bytes = 0
        self._wake.notify()

    def committed(self, number: int) -> None:
        """See Ear."""
        self._heard.append((number, None))
        self._wake.notify()

    def over(self, reason: str) -> None:
        """See Ear."""
        if self._over is None:
            self._over = reason
            self._wake.notify()
            self.ended()

    # Following.

    async def _run(self) -> None:
        while True:
            owner = self.whom()
            if owner is None:
                await self._wake.wait(self._clock.now() + AGAIN_SECONDS / 4)
                continue
            if turn := self.turn():
                await _passing(self._clock, turn * TURN_SECONDS)
                owner = self.whom()
            pause = self._again_seconds if owner is None else await self._follow(owner)
            await self._hurry.wait(self._clock.now() + pause)

    async def _follow(self, owner: Owner) -> float:
        """Follow an owner to the end. Returns seconds until the next attempt. The result so far is kept until there is another owner to
        follow.
        """
        source = self._connect(owner.address)
        self._heard.clear()
        self._heard_bytes, self._over = 0, None
        try:
            reign, number = await source.follow(self, True)
            self._twin = Twin(self._engine(), self.rows_clock, reign, number)
            await self._fill(source, self._twin)
            await self._keep_up(source, self._twin)
        except _Over as end:
            _logger.info("no longer follows %s: %s", owner.name, end)
            if self._twin is not None and not self._twin.loaded:
                self._twin = None
        except (QueueError, NotNow) as error:
            _logger.debug("cannot follow %s: %s", owner.name, error)
            self._forget()
        except (Inconsistent, BadRow, CannotOpen, Fatal) as error:
            _logger.error("cannot follow %s, trying again in %g s: %s", owner.name, SICK_SECONDS, error)
            self._forget()
            return SICK_SECONDS
        except Exception:
            # A defect. What it left behind cannot be trusted, and a takeover works without it.
            _logger.exception("cannot follow %s, trying again in %g s", owner.name, SICK_SECONDS)
            self._forget()
            return SICK_SECONDS
        finally:
            await source.close()
        return self._again_seconds

    def _forget(self) -> None:
        self._twin = None
        self._heard.clear()

    async def _fill(self, source: Source, twin: Twin) -> None:
        """Read all rows, independently of the owner and of the groups that arrive meanwhile."""
        began = self._clock.now()
        rows = await self._store.beside()
        number = await source.mark()
        # Groups that came right behind that answer are no part of what was read.
        self._hear(twin, number)
        fill = twin.begin(number, rows)
        del rows
        await self._aside(fill)
        _logger.info("the standby: follows the owner with %d jobs, read in %.1f s", len(twin.engine.jobs.by_id), self._clock.now() - began)

    async def _keep_up(self, source: Source, twin: Twin) -> None:
        tell_at = self._clock.now()
        while True:
            self._hear(twin)
            for _ in twin.steps():
                await asyncio.sleep(0)
                self._hear(twin)
            if self._clock.now() >= tell_at:
                source.tell(self.behind, True)
                tell_at = self._clock.now() + TELL_SECONDS
            if not self._heard:
                if self._over is not None:
                    raise _Over(self._over)
                await self._wake.wait(tell_at)

    def _hear(self, twin: Twin, last: int | None = None) -> None:
        """Handle the messages of the owner, or those up to the group of the number `last`. Raises Inconsistent."""
        heard = self._heard
        while heard and (last is None or heard[0][0] <= last):
            number, changes = heard.popleft()
            if changes is None:
                twin.committed(number)
            else:
                self._heard_bytes -= changes.size
                twin.handed(number, changes)
        if twin.held_bytes > HELD_BYTES_MAX:
            raise Inconsistent(f"{twin.held_bytes} bytes wait to be applied; {HELD_BYTES_MAX} are allowed")


async def _passing(clock: Clock, seconds: float) -> None:
    await Signal(clock).wait(clock.now() + seconds)
