"""Requests about workers: listing them, and telling one to take no jobs for now. What is known of workers is in backend/workers.py.

A caller whose token is limited to some queues sees the workers that ask for one of these, and only these among each worker's queues. To
make a worker quiet, the caller must be allowed to use all of its queues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from msgspec.structs import replace

from jobqueue.about import WorkerStats
from jobqueue.backend.merging import by_name, merged_workers
from jobqueue.backend.requests.request import PAGE, PARTITIONS_LEVEL, Front, Guard, Owner, Request
from jobqueue.errors import Forbidden, UnknownWorker

Page = tuple[list[WorkerStats], str | None]
"""Workers, and the cursor of the next page: None at the end."""


def _listed(owner: Owner) -> list[WorkerStats]:
    return owner.workers.listed(owner.clock.now(), owner.clock.skew())


class ListWorkers(Request[Page], frozen=True, tag="workers.list"):
    """Up to `limit` workers by name, starting after the name `after`; and the next `after`. queue: only workers that ask for it."""

    after: str = ""
    limit: int = 100
    queue: str | None = None

    async def serve(self, owner: Owner) -> Page:
        found = [stats for stats in _listed(owner) if stats.name > self.after and (self.queue is None or self.queue in stats.queues)]
        return found[: self.limit], found[self.limit - 1].name if len(found) > self.limit else None

    async def guarded(self, guard: Guard) -> Page:
        if self.queue is not None:
            guard.allow(self.queue)
        found: list[WorkerStats] = []
        cursor: str | None = self.after
        while cursor is not None and not found:
            page, cursor = await guard.beneath(replace(self, after=cursor, limit=max(self.limit, PAGE)))
            shown = [replace(stats, queues=tuple(filter(guard.sees, stats.queues))) for stats in page]
            found = [stats for stats in shown if stats.queues]
            if not found:
                await asyncio.sleep(0)
        # A name that they cannot see must not be revealed either.
        more, found = cursor is not None or len(found) > self.limit, found[: self.limit]
        return found, found[-1].name if more and found else None

    async def spread(self, front: Front) -> Page:
        found: list[WorkerStats] = []
        cursor: str | None = self.after
        while cursor is not None and not found:
            # Which queues a worker asks for is known only when the parts are put together.
            asked = replace(self, after=cursor, limit=self.limit if self.queue is None else max(self.limit, PAGE), queue=None)
            page, cursor = by_name(await front.everywhere(asked), lambda stats: stats.name, asked.limit)
            found = [stats for stats in merged_workers(page) if self.queue is None or self.queue in stats.queues]
        more, found = cursor is not None or len(found) > self.limit, found[: self.limit]
        return found, found[-1].name if more and found else None


class SetQuiet(Request[WorkerStats], frozen=True, tag="workers.quiet"):
    """Stop giving jobs to a worker from now on, or start again. This survives a restart. Raises UnknownWorker.

    anyway: store it even if the worker is not known here, but in another partition; UnknownWorker is raised all the same.
    """

    changes = True
    name: str
    quiet: bool
    anyway: bool = False

    def needs(self) -> int:
        return PARTITIONS_LEVEL if self.anyway else self.knows

    async def serve(self, owner: Owner) -> WorkerStats:
        owner.check_open()
        stats = next((stats for stats in _listed(owner) if stats.name == self.name), None)
        if stats is None and not self.anyway and (self.quiet or self.name not in owner.engine.quiet):
            raise UnknownWorker(self.name)
        now = owner.clock.now()
        owner.engine.set_quiet(self.name, self.quiet, now + owner.clock.skew())
        if self.quiet:
            owner.dismiss_worker(self.name)
        await owner.commit(now)
        if stats is None:
            # It was made quiet before, and is not there now.
            raise UnknownWorker(self.name)
        return replace(stats, quiet=self.quiet)

    async def guarded(self, guard: Guard) -> WorkerStats:
        before = self.name[:-1]
        stats: WorkerStats | None = None
        cursor: str | None = before
        while cursor is not None and stats is None and cursor <= self.name:
            page, cursor = await guard.beneath(ListWorkers(after=cursor, limit=PAGE))
            stats = next((stats for stats in page if stats.name == self.name), None)
            await asyncio.sleep(0)
        if stats is None or not any(map(guard.sees, stats.queues)):
            raise UnknownWorker(self.name)
        if not all(map(guard.sees, stats.queues)):
            raise Forbidden(f"the worker {self.name!r} also takes jobs of queues that the token gives no access to")
        return await guard.beneath(self)

    async def spread(self, front: Front) -> WorkerStats:
        parts = await self._in(front, range(front.count))
        known = list(merged_workers(part for part in parts if part is not None))
        if not known:
            raise UnknownWorker(self.name)
        if self.quiet:
            # Where it is not known yet, it may ask next.
            await replace(self, anyway=True)._in(front, [index for index, part in enumerate(parts) if part is None])
        return known[0]

    async def _in(self, front: Front, indexes: Iterable[int]) -> list[WorkerStats | None]:
        parts = await asyncio.gather(*(front.at(index, self) for index in indexes), return_exceptions=True)
        for part in parts:
            if isinstance(part, BaseException) and not isinstance(part, UnknownWorker):
                raise part
        return [None if isinstance(part, BaseException) else part for part in parts]


WORKERS = (ListWorkers, SetQuiet)
