"""What a server asks the partitions before it takes jobs of queues in several of them."""

from __future__ import annotations

import msgspec

from jobqueue.backend.requests.request import BetweenServers, Owner


class Scouted(msgspec.Struct, frozen=True):
    """held: whether the attempt has live leases here, which a dequeue would hand out again; available: the queues that seem to have a job
    that can be handed out now."""

    held: bool
    available: list[str]


class Scout(BetweenServers[Scouted], frozen=True, tag="scout"):
    """Whether a dequeue would find something in these queues now. The attempt is the one of `Want`. Changes nothing."""

    queues: tuple[str, ...]
    attempt_id: str | None = None
    worker: str | None = None
    who: str = ""

    async def serve(self, owner: Owner) -> Scouted:
        engine = owner.engine
        held = self.attempt_id is not None and any(
            engine.attempts.get((self.attempt_id, self.worker, self.who, queue)) for queue in self.queues
        )
        return Scouted(held, [queue for queue in self.queues if engine.available(queue)])


SCOUTING = (Scout,)
