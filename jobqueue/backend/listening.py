"""The listeners to events, and the events that are remembered for them.

There is one ring for all: a listener is a position in it, and has no buffer of its own. So a slow listener costs nothing except its
connection; once the ring has moved past its position, it is disconnected. The ring exists while somebody listens, and for LINGER_SECONDS
after the last listener left, so that a listener whose connection broke can continue where it was. Without a ring, an event costs nothing.

With a journal, an event is added to the ring in its step, which fixes its content, and shown when its ticket is committed.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Callable
from typing import Self

from jobqueue.backend.base import Listen, Notice
from jobqueue.backend.journal import Journal
from jobqueue.backend.waiters import Registry, Waiter
from jobqueue.clock import Clock
from jobqueue.engine.events import K_QUEUE_DELETED, Event
from jobqueue.errors import StorageUnavailable, TooManyListeners
from jobqueue.limits import Limits
from jobqueue.model import Job
from jobqueue.policy import QueuePolicy

LINGER_SECONDS = 60.0
"""How long events are remembered after the last listener left. A browser reconnects within a few seconds."""

LOOKED_AT_MAX = 2_000
"""How many events are checked in one turn of the loop for a listener that wants few of them."""


class Ring:
    """The last events of a process, each under its number, from 1 on. name: distinguishes this ring from every other."""

    def __init__(self, size: int) -> None:
        self.name = secrets.token_hex(4)
        self.shown = 0
        """The number of the last event that listeners can receive."""
        self.newest = 0
        self._size = size
        self._slots: list[Notice | None] = [None] * size

    def add(self, event: Event, at: float, skew: float, policy: QueuePolicy | None) -> None:
        """Remember an event as it is now. at: engine time; policy: the queue's, for an event of a queue."""
        self.newest = number = self.newest + 1
        cursor = f"{self.name}-{number}"
        job = event.job
        if job is None:
            notice = Notice(cursor=cursor, kind=event.kind, at=at + skew, queue=event.queue, policy=policy)
        else:
            notice = _of_job(event, job, cursor, at, skew)
        self._slots[number % self._size] = notice

    def get(self, number: int) -> Notice | None:
        """An event, None if it was forgotten."""
        if number <= self.newest - self._size:
            return None
        return self._slots[number % self._size]

    def place(self, cursor: str) -> int | None:
        """The number that a cursor stands for. None if the cursor is not from this ring, or if the events after it were forgotten."""
        name, _, digits = cursor.partition("-")
        # At most as long as the ring's own numbers: int() of thousands of digits would take long.
        if name != self.name or not (digits.isascii() and digits.isdigit()) or len(digits) > len(str(self.shown)):
            return None
        number = int(digits)
        return number if self.newest - self._size <= number <= self.shown else None


def _of_job(event: Event, job: Job, cursor: str, at: float, skew: float) -> Notice:
    lease, end = job.lease, job.conclusion
    ran = lease or end
    return Notice(
        cursor=cursor,
        kind=event.kind,
        at=at + skew,
        queue=event.queue,
        id=job.id,
        number=job.number,
        type=job.type,
        priority=job.priority,
        status=job.status,
        outcome=None if end is None else end.outcome,
        attempts=job.attempts,
        run_at=None if job.run_at is None else job.run_at + skew,
        lease_expires_at=None if lease is None else lease.expires_at + skew,
        worker=None if ran is None else ran.worker,
        progress=None if lease is None else lease.progress,
        message=None if lease is None else lease.message,
        cancel_requested=lease is not None and lease.cancel_requested,
        key=job.key,
    )


