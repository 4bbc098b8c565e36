"""Enqueues on a store with several partitions: which partition, and under which claim of the id.

The rules, and why they are safe, are in engine/claims.py and docs/decisions/0044-partitions.md. A server that stops anywhere in between
leaves at most a claim of a job that was not made: the next enqueue of the id, or the sweep, finds out that it is void.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from jobqueue.backend.base import Backend, Enqueued, SentSpec
from jobqueue.backend.requests.claims import ClaimIds, Drop, DropClaims, GetClaims, VoidClaims, Wanted
from jobqueue.backend.requests.groups import GetGroup
from jobqueue.backend.store.finding import Finder
from jobqueue.engine.alike import check_same
from jobqueue.engine.claims import IdClaim
from jobqueue.errors import (
    ClaimVoid,
    QueueError,
    QueueFull,
    StorageUnavailable,
    Unconfirmed,
    UnknownGroup,
    UnknownJob,
    UnknownParent,
    Unsupported,
)
from jobqueue.model import JobSpec
from jobqueue.partition import home_of, partition_of

TRIES = 6
"""How often an enqueue is tried whose claim turns out to be void. Two are enough unless another enqueue of the id runs at the same time."""

R = TypeVar("R")


def no_room() -> QueueFull:
    """The error for an id that its home has no room to claim."""
    return QueueFull("the server remembers as many ids in other partitions as it may")


async def _between(asked: Awaitable[R]) -> R:
    """An answer about claims. That a claim may not be stored changes nothing for a client, since no job was made under it."""
    try:
        return await asked
    except StorageUnavailable:
        raise
    except Unconfirmed as error:
        raise StorageUnavailable(f"which job has the id is not known: {error.detail}") from None


def under(spec: JobSpec, claim: int) -> SentSpec:
    """The spec of a job that is enqueued under a claim."""
    return SentSpec(**{name: getattr(spec, name) for name in JobSpec.__struct_fields__}, there=spec.there, claim=claim)


class Claiming:
    """Enqueues for `backends`, one for each partition."""

    def __init__(self, backends: Sequence[Backend], finder: Finder) -> None:
        self._backends = backends
        self._finder = finder
        self._count = len(backends)

    # One job.

    async def enqueue(self, spec: JobSpec) -> Enqueued:
        """See Backend. Also raises Unsupported."""
        index = partition_of(spec.queue, self._count)
        try:
            if spec.id is None:
                return await self._backends[index].enqueue(spec)
            home = home_of(spec.id, self._count)
            made = await (self._at_home(spec, spec.id, home) if home == index else self._away(spec, spec.id, home, index))
        except (UnknownParent, UnknownGroup) as error:
            raise await self._apart(spec, index, error) from None
        self._finder.places.seen(made.job, index)
        return made

    async def _at_home(self, spec: JobSpec, job_id: str, home: int) -> Enqueued:
        """The queue is in the partition that decides about the id. Only if a job elsewhere has or had the id, others are asked."""
        backend = self._backends[home]
        for _ in range(TRIES):
            try:
                return await backend.enqueue(spec)
            except ClaimVoid:
                pass
            (stands,) = await backend.ask(GetClaims(ids=(job_id,)))
            if stands is None or not stands.number:
                continue
            if (known := await self._holder(spec, job_id, home, stands)) is not None:
                return known
            await _between(backend.ask(DropClaims(claims=(Drop(job_id, stands.number),))))
        raise ClaimVoid(job_id)

    async def _away(self, spec: JobSpec, job_id: str, home: int, index: int) -> Enqueued:
        """The queue is in another partition than the one that decides about the id."""
        void = above = 0
        for _ in range(TRIES):
            asked = ClaimIds(items=(Wanted(job_id, index, void),), above=above)
            (stands,) = await _between(self._backends[home].ask(asked))
            if stands is None:
                raise no_room()
            if stands.number and stands.partition == index:
                try:
                    return await self._backends[index].enqueue(under(spec, stands.number))
                except ClaimVoid:
                    below = await self._voided(index, home, job_id, stands.number)
                    if below is not None:
                        void, above = stands.number, below - 1
                    continue
            if (known := await self._holder(spec, job_id, home, stands)) is not None:
                return known
            void = stands.number
        raise ClaimVoid(job_id)

    async def _holder(self, spec: JobSpec, job_id: str, home: int, stands: IdClaim) -> Enqueued | None:
        """The job of another queue that has the id, if it is what an edited job is to a repeated enqueue; None if there is none, and the
        claim is void. Raises IdConflict.
        """
        if stands.number and await self._voided(stands.partition, home, job_id, stands.number) is not None:
            return None
        try:
            job = await self._backends[stands.partition].job(job_id)
        except UnknownJob:
            # Forgotten between the two questions. The next try finds out.
            return None
        check_same(job, spec)
        return Enqueued(job, False)

    async def _voided(self, index: int, home: int, job_id: str, number: int) -> int | None:
        """Void a claim, and return the number below which all claims of the home are void there; None if there is a job."""
        voided = await _between(self._backends[index].ask(VoidClaims(home=home, ids=(job_id,), below=number + 1)))
        return None if voided.known[0] else voided.below

    async def _apart(self, spec: JobSpec, index: int, error: QueueError) -> QueueError:
        """The error for a job that hangs on what is unknown in its partition: Unsupported, if another partition knows it."""
        if isinstance(error, UnknownGroup):
            assert spec.group is not None
            try:
                await self._finder.found(GetGroup(id=spec.group), UnknownGroup)
            except UnknownGroup:
                return error
            return Unsupported("group", f"the group {spec.group!r} is in another partition than the queue {spec.queue!r}")
        for parent in spec.after:
            try:
                place = await self._finder.where(parent)
            except UnknownJob:
                continue
            if place != index:
                return Unsupported("after", f"the job {parent!r} is in another partition than the queue {spec.queue!r}")
        return error

    # Many jobs.

    async def enqueue_batch(self, specs: Sequence[JobSpec | QueueError]) -> list[Enqueued | QueueError]:
        """See Backend. One step in each partition; items whose ids are taken elsewhere come after all others."""
        replies: list[Enqueued | QueueError | None] = [spec if isinstance(spec, QueueError) else None for spec in specs]
        places = {at: partition_of(spec.queue, self._count) for at, spec in enumerate(specs) if not isinstance(spec, QueueError)}
        if not places:
            return await self._backends[0].enqueue_batch(specs)
        sent: dict[int, JobSpec] = {at: spec for at, spec in enumerate(specs) if not isinstance(spec, QueueError)}
        late = await self._claim_all(sent, places, replies)
        parts: dict[int, list[int]] = {}
        for at in sent:
            if replies[at] is None and at not in late:
                parts.setdefault(places[at], []).append(at)
        answers = await asyncio.gather(
            *(self._backends[index].enqueue_batch([sent[at] for at in part]) for index, part in parts.items()), return_exceptions=True
        )
        in_place(replies, parts, answers, alone=not late)
        for at, spec in sent.items():
            reply = replies[at]
            if at in late or isinstance(reply, ClaimVoid):
                try:
                    replies[at] = await self.enqueue(specs[at])  # type: ignore[arg-type] # errors are not in `sent`
                except QueueError as error:
                    replies[at] = error.bare()
            elif isinstance(reply, UnknownParent | UnknownGroup):
                replies[at] = (await self._apart(spec, places[at], reply)).bare()
            elif isinstance(reply, Enqueued):
                self._finder.places.seen(reply.job, places[at])
        return [reply for reply in replies if reply is not None]

    async def _claim_all(
        self, sent: dict[int, JobSpec], places: dict[int, int], replies: list[Enqueued | QueueError | None]
    ) -> frozenset[int]:
        """Claim the ids of a batch, and put the claims into what is sent. Returns the items that must be enqueued one by one."""
        late: set[int] = set()
        homes: dict[int, dict[str, Wanted]] = {}
        items: dict[str, list[int]] = {}
        for at, spec in sent.items():
            if spec.id is None or (home := home_of(spec.id, self._count)) == places[at]:
                continue
            wanted = homes.setdefault(home, {}).setdefault(spec.id, Wanted(spec.id, places[at]))
            if wanted.partition == places[at]:
                items.setdefault(spec.id, []).append(at)
            else:
                # The same id for two queues: the second finds out when the first is there.
                late.add(at)
        asked = [ClaimIds(items=tuple(wanted.values())) for wanted in homes.values()]
        answers = await asyncio.gather(
            *(_between(self._backends[home].ask(request)) for home, request in zip(homes, asked, strict=True)), return_exceptions=True
        )
        for request, answer in zip(asked, answers, strict=True):
            if isinstance(answer, BaseException) and not isinstance(answer, QueueError):
                raise answer
            for count, wanted in enumerate(request.items):
                stands = answer if isinstance(answer, QueueError) else answer[count]
                for at in items[wanted.id]:
                    if isinstance(stands, QueueError):
                        replies[at] = stands.bare()
                    elif stands is None:
                        replies[at] = no_room()
                    elif stands.number and stands.partition == wanted.partition:
                        sent[at] = under(sent[at], stands.number)
                    else:
                        late.add(at)
        return frozenset(late)


def in_place(
    replies: list[R | QueueError | None], parts: dict[int, list[int]], answers: Sequence[list[R | QueueError] | BaseException], alone: bool
) -> None:
    """Put the answers to the parts of a batch where their items were. If no part was done, the error applies to the whole: it is raised.

    alone: whether there is nothing else in the batch.
    """
    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    for error in failed:
        if not isinstance(error, QueueError) or (alone and len(failed) == len(answers)):
            raise error
    for part, answer in zip(parts.values(), answers, strict=True):
        if isinstance(answer, QueueError):
            for at in part:
                replies[at] = answer.bare()
        else:
            assert not isinstance(answer, BaseException)
            for at, reply in zip(part, answer, strict=True):
                replies[at] = reply
