"""Ownership of the queue, or of one partition: how a server finds the owner, claims, holds, loses and hands over ownership.

A task checks who owns the queue. It claims if nobody does, if the owner's lease has passed by the store's clock, or if the owner's peer
port refuses connections; this is safe because the store fences the previous owner. When ownership is free, the members (membership.py) try
in an order given by a rendezvous hash, a moment apart, so that they do not all read a million rows.

As the owner it reads the rows, starts a local backend on them, and renews its lease whenever no commit has for a third of it. It is deposed
at once when the store reports that another server has claimed, and gives up by its own clock before its lease ends (lease.py). In both
cases all waiting requests are answered in that same step, and nothing is written any more.

A partition can also be given to another server that asks for it (balancing.py). Then the owner commits and stops, but keeps its lease in
the store until the other server claims by force, so nobody else gets in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from jobqueue.backend.following import Twin
from jobqueue.backend.group import Fatal, NotNow
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.loading import CannotOpen, load
from jobqueue.backend.rows import BadRow
from jobqueue.backend.store.balance import order, salt_of
from jobqueue.backend.store.gift import Gift, Probe, refuses
from jobqueue.backend.store.lease import MARGIN_SECONDS, RETRY_SECONDS, Lease, LeasedWriter, keep
from jobqueue.backend.store.membership import Membership
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.own import Reign, ReigningBackend
from jobqueue.backend.store.signals import Signal
from jobqueue.backend.store.standby import Standby
from jobqueue.backend.store.store import Owner, Store
from jobqueue.clock import Clock
from jobqueue.engine.engine import Engine
from jobqueue.engine.restore import Inconsistent
from jobqueue.errors import StorageUnavailable
from jobqueue.ids import Ids
from jobqueue.limits import Limits
from jobqueue.model import Job
from jobqueue.partition import ALONE, Place

_logger = logging.getLogger("jobqueue.cluster")

R = TypeVar("R")

LEASE_SECONDS = 5.0

STAGGER_SECONDS = 0.15
"""How long each member waits for the one before it in the order to claim."""

LOOK_SECONDS = 0.1
"""The least time between two checks of who owns the queue, however many ask for one."""

HAND_OVER_SECONDS = 2.0
"""How long running operations can take to end before the last commit."""

MODEST_SECONDS = 10.0
"""How long a deposed server does not claim from an owner whose port refuses its connections."""

HAND_OVERS = 4
"""How many partitions a server that ends hands over at the same time. It serves the others meanwhile."""

SICK_SECONDS = 30.0
"""How long a server does not claim after the rows could not be read."""

Aside = Callable[[Callable[[], R]], Awaitable[R]]
"""Runs something long without blocking the loop."""


class Ownership:
    """One server's part. name: unique among the servers; address: of its peer port, as others reach it.

    changed: notified whenever `reign` or `owner` has changed. probe, aside and ids are injected for tests. standby: its part in following
    the owner, None if it never follows. place: the partition that this is about. membership, turns: what the partitions of one server
    share: without them it makes its own, and announces this server itself. ready: called after a claim; raises CannotOpen if what is there
    must not be served.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        address: str,
        clock: Clock,
        limits: Limits | None = None,
        *,
        lease_seconds: float = LEASE_SECONDS,
        probe: Probe = refuses,
        aside: Aside[tuple[float, int]] = asyncio.to_thread,
        ids: Ids | None = None,
        standby: Standby | None = None,
        place: Place = ALONE,
        membership: Membership | None = None,
        turns: asyncio.Semaphore | None = None,
        ready: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        if lease_seconds < 2 * MARGIN_SECONDS:
            raise ValueError(f"a lease of {lease_seconds:g} s is too short: an owner gives up {MARGIN_SECONDS:g} s before its end")
        self.store = store
        self.name = name
        self.clock = clock
        self.place = place
        self.alone = membership is None
        """Whether it announces this server itself, and its store is nobody else's."""
        self.membership = membership or Membership(store, name, address, clock)
        self.limits = limits or Limits()
        self.lease_seconds = lease_seconds
        self.changed = Signal(clock)
        self.lease: Lease | None = None
        """The lease that this server's claim was granted, from then on, including while it reads the rows."""
        self.reign: Reign | None = None
        self.owner: Owner | None = None
        """The owner at the last check; this server too, while it still reads the rows."""
        self.owner_seen_at = clock.now()
        self.returned: Callable[[Reign, list[Job]], object] = lambda reign, jobs: None
        """Called with jobs that were put back in a reign, which may end before that is committed."""
        self.agrees: Callable[[str], bool] = lambda name: False
        """Whether this server, as the owner, gives the partition to another one that asks for it."""
        self.prefers: Callable[[str, str], bool] = lambda name, other: False
        """Whether the first of two servers should be the standby rather than the second."""
        self.leaving = False
        self._closed = False
        self._ruling: Reign | None = None
        """The reign until its backend is closed; `reign` is set only while it accepts requests."""
        self._sick: str | None = None
        self._modest_until = -math.inf
        """Until then it does not claim from a living owner: two servers that cannot reach each other would alternate as owners."""
        self._probe = probe
        self._aside = aside
        self._ready = ready
        self._ids = ids
        self.standby = standby
        if standby is not None:
            standby.whom, standby.turn, standby.ended = self._to_follow, self._place, self.doubt
            standby.rows_clock = self.membership.rows_clock
        self._gift = Gift(clock)
        self._turns = turns or asyncio.Semaphore(HAND_OVERS)
        self._last_owner: str | None = None
        self.epoch = 0
        """The last epoch that was seen, which decides the order to claim."""
        self._doubted = False
        self._wake = Signal(clock)
        self._silent: str | None = None
        """Why the store does not answer, while it does not."""
        self._task: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    # Called from outside.

    def start(self) -> None:
        """Start to take part. Needs a running loop and an open store."""
        self._task = asyncio.get_running_loop().create_task(self._take_part())
        if self.alone:
            self.membership.start()
        if self.standby is not None:
            self.standby.start()

    def doubt(self) -> None:
        """Check at once who owns the queue: the last known owner cannot be reached, or denies being the owner."""
        self._doubted = True
        self._wake.notify()

    @property
    def address(self) -> str:
        """Where the others reach this server."""
        return self.membership.address

    @property
    def what(self) -> str:
        """What this is about, in messages."""
        return "the queue" if self.place.count == 1 else f"partition {self.place.index}"

    @property
    def problem(self) -> str | None:
        """Why this server does not claim ownership; None if it would."""
        return self._silent or self.membership.clock_off or self._sick

    @property
    def others(self) -> bool:
        """Whether another server can take over."""
        return any(name != self.name for name in self.membership.present)

    def hand_over(self) -> None:
        """Stop claiming, and let another server have the queue once all running operations have ended and are committed.

        This server continues to check who the owner is: its workers still have to report their work.
        """
        self.leaving = True
        self.doubt()

    async def handed_over(self) -> None:
        """Return when this server no longer owns anything, after `hand_over` was called."""
        self.hand_over()
        while self._task is not None and self._ruling is not None:
            await self.changed.wait(self.clock.now() + LOOK_SECONDS)

    async def close(self) -> None:
        """Hand over, take this server off the list, and wait for all tasks to end. The store stays open."""
        self.hand_over()
        task, self._task = self._task, None
        if task is None:
            return
        self._closed = True
        if self.standby is not None:
            await self.standby.close()
        self._wake.notify()
        await task
        await asyncio.gather(*self._closing)
        if self.alone:
            await self.membership.close()

    async def give(self, name: str, epoch: int) -> None:
        """Give what this server owns under an epoch to another server, which asks for it; returns once that one can claim it, with `take`.

        Raises Moved if this server is not the owner of that epoch, or has not remained it, StorageUnavailable if it does not agree.
        """
        reign = self.reign
        if reign is None or reign.lease.epoch != epoch:
            raise Moved("this server is not the owner")
        if self.leaving or self._gift.heir not in (None, name) or not self.agrees(name):
            raise StorageUnavailable(f"this server does not give {name} this partition now")
        self._gift.heir = name
        self._wake.notify()
        while self._ruling is reign:
            await self.changed.wait(self.clock.now() + LOOK_SECONDS)
        if not self._gift.was_given(epoch):
            raise Moved("this server is no longer the owner")

    def take(self, epoch: int) -> None:
        """Claim at once: the owner of this epoch has given its partition to this server."""
        self._gift.granted = epoch
        self.doubt()

    # Checking and claiming.

    async def _take_part(self) -> None:
        while not self._closed:
            began = self.clock.now()
            try:
                pause = await self._look()
            except NotNow as error:
                if self._silent is None:
                    _logger.error("the store does not answer, trying again every %g s: %s", RETRY_SECONDS, error)
                self._silent = f"the store does not answer: {error}"
                pause = RETRY_SECONDS
            except Fatal as error:
                # For example, another server claimed while the rows were read.
                _logger.warning("lost ownership before serving: %s", error)
                pause = LOOK_SECONDS
            except CannotOpen as error:
                _logger.error("this server does not claim ownership for %g s: %s", SICK_SECONDS, error)
                self._sick = str(error)
                pause = SICK_SECONDS
            except Exception as error:
                # A defect; a server that stopped claiming because of it would be worse.
                _logger.exception("this server does not claim ownership for %g s", SICK_SECONDS)
                self._sick = f"{type(error).__name__}: {error}"
                pause = SICK_SECONDS
            if not self._doubted:
                await self._rest(began + pause)
            # Many doubts at once lead to one check.
            await self._rest(began + LOOK_SECONDS, doubts=False)

    async def _rest(self, until: float, doubts: bool = True) -> None:
        """Wait until then, or until this server closes, or doubts who owns the queue."""
        while not self._closed and self.clock.now() < until and not (doubts and self._doubted):
            await self._wake.wait(until)

    def _saw(self, owner: Owner | None) -> None:
        old, self.owner = self.owner, owner
        self.owner_seen_at = self.clock.now()
        if owner is not None:
            self.epoch = max(self.epoch, owner.epoch)
            self._last_owner = owner.name
        if (old and (old.name, old.address, old.epoch)) != (owner and (owner.name, owner.address, owner.epoch)):
            said = "nobody" if owner is None else f"{owner.name} at {owner.address}, epoch {owner.epoch}"
            _logger.info("owner of %s: %s", self.what, said)
            if self.standby is not None and self.place.count > 1:
                self.standby.hurry()
            self.changed.notify()

    async def _look(self) -> float:
        """Check who owns the queue, claim it if that is due, and serve. Returns seconds until the next check. Raises NotNow, Fatal,
        CannotOpen.
        """
        doubted, self._doubted = self._doubted, False
        owner = await self.store.owner()
        if self._silent is not None:
            # Set here, since a check in which this server becomes the owner ends with its reign.
            self._silent = None
            _logger.warning("the store answers again")
        self._saw(owner)
        poll = self.lease_seconds / 3
        if owner is not None and owner.name == self.name and owner.address != self.address:
            if self._sick is None:
                _logger.error("this server does not claim ownership: the server at %s has the same name, %r", owner.address, self.name)
            self._sick = f"the server at {owner.address} has the same name, {self.name!r}"
            return poll
        self._sick = None
        # Its own claim, whose answer was lost, or a reign that it gave up: no other server needs to be considered.
        ours = owner is not None and owner.name == self.name
        free = owner is None or owner.seconds <= 0
        modest = self.clock.now() < self._modest_until
        given = owner is not None and not ours and owner.epoch == self._gift.granted
        dead = given or (owner is not None and doubted and not (ours or free or modest) and await self._probe(owner.address))
        if ours and owner is not None and self._gift.waits(owner.epoch):
            return LOOK_SECONDS
        if self.leaving or not (ours or free or dead) or not await self.membership.clock_agrees():
            return poll if owner is None else min(poll, max(owner.seconds, LOOK_SECONDS))
        self._gift.granted = 0
        turn = 0 if ours or given else self._turn()
        if turn or (dead and not given):  # In a probe's time another may have claimed.
            await self._rest(self.clock.now() + turn * STAGGER_SECONDS, doubts=False)
            now = await self.store.owner()
            if (now and now.epoch) != (owner and owner.epoch) or (now is not None and now.seconds > 0 and not dead):
                self._saw(now)
                return LOOK_SECONDS
        if not self.leaving:
            await self._claim(dead)
        return LOOK_SECONDS

    def _turn(self) -> int:
        """How many members should claim before this one: a warm standby comes first, whatever its place in the order."""
        if self.standby is not None and self.standby.warm:
            return 0
        gone = self._last_owner
        another = any(name not in (self.name, gone) for name in self.membership.present)
        # This server does not know whether another one is the standby.
        return self._place() + another

    def _place(self) -> int:
        """How many members come before this one in the order to claim."""
        gone = self._last_owner
        there = {name for name in self.membership.present if name != gone} | {self.name}
        return order(there, self.epoch if self.place.count == 1 else salt_of(self.place.index)).index(self.name)

    def _to_follow(self) -> Owner | None:
        """The owner whose standby this server should be, if it can."""
        owner = self.owner
        if self._closed or self.leaving or self.lease is not None or self.problem is not None:
            return None
        return None if owner is None or owner.name == self.name or owner.seconds <= 0 else owner

    async def _claim(self, force: bool) -> None:
        asked_at = Lease.time(self.clock)
        owner = await self.store.claim(self.name, self.address, self.lease_seconds, force)
        self._saw(owner)
        if owner.name != self.name:
            return
        lease = self.lease = Lease(self.clock, owner.epoch, self.lease_seconds, asked_at, self._lost)
        renewing = asyncio.get_running_loop().create_task(keep(lease, self.store, self.clock))
        try:
            await self._serve(lease)
        finally:
            self.lease = None
            lease.end("it was given back")
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing
            if self.standby is not None and not self._closed:
                self.standby.start()

    # Being the owner.

    async def _serve(self, lease: Lease) -> None:
        """Read the rows and serve until the lease is lost or handed over. Before it serves, raises NotNow, Fatal, CannotOpen."""
        began = self.clock.now()
        try:
            if self._ready is not None:
                await self._ready()
            twin = await self._followed(lease)
            if twin is not None:
                engine, offset, change = twin.engine, twin.offset, twin.change
            else:
                engine = self._engine()
                rows = await self.store.rows(lease.epoch)
                offset, change = await self._aside(lambda: load(rows, engine, self.membership.rows_clock))
        except (CannotOpen, NotNow):
            # Another server may succeed.
            await self._release(lease)
            raise
        if not lease.held():
            return
        journal = GroupJournal(engine, self.membership.rows_clock, "store", offset=offset, change=change, reign=secrets.token_hex(8))
        writer = self.store.writer(lease.epoch, lease.seconds, lambda _sent: None)
        journal.use(LeasedWriter(writer, lease, self.clock))
        local = ReigningBackend(engine=engine, clock=self.clock, journal=journal)
        reign = Reign(lease, local, journal, self.clock)
        reign.feeds.prefers = self.prefers
        local.returned = partial(self.returned, reign)
        self.reign, self._ruling, self._gift.heir = reign, reign, None
        local.resume()
        how, jobs = "read" if twin is None else "followed as the standby, taken over", len(engine.jobs.by_id)
        seconds = self.clock.now() - began
        _logger.warning("is now the owner%s, epoch %d: %d jobs %s in %.2f s", self._of, lease.epoch, jobs, how, seconds)
        self.changed.notify()
        while lease.gone is None and not self.leaving and self._gift.heir is None:
            await self._wake.wait(self.clock.now() + lease.seconds)
        if lease.gone is not None or not await self._hand_over_in_turn(reign):
            self._let_go(reign)
        self._ruling = None
        self.changed.notify()

    @property
    def _of(self) -> str:
        return "" if self.place.count == 1 else f" of partition {self.place.index}"

    def _engine(self) -> Engine:
        return Engine(self.limits, self._ids, place=self.place)

    async def _followed(self, lease: Lease) -> Twin | None:
        """What this server followed as the standby, if it matches the store. Raises NotNow, Fatal, CannotOpen."""
        twin = None if self.standby is None else await self.standby.take()
        if twin is None:
            return None
        standing = await self.store.standing(lease.epoch)
        try:
            unfit = twin.ready(standing.counters, standing.jobs)
        except (Inconsistent, BadRow) as error:
            unfit = str(error)
        if unfit is None:
            return twin
        _logger.warning("the standby's copy differs from the store, so all rows are read: %s", unfit)
        return None

    def _lost(self, why: str) -> None:
        """The lease was lost: called by the lease, in the step that detects this."""
        reign, self.reign = self._ruling, None
        if reign is not None:
            self._modest_until = self.clock.now() + MODEST_SECONDS
            _logger.error("is no longer the owner%s, epoch %d: %s", self._of, reign.lease.epoch, why)
            reign.depose(f"this server is no longer the owner: {why}")
        self._doubted = True
        self._wake.notify()
        self.changed.notify()

    def _let_go(self, reign: Reign) -> None:
        """Close the rest of a reign in a separate task: nothing waits for it, and the store may be slow."""
        task = asyncio.get_running_loop().create_task(reign.local.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _hand_over_in_turn(self, reign: Reign) -> bool:
        """Hand over when it is this partition's turn. Returns whether the lease lasted until then."""
        async with self._turns:
            if reign.lease.gone is not None:
                return False
            await self._hand_over(reign)
            return True

    async def _hand_over(self, reign: Reign) -> None:
        """End running operations, commit them, and let another server claim: any server, or the one that it is given to. From the first
        step on nothing new is started here.
        """
        self.reign = None
        reign.local.drain()
        self.changed.notify()
        reign.feeds.leaving = True
        await reign.calm(self.clock.now() + HAND_OVER_SECONDS)
        reign.over = True
        await reign.local.close()
        held = reign.lease.held()
        if held and self._gift.heir is not None and not self.leaving:
            reign.lease.end("it was given to another server")
            self._gift.given(reign.lease.epoch)
        elif held:
            await self._release(reign.lease)
        # Only now, since the standby claims when it receives this.
        reign.feeds.leaving = False
        reign.feeds.over()
        if held:
            _logger.warning("gave up ownership%s, epoch %d", self._of, reign.lease.epoch)

    async def _release(self, lease: Lease) -> None:
        lease.end("it was given back")
        try:
            await self.store.release(lease.epoch)
        except (NotNow, Fatal) as error:
            _logger.warning("ownership was not released and ends with its lease: %s", error)
