"""Clients that use the same ids for jobs of different queues, so that these are claimed across partitions, and an audit of such ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .caller import Reply
from .clients import Producer
from .loop import passing

if TYPE_CHECKING:
    from .cluster import ClusterWorld

IDS = 8
"""How many ids are in use at a time."""

SERIALS = 60
"""How many jobs are submitted in the world before the ids are others."""

REFUSED_SECONDS = 120.0
"""Without trouble, how long an id can be refused that no job has."""

TRIES = 6
"""History may forget a job between a look at it and what is concluded from that, so often."""


class Claimer(Producer):
    """Submits what others submit too, each time to any queue: the same job again, or another one under an id that may be taken."""

    world: ClusterWorld

    async def step(self) -> None:
        """See Producer. Then looks, at any server, for a job that somebody has submitted."""
        await super().step()
        if self.world.ids.shared and self.chance(0.4):
            self.drop()
            job_id = self.random.choice(list(self.world.ids.shared)[-IDS:])
            await self.ask("look", "GET", f"/jobs/{job_id}", ids=(job_id,))

    def item(self) -> dict[str, Any]:
        """A job of a shared id, the same in all but its queue."""
        job_id = f"x{self.world.serial() // SERIALS}-{self.random.randrange(IDS)}"
        self.world.ids.shared[job_id] = None
        return {"payload": {"x": job_id}, "queue": self.queue(), "id": job_id}

    def note(self, item: dict[str, Any], reply: Reply | None) -> None:
        """See Producer. An id may be another queue's."""
        if reply is None or reply.status != 409:
            super().note(item, reply)

    def remember(self, item: dict[str, Any], job_id: str, reply: Reply) -> None:
        """See Producer."""
        if reply.json.get("queue", item["queue"]) != item["queue"]:
            self.world.history.fault(f"{job_id} was enqueued to {item['queue']}, and is in {reply.json['queue']}")
        super().remember(item, job_id, reply)


class Auditor(Producer):
    """Looks, when the trouble is over, whether each shared id is refused just where a job has it."""

    world: ClusterWorld

    async def run(self) -> None:
        """Enqueue under every id that was used."""
        for job_id in self.world.ids.shared:
            await self._audit(job_id)
        self.drop()

    async def _audit(self, job_id: str) -> None:
        until = self.now + REFUSED_SECONDS
        queue, said = self.queue(), ""
        for _ in range(TRIES):
            there = await self._steady("look", "GET", f"/jobs/{job_id}", None)
            reply = await self._steady("enqueue", "POST", "/jobs/enqueue", {"payload": {"x": job_id}, "queue": queue, "id": job_id})
            while reply.status in (429, 503) and self.now < until:
                await passing(1)
                there = await self._steady("look", "GET", f"/jobs/{job_id}", None)
                reply = await self._steady("enqueue", "POST", "/jobs/enqueue", {"payload": {"x": job_id}, "queue": queue, "id": job_id})
            holder = there.json["queue"] if there.status == 200 else None
            said = f"{reply.status} {reply.body.decode()[:200]}, and a look at it {there.status}"
            if reply.status == 201:
                # The next ones need room.
                await self._steady("cancel", "POST", f"/jobs/{job_id}/cancel", None, ids=(job_id,))
            expected = 201 if holder is None else 200 if holder == queue else 409
            if reply.status in (429, expected):
                return
        self.world.history.fault(f"{job_id} was enqueued to {queue} and answered {said}")

    async def _steady(self, op: str, method: str, path: str, body: Any, **known: Any) -> Reply:
        while (reply := await self.ask(op, method, path, body, steady=True, **known)) is None:
            await passing(1)
        return reply
