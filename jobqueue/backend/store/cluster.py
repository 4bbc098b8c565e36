"""The backend of one of several servers: it serves requests itself while it owns the queue, and forwards them while another server owns it.

While nobody owns the queue, or the owner cannot be reached, a request waits: for WAIT_SECONDS, or as long as the client asked to wait. It
was refused without any change, or was not sent at all, so it can be sent again. A change whose answer was lost is never sent again from
here: it is Unconfirmed, and the client knows which requests it can repeat.

Requests wait in the order in which they came and are sent again in that order, so requests of the same server keep their places in line
when the owner changes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from msgspec.structs import replace

from jobqueue.backend.base import Backend, BackendStats, ClusterStats, Listen, Listening, MemberStats, Taking
from jobqueue.backend.requests.request import R, Request
from jobqueue.backend.store.feed import Feeds
from jobqueue.backend.store.hasty import HastyBackend
from jobqueue.backend.store.held import ClusterListening, ClusterTaking
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.own import OwnBackend, Reign
from jobqueue.backend.store.ownership import Ownership
from jobqueue.backend.store.passing import Ask, Passing
from jobqueue.errors import Draining, QueueError, StorageUnavailable, Unconfirmed
from jobqueue.model import Job, Want

_logger = logging.getLogger("jobqueue.cluster")

WAIT_SECONDS = 2.0
"""How long a request that does not ask to wait waits for an owner."""

RETURN_SECONDS = 60.0
"""How long undelivered jobs are kept to be given back to an owner. After that they return when their leases end."""

REVIVE_SECONDS = 0.05
REVIVE_SECONDS_MAX = 0.5
"""How long to wait before trying an unreachable owner again: at first, and after several failures."""

Connect = Callable[[str], Backend]
"""Makes the backend that forwards to the server at an address. It connects when it is first used."""


class ClusterBackend(Passing):
    """The Backend of one of several servers, for the queue or one partition of it; the methods are documented at `Backend`. own: the
    backend that it serves to the other servers; hasty: this one without patience.

    It owns the objects that it is given: closing it hands over, and closes the connections to the other servers. It closes the store too,
    unless that has more partitions.
    """

    def __init__(self, ownership: Ownership, connect: Connect, *, wait_seconds: float = WAIT_SECONDS) -> None:
        self.ownership = ownership
        self.own = OwnBackend(lambda: ownership.reign, self.return_jobs, ownership.give)
        self.hasty: Backend = HastyBackend(self)
        ownership.returned = self.follow
        self.draining = False
        self._closed = False
        self.wait_seconds = wait_seconds
        self.clock = ownership.clock
        self._connect = connect
        self._remotes: dict[str, Backend] = {}
        self._away: tuple[str, int] | None = None
        """The owner that could not be reached, by address and epoch, until it can be reached again."""
        self._link_seconds: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # Choosing the backend.

    @property
    def epoch(self) -> int:
        """The epoch of the owner that was last seen."""
        return 0 if self.ownership.owner is None else self.ownership.owner.epoch

    @property
    def at_once(self) -> bool:
        target = self.target()
        return target is None or target.at_once

    def target(self) -> Backend | None:
        """The backend to use now; None if there is none."""
        ownership = self.ownership
        if ownership.reign is not None:
            return self.own
        owner = ownership.owner
        if owner is None or owner.name == ownership.name or self._away == (owner.address, owner.epoch):
            return None
        remote = self._remotes.get(owner.address)
        if remote is None:
            remote = self._remotes[owner.address] = self._connect(owner.address)
            if self.draining:
                remote.drain()
        return remote

    def moved(self, target: Backend) -> None:
        """Called when the server that was asked is not the owner, or could not be reached."""
        owner = self.ownership.owner
        if self._closed or target is self.own or owner is None or target is not self._remotes.get(owner.address):
            return
        if self._away != (owner.address, owner.epoch):
            self._away = owner.address, owner.epoch
            # One task looks for it, not every request that waits.
            self._spawn(self._revive(target, self._away))
        self.ownership.doubt()

    async def _revive(self, target: Backend, away: tuple[str, int]) -> None:
        """Try the owner until it can be reached, or there is another owner."""
        pause = REVIVE_SECONDS
        while self._away == away and not self._closed:
            until = self.clock.now() + pause
            while self._away == away and self.clock.now() < until:
                await self.ownership.changed.wait(until)
                owner = self.ownership.owner
                if self.ownership.reign is not None or owner is None or (owner.address, owner.epoch) != away:
                    self._away = None
                    return
            try:
                await target.stats()
                break
            except QueueError:
                pause = min(2 * pause, REVIVE_SECONDS_MAX)
                self.ownership.doubt()
        if self._away == away:
            self._away = None
        self.ownership.changed.notify()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def found(self, until: float, held: bool = False) -> bool:
        """Wait until there is a backend to use. Returns False if there was none until the engine time `until`, or, for `held` requests, if
        this server drains.
        """
        while self.clock.now() < until and not self._closed:
            if self.target() is not None:
                return True
            if held and self.draining:
                return False
            await self.ownership.changed.wait(until)
        return False

    def nobody(self) -> StorageUnavailable:
        """The error for requests that have waited long enough."""
        owner, problem = self.ownership.owner, self.ownership.problem
        if owner is None or (owner.name == self.ownership.name and self.ownership.lease is None):
            several = self.ownership.place.count > 1
            said = f"{self.ownership.what} has no owner at the moment" if several else "there is no owner at the moment"
        elif owner.name == self.ownership.name:
            said = "this server is becoming the owner and is not ready yet"
        else:
            said = f"the server that owns {self.ownership.what}, {owner.name}, cannot be reached"
        return StorageUnavailable(said if problem is None else f"{said}; this one does not claim ownership: {problem}")

    # Operations with one request and one answer.

    async def _pass(self, ask: Ask[R]) -> R:
        target = self.target()
        if target is not None:
            try:
                return await ask(target)
            except Moved:
                self.moved(target)
        return await self._pass_later(ask, self.clock.now() + self.wait_seconds)

    async def _pass_later(self, ask: Ask[R], until: float, held: bool = False) -> R:
        while await self.found(until, held):
            target = self.target()
            if target is not None:
                try:
                    return await ask(target)
                except Moved:
                    self.moved(target)
        raise self.nobody()

    async def _change(self, ask: Ask[R]) -> R:
        def asked(target: Backend) -> Awaitable[R]:
            # Checked each time, since the server can begin to drain during the wait.
            self.check_open()
            return ask(target)

        self.check_open()
        return await self._pass(asked)

    def check_open(self) -> None:
        """Raise Draining once `drain` was called."""
        if self.draining:
            raise Draining("the server is shutting down")

    # Operations that wait.

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        began = self.clock.now()

        def ask(target: Backend) -> Awaitable[Job]:
            return target.job(job_id, 0.0 if self.draining else max(0.0, began + wait - self.clock.now()))

        return await self._pass_later(ask, began + max(wait, self.wait_seconds), held=wait > 0)

    async def _hold(self, request: Request[R], wait: float) -> R:
        began = self.clock.now()

        def ask(target: Backend) -> Awaitable[R]:
            return target.ask(request.waiting(0.0 if self.draining else max(0.0, began + wait - self.clock.now())))

        return await self._pass_later(ask, began + max(wait, self.wait_seconds), held=wait > 0)

    def dequeue(self, want: Want, wait: float) -> Taking:
        return ClusterTaking(self, want, wait)

    def listen(self, wanted: Listen, after: str | None = None) -> Listening:
        return ClusterListening(self, wanted, after)

    def return_jobs(self, jobs: Sequence[Job]) -> None:
        """Give back jobs that were handed out in a reign that has ended, and whose answer could not be delivered.

        Jobs that were answered again are not included: the worker may have them since the first answer.
        """
        self._spawn(self._return([job for job in jobs if job.lease is not None and not job.lease.replayed]))

    def follow(self, reign: Reign, jobs: list[Job]) -> None:
        """Make sure that jobs which this server put back as the owner stay put back if its reign ends before that is committed."""
        self._spawn(self._follow(reign, jobs))

    async def _follow(self, reign: Reign, jobs: list[Job]) -> None:
        ticket = reign.local.ticket
        while not reign.over:
            try:
                await reign.journal.committed(ticket)
            except StorageUnavailable:
                # The journal tries again by itself.
                await self.ownership.changed.wait(self.clock.now() + REVIVE_SECONDS_MAX)
            else:
                return
        await self._return(jobs)

    async def _return(self, jobs: Sequence[Job]) -> None:
        until = self.clock.now() + RETURN_SECONDS
        for job in jobs:
            while job.lease is not None:
                try:
                    await self._pass_later(_give_back(job.id, job.lease.token), until)
                except Unconfirmed:
                    # If this is repeated, it has no effect if it was done.
                    await self.ownership.changed.wait(self.clock.now() + REVIVE_SECONDS_MAX)
                    continue
                except StorageUnavailable as error:
                    _logger.warning("undelivered jobs come back when their leases end: %s", error)
                    return
                break

    # Totals, drain and close.

    async def check(self) -> None:
        self.check_open()
        target = self.target()
        if target is None:
            raise self.nobody()
        try:
            await target.check()
        except Moved:
            self.moved(target)
            raise self.nobody() from None

    async def stats(self) -> BackendStats:
        totals = await self._pass(self._totals)
        return replace(totals, draining=self.draining)

    async def _totals(self, target: Backend) -> BackendStats:
        began = self.clock.now()
        totals = await target.stats()
        self._link_seconds = None if target is self.own else self.clock.now() - began
        return totals

    @property
    def lease_left(self) -> float:
        """Seconds until the store lets another server claim, as far as this server knows; 0 or less if it does already."""
        ownership = self.ownership
        if ownership.lease is not None:
            return ownership.lease.seconds - ownership.lease.renewed_ago
        owner = ownership.owner
        return 0.0 if owner is None else owner.seconds - (self.clock.now() - ownership.owner_seen_at)

    def cluster(self) -> ClusterStats | None:
        ownership, membership = self.ownership, self.ownership.membership
        owner, lease = ownership.owner, ownership.lease
        left: float | None = self.lease_left
        if owner is None or left is None or left <= 0:
            owner, left = None, None
        since = self.clock.now() - membership.seen_at
        standby, behind = self._standby()
        return ClusterStats(
            name=ownership.name,
            address=ownership.address,
            store=ownership.store.path,
            owner=None if owner is None else owner.name,
            owner_address=None if owner is None else owner.address,
            epoch=ownership.epoch,
            members=[MemberStats(name, address, max(0.0, seconds) + since) for name, address, seconds in sorted(membership.members)],
            lease_left_seconds=left,
            problem=ownership.problem,
            standby=standby,
            behind=behind,
            renewed_seconds=None if lease is None else lease.renewed_ago,
            link_seconds=None if self.target() in (self.own, None) else self._link_seconds,
            clock_seconds=membership.clock_seconds,
        )

    def _standby(self) -> tuple[str | None, int]:
        """The server that could take over at once, as far as the owner and that server know, and how many commits it has yet to follow."""
        ownership = self.ownership
        if ownership.reign is not None:
            return ownership.reign.feeds.standby or (None, 0)
        if ownership.standby is not None and ownership.standby.warm:
            return ownership.name, ownership.standby.behind
        return None, 0

    def feeds(self) -> Feeds | None:
        """The feed of groups to the servers that follow the owner, while this server is the owner."""
        reign = self.ownership.reign
        return None if reign is None else reign.feeds

    def drain(self) -> None:
        if self.draining:
            return
        self.draining = True
        for remote in self._remotes.values():
            remote.drain()
        ownership = self.ownership
        if ownership.reign is None or ownership.others:
            ownership.hand_over()
        else:
            # Nobody would take the queue over, and workers still report their work.
            ownership.reign.local.drain()
        ownership.changed.notify()

    async def close(self) -> None:
        self.drain()
        await self.ownership.handed_over()
        until = self.clock.now() + self.wait_seconds
        while self._tasks and self.clock.now() < until:
            # Jobs that are given back to the next owner, while this server still looks for it.
            await self.ownership.changed.wait(min(until, self.clock.now() + REVIVE_SECONDS))
        self._away, self._closed = None, True
        self.ownership.changed.notify()
        await self.ownership.close()
        await asyncio.gather(*self._tasks)
        remotes, self._remotes = self._remotes, {}
        for remote in remotes.values():
            await remote.close()
        if self.ownership.alone:
            await self.ownership.store.close()


def _give_back(job_id: str, token: str) -> Ask[bool]:
    return lambda to: to.give_back(job_id, token)
