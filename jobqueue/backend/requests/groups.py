"""Requests about groups. Counting and enqueuing is in engine/groups.py.

A group belongs to its queue: a caller who cannot use the queue does not see the group. A caller who can use it can close and cancel the
group, with all its members: whoever lets a job of another queue join accepts that.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Iterator

from jobqueue.backend.merging import by_name
from jobqueue.backend.requests.request import PAGE, Front, Guard, Owner, Request
from jobqueue.backend.shell import group_key
from jobqueue.engine.groups import KIND
from jobqueue.errors import IdConflict, StorageUnavailable, Unconfirmed, UnknownGroup
from jobqueue.group import GroupSpec, GroupStats
from jobqueue.model import JobSpec

Page = tuple[list[GroupStats], str | None]
"""Groups, and the cursor of the next page: None at the end."""


def _stats(owner: Owner, group_id: str) -> GroupStats:
    return owner.engine.groups.stats(owner.engine.groups.group(group_id))


class CreateGroup(Request[tuple[GroupStats, bool]], frozen=True, tag="groups.create"):
    """Create a group. Returns the group and whether it was created now; it was not if the same group existed already. Raises BadRequest,
    TooLarge, IdConflict, TooManyGroups, QueueFull.
    """

    changes = True
    spec: GroupSpec

    def specs(self) -> Iterator[JobSpec]:
        return (job for job in (self.spec.on_concluded, self.spec.on_succeeded) if job is not None)

    async def serve(self, owner: Owner) -> tuple[GroupStats, bool]:
        owner.check_open(adding=True)
        engine, now = owner.engine, owner.clock.now()
        group, made = engine.groups.create(self.spec, now + owner.clock.skew(), lambda: engine.ids.job_id(now))
        await owner.commit(now)
        return engine.groups.stats(group), made

    async def guarded(self, guard: Guard) -> tuple[GroupStats, bool]:
        guard.allow(self.spec.queue)
        for field, job in (("on_concluded", self.spec.on_concluded), ("on_succeeded", self.spec.on_succeeded)):
            if job is not None:
                guard.allow(job.queue, f"{field}.queue")
        return await guard.beneath(self)

    async def spread(self, front: Front) -> tuple[GroupStats, bool]:
        spec = self.spec
        for field, job in (("on_concluded", spec.on_concluded), ("on_succeeded", spec.on_succeeded)):
            if job is not None:
                front.check_together(f"{field}.queue", spec.queue, job.queue)
        if spec.id is not None:
            with contextlib.suppress(UnknownGroup):
                index, _ = await front.found(GetGroup(id=spec.id), UnknownGroup)
                if index != front.index_of(spec.queue):
                    raise IdConflict.told(f"a different group already has the id {spec.id!r}: it differs in queue", "queue")
        return await front.for_queue(spec.queue, self)


class GetGroup(Request[GroupStats], frozen=True, tag="groups.get"):
    """A group, once it is closed and all members have ended, or once the wait has passed. Raises UnknownGroup, TooManyWaiters."""

    held = True
    id: str
    wait: float = 0.0

    async def serve(self, owner: Owner) -> GroupStats:
        stats = _stats(owner, self.id)
        if self.wait <= 0 or stats.concluded or owner.draining:
            return stats
        await owner.told(group_key(KIND + self.id), self.wait)
        stats = _stats(owner, self.id)
        if stats.concluded:
            try:
                await owner.commit(owner.clock.now())
            except Unconfirmed as error:
                raise StorageUnavailable(f"the group's end is not stored yet: {error.detail}") from None
        return stats

    async def guarded(self, guard: Guard) -> GroupStats:
        stats = await guard.beneath(GetGroup(id=self.id))
        if not guard.sees(stats.queue):
            raise UnknownGroup(self.id)
        return stats if self.wait <= 0 or stats.concluded else await guard.beneath(self)

    async def spread(self, front: Front) -> GroupStats:
        index, stats = await front.found(GetGroup(id=self.id), UnknownGroup)
        return stats if self.wait <= 0 or stats.concluded else await front.at(index, self)


class ListGroups(Request[Page], frozen=True, tag="groups.list"):
    """Up to `limit` groups by id, starting after the id `after`; and the next `after`."""

    after: str = ""
    limit: int = 100

    async def serve(self, owner: Owner) -> Page:
        groups = owner.engine.groups
        names = heapq.nsmallest(self.limit + 1, (name for name in groups.groups if name > self.after))
        page = [groups.stats(groups.groups[name]) for name in names[: self.limit]]
        return page, names[self.limit - 1] if len(names) > self.limit else None

    async def guarded(self, guard: Guard) -> Page:
        found: list[GroupStats] = []
        cursor: str | None = self.after
        while cursor is not None and not found:
            page, cursor = await guard.beneath(ListGroups(after=cursor, limit=max(self.limit, PAGE)))
            found = [stats for stats in page if guard.sees(stats.queue)]
            if not found:
                await asyncio.sleep(0)
        # An id of a group that they cannot see must not be revealed either.
        more, found = cursor is not None or len(found) > self.limit, found[: self.limit]
        return found, found[-1].id if more and found else None

    async def spread(self, front: Front) -> Page:
        return by_name(await front.everywhere(self), lambda stats: stats.id, self.limit)


class CloseGroup(Request[GroupStats], frozen=True, tag="groups.close"):
    """Let no more jobs join a group. Raises UnknownGroup."""

    changes = True
    id: str

    async def serve(self, owner: Owner) -> GroupStats:
        owner.check_open()
        owner.engine.groups.close(self.id, owner.clock.now())
        await owner.commit(owner.clock.now())
        return _stats(owner, self.id)

    async def guarded(self, guard: Guard) -> GroupStats:
        await GetGroup(id=self.id).guarded(guard)
        return await guard.beneath(self)

    async def spread(self, front: Front) -> GroupStats:
        index, _ = await front.found(GetGroup(id=self.id), UnknownGroup)
        return await front.at(index, self)


class CancelGroup(Request[GroupStats], frozen=True, tag="groups.cancel"):
    """Close a group, and cancel all its members soon after. Raises UnknownGroup."""

    changes = True
    id: str

    async def serve(self, owner: Owner) -> GroupStats:
        owner.check_open()
        owner.engine.groups.cancel(self.id, owner.clock.now())
        await owner.commit(owner.clock.now())
        return _stats(owner, self.id)

    async def guarded(self, guard: Guard) -> GroupStats:
        await GetGroup(id=self.id).guarded(guard)
        return await guard.beneath(self)

    async def spread(self, front: Front) -> GroupStats:
        index, _ = await front.found(GetGroup(id=self.id), UnknownGroup)
        return await front.at(index, self)


GROUPS = (CreateGroup, GetGroup, ListGroups, CloseGroup, CancelGroup)
