"""Dequeues on a store with several partitions.

A dequeue of queues in one partition goes there. One of queues in several first asks all of them what there is, takes from the first queue
that has a job, in order of preference, and otherwise stands in line in all of them at the same time. The first partition that hands out a
job wins; the places elsewhere are given up, and what is handed out there in the same moment is put back, as if its answer had not been
delivered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from jobqueue.backend.base import Backend, Taking
from jobqueue.backend.requests.scouting import Scout, Scouted
from jobqueue.backend.store.places import Places
from jobqueue.clock import Clock
from jobqueue.engine import checks
from jobqueue.errors import QueueError, Unavailable
from jobqueue.limits import Limits
from jobqueue.model import Job, Want


class PlacedTaking:
    """A dequeue in one partition, which remembers where the jobs are that it gets; see base.Taking."""

    __slots__ = ("_index", "_places", "_taking", "quiet")

    def __init__(self, taking: Taking, places: Places, index: int) -> None:
        self._taking = taking
        self._places = places
        self._index = index
        self.quiet = False

    def at_once(self) -> list[Job] | None:
        jobs = self._taking.at_once()
        if jobs:
            self._places.all_seen(jobs, self._index)
        return jobs

    def leave(self) -> None:
        self._taking.leave()

    async def __aenter__(self) -> list[Job]:
        jobs = await self._taking.__aenter__()
        self.quiet = self._taking.quiet
        self._places.all_seen(jobs, self._index)
        return jobs

    async def __aexit__(self, *exc_info: object) -> None:
        await self._taking.__aexit__(*exc_info)

    def delivered(self) -> None:
        self._taking.delivered()


class Front(Protocol):
    """What a dequeue needs of the backend over several partitions."""

    backends: Sequence[Backend]
    hasty: Sequence[Backend]
    places: Places
    limits: Limits
    clock: Clock

    def index_of(self, queue: str) -> int:
        """The partition of a queue."""


class MergedTaking:
    """A dequeue of queues in several partitions; see base.Taking."""

    def __init__(self, front: Front, want: Want, wait: float) -> None:
        self._front = front
        self._want = want
        self._wait = wait
        self.quiet = False
        self._won: Taking | None = None
        """The dequeue in the partition that had jobs."""
        self._heard = True
        """Whether any partition could be asked. If none could, all are asked again, in the way that waits for an owner."""

    def at_once(self) -> list[Job] | None:
        """See base.Taking."""
        return None

    def leave(self) -> None:
        """See base.Taking."""

    async def __aenter__(self) -> list[Job]:
        checks.want(self._want, self._front.limits)
        began = self._front.clock.now()
        jobs = await self._what_is_there()
        left = self._wait - (self._front.clock.now() - began)
        if jobs or self.quiet or (self._wait <= 0 and self._heard):
            return jobs
        line = _Line(self._front, self._parts())
        self._won, jobs = await line.first(max(0.0, left))
        self.quiet = line.quiet
        return jobs

    async def __aexit__(self, *exc_info: object) -> None:
        won, self._won = self._won, None
        if won is not None:
            await won.__aexit__(*exc_info)

    def delivered(self) -> None:
        """See base.Taking."""
        if self._won is not None:
            self._won.delivered()

    def _parts(self) -> dict[int, Want]:
        """What each partition is asked for."""
        queues: dict[int, list[str]] = {}
        for queue in self._want.queues:
            queues.setdefault(self._front.index_of(queue), []).append(queue)
        return {index: replace(self._want, queues=tuple(names)) for index, names in queues.items()}

    async def _what_is_there(self) -> list[Job]:
        """The jobs of the attempt, if it has any; else of the first queue, in order of preference, that has one; with others of its
        partition that come next.
        """
        front, want, parts = self._front, self._want, self._parts()
        answers = await asyncio.gather(*(self._scouted(index, part) for index, part in parts.items()), return_exceptions=True)
        scouted: dict[int, Scouted] = {}
        failed: list[BaseException] = []
        for index, answer in zip(parts, answers, strict=True):
            if isinstance(answer, Scouted):
                scouted[index] = answer
            elif isinstance(answer, BaseException):
                failed.append(answer)
        for error in failed:
            if not isinstance(error, Unavailable):
                raise error
        self._heard = bool(scouted)
        for index, answer in scouted.items():
            if answer.held and (jobs := await self._take(index, parts[index])):
                return jobs
        available = {queue for answer in scouted.values() for queue in answer.available}
        for at, queue in enumerate(want.queues):
            if queue in available:
                index = front.index_of(queue)
                # This queue before those that it shares a partition with, and only those that come after it.
                later = tuple(name for name in want.queues[at:] if front.index_of(name) == index)
                if (jobs := await self._take(index, replace(want, queues=later))) or self.quiet:
                    return jobs
        if not available and want.about is not None and self._wait <= 0 and scouted:
            return await self._make_known({index: parts[index] for index in scouted})
        return []

    async def _make_known(self, parts: dict[int, Want]) -> list[Job]:
        """Let a worker be known wherever it asks, and learn that it is quiet, although there is nothing for it."""
        for index, part in parts.items():
            if (jobs := await self._take(index, part)) or self.quiet:
                return jobs
        return []

    async def _scouted(self, index: int, part: Want) -> Scouted:
        return await self._front.hasty[index].ask(Scout(queues=part.queues, attempt_id=part.attempt_id, worker=part.worker, who=part.who))

    async def _take(self, index: int, part: Want) -> list[Job]:
        taking = self._front.hasty[index].dequeue(part, 0)
        try:
            jobs = await taking.__aenter__()
        except Unavailable:
            # It was there a moment ago. Others may have jobs; if not, this one is asked again, patiently, when standing in line.
            self._heard = False
            return []
        if not jobs:
            self.quiet = taking.quiet
            await taking.__aexit__(None, None, None)
            return []
        self._won = taking
        self._front.places.all_seen(jobs, index)
        return jobs


class _Line:
    """One request that stands in line in several partitions."""

    def __init__(self, front: Front, parts: dict[int, Want]) -> None:
        self._front = front
        self._parts = parts
        self._tasks: list[asyncio.Task[None]] = []
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._won: tuple[Taking, list[Job]] | None = None
        self._error: BaseException | None = None
        self._refused: list[QueueError] = []
        self._standing = len(parts)
        self.quiet = False

    async def first(self, wait: float) -> tuple[Taking | None, list[Job]]:
        """The first hand-out; (None, []) when the wait has passed everywhere. Raises what a partition raised: at once, unless it could not
        be asked; then only if none could.
        """
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._stand(index, part, wait)) for index, part in self._parts.items()]
        try:
            await self._ended
        except BaseException:
            won, self._won = self._won, None
            if won is not None:
                # It was handed out in the turn of the loop in which the client went.
                _leave(won[0])
            raise
        finally:
            # What they were given in this moment is put back by the takings themselves.
            self._error = self._error or _GONE
            for task in self._tasks:
                task.cancel()
        if self._won is not None:
            return self._won
        if self._error is not _GONE:
            raise self._error
        if len(self._refused) == len(self._parts):
            raise self._refused[0]
        return None, []

    async def _stand(self, index: int, part: Want, wait: float) -> None:
        taking = self._front.backends[index].dequeue(part, wait)
        try:
            jobs = await taking.__aenter__()
        except Unavailable as error:
            self._refused.append(error)
            jobs = []
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._error = self._error or error
            self._end()
            return
        else:
            if jobs and self._won is None and self._error is None:
                self._won = taking, jobs
                self._front.places.all_seen(jobs, index)
                self._end()
                return
            self.quiet = self.quiet or taking.quiet
            await taking.__aexit__(None, None, None)
        self._standing -= 1
        if not self._standing:
            self._end()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


_leaving: set[asyncio.Task[None]] = set()


def _leave(taking: Taking) -> None:
    """Put back what it took, without waiting for that."""

    async def leave() -> None:
        await taking.__aexit__(None, None, None)

    task = asyncio.get_running_loop().create_task(leave())
    _leaving.add(task)
    task.add_done_callback(_leaving.discard)


_GONE = asyncio.CancelledError()
"""Stands for the end of a line: nobody takes what is handed out after it."""
