"""The local backend on a SQLite file: as it runs, and started anew from its file before every operation."""

from __future__ import annotations

import asyncio
import functools
import math
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from jobqueue.backend.base import Backend, BackendStats, Listen, Listening, Taking
from jobqueue.backend.group_journal import GroupJournal
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.sqlite.open import open_journal
from jobqueue.engine.engine import Engine
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.queues import QueueState
from jobqueue.engine.timetable import Table
from jobqueue.ids import Ids
from jobqueue.limits import Limits
from jobqueue.model import Job, Lease, Want
from tests.engine.invariants import fingerprint, invariants

from .rig import LocalRig


def kept(engine: Engine) -> dict[str, Any]:
    """All of an engine that a restart must not change: its fingerprint, but for what belongs to the process."""
    print_ = fingerprint(engine)
    for job in print_["jobs"].values():
        del job["slot"]
        if isinstance(job["hold"], Lease):
            # A put back can only be asked for by the process that handed the job out; and a restart is a stall of its own to workers.
            # Whether a lease takes what others wait for goes by the policy: of then when it is made, of now when it is read.
            # How many attempts the job had is for the answer alone.
            job["hold"] = msgspec.structs.replace(job["hold"], replayed=False, prolonged=False, limited=False, attempts_max=None)
    for name in ("random", "events"):
        del print_[name]
    # The due times of jobs are with the jobs. Those of rates and of walks are the process's.
    del print_["due"]
    for name, queue in print_["queues"].items():
        queue["lanes"] = [lane or None for lane in queue["lanes"]]
        queue["flow"] = _kept_of_flow(engine.queues[name])
        if _rated(engine.queues[name]):
            queue["stats"] = msgspec.structs.replace(queue["stats"], held=0, held_by={}, keys=0, rate_next_at=None)
    print_["queues"] = dict(sorted(print_["queues"].items()))
    return print_


def _rated(queue: QueueState) -> bool:
    per_key = queue.policy.per_key
    return queue.policy.rate is not None or (per_key is not None and per_key.rate is not None)


def _kept_of_flow(queue: QueueState) -> Any:
    """What a queue knows of its keys, but for what their rates had left and how much of a fair queue they have had."""
    if not isinstance(queue, FlowQueue):
        return None
    keys = {
        key: (
            state.live,
            state.queued,
            state.paused,
            [sorted(job.id for job in jobs) for jobs in (state.running, state.away, state.halted)],
        )
        for key, state in queue.states.items()
        if not state.idle
    }
    return queue.keyed, queue.moving, list(queue.paused), keys


def finish_walks(engine: Engine) -> None:
    """Do at once what is done in slices. A server that starts has nothing of that: it has built all of it."""
    tables = []
    while engine.deadlines.earliest == -math.inf:
        item = engine.deadlines.pop(-math.inf)
        if isinstance(item, Table):
            # Its time comes with the next turn of the ticker, in which it is known what time it is.
            tables.append(item)
        elif item is not None:
            engine._flow_due(item, -math.inf)
    for table in tables:
        engine.deadlines.set(table, -math.inf)


JOBS_MAX = 300
"""Live jobs from which on nothing is restarted: reading them again before every one of a thousand enqueues shows nothing new."""


MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
"""Where files are made without a disk, on which the restarts of the suite would take most of its time. None: in the usual place."""