class Listeners:
    """All listeners of one backend, and the ring while there is one.

    policy: returns a queue's policy, None if there is no such queue; arm: called with the current time when a wait was added.
    """

    def __init__(
        self,
        clock: Clock,
        limits: Limits,
        journal: Journal | None,
        policy: Callable[[str], QueuePolicy | None],
        arm: Callable[[float], None],
    ) -> None:
        self.clock = clock
        self.waiting: Registry[list[Job]] = Registry([])
        self.draining = False
        self._limits = limits
        self._journal = journal
        self._policy = policy
        self._arm = arm
        self.ring: Ring | None = None
        self.count = 0
        self._until = math.inf
        self._ticket = 0
        self._showing: asyncio.Task[None] | None = None
        self._waking = False

    def enter(self, after: str | None) -> tuple[Ring, int, bool]:
        """Start to listen. Returns the ring, the number after which to start, and whether `after` is unknown. Raises TooManyListeners."""
        most = self._limits.listeners_max
        if self.count >= most:
            raise TooManyListeners(f"too many event listeners (limit {most})")
        self.count += 1
        self._until = math.inf
        if self.ring is None:
            self.ring = Ring(self._limits.notices_max)
        place = None if after is None else self.ring.place(after)
        return (self.ring, self.ring.shown, after is not None) if place is None else (self.ring, place, False)

    def leave(self) -> None:
        """Stop listening."""
        self.count -= 1
        if not self.count:
            self._until = self.clock.now() + LINGER_SECONDS

    def add(self, event: Event, now: float) -> None:
        """Remember an event, if a listener could want it."""
        ring = self.ring
        if ring is None:
            return
        if now > self._until:
            self.ring = None
            return
        policy = self._policy(event.queue) if event.job is None and event.kind is not K_QUEUE_DELETED else None
        ring.add(event, now, self.clock.skew(), policy)

    def acted(self, ticket: int) -> None:
        """A step is over; its events have this ticket of the journal, if there is a journal."""
        ring = self.ring
        if ring is None or ring.shown == ring.newest:
            return
        if self._journal is None:
            self._show(ring, ring.newest)
        else:
            self._ticket = ticket
            self.show_committed()

    def show_committed(self) -> None:
        """Make sure that committed events are shown. Listeners call it whenever they read, so that showing continues after a failed
        commit.
        """
        ring = self.ring
        if ring is not None and ring.shown < ring.newest and self._showing is None:
            self._showing = asyncio.get_running_loop().create_task(self._committed(ring))

    async def _committed(self, ring: Ring) -> None:
        journal = self._journal
        assert journal is not None
        try:
            while ring.shown < ring.newest:
                ticket, number = self._ticket, ring.newest
                await journal.committed(ticket)
                self._show(ring, number)
        except StorageUnavailable:
            # Events that are not stored yet are not shown either. The journal tries again by itself; show_committed asks it again.
            return
        finally:
            self._showing = None
        if self.ring is not ring:
            self.show_committed()

    def _show(self, ring: Ring, number: int) -> None:
        ring.shown = number
        if not self._waking and len(self.waiting):
            # Once for all steps of this turn of the loop, so that a busy queue does not wake every listener for every job.
            self._waking = True
            asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        self._waking = False
        self.waiting.settle_all()

    def close(self) -> None:
        """Show no more."""
        if self._showing is not None:
            self._showing.cancel()

    def drain(self) -> None:
        """Inform every listener that there will be no more events."""
        self.draining = True
        self.waiting.settle_all()

    async def wait(self, until: float) -> None:
        """Wait until events are shown, or until the time `until`."""
        waiter: Waiter[list[Job]] = Waiter(("",))
        self.waiting.add(waiter, until)
        self._arm(self.clock.now())
        try:
            await waiter.wait()
        finally:
            self.waiting.remove(waiter)


class LocalListening:
    """See base.Listening."""

    def __init__(self, listeners: Listeners, wanted: Listen, after: str | None) -> None:
        self._listeners = listeners
        self._wanted = wanted
        self._after = after
        self._ring: Ring | None = None
        self._place = 0
        self.missed = False

    @property
    def cursor(self) -> str:
        """See base.Listening."""
        assert self._ring is not None
        return f"{self._ring.name}-{self._place}"

    async def __aenter__(self) -> Self:
        self._ring, self._place, self.missed = self._listeners.enter(self._after)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._listeners.leave()

    async def notices(self, limit: int, wait: float) -> list[Notice] | None:
        """See base.Listening."""
        listeners = self._listeners
        until = listeners.clock.now() + wait
        while True:
            found = self._found(limit)
            if found is None or found:
                return found
            if listeners.draining:
                return None
            assert self._ring is not None
            if self._place < self._ring.shown:
                await asyncio.sleep(0)
                continue
            listeners.show_committed()
            if listeners.clock.now() >= until:
                return []
            await listeners.wait(until)

    def _found(self, limit: int) -> list[Notice] | None:
        """The next events that are wanted, among those shown; None if some were forgotten."""
        ring, wants = self._ring, self._wanted.wants
        assert ring is not None
        found: list[Notice] = []
        for number in range(self._place + 1, min(ring.shown, self._place + LOOKED_AT_MAX) + 1):
            notice = ring.get(number)
            if notice is None:
                return None
            self._place = number
            if wants(notice):
                found.append(notice)
                if len(found) >= limit:
                    break
        return found
