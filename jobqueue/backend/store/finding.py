"""Finding what is in one of several partitions, when the request does not say in which."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from jobqueue.backend.base import Backend
from jobqueue.backend.requests.claims import GetClaims
from jobqueue.backend.requests.request import R, Request
from jobqueue.backend.store.places import Places
from jobqueue.errors import QueueError, Unavailable, UnknownJob
from jobqueue.model import CONCLUDED, Job
from jobqueue.partition import home_of, is_ours

T = TypeVar("T")


async def together(asked: Iterable[Awaitable[T]]) -> list[T]:
    """The answers to requests that are sent at the same time. Raises the error of any, when all are answered."""
    answers = await asyncio.gather(*asked, return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers  # type: ignore[return-value] # errors were raised


class Finder:
    """Asks `backends`, one for each partition, and remembers in `places` where jobs were."""

    def __init__(self, backends: Sequence[Backend], places: Places) -> None:
        self.backends = backends
        self.count = len(backends)
        self.places = places

    async def everywhere(self, ask: Callable[[Backend], Awaitable[T]]) -> list[T]:
        """The answers of all partitions, asked at the same time. Raises the error of any."""
        return await together(ask(backend) for backend in self.backends)

    async def found(self, request: Request[R], unknown: type[QueueError]) -> tuple[int, R]:
        """See Front."""
        return await self._first(lambda backend: backend.ask(request), unknown, range(self.count))

    async def _first(self, ask: Callable[[Backend], Awaitable[T]], unknown: type[QueueError], indexes: Sequence[int]) -> tuple[int, T]:
        """The first answer of these partitions that is not the error `unknown`. That is raised only if all have answered."""
        answers = await asyncio.gather(*(ask(self.backends[index]) for index in indexes), return_exceptions=True)
        refusal: BaseException | None = None
        for index, answer in zip(indexes, answers, strict=True):
            if not isinstance(answer, BaseException):
                return index, answer
            if refusal is None or isinstance(refusal, unknown):
                refusal = answer
        assert refusal is not None
        raise refusal

    async def numbered(self, number: int) -> Job:
        """See Backend. In a store that was moved from another number of partitions, a number does not say where its job is."""
        index = self.places.of_number(number)
        try:
            job = await self.backends[index].numbered(number)
        except UnknownJob:
            others = [other for other in range(self.count) if other != index]
            index, job = await self._first(lambda backend: backend.numbered(number), UnknownJob, others)
        self.places.seen(job, index)
        return job

    async def of_job(self, job_id: str, ask: Callable[[Backend], Awaitable[T]]) -> tuple[int, T]:
        """Carry out an operation on a job where it is; the partition, and the answer. Raises UnknownJob."""
        index = await self.first(job_id)
        try:
            return index, await ask(self.backends[index])
        except UnknownJob as error:
            if error.field is not None:
                raise
        index = await self.where(job_id, but=index)
        return index, await ask(self.backends[index])

    async def first(self, job_id: str) -> int:
        """The partition that most likely has a job: what is remembered, what its id says, or what the id's home says."""
        places = self.places
        if places.known(job_id) or is_ours(job_id):
            return places.of_id(job_id)
        return (await self._claimed([job_id]))[0]

    async def firsts(self, ids: Sequence[str]) -> list[int]:
        """The same for many jobs."""
        places = self.places
        unknown = [job_id for job_id in dict.fromkeys(ids) if not places.known(job_id) and not is_ours(job_id)]
        claimed = dict(zip(unknown, await self._claimed(unknown), strict=True)) if unknown else {}
        return [claimed[job_id] if job_id in claimed else places.of_id(job_id) for job_id in ids]

    async def _claimed(self, ids: Sequence[str]) -> list[int]:
        """What the homes of these ids say; the home itself for those of which it knows nothing, or cannot be asked."""
        homes: dict[int, list[int]] = {}
        found = [home_of(job_id, self.count) for job_id in ids]
        for at, home in enumerate(found):
            homes.setdefault(home, []).append(at)

        async def ask(home: int, part: list[int]) -> None:
            try:
                answers = await self.backends[home].ask(GetClaims(ids=tuple(ids[at] for at in part)))
            except Unavailable:
                return
            for at, claim in zip(part, answers, strict=True):
                if claim is not None:
                    found[at] = claim.partition
                    self.places.seen_id(ids[at], claim.partition)

        if len(homes) == 1:
            ((home, part),) = homes.items()
            await ask(home, part)
        else:
            await asyncio.gather(*(ask(home, part) for home, part in homes.items()))
        return found

    async def where(self, job_id: str, but: int | None = None) -> int:
        """The partition that has a job; asks all of them, except `but`. Raises UnknownJob, and StorageUnavailable if one that may have it
        cannot be asked.
        """
        others = [index for index in range(self.count) if index != but]
        answers = await asyncio.gather(*(self.backends[index].job(job_id) for index in others), return_exceptions=True)
        found: tuple[int, Job] | None = None
        refusal: BaseException | None = None
        for index, answer in zip(others, answers, strict=True):
            if isinstance(answer, BaseException):
                if refusal is None or isinstance(refusal, UnknownJob):
                    refusal = answer
            elif found is None or (found[1].status is CONCLUDED and answer.status is not CONCLUDED):
                # Two can have an id that a server made without a claim; the one that is live is meant.
                found = index, answer
        if found is None:
            raise refusal or UnknownJob(job_id)
        self.places.seen(found[1], found[0])
        return found[0]
