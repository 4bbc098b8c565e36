"""Ownership of the queue: how a server finds the owner, claims, holds, loses and hands over ownership.

A task checks who owns the queue. It claims if nobody does, if the owner's lease has passed by the store's clock, or if the owner's peer
port refuses connections; this is safe because the store fences the previous owner. When ownership is free, the members (membership.py) try
in an order given by a rendezvous hash, a moment apart, so that they do not all read a million rows.

As the owner it reads the rows, starts a local backend on them, and renews its lease whenever no commit has for a third of it. It is deposed
at once when the store reports that another server has claimed, and gives up by its own clock before its lease ends (lease.py). In both
cases all waiting requests are answered in that same step, and nothing is written any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
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
from jobqueue.backend.store.lease import MARGIN_SECONDS, Lease, LeasedWriter
from jobqueue.backend.store.membership import Membership
from jobqueue.backend.store.own import Reign, ReigningBackend
from jobqueue.backend.store.signals import Signal
from jobqueue.backend.store.standby import Standby
from jobqueue.backend.store.store import Owner, Store
from jobqueue.clock import Clock
from jobqueue.engine.engine import Engine
from jobqueue.engine.restore import Inconsistent
from jobqueue.ids import Ids
from jobqueue.limits import Limits
from jobqueue.model import Job

_logger = logging.getLogger("jobqueue.cluster")

R = TypeVar("R")

LEASE_SECONDS = 5.0

STAGGER_SECONDS = 0.15
"""How long each member waits for the one before it in the order to claim."""

LOOK_SECONDS = 0.1
"""The least time between two checks of who owns the queue, however many ask for one."""

RETRY_SECONDS = 0.5
"""How soon to try again when the store could not answer."""

HAND_OVER_SECONDS = 2.0
"""How long running operations can take to end before the last commit."""

MODEST_SECONDS = 10.0
"""How long a deposed server does not claim from an owner whose port refuses its connections."""

SICK_SECONDS = 30.0
"""How long a server does not claim after the rows could not be read."""

Probe = Callable[[str], Awaitable[bool]]
"""Whether the peer port of an address refuses connections. False if it does not answer."""

Aside = Callable[[Callable[[], R]], Awaitable[R]]
"""Runs something long without blocking the loop."""

PROBE_SECONDS = 1.0


async def refuses(address: str) -> bool:
    """Whether the machine reports that nobody listens at `host:port`. A time-out proves nothing."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError, ValueError):
        return False
    writer.close()
    return False


def order(members: list[str], epoch: int) -> list[str]:
    """The order in which members claim after an epoch: by rendezvous hash, so that it differs each time and needs no communication."""
    return sorted(members, key=lambda name: hashlib.blake2b(f"{epoch} {name}".encode(), digest_size=8).digest())


class Ownership:
    """One server's part. name: unique among the servers; address: of its peer port, as others reach it.

    changed: notified whenever `reign` or `owner` has changed. probe, aside and ids are injected for tests. standby: its part in following
    the owner, None if it never follows.
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
    ) -> None:
        if lease_seconds < 2 * MARGIN_SECONDS:
            raise ValueError(f"a lease of {lease_seconds:g} s is too short: an owner gives up {MARGIN_SECONDS:g} s before its end")
        self.store = store
        self.name = name
        self.clock = clock
        self.membership = Membership(store, name, address, clock)
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
        self.leaving = False
        self._closed = False
        self._ruling: Reign | None = None
        """The reign until its backend is closed; `reign` is set only while it accepts requests."""
        self._sick: str | None = None
        self._modest_until = -math.inf
        """Until then it does not claim from a living owner: two servers that cannot reach each other would alternate as owners."""
        self._probe = probe
        self._aside = aside
        self._ids = ids
        self.standby = standby
        if standby is not None:
            standby.whom, standby.turn, standby.ended = self._to_follow, self._place, self.doubt
            standby.rows_clock = self.membership.rows_clock
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
        await self.membership.close()

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
            _logger.info("owner of the queue: %s", "nobody" if owner is None else f"{owner.name} at {owner.address}, epoch {owner.epoch}")
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
        dead = owner is not None and doubted and not (ours or free or modest) and await self._probe(owner.address)
        if self.leaving or not (ours or free or dead) or not await self.membership.clock_agrees():
            return poll if owner is None else min(poll, max(owner.seconds, LOOK_SECONDS))
        turn = 0 if ours else self._turn()
        if turn or dead:  # In a probe's time another may have claimed.
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
        return order(sorted(there), self.epoch).index(self.name)

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
        renewing = asyncio.get_running_loop().create_task(self._renew(lease))
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
        local.returned = partial(self.returned, reign)
        self.reign = self._ruling = reign
        local.resume()
        how, jobs = "read" if twin is None else "followed as the standby, taken over", len(engine.jobs.by_id)
        _logger.warning("is now the owner, epoch %d: %d jobs %s in %.2f s", lease.epoch, jobs, how, self.clock.now() - began)
        self.changed.notify()
        while lease.gone is None and not self.leaving:
            await self._wake.wait(self.clock.now() + lease.seconds)
        if lease.gone is None:
            await self._hand_over(reign)
        else:
            self._let_go(reign)
        self._ruling = None
        self.changed.notify()

    def _engine(self) -> Engine:
        return Engine(self.limits) if self._ids is None else Engine(self.limits, self._ids)

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
            _logger.error("is no longer the owner, epoch %d: %s", reign.lease.epoch, why)
            reign.depose(f"this server is no longer the owner: {why}")
        self._doubted = True
        self._wake.notify()
        self.changed.notify()

    def _let_go(self, reign: Reign) -> None:
        """Close the rest of a reign in a separate task: nothing waits for it, and the store may be slow."""
        task = asyncio.get_running_loop().create_task(reign.local.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _hand_over(self, reign: Reign) -> None:
        """End running operations, commit them, and let another server claim. From the first step on nothing new is started here."""
        self.reign = None
        reign.local.drain()
        self.changed.notify()
        reign.feeds.leaving = True
        await reign.calm(self.clock.now() + HAND_OVER_SECONDS)
        reign.over = True
        await reign.local.close()
        held = reign.lease.held()
        if held:
            await self._release(reign.lease)
        # Only now, since the standby claims when it receives this.
        reign.feeds.leaving = False
        reign.feeds.over()
        if held:
            _logger.warning("gave up ownership, epoch %d", reign.lease.epoch)

    async def _release(self, lease: Lease) -> None:
        lease.end("it was given back")
        try:
            await self.store.release(lease.epoch)
        except (NotNow, Fatal) as error:
            _logger.warning("ownership was not released and ends with its lease: %s", error)

    async def _renew(self, lease: Lease) -> None:
        """Renew the lease whenever nothing else has renewed it for a third of its time."""
        while lease.held():
            due = self.clock.now() + lease.renewed_at + lease.seconds / 3 - lease.time(self.clock)
            if self.clock.now() < due:
                await _passing(self.clock, due)
                continue
            asked_at = lease.time(self.clock)
            try:
                await self.store.renew(lease.epoch, lease.seconds)
            except NotNow as error:
                _logger.warning("the lease was not renewed, %.1f s are left: %s", lease.left, error)
                await _passing(self.clock, self.clock.now() + RETRY_SECONDS)
            except Fatal as error:
                lease.lose(str(error))
            else:
                lease.renewed(asked_at)


async def _passing(clock: Clock, until: float) -> None:
    """Return at the engine time `until`."""
    await Signal(clock).wait(until)
