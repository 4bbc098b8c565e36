"""Who owns the queue: a server's part in finding out, claiming, holding, losing and handing over.

Two tasks. One announces this server once a second. The other looks at who owns the queue, and claims when nobody does, when the owner's
lease has passed by the store's clock, or when its peer port refuses connections, which is safe because the store fences whoever had it
before. Whoever owns keeps it. When it is free, the members try in an order that a rendezvous hash gives them, a moment apart, so that
they do not all read a million rows.

As the owner it reads the rows, starts a local backend on them, and renews its lease whenever no commit has for a third of it. It is
deposed at once when the store says that another has claimed, and gives up by its own clock before its lease ends (lease.py). Either way
all who wait are answered in that very step, and nothing is written any more.
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
from jobqueue.backend.store.clocks import StoreClock
from jobqueue.backend.store.lease import MARGIN_SECONDS, Lease, LeasedWriter
from jobqueue.backend.store.own import Reign, ReigningBackend
from jobqueue.backend.store.signals import Signal
from jobqueue.backend.store.standby import Standby
from jobqueue.backend.store.store import Member, Owner, Store
from jobqueue.clock import Clock
from jobqueue.engine.engine import Engine
from jobqueue.engine.restore import Inconsistent
from jobqueue.ids import Ids
from jobqueue.limits import Limits
from jobqueue.model import Job

_logger = logging.getLogger("jobqueue.cluster")

R = TypeVar("R")

LEASE_SECONDS = 5.0
ANNOUNCE_SECONDS = 1.0
MEMBER_SECONDS = 3.5
"""A member that has not announced itself for so long is not counted on to claim."""

STAGGER_SECONDS = 0.15
"""How long each member leaves to the one before it in the order to claim."""

LOOK_SECONDS = 0.1
"""The least time between two looks at who owns the queue, however many ask for one."""

RETRY_SECONDS = 0.5
"""How soon to try again what the store could not do."""

HAND_OVER_SECONDS = 2.0
"""How long what is under way may take to end before the last commit."""

MODEST_SECONDS = 10.0
"""How long a server that was deposed leaves an owner alone whose port refuses it."""

SICK_SECONDS = 30.0
"""How long a server claims nothing after the rows could not be read."""

CLOCK_WARN_SECONDS, CLOCK_SECONDS_MAX = 0.5, 5.0
"""How far this server's UTC may be from the store's: clients are shown it, and say by it when a job is to run."""

Probe = Callable[[str], Awaitable[bool]]
"""Whether the peer port of an address refuses connections: not whether it is silent."""

Aside = Callable[[Callable[[], R]], Awaitable[R]]
"""Runs something long where it does not stop the loop."""

PROBE_SECONDS = 1.0


async def refuses(address: str) -> bool:
    """Whether nobody listens at `host:port`, as the machine there says. A time-out says nothing."""
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
    """The order in which members claim after an epoch: by rendezvous hash, so that it is another one each time and needs no talk."""
    return sorted(members, key=lambda name: hashlib.blake2b(f"{epoch} {name}".encode(), digest_size=8).digest())


class Ownership:
    """One server's part in it. name: unique among the servers; address: of its peer port, as others reach it.

    changed: notified whenever `reign` or `owner` has changed. probe, aside and ids are injected for tests.
    standby: its part in following the owner, None where it is never to. rows_clock: what times in the rows go by.
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
        self.address = address
        self.clock = clock
        self.rows_clock = StoreClock(clock)
        self.limits = limits or Limits()
        self.lease_seconds = lease_seconds
        self.changed = Signal(clock)
        self.lease: Lease | None = None
        """What this server's claim was granted, from then on, while it reads the rows too."""
        self.reign: Reign | None = None
        self.owner: Owner | None = None
        """Who owned it at the last look; this server too, while it still reads the rows."""
        self.owner_seen_at = clock.now()
        self.members: list[Member] = []
        self.members_seen_at = clock.now()
        self.clock_seconds: float | None = None
        """How far this server's UTC is ahead of the store's, at the least; None until they were compared."""
        self.returned: Callable[[Reign, list[Job]], object] = lambda reign, jobs: None
        """Called with jobs that were put back under a reign. It may end before that is committed."""
        self.leaving = False
        self._closed = False
        self._ruling: Reign | None = None
        """The reign until its backend is closed; `reign` only while it takes requests."""
        self._clock_off: str | None = None
        self._sick: str | None = None
        self._modest_until = -math.inf
        """Until then it does not claim from an owner that lives: two servers that cannot reach each other would take turns."""
        self._probe = probe
        self._aside = aside
        self._ids = ids
        self.standby = standby
        if standby is not None:
            standby.whom, standby.turn, standby.ended = self._to_follow, self._place, self.doubt
            standby.rows_clock = self.rows_clock
        self._last_owner: str | None = None
        self.epoch = 0
        """The last that was seen: what the order goes by."""
        self._doubted = False
        self._wake = Signal(clock)
        self._silent: str | None = None
        """Why the store does not answer, while it does not."""
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: set[asyncio.Task[None]] = set()

    # From outside.

    def start(self) -> None:
        """Begin to take part. Wants a running loop and an open store."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._take_part()), loop.create_task(self._announce())]
        if self.standby is not None:
            self.standby.start()

    def doubt(self) -> None:
        """Look at once who owns the queue: the one who did cannot be reached, or says that it does not."""
        self._doubted = True
        self._wake.notify()

    @property
    def problem(self) -> str | None:
        """Why this server claims nothing; None while it would."""
        return self._silent or self._clock_off or self._sick

    @property
    def others(self) -> bool:
        """Whether another server is there to take over."""
        return any(member.name != self.name and member.seconds < MEMBER_SECONDS for member in self.members)

    def hand_over(self) -> None:
        """Claim no more, and let another server have the queue, once what is under way has ended and is committed.

        Who owns it is looked at on: this server's workers have yet to hand in what they did.
        """
        self.leaving = True
        self.doubt()

    async def handed_over(self) -> None:
        """Return when this server owns nothing any more, once `hand_over` was called."""
        self.hand_over()
        while self._tasks and self._ruling is not None:
            await self.changed.wait(self.clock.now() + LOOK_SECONDS)

    async def close(self) -> None:
        """Hand over, take this server off the list, and wait for all that it began. The store stays open."""
        self.hand_over()
        if not self._tasks:
            return
        (taking_part, announcing), self._tasks = self._tasks, []
        self._closed = True
        if self.standby is not None:
            await self.standby.close()
        self._wake.notify()
        await taking_part
        announcing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await announcing
        await asyncio.gather(*self._closing)
        try:
            await self.store.depart(self.name)
        except NotNow as error:
            _logger.info("this server stays on the list of members for a minute: %s", error)

    # Being there.

    async def _announce(self) -> None:
        rounds = 0
        while True:
            due = self.clock.now() + ANNOUNCE_SECONDS
            with contextlib.suppress(NotNow):
                self.members = await self.store.announce(self.name, self.address)
                self.members_seen_at = self.clock.now()
                if rounds % 30 == 0:
                    await self._clock_agrees()
                rounds += 1
            await _passing(self.clock, due)

    async def _clock_agrees(self) -> bool:
        """Whether this server's UTC is near enough to the store's to own the queue. Raises NotNow."""
        before, there, after = self.clock.now(), await self.store.now(), self.clock.now()
        self.rows_clock.compared(before, after, there)
        took = after - before
        off = before + took / 2 + self.clock.skew() - there
        # Where in that time the store looked at its clock is not known.
        certain = abs(off) - took / 2
        self.clock_seconds = math.copysign(max(0.0, certain), off)
        if certain > CLOCK_SECONDS_MAX:
            if self._clock_off is None:
                _logger.error("this server claims nothing: its clock is %+.1f s off the store's", off)
            self._clock_off = f"its clock is {off:+.1f} s off the store's; {CLOCK_SECONDS_MAX:g} s are allowed"
            return False
        if certain > CLOCK_WARN_SECONDS:
            _logger.warning("this server's clock is %+.1f s off the store's; from %g s on it may not own the queue", off, CLOCK_SECONDS_MAX)
        self._clock_off = None
        return True

    # Looking and claiming.

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
                # Somebody claimed while the rows were read, say.
                _logger.warning("lost the queue before serving it: %s", error)
                pause = LOOK_SECONDS
            except CannotOpen as error:
                _logger.error("this server claims nothing for %g s: %s", SICK_SECONDS, error)
                self._sick = str(error)
                pause = SICK_SECONDS
            except Exception as error:
                # A defect; a server that never claims again for it would be a worse one.
                _logger.exception("this server claims nothing for %g s", SICK_SECONDS)
                self._sick = f"{type(error).__name__}: {error}"
                pause = SICK_SECONDS
            if not self._doubted:
                await self._rest(began + pause)
            # A storm of doubts is one look.
            await self._rest(began + LOOK_SECONDS, doubts=False)

    async def _rest(self, until: float, doubts: bool = True) -> None:
        """Wait until then, or until this server closes, or is in doubt about who owns the queue."""
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
        """See who owns the queue, claim it if that is due and serve; seconds until the next look. Raises NotNow, Fatal, CannotOpen."""
        doubted, self._doubted = self._doubted, False
        owner = await self.store.owner()
        if self._silent is not None:
            # Here, since a look in which this server comes to own the queue ends with its reign.
            self._silent = None
            _logger.warning("the store answers again")
        self._saw(owner)
        poll = self.lease_seconds / 3
        if owner is not None and owner.name == self.name and owner.address != self.address:
            if self._sick is None:
                _logger.error("this server claims nothing: the server at %s has its name, %r; each needs its own", owner.address, self.name)
            self._sick = f"the server at {owner.address} has its name, {self.name!r}"
            return poll
        self._sick = None
        # Its own claim, of which the answer was lost, or a reign that it gave up: nobody else is to be considered.
        ours = owner is not None and owner.name == self.name
        free = owner is None or owner.seconds <= 0
        modest = self.clock.now() < self._modest_until
        dead = owner is not None and doubted and not (ours or free or modest) and await self._probe(owner.address)
        if self.leaving or not (ours or free or dead) or not await self._clock_agrees():
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
        """How many members are to claim before this one: a standby that is warm comes first, wherever it stands in the order."""
        if self.standby is not None and self.standby.warm:
            return 0
        gone = self._last_owner
        another = any(one.seconds < MEMBER_SECONDS and one.name not in (self.name, gone) for one in self.members)
        # Whether another one is the standby is not known here.
        return self._place() + another

    def _place(self) -> int:
        """How many members are before this one in the order to claim."""
        gone = self._last_owner
        there = {member.name for member in self.members if member.seconds < MEMBER_SECONDS and member.name != gone} | {self.name}
        return order(sorted(there), self.epoch).index(self.name)

    def _to_follow(self) -> Owner | None:
        """Whose standby this server is to be, if it can."""
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
        """Read the rows and serve until the lease is lost or handed over. Raises NotNow, Fatal, CannotOpen before it serves."""
        began = self.clock.now()
        try:
            twin = await self._followed(lease)
            if twin is not None:
                engine, offset, change = twin.engine, twin.offset, twin.change
            else:
                engine = self._engine()
                rows = await self.store.rows(lease.epoch)
                offset, change = await self._aside(lambda: load(rows, engine, self.rows_clock))
        except (CannotOpen, NotNow):
            # Another server may have more luck.
            await self._release(lease)
            raise
        if not lease.held():
            return
        journal = GroupJournal(engine, self.rows_clock, "store", offset=offset, change=change, reign=secrets.token_hex(8))
        writer = self.store.writer(lease.epoch, lease.seconds, lambda _sent: None)
        journal.use(LeasedWriter(writer, lease, self.clock))
        local = ReigningBackend(engine=engine, clock=self.clock, journal=journal)
        reign = Reign(lease, local, journal, self.clock)
        local.returned = partial(self.returned, reign)
        self.reign = self._ruling = reign
        local.resume()
        how, jobs = "read" if twin is None else "followed as the standby, taken over", len(engine.jobs.by_id)
        _logger.warning("owns the queue, epoch %d: %d jobs %s in %.2f s", lease.epoch, jobs, how, self.clock.now() - began)
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
        """What this server has followed as the standby, if that is what the store has. Raises NotNow, Fatal, CannotOpen."""
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
        _logger.warning("what was followed as the standby is not what the store has, so all rows are read: %s", unfit)
        return None

    def _lost(self, why: str) -> None:
        """The lease is gone: called by it, in whichever step found that out."""
        reign, self.reign = self._ruling, None
        if reign is not None:
            self._modest_until = self.clock.now() + MODEST_SECONDS
            _logger.error("owns the queue no more, epoch %d: %s", reign.lease.epoch, why)
            reign.depose(f"this server does not own the queue any more: {why}")
        self._doubted = True
        self._wake.notify()
        self.changed.notify()

    def _let_go(self, reign: Reign) -> None:
        """Close what is left of a reign, aside: nothing waits for it, and the store may be slow."""
        task = asyncio.get_running_loop().create_task(reign.local.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _hand_over(self, reign: Reign) -> None:
        """End what is under way, commit it, and let another server claim. From the first step on nothing new begins here."""
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
        # Only now: the standby claims when it hears of it.
        reign.feeds.leaving = False
        reign.feeds.over()
        if held:
            _logger.warning("handed the queue over, epoch %d", reign.lease.epoch)

    async def _release(self, lease: Lease) -> None:
        lease.end("it was given back")
        try:
            await self.store.release(lease.epoch)
        except (NotNow, Fatal) as error:
            _logger.warning("the queue is free when its lease has passed: %s", error)

    async def _renew(self, lease: Lease) -> None:
        """Renew the lease whenever nothing else has for a third of it."""
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
    """Return at engine time `until`."""
    await Signal(clock).wait(until)
