"""Partitions whose disks, restarts and messages a test controls. Every partition is a LocalBackend on rows in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, cast

from jobqueue.backend.base import Backend, Enqueued
from jobqueue.backend.group import Finished, Group
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.loading import load
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.requests.request import R, Request
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine
from jobqueue.errors import QueueError, StorageUnavailable, Unconfirmed
from jobqueue.limits import Limits
from jobqueue.model import Job, JobSpec
from jobqueue.partition import Place

from .memory import Rows, Shared

Operation = Callable[[], Coroutine[Any, Any, Any]]

LOST = StorageUnavailable("the owner is gone")
UNANSWERED = Unconfirmed("the answer was lost")


class Disk:
    """A Writer on rows in memory. While it stands still, nothing is committed."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._held: list[tuple[Group, Finished]] = []
        self._stands = False

    def write(self, group: Group, finished: Finished) -> None:
        self._held.append((group, finished))
        if not self._stands:
            asyncio.get_running_loop().call_soon(self._commit)

    def stand_still(self) -> None:
        self._stands = True

    def go_on(self) -> None:
        self._stands = False
        self._commit()

    def _commit(self) -> None:
        if not self._stands:
            held, self._held = self._held, []
            for group, finished in held:
                self._shared.write(group)
                finished(None)

    def break_off(self) -> None:
        """The process is killed: what is not committed is lost."""
        self._held.clear()
        self._stands = True

    async def close(self, tidy: bool) -> None: ...


class Partition:
    """One partition: its rows, and the owner that it has now."""

    def __init__(self, place: Place, limits: Limits, clock: ManualClock) -> None:
        self.place = place
        self.shared = Shared(clock)
        self._limits = limits
        self._clock = clock
        self._running: set[asyncio.Future[Any]] = set()
        self._open()

    def restart(self) -> None:
        """The owner is killed, and the next one reads what was committed. What it was asked meanwhile has no answer."""
        self.disk.break_off()
        for task in self._running:
            task.cancel()
        self._open()

    async def carry_out(self, operation: Operation) -> Any:
        """Carry out an operation at the owner that there is now."""
        task = asyncio.ensure_future(operation())
        self._running.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            raise UNANSWERED from None
        finally:
            self._running.discard(task)

    def _open(self) -> None:
        engine = Engine(self._limits, place=self.place)
        offset, change = load(Rows(self.shared), engine, self._clock)
        journal = GroupJournal(engine, self._clock, "test", offset=offset, change=change)
        self.disk = Disk(self.shared)
        journal.use(self.disk)
        self.local = LocalBackend(engine=engine, clock=self._clock, journal=journal)
        self.local.resume()

    @property
    def engine(self) -> Engine:
        return self.local.engine

    def job(self, job_id: str) -> Job | None:
        return self.engine.jobs.find(job_id)


class Way:
    """How a front reaches a partition: each operation goes through `carry`, which can lose it, or its answer, or deliver it later."""

    def __init__(self, partition: Partition, carry: Callable[[Partition, str, Operation], Awaitable[Any]]) -> None:
        self._partition = partition
        self._carry = carry

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        return await self._carry(self._partition, "Enqueue", lambda: self._partition.local.enqueue(spec))  # type: ignore[no-any-return]

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        return await self._carry(self._partition, "Enqueue", lambda: self._partition.local.enqueue_batch(specs))  # type: ignore[no-any-return]

    async def ask(self, request: Request[R]) -> R:
        return await self._carry(self._partition, type(request).__name__, lambda: self._partition.local.ask(request))  # type: ignore[no-any-return]


def ways(partitions: Sequence[Partition], carry: Callable[[Partition, str, Operation], Awaitable[Any]]) -> list[Backend]:
    """The partitions as a front sees them."""
    return [cast(Backend, Way(partition, carry)) for partition in partitions]


class FrontDied(BaseException):
    """The server that sent an operation was killed."""