class DurableRig(LocalRig):
    """A SQLite file in a folder of its own, in memory and its commits not synced: what a power cut does is not what the suite is about."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.limits = limits
        # The ids of one millisecond are in order because one process makes them. The clock stands still here, so they are one process's.
        self.ids = Ids()

    async def opened(self) -> Self:
        """The rig, its backend started."""
        self.local = await self.start()
        self.backend = self.front()
        return self

    def front(self) -> Backend:
        """What the tests see of it."""
        return self.local

    async def start(self) -> LocalBackend:
        """A backend on what is kept."""
        engine = Engine(self.limits, self.ids)
        self.journal = await self.open_journal(engine)
        backend = LocalBackend(engine=engine, clock=self.clock, journal=self.journal)
        backend.resume()
        return backend

    # What a rig on something else than a file brings.

    async def open_journal(self, engine: Engine) -> GroupJournal:
        """Fill an engine with what is kept; its journal."""
        return open_journal(str(Path(self.folder.name, "jobs.db")), engine, self.clock, sync="off")

    async def clean(self) -> None:
        """Leave nothing behind, now that the backend is closed."""
        self.folder.cleanup()

    @functools.cached_property
    def folder(self) -> tempfile.TemporaryDirectory[str]:
        """Where the file is."""
        return tempfile.TemporaryDirectory(dir=MEMORY, ignore_cleanup_errors=True)

    async def idle(self) -> None:
        quiet = False
        while not quiet:
            # Looked at before the turns, too: a commit that ends in the last of them has yet to be noticed by who waited for it. So has
            # one that both began and ended in them, which only the ticket tells.
            ticket, quiet = self.local.ticket, not self.journal.unwritten_bytes
            await super().idle()
            if self.local.ticket != ticket:
                quiet = False
            if self.journal.unwritten_bytes:
                quiet = False
                await self.journal.committed(self.local.ticket)

    async def advance(self, seconds: float, then: Any = None) -> None:
        if then is not None:
            await super().advance(seconds, then)
            return
        for _ in range(self.STEPS):
            self.clock.advance(seconds / self.STEPS)
            await self.idle()

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            await self.clean()


class RestartingRig(DurableRig):
    """The same, closed and started anew before every operation that nobody else is in the middle of; a held request cannot survive it."""

    jobs_max = JOBS_MAX

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.restarts = self.undelivered = 0
        self._lock = asyncio.Lock()
        self._beginning = 0
        self.open = 0

    def front(self) -> Backend:
        return Restarting(self)

    async def begin(self) -> LocalBackend:
        """Start anew if nobody is in the middle of something; the backend for one operation, which must call `end`."""
        self._beginning += 1
        try:
            return await self._begin()
        finally:
            self._beginning -= 1

    async def _begin(self) -> LocalBackend:
        async with self._lock:
            if not self.open and not self.local.draining and self.local.engine.live < self.jobs_max:
                finish_walks(self.local.engine)
                before = kept(self.local.engine)
                self.undelivered += self.local.undelivered_total
                await self.local.close()
                self.local = await self.start()
                invariants(self.local.engine)
                assert kept(self.local.engine) == before
                self.restarts += 1
            self.open += 1
            return self.local

    def end(self) -> None:
        """An operation is over."""
        self.open -= 1

    async def idle(self) -> None:
        while True:
            beginning = self._beginning
            await super().idle()
            # Not whether the lock is held: between one operation that had it and the next it is free for a moment.
            if not beginning and not self._beginning:
                return
            async with self._lock:
                pass


class Restarting:
    """A Backend that passes every operation on to the one of the moment."""

    def __init__(self, rig: RestartingRig) -> None:
        self._rig = rig

    def __getattr__(self, name: str) -> Any:
        rig = self._rig
        if name in ("drain", "close"):
            return getattr(rig.local, name)

        async def operate(*arguments: Any, **named: Any) -> Any:
            backend = await rig.begin()
            try:
                return await getattr(backend, name)(*arguments, **named)
            finally:
                rig.end()

        return operate

    async def stats(self) -> BackendStats:
        """What a process counted is over with it; the suite takes several for one."""
        stats = await self._rig.local.stats()
        return msgspec.structs.replace(stats, undelivered_total=stats.undelivered_total + self._rig.undelivered)

    def dequeue(self, want: Want, wait: float) -> Taking:
        return RestartingTaking(self._rig, want, wait)

    def listen(self, wanted: Listen, after: str | None = None) -> Listening:
        return RestartingListening(self._rig, self._rig.local.listen(wanted, after))


class RestartingListening:
    """One listener; nothing is restarted until it has left."""

    def __init__(self, rig: RestartingRig, listening: Listening) -> None:
        self._rig, self._listening = rig, listening

    async def __aenter__(self) -> Self:
        await self._listening.__aenter__()
        self._rig.open += 1
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._rig.end()
        await self._listening.__aexit__(*exc_info)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)


class RestartingTaking:
    """One dequeue; nothing is restarted until it is over."""

    def __init__(self, rig: RestartingRig, want: Want, wait: float) -> None:
        self._rig, self._want, self._wait = rig, want, wait
        self._taking: Taking | None = None

    @property
    def quiet(self) -> bool:
        return self._taking is not None and self._taking.quiet

    async def __aenter__(self) -> list[Job]:
        backend = await self._rig.begin()
        self._taking = backend.dequeue(self._want, self._wait)
        try:
            return await self._taking.__aenter__()
        except BaseException:
            self._rig.end()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None = None, error: BaseException | None = None, trace: TracebackType | None = None
    ) -> None:
        assert self._taking is not None
        self._rig.end()
        await self._taking.__aexit__(kind, error, trace)

    def delivered(self) -> None:
        assert self._taking is not None
        self._taking.delivered()
