"""What a server serves as the owner, to its own clients and to other servers: the local backend while there is one, otherwise Moved.

A local backend that was deposed or handed over ends every wait at once. This module distinguishes such an end from an ordinary one: a held
request gets Moved, and continues at the new owner with the rest of its wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Self

from jobqueue.backend.base import BackendStats, ClusterStats, Listen, Listening, Notice, Taking
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.requests.moves import GivePartition
from jobqueue.backend.requests.request import R, Request
from jobqueue.backend.store.feed import Feeds
from jobqueue.backend.store.lease import Lease
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.passing import Ask, Passing
from jobqueue.backend.store.signals import Signal
from jobqueue.backend.taking import LocalTaking
from jobqueue.clock import Clock
from jobqueue.errors import Draining, StorageUnavailable, Unconfirmed
from jobqueue.model import Job, Want


class ReigningBackend(LocalBackend):
    """The local backend of one reign. returned: called with jobs that were just put back, when nobody waits for the commit of that."""

    returned: Callable[[list[Job]], object] = staticmethod(lambda jobs: None)

    def put_back(self, jobs: list[Job]) -> None:
        """See LocalBackend.put_back."""
        super().put_back(jobs)
        self.returned(jobs)


class Reign:
    """One epoch of this server: from when its rows were loaded until it is deposed or has handed over.

    busy: the number of running operations, and of dequeues whose jobs are neither delivered nor put back.
    """

    def __init__(self, lease: Lease, local: LocalBackend, journal: GroupJournal, clock: Clock) -> None:
        self.lease = lease
        self.local = local
        self.journal = journal
        self.feeds = Feeds(journal)
        self.busy = 0
        self.over = False
        """Whether its memory must not change any more, since nobody would store the change."""
        self._clock = clock
        self._calm = Signal(clock)

    def ended(self) -> bool:
        """Whether a wait that found nothing is meaningless. Checks the clock, since timers are late on a machine that has just woken."""
        return self.local.draining or not self.lease.held()

    def leave(self) -> None:
        """An operation has ended."""
        self.busy -= 1
        if not self.busy:
            self._calm.notify()

    def depose(self, why: str) -> None:
        """Acknowledge nothing more, write nothing more, and answer all waiting requests."""
        self.over = True
        self.journal.give_up(why)
        self.local.drain()

    async def calm(self, until: float) -> None:
        """Return when no operation is running, or at the engine time `until`."""
        while self.busy and self._clock.now() < until:
            await self._calm.wait(until)


class OwnBackend(Passing):
    """A Backend that exists as long as the process, whoever owns the queue; the methods are documented at `Backend`.

    Each method also raises Moved, having changed nothing, if this server is not the owner, not yet, or no longer. reign: the current one;
    return_jobs: called with jobs that were handed out in a reign that has ended and could not be delivered; give: see Ownership.give.
    """

    at_once = True

    def __init__(
        self,
        reign: Callable[[], Reign | None],
        return_jobs: Callable[[Sequence[Job]], object],
        give: Callable[[str, int], Awaitable[None]] | None = None,
    ) -> None:
        self._reign = reign
        self.return_jobs = return_jobs
        self._give = give

    def now(self) -> Reign:
        """The current reign, after checking that its lease is held at this moment. Raises Moved."""
        reign = self._reign()
        if reign is None or not reign.lease.held():
            raise Moved("this server is not the owner")
        return reign

    async def ask(self, request: Request[R]) -> R:
        if self._give is not None and isinstance(request, GivePartition):
            # Not an operation on the reign, which it ends.
            await self._give(request.to, request.epoch)
            return True  # type: ignore[return-value] # what a GivePartition is answered with
        return await super().ask(request)

    async def _pass(self, ask: Ask[R]) -> R:
        reign = self.now()
        reign.busy += 1
        try:
            return await ask(reign.local)
        except (Draining, StorageUnavailable) as error:
            raise told(error, reign) from None
        finally:
            reign.leave()

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        reign = self.now()
        # A wait is not a running operation: a hand-over ends it.
        try:
            found = await reign.local.job(job_id, wait)
        except StorageUnavailable as error:
            raise told(error, reign) from None
        if wait > 0 and reign.ended():
            # Also for a job that has ended: on a machine that has just woken, it may have expired only here.
            raise Moved("the queue's owner changed during the wait")
        return found

    async def _hold(self, request: Request[R], wait: float) -> R:
        # As `job`.
        reign = self.now()
        try:
            found = await reign.local.ask(request)
        except StorageUnavailable as error:
            raise told(error, reign) from None
        if wait > 0 and reign.ended():
            raise Moved("the queue's owner changed during the wait")
        return found

    def dequeue(self, want: Want, wait: float) -> Taking:
        return OwnTaking(self, want, wait)

    def listen(self, wanted: Listen, after: str | None = None) -> Listening:
        return OwnListening(self, wanted, after)

    async def check(self) -> None:
        reign = self.now()
        try:
            await reign.local.check()
        except (Draining, StorageUnavailable) as error:
            raise told(error, reign) from None

    async def stats(self) -> BackendStats:
        return await self.now().local.stats()

    def cluster(self) -> ClusterStats | None:
        """None: the backend that contains this one answers."""
        return None

    def drain(self) -> None:
        """Does nothing: whoever owns the reign ends it."""

    async def close(self) -> None:
        """Does nothing; see drain."""


def told(error: Draining | StorageUnavailable, reign: Reign) -> Draining | StorageUnavailable:
    """What an error of the local backend means to a caller that can ask another server."""
    if isinstance(error, Unconfirmed) or not (isinstance(error, Draining) or reign.lease.gone):
        return error
    return Moved(f"another server is the owner now: {error.detail}")


class OwnTaking:
    """One dequeue of the owner; see base.Taking."""

    def __init__(self, own: OwnBackend, want: Want, wait: float) -> None:
        self._own = own
        self._want = want
        self._wait = wait
        self._reign: Reign | None = None
        self._taking: LocalTaking | None = None
        self.quiet = False

    def at_once(self) -> list[Job] | None:
        """See base.Taking.at_once."""
        return None

    def leave(self) -> None:
        """See base.Taking.leave."""

    async def __aenter__(self) -> list[Job]:
        reign = self._own.now()
        taking = reign.local.dequeue(self._want, self._wait)
        try:
            jobs = await taking.__aenter__()
        except (Draining, StorageUnavailable) as error:
            raise told(error, reign) from None
        if jobs:
            self._reign, self._taking = reign, taking
            reign.busy += 1
        elif reign.ended():
            raise Moved("the queue's owner changed during the wait")
        self.quiet = taking.quiet
        return jobs

    async def __aexit__(self, *exc_info: object) -> None:
        reign, taking, self._taking = self._reign, self._taking, None
        if reign is None or taking is None:
            return
        held = taking.held
        if held and reign.over:
            # This server's memory is no longer authoritative: the new owner has these leases, and must give them back.
            taking.delivered()
            self._own.return_jobs(held)
        else:
            await taking.__aexit__(*exc_info)
        reign.leave()

    def delivered(self) -> None:
        """See base.Taking.delivered."""
        if self._taking is not None:
            self._taking.delivered()


class OwnListening:
    """One listener at the owner; see base.Listening. `notices` raises Moved when the reign has ended."""

    def __init__(self, own: OwnBackend, wanted: Listen, after: str | None) -> None:
        self._own = own
        self._wanted = wanted
        self._after = after
        self._reign: Reign | None = None
        self._listening: Listening | None = None
        self.missed = False

    @property
    def cursor(self) -> str:
        """See base.Listening."""
        assert self._listening is not None
        return self._listening.cursor

    async def __aenter__(self) -> Self:
        self._reign = self._own.now()
        self._listening = self._reign.local.listen(self._wanted, self._after)
        await self._listening.__aenter__()
        self.missed = self._listening.missed
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._listening is not None:
            await self._listening.__aexit__(*exc_info)

    async def notices(self, limit: int, wait: float) -> list[Notice] | None:
        """See base.Listening."""
        assert self._listening is not None
        assert self._reign is not None
        found = await self._listening.notices(limit, wait)
        if not found and self._reign.ended():
            raise Moved("another server is the owner now, which knows other events")
        return found
