"""Journals that commit when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from jobqueue.backend.base import StorageStats
from jobqueue.engine.events import Event, Kind
from jobqueue.errors import StorageUnavailable, Unconfirmed
from jobqueue.histogram import Timings


class GatedJournal:
    """A journal on a disk that has stopped: nothing is committed before `commit`. log: what was appended, in order."""

    def __init__(self) -> None:
        self.log: list[tuple[Kind, str]] = []
        self.closed = False
        self._done = 0
        self._broken = False
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    @property
    def ticket(self) -> int:
        """The ticket of the last event."""
        return len(self.log)

    @property
    def waiting(self) -> int:
        """Callers that wait for a commit."""
        return sum(not future.done() for _, future in self._waiting)

    def append(self, events: Sequence[Event]) -> int:
        self.log += [(event.kind, event.queue if event.job is None else event.job.id) for event in events]
        return self.ticket

    def check(self, adding: bool) -> None:
        if self._broken:
            raise StorageUnavailable("the disk is full")

    async def committed(self, ticket: int) -> None:
        if self._broken:
            raise Unconfirmed("the disk is full")
        if ticket > self._done:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((ticket, future))
            await future

    def stats(self) -> StorageStats:
        return StorageStats(self._broken, Timings(), 0)

    async def close(self) -> None:
        self.commit()
        self.closed = True

    def commit(self, ticket: int | None = None) -> None:
        """Make everything up to a ticket durable; all there is without one."""
        self._done = self.ticket if ticket is None else ticket
        for wanted, future in self._waiting:
            if wanted <= self._done and not future.done():
                future.set_result(None)

    def fail(self) -> None:
        """Fail every commit that is waited for, and those to come."""
        self._broken = True
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(Unconfirmed("the disk is full"))

    def recover(self) -> None:
        """Let commits succeed again, at once."""
        self._broken = False
        self._done = 1 << 62
