"""Recent errors, in groups; engine/error_groups.py counts them. A caller whose token is limited to some queues sees only the groups of
these.
"""

from __future__ import annotations

from msgspec.structs import replace

from jobqueue.backend.requests.request import Front, Guard, Owner, Request
from jobqueue.past import ErrorGroup


class ListErrors(Request[list[ErrorGroup]], frozen=True, tag="errors.list"):
    """The groups of a queue, or of all queues, most recent first; at most `limit`. Times are UTC. Raises UnknownQueue."""

    knows = 6
    queue: str | None = None
    limit: int = 100

    async def serve(self, owner: Owner) -> list[ErrorGroup]:
        if self.queue is not None:
            owner.engine.queue(self.queue)
        skew = owner.clock.skew()
        found = owner.engine.failing.errors.seen(self.queue)[: self.limit]
        return [replace(group, first_at=group.first_at + skew, last_at=group.last_at + skew) for group in found]

    async def guarded(self, guard: Guard) -> list[ErrorGroup]:
        if self.queue is not None:
            guard.allow(self.queue)
            return await guard.beneath(self)
        # All groups: any of them may be one that the caller can see.
        found = await guard.beneath(replace(self, limit=ALL))
        return [group for group in found if guard.sees(group.queue)][: self.limit]

    async def spread(self, front: Front) -> list[ErrorGroup]:
        if self.queue is not None:
            return await front.for_queue(self.queue, self)
        found = [group for groups in await front.everywhere(self) for group in groups]
        return sorted(found, key=lambda group: group.last_at, reverse=True)[: self.limit]


ALL = 1_000_000_000

ERRORS = (ListErrors,)
