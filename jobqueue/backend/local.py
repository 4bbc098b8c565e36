"""The local backend: the engine in this process. Every operation is one synchronous step, then `Shell._act`, then the commit."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from jobqueue.backend.base import Conclude, Enqueued, Extend, Listen, Release
from jobqueue.backend.keys import KeyPlace, key_cursor, key_cursor_of, key_place, later
from jobqueue.backend.listening import LocalListening
from jobqueue.backend.requests.request import R, Request
from jobqueue.backend.shell import SLICE
from jobqueue.backend.snapshots import copied, later_at, numbers_only, on_line, pause_at
from jobqueue.backend.taking import Taker
from jobqueue.backend.waiters import Waiter, check_room
from jobqueue.engine.flow import FlowQueue
from jobqueue.engine.why import waiting_for
from jobqueue.errors import QueueError, StorageUnavailable, TooLarge, Unconfirmed
from jobqueue.joblog import LogPart
from jobqueue.model import CONCLUDED, IN_PROGRESS, Job, JobChange, JobFilter, JobSpec, KeyStats, QueueStats, Verdict
from jobqueue.policy import PolicyChange, QueuePolicy
from jobqueue.reason import Reason

_Item = TypeVar("_Item")
_Reply = TypeVar("_Reply")


class LocalBackend(Taker):
    """A Backend in this process. Needs a running loop from the first operation on. The methods are documented at `Backend`."""

    at_once = True

    def resume(self) -> None:
        super().resume()
        self.tasks.resume(self)

    # Submitting.

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        self.check_open(adding=True)
        now, skew = self.clock.now(), self.clock.skew()
        job, created = self.engine.enqueue(now, spec, skew)
        snapshot = copied(job, skew)
        self._act(now)
        if self.journal is not None:
            await self.journal.committed(self.ticket)
        return Enqueued(snapshot, created, created and job.status is IN_PROGRESS)

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        self.check_open(adding=True)
        now, skew = self.clock.now(), self.clock.skew()
        enqueue = self.engine.enqueue
        edges, most = 0, self.limits.batch_edges_max

        def one(spec: JobSpec) -> Enqueued:
            nonlocal edges
            if spec.after:
                # The whole batch is one step, and each edge takes 3 µs of it.
                edges += len(spec.after)
                if edges > most:
                    raise TooLarge("after", f"the items of one batch can be after {most} jobs in total; send this one in another batch")
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
        await self.commit(now)
        return replies

    # Working. These stay open while the server drains: a worker can always report its work.

    async def one(self, now: float, job: Job) -> Job:
        reply = self.snapshot(job)
        self._act(now)
        if self.journal is not None:
            await self.journal.committed(self.ticket)
        return reply

    async def conclude(self, job_id: str, token: str, verdict: Verdict) -> Job:
        if self.journal is not None:
            self.journal.check(False)
        clock = self.clock
        now = clock.now()
        if verdict.log is not None:
            verdict = self._dated(verdict)
        reply = copied(self.engine.conclude(now, job_id, token, verdict), clock.skew())
        # The body of `one`, inlined: its coroutine would add a tenth to the cost of a conclude.
        self._act(now)
        if self.journal is not None:
            await self.journal.committed(self.ticket)
        return reply

    async def conclude_batch(self, items: Sequence[Conclude | QueueError]) -> list[Job | QueueError]:
        self.check_storage()
        now, skew = self.clock.now(), self.clock.skew()
        conclude = self.engine.conclude

        def one(item: Conclude) -> Job:
            verdict = item.verdict
            return copied(conclude(now, item.id, item.token, verdict if verdict.log is None else self._dated(verdict)), skew)

        return await self._batch(now, items, one)

    def _dated(self, verdict: Verdict) -> Verdict:
        assert verdict.log is not None
        return msgspec.structs.replace(verdict, log=self.dated(verdict.log))

    def dated(self, part: LogPart) -> LogPart:
        """See Owner."""
        at = self.clock.now() + self.clock.skew()
        return msgspec.structs.replace(
            part, lines=tuple(line if line.at is not None else msgspec.structs.replace(line, at=at) for line in part.lines)
        )

    def _extend(self, now: float, item: Extend) -> Job:
        log = None if item.log is None else self.dated(item.log)
        return self.engine.extend(now, item.id, item.token, item.lease_seconds, item.progress, item.message, log)

    async def extend(self, item: Extend) -> Job:
        self.check_storage()
        now = self.clock.now()
        return await self.one(now, self._extend(now, item))

    async def extend_batch(self, items: Sequence[Extend | QueueError]) -> list[Job | QueueError]:
        self.check_storage()
        now, skew = self.clock.now(), self.clock.skew()
        return await self._batch(now, items, lambda item: copied(self._extend(now, item), skew))

    async def release(self, job_id: str, token: str, delay: float) -> Job:
        self.check_storage()
        now = self.clock.now()
        return await self.one(now, self.engine.release(now, job_id, token, delay))

    async def release_batch(self, items: Sequence[Release | QueueError]) -> list[Job | QueueError]:
        self.check_storage()
        now, skew = self.clock.now(), self.clock.skew()
        return await self._batch(now, items, lambda item: copied(self.engine.release(now, item.job_id, item.token, item.delay), skew))

    async def give_back(self, job_id: str, token: str) -> bool:
        self.check_storage()
        now = self.clock.now()
        done = self.engine.put_back(now, job_id, token)
        self.undelivered_total += done
        await self.commit(now)
        return done

    async def cancel(self, job_id: str) -> Job:
        self.check_open()
        now = self.clock.now()
        job = self.engine.cancel(now, job_id)
        # This may have been the last job of its queue, and without a lease nothing else makes the ticker check the queue.
        self.unused.stir(now)
        self.arm(now)
        return await self.one(now, job)

    async def retry(self, job_id: str) -> Job:
        self.check_open()
        now = self.clock.now()
        return await self.one(now, self.engine.retry(now, job_id))

    async def edit(self, job_id: str, change: JobChange) -> Job:
        self.check_open(adding=True)
        now = self.clock.now()
        return await self.one(now, self.engine.edit(now, job_id, change, self.clock.skew()))

    async def ask(self, request: Request[R]) -> R:
        return await request.serve(self)

    # Reading.

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        job = self.engine.job(job_id)
        if wait <= 0 or job.status is CONCLUDED or self.draining:
            return self.snapshot(job)
        concluded = await self._told(job_id, wait)
        # Not `job`: it may have been packed meanwhile, and is another object then (engine/packs.py).
        return concluded[0] if concluded else self.snapshot(self.engine.jobs.find(job_id) or job)

    async def _told(self, key: str, wait: float) -> list[Job]:
        """The job that was announced under a key, once that has happened and is stored; [] if the wait passed."""
        check_room(self.waiters, self.limits.waiters_max)
        now = self.clock.now()
        waiter: Waiter[list[Job]] = Waiter((key,))
        self._results.add(waiter, now + wait)
        self.arm(now)
        try:
            told = await waiter.wait()
        finally:
            self._results.remove(waiter)
        if told and self.journal is not None:
            try:
                await self.journal.committed(self.ticket)
            except Unconfirmed as error:
                raise StorageUnavailable(f"what happened to the job is not stored yet: {error.detail}") from None
        return told

    async def told(self, key: str, wait: float) -> None:
        if not self.draining:
            await self._told(key, wait)

    async def numbered(self, number: int) -> Job:
        return self.snapshot(self.engine.numbered(number))

    async def jobs(self, wanted: JobFilter) -> tuple[list[Job], int | None]:
        numbers_only(wanted)
        found, cursor = self.engine.page(on_line(wanted, self.clock.skew()))
        return [self.snapshot(job) for job in found], cursor

    async def check(self) -> None:
        self.check_open()

    def listen(self, wanted: Listen, after: str | None = None) -> LocalListening:
        return LocalListening(self.listeners, wanted, after)

    # Queues.

    def queue_stats(self, name: str) -> QueueStats:
        """See Owner."""
        queue = self.engine.queue(name)
        stats = queue.stats()
        skew = self.clock.skew()
        return msgspec.structs.replace(
            stats,
            waiters=self._dequeues.count(name),
            failures=queue.failures(self.clock.now()),
            oldest_queued_at=later_at(stats.oldest_queued_at, skew),
            rate_next_at=later_at(stats.rate_next_at, skew),
            created_at=later_at(stats.created_at, skew),
            modified_at=later_at(stats.modified_at, skew),
            pause=pause_at(stats.pause, skew),
        )

    async def queues(self) -> list[QueueStats]:
        found: list[QueueStats] = []
        cursor: str | None = ""
        while cursor is not None:
            page, cursor = await self.queue_page(cursor, SLICE)
            found += page
            if cursor is not None:
                # Let other tasks run between the slices.
                await asyncio.sleep(0)
        return found

    async def queue_page(self, after: str, limit: int) -> tuple[list[QueueStats], str | None]:
        names, cursor = self.engine.names_after("", after, limit)
        return [self.queue_stats(name) for name in names], cursor

    async def queue(self, name: str) -> QueueStats:
        return self.queue_stats(name)

    async def put_policy(self, name: str, policy: QueuePolicy, by: str | None = None) -> QueueStats:
        self.check_open()
        now = self.clock.now()
        self.engine.put_policy(name, policy, now, by)
        await self.commit(now)
        return self.queue_stats(name)

    async def change_policy(self, name: str, change: PolicyChange, by: str | None = None) -> QueueStats:
        self.check_open()
        now = self.clock.now()
        self.engine.change_policy(name, change, now, by)
        await self.commit(now)
        return self.queue_stats(name)

    async def keys(self, name: str, after: str, limit: int) -> tuple[list[KeyStats], str | None]:
        queue = self.engine.queue(name)
        start = key_cursor(after)
        if not isinstance(queue, FlowQueue) or not queue.keyed:
            return [], None
        best: list[KeyPlace] = []
        states = list(queue.states.values())
        for at in range(0, len(states), SLICE):
            if at:
                # Let other tasks run between the slices.
                await asyncio.sleep(0)
            places = (key_place(state) for state in states[at : at + SLICE] if state.key is not None)
            best = heapq.nsmallest(limit + 1, [*best, *(place for place in places if start is None or place > start)])
        skew = self.clock.skew()
        found = [later(queue.key_stats(state), skew) for *_, key in best[:limit] if (state := queue.states.get(key)) is not None]
        return found, key_cursor_of(best[limit - 1]) if len(best) > limit else None

    async def set_key_paused(self, name: str, key: str, paused: bool, by: str | None = None) -> KeyStats:
        self.check_open()
        now = self.clock.now()
        self.engine.pause_key(name, key, paused, now, by)
        await self.commit(now)
        queue = self.engine.queue(name)
        state = queue.states.get(key) if isinstance(queue, FlowQueue) else None
        if isinstance(queue, FlowQueue) and state is not None:
            return later(queue.key_stats(state), self.clock.skew())
        pause = pause_at(queue.paused_keys.get(key), self.clock.skew())
        return KeyStats(key, 0, 0, 0, "paused" if paused else None, paused, pause=pause)

    async def waiting_for(self, numbers: Sequence[int]) -> list[list[Reason]]:
        skew = self.clock.skew()
        found = []
        for number in numbers:
            job = self.engine.jobs.numbered(number)
            reasons = [] if job is None else waiting_for(self.engine, job, self._dequeues.count(job.queue))
            found.append([each if each.until is None else msgspec.structs.replace(each, until=each.until + skew) for each in reasons])
        return found

    async def delete_queue(self, name: str) -> None:
        self.check_open()
        self.engine.delete_queue(name)
        await self.commit(self.clock.now())

    async def set_paused(self, name: str, paused: bool, by: str | None = None) -> QueueStats:
        self.check_open()
        now = self.clock.now()
        self.engine.set_paused(name, paused, now, by)
        await self.commit(now)
        return self.queue_stats(name)

    async def sliced(self, slices: Iterator[Sequence[_Item]], step: Callable[[float, Sequence[_Item]], int]) -> int:
        """See Owner."""
        done = 0
        for part in slices:
            now = self.clock.now()
            done += step(now, part)
            self.unused.stir(now)
            self.arm(now)
            await self.commit(now)
            await asyncio.sleep(0)
        return done

    def dismiss_queue(self, name: str) -> None:
        """See Owner."""
        alone = [(self._dequeues, waiter) for waiter in self._dequeues.lines.get(name, ()) if {*waiter.keys} == {name}]
        self._dismissed += reversed(alone)
        self._dismiss()

    async def purge(self, name: str) -> int:
        self.check_open()
        return await self.sliced(self.engine.waiting(name, SLICE), lambda now, jobs: self.engine.purge(now, name, jobs))

    async def retry_failed(self, name: str) -> int:
        self.check_open()
        return await self.sliced(self.engine.failed(name, SLICE), lambda now, jobs: self.engine.retry_failed(now, name, jobs))
