"""A Backend over several partitions, each of which is a Backend of its own.

Every operation goes to the partition of its queue or of its job, or to all of them, and then the answers are put together; what that makes
weaker is in docs/semantics.md. Nothing is kept here but where jobs were (places.py), so any server can serve any request.

A partition that cannot be asked fails what needs it, and nothing else: no job is called unknown because its partition was not heard.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from jobqueue.backend.base import Backend, BackendStats, ClusterStats, Conclude, Enqueued, Extend, Listen, Listening, Release, Taking
from jobqueue.backend.merging import by_name, merged_cluster, summed_stats
from jobqueue.backend.requests.request import R, Request
from jobqueue.backend.store.finding import Finder
from jobqueue.backend.store.paging import Pages
from jobqueue.backend.store.partitioned_listening import MergedListening
from jobqueue.backend.store.partitioned_taking import MergedTaking, PlacedTaking
from jobqueue.backend.store.places import Places
from jobqueue.backend.store.placing import Placing, in_place
from jobqueue.clock import Clock, SystemClock
from jobqueue.errors import QueueError, UnknownJob, Unsupported
from jobqueue.limits import NAME, Limits
from jobqueue.model import Job, JobChange, JobFilter, JobSpec, KeyStats, QueueStats, Verdict, Want
from jobqueue.partition import partition_of
from jobqueue.policy import PolicyChange, QueuePolicy
from jobqueue.reason import Reason

Item = TypeVar("Item", Conclude, Extend, Release)


def _id_of(item: Conclude | Extend | Release) -> str:
    return item.job_id if isinstance(item, Release) else item.id


class PartitionedBackend:
    """The Backend over `backends`, of which the N-th is partition N; the methods are documented at `Backend`, those for requests at Front.

    It is closed with them. limits: of the whole server. hasty: the same partitions, asked without waiting for an owner that is not there;
    where other partitions may have an answer, they are asked in this way.
    """

    def __init__(
        self, backends: Sequence[Backend], limits: Limits, *, clock: Clock | None = None, hasty: Sequence[Backend] | None = None
    ) -> None:
        if len(backends) < 2:
            raise ValueError("one partition needs nothing to put it together")
        self.backends = backends
        self.hasty = backends if hasty is None else hasty
        self.count = len(backends)
        self.limits = limits
        self.clock = clock or SystemClock()
        self.places = Places(self.count)
        self._finder = Finder(backends, self.places)
        self._placing = Placing(self._finder, limits)
        self._pages = Pages(self._finder, limits)

    @property
    def at_once(self) -> bool:
        return all(backend.at_once for backend in self.backends)

    # Which partition.

    def index_of(self, queue: str) -> int:
        """See Front; likewise for the next ones."""
        return partition_of(queue, self.count)

    def check_together(self, field: str, queue: str, other: str) -> None:
        # What is no name at all, the engine says.
        if self.index_of(queue) != self.index_of(other) and NAME.fullmatch(other) is not None:
            raise Unsupported.of_queues(field, queue, other)

    def _of(self, queue: str) -> Backend:
        return self.backends[self.index_of(queue)]

    async def at(self, index: int, request: Request[R]) -> R:
        return await self.backends[index].ask(request)

    async def for_queue(self, queue: str, request: Request[R]) -> R:
        return await self._of(queue).ask(request)

    async def for_job(self, job_id: str, request: Request[R]) -> R:
        _, answer = await self._finder.of_job(job_id, lambda backend: backend.ask(request))
        return answer

    async def everywhere(self, request: Request[R]) -> list[R]:
        return await self._finder.everywhere(lambda backend: backend.ask(request))

    async def found(self, request: Request[R], unknown: type[QueueError]) -> tuple[int, R]:
        return await self._finder.found(request, unknown)

    async def ask(self, request: Request[R]) -> R:
        return await request.spread(self)

    # Submitting and taking.

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        return await self._placing.enqueue(spec)

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        return await self._placing.enqueue_batch(specs)

    def dequeue(self, want: Want, wait: float) -> Taking:
        first = self.index_of(want.queues[0]) if want.queues else 0
        if all(self.index_of(queue) == first for queue in want.queues[1:]):
            return PlacedTaking(self.backends[first].dequeue(want, wait), self.places, first)
        return MergedTaking(self, want, wait)

    # Working.

    async def _at_job(self, job_id: str, ask: Callable[[Backend], Awaitable[Job]]) -> Job:
        index, job = await self._finder.of_job(job_id, ask)
        self.places.seen(job, index)
        return job

    async def _at_jobs(
        self,
        items: Sequence[Item | QueueError],
        ask: Callable[[Backend, list[Item]], Awaitable[list[Job | QueueError]]],
    ) -> list[Job | QueueError]:
        """A batch, each item where its job is. Those that are not where they seem to be are looked for, and asked again."""
        replies: list[Job | QueueError | None] = [item if isinstance(item, QueueError) else None for item in items]
        sent = {at: item for at, item in enumerate(items) if not isinstance(item, QueueError)}
        if not sent:
            await ask(self.backends[0], [])
            return [reply for reply in replies if reply is not None]
        indexes = dict(zip(sent, await self._finder.firsts([_id_of(item) for item in sent.values()]), strict=True))
        await self._parts(sent, indexes, ask, replies, alone=True)
        lost = [at for at in sent if isinstance(reply := replies[at], UnknownJob) and reply.field is None]
        if lost:
            found = await asyncio.gather(*(self._finder.where(_id_of(sent[at]), but=indexes[at]) for at in lost), return_exceptions=True)
            again: dict[int, int] = {}
            for at, place in zip(lost, found, strict=True):
                if isinstance(place, int):
                    again[at] = place
                elif isinstance(place, QueueError):
                    replies[at] = place.bare()
                else:
                    raise place
            await self._parts({at: sent[at] for at in again}, again, ask, replies, alone=False)
        return [reply for reply in replies if reply is not None]

    async def _parts(
        self,
        sent: dict[int, Item],
        indexes: dict[int, int],
        ask: Callable[[Backend, list[Item]], Awaitable[list[Job | QueueError]]],
        replies: list[Job | QueueError | None],
        alone: bool,
    ) -> None:
        parts: dict[int, list[int]] = {}
        for at in sent:
            parts.setdefault(indexes[at], []).append(at)
        answers = await asyncio.gather(
            *(ask(self.backends[index], [sent[at] for at in part]) for index, part in parts.items()), return_exceptions=True
        )
        in_place(replies, parts, answers, alone)

    async def conclude(self, job_id: str, token: str, verdict: Verdict) -> Job:
        return await self._at_job(job_id, lambda to: to.conclude(job_id, token, verdict))

    async def conclude_batch(self, items: Sequence[Conclude | QueueError]) -> list[Job | QueueError]:
        return await self._at_jobs(items, lambda to, part: to.conclude_batch(part))

    async def extend(self, item: Extend) -> Job:
        return await self._at_job(item.id, lambda to: to.extend(item))

    async def extend_batch(self, items: Sequence[Extend | QueueError]) -> list[Job | QueueError]:
        return await self._at_jobs(items, lambda to, part: to.extend_batch(part))

    async def release(self, job_id: str, token: str, delay: float) -> Job:
        return await self._at_job(job_id, lambda to: to.release(job_id, token, delay))

    async def release_batch(self, items: Sequence[Release | QueueError]) -> list[Job | QueueError]:
        return await self._at_jobs(items, lambda to, part: to.release_batch(part))

    async def give_back(self, job_id: str, token: str) -> bool:
        return await self.backends[await self._finder.first(job_id)].give_back(job_id, token)

    async def cancel(self, job_id: str) -> Job:
        return await self._at_job(job_id, lambda to: to.cancel(job_id))

    async def retry(self, job_id: str) -> Job:
        return await self._at_job(job_id, lambda to: to.retry(job_id))

    async def edit(self, job_id: str, change: JobChange) -> Job:
        if isinstance(change.queue, str):
            job = await self.job(job_id)
            self.check_together("queue", job.queue, change.queue)
        return await self._at_job(job_id, lambda to: to.edit(job_id, change))

    # Reading.

    async def job(self, job_id: str, wait: float = 0.0) -> Job:
        return await self._at_job(job_id, lambda to: to.job(job_id, wait))

    async def numbered(self, number: int) -> Job:
        return await self._finder.numbered(number)

    async def jobs(self, wanted: JobFilter) -> tuple[list[Job], int | str | None]:
        if wanted.queue is not None:
            index = self.index_of(wanted.queue)
            found, cursor = await self.backends[index].jobs(wanted)
            self.places.all_seen(found, index)
            return found, cursor
        return await self._pages.page(wanted)

    async def waiting_for(self, numbers: Sequence[int]) -> list[list[Reason]]:
        parts: dict[int, list[int]] = {}
        for at, number in enumerate(numbers):
            parts.setdefault(self.places.of_number(number), []).append(at)
        found: list[list[Reason]] = [[] for _ in numbers]
        answers = await asyncio.gather(
            *(self.backends[index].waiting_for([numbers[at] for at in part]) for index, part in parts.items()), return_exceptions=True
        )
        for part, answer in zip(parts.values(), answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            for at, reasons in zip(part, answer, strict=True):
                found[at] = reasons
        return found

    def listen(self, wanted: Listen, after: str | None = None) -> Listening:
        return MergedListening(self.backends, wanted, after, self.clock)

    # Queues.

    async def queues(self) -> list[QueueStats]:
        parts = await self._finder.everywhere(lambda to: to.queues())
        return sorted((stats for part in parts for stats in part), key=_name)

    async def queue_page(self, after: str, limit: int) -> tuple[list[QueueStats], str | None]:
        return by_name(await self._finder.everywhere(lambda to: to.queue_page(after, limit)), _name, limit)

    async def queue(self, name: str) -> QueueStats:
        return await self._of(name).queue(name)

    async def put_policy(self, name: str, policy: QueuePolicy, by: str | None = None) -> QueueStats:
        if policy.dead_letter is not None:
            self.check_together("dead_letter", name, policy.dead_letter)
        return await self._of(name).put_policy(name, policy, by)

    async def change_policy(self, name: str, change: PolicyChange, by: str | None = None) -> QueueStats:
        if isinstance(change.dead_letter, str):
            self.check_together("dead_letter", name, change.dead_letter)
        return await self._of(name).change_policy(name, change, by)

    async def keys(self, name: str, after: str, limit: int) -> tuple[list[KeyStats], str | None]:
        return await self._of(name).keys(name, after, limit)

    async def set_key_paused(self, name: str, key: str, paused: bool, by: str | None = None) -> KeyStats:
        return await self._of(name).set_key_paused(name, key, paused, by)

    async def delete_queue(self, name: str) -> None:
        await self._of(name).delete_queue(name)

    async def set_paused(self, name: str, paused: bool, by: str | None = None) -> QueueStats:
        return await self._of(name).set_paused(name, paused, by)

    async def purge(self, name: str) -> int:
        return await self._of(name).purge(name)

    async def retry_failed(self, name: str) -> int:
        return await self._of(name).retry_failed(name)

    # The whole.

    async def check(self) -> None:
        await self._finder.everywhere(lambda to: to.check())

    async def stats(self) -> BackendStats:
        return summed_stats(await self._finder.everywhere(lambda to: to.stats()))

    def cluster(self) -> ClusterStats | None:
        parts = [stats for backend in self.backends if (stats := backend.cluster()) is not None]
        return merged_cluster(parts) if len(parts) == self.count else None

    def drain(self) -> None:
        for backend in self.backends:
            backend.drain()

    async def close(self) -> None:
        self.drain()
        await self._finder.everywhere(lambda to: to.close())


def _name(stats: QueueStats) -> str:
    return stats.name
