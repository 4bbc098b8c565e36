"""The local backend: the engine in this process. Every operation is one synchronous step, then `Shell._act`, then the commit."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from jobqueue.backend.base import Conclude, Enqueued, Extend, Listen
from jobqueue.backend.keys import KeyPlace, key_cursor, key_cursor_of, key_place, later
from jobqueue.backend.listening import LocalListening
from jobqueue.backend.shell import SLICE, Shell, attempt_of, copied, later_at
from jobqueue.backend.waiters import Waiter, check_room
from jobqueue.engine import checks
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.why import waiting_for
from jobqueue.errors import Draining, QueueError, StorageUnavailable, Unconfirmed
from jobqueue.model import (
    CONCLUDED,
    IN_PROGRESS,
    Job,
    JobFilter,
    JobSpec,
    KeyStats,
    PolicyChange,
    QueuePolicy,
    QueueStats,
    Reason,
    Verdict,
    Want,
)

_Item = TypeVar("_Item")
_Reply = TypeVar("_Reply")


class LocalBackend(Shell):
    """A Backend in this process. Needs a running loop from the first operation on; the methods are documented at `Backend`."""

    at_once = True

    # Submitting.

    def _check_open(self, adding: bool = False) -> None:
        if self.draining:
            raise Draining("the server is shutting down")
        if self.journal is not None:
            self.journal.check(adding)

    def _check_storage(self) -> None:
        if self.journal is not None:
            self.journal.check(False)

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        self._check_open(adding=True)
        now, skew = self.clock.now(), self.clock.skew()
        job, created = self.engine.enqueue(now, spec, skew)
        snapshot = copied(job, skew)
        self._act(now)
        if self.journal is not None:
            await self.journal.committed(self.ticket)
        return Enqueued(snapshot, created, created and job.status is IN_PROGRESS)

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        self._check_open(adding=True)
        now, skew = self.clock.now(), self.clock.skew()
        enqueue = self.engine.enqueue

        def one(spec: JobSpec) -> Enqueued:
            job, created = enqueue(now, spec, skew)
            return Enqueued(copied(job, skew), created)

        return await self._batch(now, specs, one)

    async def _batch(self, now: float, items: Sequence[_Item | QueueError], one: Callable[[_Item], _Reply]) -> list[_Reply | QueueError]:
        replies: list[_Reply | QueueError] = []
        for item in items:
            if isinstance(item, QueueError):
                replies.append(item)
                continue
            try:
                replies.append(one(item))
            except QueueError as error:
                replies.append(error.bare())
        await self._commit(now)
        return replies

    # Taking. `dequeue` makes the context manager; the methods below it are its steps.

    def dequeue(self, want: Want, wait: float) -> LocalTaking:
        return LocalTaking(self, want, wait)

    def replay(self, want: Want) -> list[Job]:
        """The jobs of a repeated attempt_id whose leases live, if any. An older waiter of the same attempt is answered [].

        Raises Draining, BadRequest.
        """
        self._check_open()
        checks.want(want, self.limits, self.engine.queues)
        attempt = attempt_of(want)
        if attempt is None:
            return []
        older = self._attempts.get(attempt)
        if older is not None:
            self._settle(older, [])
        replayed = self.engine.replay(want)
        if replayed:
            self._act(self.clock.now())
        return [self.snapshot(job) for job in replayed]

    def take(self, want: Want) -> list[Job]:
        """What is available at once. No waiter stands for these queues while something is, unless a herd is owed it, which goes first."""
        now = self.clock.now()
        if self._owed:
            want = msgspec.structs.replace(want, queues=tuple(name for name in want.queues if name not in self._owed))
        jobs = self.engine.dequeue(now, want)
        if jobs:
            skew = self.clock.skew()
            jobs = [copied(job, skew) for job in jobs]
        self._act(now)
        return jobs

    def passed_over(self, want: Want) -> bool:
        """Whether a `take` that found nothing only passed over expired jobs and would go on behind them."""
        return any(self.engine.available(name) and name not in self._owed for name in want.queues)

    def stand(self, want: Want, wait: float) -> Waiter[list[Job]]:
        """Take a place at the end of the line. Raises TooManyWaiters."""
        check_room(self.waiters, self.limits.waiters_max)
        now = self.clock.now()
        waiter: Waiter[list[Job]] = Waiter(want.queues, want)
        attempt = attempt_of(want)
        if attempt is not None:
            self._attempts[attempt] = waiter
        self._dequeues.add(waiter, now + wait)
        self.arm(now)
        return waiter

    def leave(self, waiter: Waiter[list[Job]]) -> None:
        """Give up a place in line; harmless when it is gone."""
        self._forget_attempt(waiter)
        self._dequeues.remove(waiter)

    def put_back(self, jobs: list[Job]) -> None:
        """Undo the taking of jobs whose answer was not delivered. Nobody is told, so nobody waits for the commit."""
        now = self.clock.now()
        for job in jobs:
            assert job.lease is not None
            self.undelivered_total += self.engine.put_back(now, job.id, job.lease.token)
        self._act(now)

    # Working. These stay open while the server drains: a worker may always hand in what it did.

    async def _one(self, now: float, job: Job) -> Job:
        reply = self.snapshot(job)
        self._act(now)
        if self.journal is not None:
            await self.journal.committed(self.ticket)
        return reply

    async def conclude(self, job_id: str, token: str, verdict: Verdict) -> Job:
        self._check_storage()
        now = self.clock.now()
        reply = self.snapshot(self.engine.conclude(now, job_id, token, verdict))
        # As `_one`, whose coroutine would be a tenth of all this.
        self._act(now)
        if self.journal is not None:
            await self.journal.committed(self.ticket)
        return reply

    async def conclude_batch(self, items: Sequence[Conclude | QueueError]) -> list[Job | QueueError]:
        self._check_storage()
        now, skew = self.clock.now(), self.clock.skew()
        conclude = self.engine.conclude
        return await self._batch(now, items, lambda item: copied(conclude(now, item.id, item.token, item.verdict), skew))

    def _extend(self, now: float, item: Extend) -> Job:
        return self.engine.extend(now, item.id, item.token, item.lease_seconds, item.progress, item.message)

    async def extend(self, item: Extend) -> Job:
        self._check_storage()
        now = self.clock.now()
        return await self._one(now, self._extend(now, item))

    async def extend_batch(self, items: Sequence[Extend | QueueError]) -> list[Job | QueueError]:
        self._check_storage()
        now, skew = self.clock.now(), self.clock.skew()
        return await self._batch(now, items, lambda item: copied(self._extend(now, item), skew))

    async def release(self, job_id: str, token: str, delay: float) -> Job:
        self._check_storage()
        now = self.clock.now()
        return await self._one(now, self.engine.release(now, job_id, token, delay))

    async def give_back(self, job_id: str, token: str) -> bool:
        self._check_storage()
        now = self.clock.now()
        done = self.engine.put_back(now, job_id, token)
        self.undelivered_total += done
        await self._commit(now)
        return done

    async def cancel(self, job_id: str) -> Job:
        self._check_open()
        now = self.clock.now()
        return await self._one(now, self.engine.cancel(now, job_id))

    async def retry(self, job_id: str) -> Job:
        self._check_open()
        now = self.clock.now()
        return await self._one(now, self.engine.retry(now, job_id))

    # Reading.

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        job = self.engine.job(job_id)
        if wait <= 0 or job.status is CONCLUDED or self.draining:
            return self.snapshot(job)
        check_room(self.waiters, self.limits.waiters_max)
        now = self.clock.now()
        waiter: Waiter[list[Job]] = Waiter((job_id,))
        self._results.add(waiter, now + wait)
        self.arm(now)
        try:
            concluded = await waiter.wait()
        finally:
            self._results.remove(waiter)
        if concluded and self.journal is not None:
            try:
                await self.journal.committed(self.ticket)
            except Unconfirmed as error:
                raise StorageUnavailable(f"the job's end is not stored yet: {error.detail}") from None
        return concluded[0] if concluded else self.snapshot(job)

    async def numbered(self, number: int) -> Job:
        return self.snapshot(self.engine.numbered(number))

    async def jobs(self, wanted: JobFilter) -> tuple[list[Job], int | None]:
        found, cursor = self.engine.page(wanted)
        return [self.snapshot(job) for job in found], cursor

    async def check(self) -> None:
        self._check_open()

    def listen(self, wanted: Listen, after: str | None = None) -> LocalListening:
        return LocalListening(self.listeners, wanted, after)

    # Queues.

    def _stats(self, name: str) -> QueueStats:
        stats = self.engine.queue(name).stats()
        skew = self.clock.skew()
        return msgspec.structs.replace(
            stats,
            waiters=self._dequeues.count(name),
            oldest_queued_at=later_at(stats.oldest_queued_at, skew),
            rate_next_at=later_at(stats.rate_next_at, skew),
        )

    async def queues(self) -> list[QueueStats]:
        found: list[QueueStats] = []
        cursor: str | None = ""
        while cursor is not None:
            page, cursor = await self.queue_page(cursor, SLICE)
            found += page
            if cursor is not None:
                # Others run between the slices.
                await asyncio.sleep(0)
        return found

    async def queue_page(self, after: str, limit: int) -> tuple[list[QueueStats], str | None]:
        names = sorted(name for name in self.engine.queues if name > after)
        page = [self._stats(name) for name in names[:limit]]
        return page, names[limit - 1] if len(names) > limit else None

    async def queue(self, name: str) -> QueueStats:
        return self._stats(name)

    async def put_policy(self, name: str, policy: QueuePolicy) -> QueueStats:
        self._check_open()
        self.engine.put_policy(name, policy)
        await self._commit(self.clock.now())
        return self._stats(name)

    async def change_policy(self, name: str, change: PolicyChange) -> QueueStats:
        self._check_open()
        self.engine.change_policy(name, change)
        await self._commit(self.clock.now())
        return self._stats(name)

    async def keys(self, name: str, after: str, limit: int) -> tuple[list[KeyStats], str | None]:
        queue = self.engine.queue(name)
        start = key_cursor(after)
        if not isinstance(queue, FlowQueue) or not queue.keyed:
            return [], None
        best: list[KeyPlace] = []
        states = list(queue.states.values())
        for at in range(0, len(states), SLICE):
            if at:
                # Others run between the slices.
                await asyncio.sleep(0)
            places = (key_place(state) for state in states[at : at + SLICE] if state.key is not None)
            best = heapq.nsmallest(limit + 1, [*best, *(place for place in places if start is None or place > start)])
        skew = self.clock.skew()
        found = [later(queue.key_stats(state), skew) for *_, key in best[:limit] if (state := queue.states.get(key)) is not None]
        return found, key_cursor_of(best[limit - 1]) if len(best) > limit else None

    async def set_key_paused(self, name: str, key: str, paused: bool) -> KeyStats:
        self._check_open()
        self.engine.pause_key(name, key, paused)
        await self._commit(self.clock.now())
        queue = self.engine.queue(name)
        state = queue.states.get(key) if isinstance(queue, FlowQueue) else None
        if isinstance(queue, FlowQueue) and state is not None:
            return later(queue.key_stats(state), self.clock.skew())
        return KeyStats(key, 0, 0, 0, "paused" if paused else None, paused)

    async def waiting_for(self, numbers: Sequence[int]) -> list[list[Reason]]:
        skew = self.clock.skew()
        found = []
        for number in numbers:
            job = self.engine.jobs.numbered(number)
            reasons = [] if job is None else waiting_for(self.engine, job, self._dequeues.count(job.queue))
            found.append([each if each.until is None else msgspec.structs.replace(each, until=each.until + skew) for each in reasons])
        return found

    async def delete_queue(self, name: str) -> None:
        self._check_open()
        self.engine.delete_queue(name)
        await self._commit(self.clock.now())

    async def set_paused(self, name: str, paused: bool) -> QueueStats:
        self._check_open()
        self.engine.set_paused(name, paused)
        await self._commit(self.clock.now())
        return self._stats(name)

    async def _sliced(self, slices: Iterator[list[Job]], step: Callable[[float, list[Job]], int]) -> int:
        """Do something to many jobs, a slice a turn of the loop."""
        done = 0
        for jobs in slices:
            now = self.clock.now()
            done += step(now, jobs)
            await self._commit(now)
            await asyncio.sleep(0)
        return done

    async def purge(self, name: str) -> int:
        self._check_open()
        return await self._sliced(self.engine.waiting(name, SLICE), self.engine.purge)

    async def redrive(self, name: str) -> int:
        self._check_open()
        return await self._sliced(self.engine.failed(name, SLICE), self.engine.redrive)


class LocalTaking:
    """One dequeue, from taking a place in line to the last byte of the answer (promise 3). See base.Taking."""

    __slots__ = ("_backend", "_held", "_stood", "_wait", "_want")

    def __init__(self, backend: LocalBackend, want: Want, wait: float) -> None:
        self._backend = backend
        self._want = want
        self._wait = wait
        self._stood = False
        self._held: list[Job] = []
        """Jobs this request took and has not delivered. A replay takes none: their leases were delivered before, perhaps."""

    async def __aenter__(self) -> list[Job]:
        backend, want = self._backend, self._want
        replayed = backend.replay(want)
        if replayed:
            jobs = replayed
        else:
            jobs = self._held = backend.take(want)
            while not jobs and backend.passed_over(want):
                await asyncio.sleep(0)
                jobs = self._held = backend.take(want)
            if not jobs and self._wait > 0:
                jobs = self._held = await self._stand(backend.stand(want, self._wait))
        if jobs and backend.journal is not None:
            try:
                await backend.journal.committed(backend.ticket)
            except Unconfirmed as error:
                self._undo()
                # Not so any more: what was taken is undone, and a lease that is on the disk all the same is nobody's.
                raise StorageUnavailable(f"the lease cannot be stored, so nothing is handed out: {error.detail}") from None
            except BaseException:
                self._undo()
                raise
        return jobs

    @property
    def held(self) -> list[Job]:
        """The jobs that leaving would put back."""
        return self._held

    async def _stand(self, waiter: Waiter[list[Job]]) -> list[Job]:
        try:
            jobs = await waiter.wait()
        except BaseException:
            # Cancelled: out of line, or already handed jobs in this very turn of the loop, which then go to the next in line.
            self._backend.leave(waiter)
            if waiter.answer:
                self._held = waiter.answer
                self._undo()
            raise
        self._stood = True
        return jobs

    async def __aexit__(self, *exc_info: object) -> None:
        if self._held:
            self._undo()

    def delivered(self) -> None:
        """See base.Taking.delivered."""
        if self._stood and self._held:
            self._backend.picked_up(self._held)
        self._held = []

    def _undo(self) -> None:
        held, self._held = self._held, []
        self._backend.put_back(held)
