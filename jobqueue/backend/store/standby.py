"""The warm standby: a server that follows the owner's groups, so that it can go on in the owner's place without reading a million rows.

There is one at a time. The first server in the order to claim asks the owner for it at once, the others later; whoever is the standby
stays it until it or the owner goes, whatever servers come meanwhile, since one that is up to date is worth more than the first in line.

It reads all rows once, beside the owner, and keeps an engine up to date from then on (following.py). Whatever is in doubt, a group that
is missing, a link that broke, an engine that does not fit, ends that: it begins again, or a takeover reads all rows as it would without.
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
"""How soon after something was wrong: it may be for long, and all rows are read each time."""

TURN_SECONDS = 1.0
"""How long each member leaves to the one before it in the order to claim."""

TELL_SECONDS = 1.0
"""How often the owner is told how far this server is."""

HELD_BYTES_MAX = 256 * MIB
"""What may wait to be applied. A standby that is further behind begins again from the rows."""

Aside = Callable[[Callable[[], None]], Awaitable[None]]
"""Runs something long where it does not stop the loop."""

Connect = Callable[[str], Source]
"""Makes the way to the owner at an address. It connects by itself."""


class _Over(Exception):
    """Following has come to its end. str() says why."""


class Standby:
    """One server's part in it. engine: makes an empty one; connect, aside: injected for tests.

    whom: the owner to follow now, None while there is none or this server is not to follow; turn: how many are to ask before this one.
    ended: called when the owner tells nothing more, which may be the first that is heard of its end.
    """

    def __init__(
        self, store: Store, clock: Clock, engine: Callable[[], Engine], connect: Connect, *, aside: Aside = asyncio.to_thread
    ) -> None:
        self.whom: Callable[[], Owner | None] = lambda: None
        self.turn: Callable[[], int] = lambda: 0
        self.ended: Callable[[], object] = lambda: None
        self._store = store
        self._clock = clock
        self.rows_clock: Clock = clock
        """What times in the rows go by."""
        self._engine = engine
        self._connect = connect
        self._aside = aside
        self._twin: Twin | None = None
        self._heard: deque[tuple[int, RowChanges | None]] = deque()
        """What the owner has said and is not looked at: groups, and numbers of those that are committed."""
        self._heard_bytes = 0
        self._over: str | None = None
        self._wake = Signal(clock)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow whomever there is to follow. Wants a running loop."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Follow no more."""
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
        """Whether there is an engine that has followed all there was."""
        return self._twin is not None and self._twin.loaded

    @property
    def behind(self) -> int:
        """Groups that it has been told of and not applied."""
        return 0 if self._twin is None else self._twin.behind + sum(changes is not None for _, changes in self._heard)

    async def take(self) -> Twin | None:
        """Stop following, and give away what has been followed; None when that is of no use. `start` begins again."""
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
            _logger.error("what was followed is of no use: %s", error)
            return None
        return twin

    # An Ear.

    def handed(self, number: int, changes: RowChanges) -> None:
        """See Ear."""
        self._heard.append((number, changes))
        self._heard_bytes += changes.size
        if self._heard_bytes > HELD_BYTES_MAX:
            # What comes after this does not fit, and ends it.
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
            pause = AGAIN_SECONDS if owner is None else await self._follow(owner)
            await _passing(self._clock, pause)

    async def _follow(self, owner: Owner) -> float:
        """Follow an owner to the end; seconds until it may be tried again. What has been followed by then is kept, until there is another
        to follow.
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
            _logger.info("follows %s no more: %s", owner.name, end)
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
            # A defect. What it left behind is not to be trusted, and a takeover does without.
            _logger.exception("cannot follow %s, trying again in %g s", owner.name, SICK_SECONDS)
            self._forget()
            return SICK_SECONDS
        finally:
            await source.close()
        return AGAIN_SECONDS

    def _forget(self) -> None:
        self._twin = None
        self._heard.clear()

    async def _fill(self, source: Source, twin: Twin) -> None:
        """Read all rows, beside the owner and what it says meanwhile."""
        began = self._clock.now()
        rows = await self._store.beside()
        number = await source.mark()
        self._hear(twin)
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

    def _hear(self, twin: Twin) -> None:
        """Take in what the owner has said. Raises Inconsistent."""
        heard = self._heard
        while heard:
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
