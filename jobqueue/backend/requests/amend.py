"""Changing some entries of a queue's maps.

`Backend.change_policy` sets a whole map, which would undo changes that another client makes meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec
from msgspec.structs import replace

from jobqueue.backend.requests.request import Front, Guard, Owner, Request
from jobqueue.policy import PolicyChange


class AmendQueue(Request[None], frozen=True, tag="queues.amend"):
    """Change some fields of a queue's policy, and some of its tags and attributes, all at once. None removes an entry.

    Tags and attributes in `change` are ignored. Raises UnknownQueue, BadRequest.
    """

    changes = True
    knows: ClassVar[int] = 3
    name: str
    change: PolicyChange = PolicyChange()
    tags: dict[str, str | None] = msgspec.field(default_factory=dict)
    attributes: dict[str, str | None] = msgspec.field(default_factory=dict)

    async def serve(self, owner: Owner) -> None:
        owner.check_open()
        policy = owner.engine.queue(self.name).policy
        tags, attributes = _amended(policy.tags, self.tags), _amended(policy.attributes, self.attributes)
        now = owner.clock.now()
        owner.engine.change_policy(self.name, replace(self.change, tags=tags, attributes=attributes), now)
        await owner.commit(now)

    async def guarded(self, guard: Guard) -> None:
        guard.allow(self.name)
        if isinstance(self.change.dead_letter, str):
            guard.allow(self.change.dead_letter, "dead_letter")
        await guard.beneath(self)

    async def spread(self, front: Front) -> None:
        if isinstance(self.change.dead_letter, str):
            front.check_together("dead_letter", self.name, self.change.dead_letter)
        await front.for_queue(self.name, self)


def _amended(old: Mapping[str, str], asked: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in {**old, **asked}.items() if value is not None}


AMEND = (AmendQueue,)
