"""Clients of a FIFO queue as Amazon SQS has it: those who send, those who receive, and one who empties it.

lane.py judges what they are told.
"""

from __future__ import annotations

import json
from typing import Any

from .caller import Reply
from .clients import Client, Worker
from .history import Ask
from .lane import BATCH_MAX, GROUPS, LANE
from .loop import passing

BACKLOG_MAX = 15
POLICY = {"per_key": {"order": "fifo"}, "max_attempts": None, "lease_seconds": 3}


class Sender(Client):
    """Sends messages, alone and up to ten at a time. Repeats what was not answered, under the same id as SDKs do; and sends other messages
    with a deduplication id that was used before.
    """

    made = False

    async def step(self) -> None:
        if not self.made:
            self.made = await self.make_queue()
            return
        if sum(map(len, self.world.lane.there.values())) > BACKLOG_MAX:
            # A message that waits to the end of the world shows little.
            return
        if self.chance(0.3):
            await self.many([self.message() for _ in range(self.random.choice((2, 3, BATCH_MAX)))])
        else:
            await self.one(self.message())

    async def make_queue(self) -> bool:
        """Have the queue be there, with its order; whether it is."""
        reply = await self.ask("policy", "PUT", f"/queues/{LANE}", POLICY, paused=False)
        return reply is not None and reply.status in (200, 201)

    def message(self) -> dict[str, Any]:
        """A new one, or one whose deduplication id is not."""
        lane, serial = self.world.lane, self.world.serial()
        known = list(lane.messages.values())[-30:]
        key = self.random.choice(known).key if known and self.chance(0.35) else f"d{serial}"
        unique = {"key": key, "until": "enqueued", "for": lane.window, "on_conflict": "keep"}
        group = self.random.choice(GROUPS)
        return {"id": f"{self.name}-{serial}", "payload": {"n": serial}, "queue": LANE, "key": group, "unique": unique}

    def sends(self, item: dict[str, Any]) -> None:
        """Say so to those who judge."""
        self.world.ledger.submits(item["id"], self.now)
        self.world.lane.sends(item, self.now)

    def told(self, item: dict[str, Any], answer: dict[str, Any], sent_at: float, reply: Reply) -> None:
        """And what was answered."""
        if answer["id"] == item["id"]:
            self.world.acknowledged(item["id"], json.dumps(item["payload"], separators=(",", ":")).encode(), reply.life)
        self.world.lane.answered(item["id"], answer, sent_at, self.now)

    async def one(self, item: dict[str, Any]) -> None:
        """Send it until that is answered, three times at most; sometimes once more."""
        for _ in range(3):
            self.sends(item)
            sent_at = self.now
            reply = await self.ask("enqueue", "POST", "/jobs/enqueue", item)
            if reply is not None and reply.status in (200, 201):
                self.told(item, reply.json, sent_at, reply)
            elif reply is not None and reply.status not in (408, 429, 503):
                self.world.history.fault(f"an enqueue was answered {reply.status} {reply.body!r}")
            if reply is not None and not self.chance(0.1):
                return

    async def many(self, items: list[dict[str, Any]]) -> None:
        """The same of several in one request."""
        for _ in range(3):
            for item in items:
                self.sends(item)
            sent_at = self.now
            reply = await self.ask("batch enqueue", "POST", "/batch/enqueue", {"jobs": items})
            if reply is not None and reply.status == 200:
                for item, answer in zip(items, reply.json["jobs"], strict=True):
                    if "id" in answer:
                        self.told(item, answer, sent_at, reply)
            if reply is not None:
                return


class Receiver(Worker):
    """Receives up to ten at a time, deletes what it has done, in order or not, in time or not; says that it needs longer, or not at all."""

    async def step(self) -> None:
        self.attempts += 1
        receive = f"{self.name}.{self.attempts}"
        terms = self.terms(receive, repeated=self.chance(0.5))
        ask, reply = await self.take(terms)
        again = False
        for _ in range(2):
            if reply is None and "attempt_id" in terms and not self.world.closing:
                again = True
                ask, reply = await self.take(terms)
        if reply is None or reply.status != 200 or not (jobs := self.read(reply)):
            return
        self.deliver(ask, jobs, reply)
        if self.world.remembers(reply.life) and not ask.link.client.half_closed:
            self.world.lane.received(ask, receive, jobs, self.now, again)
        await self.work(jobs)

    def terms(self, receive: str, repeated: bool) -> dict[str, Any]:
        """What it wants this time. repeated: it asks again, under one attempt_id, until it is answered."""
        random = self.random
        terms: dict[str, Any] = {
            "queue": [LANE],
            "wait": random.choice(self.world.plan.waits),
            "worker": receive,
            "lease_seconds": random.choice((0, *self.world.plan.leases)),
            "limit": random.choice((1, 2, BATCH_MAX)),
        }
        return terms | {"attempt_id": receive} if repeated else terms

    async def take(self, terms: dict[str, Any]) -> tuple[Ask, Reply | None]:
        """Receive."""
        return await self.dequeue(terms, many=True)

    def read(self, reply: Reply) -> list[Any]:
        """What was received."""
        jobs: list[Any] = reply.json["jobs"]
        return jobs

    async def work(self, jobs: list[Any]) -> None:
        """See Worker."""
        await self.think(self.world.plan.toil)
        if self.chance(0.1):
            self.drop(self.random.choice(("fin", "rst", "vanish")))
            return
        if self.chance(0.3):
            await self.extend(jobs)
            await self.think(self.world.plan.toil)
        if self.chance(0.2):
            jobs = await self.give_back(jobs)
        if self.chance(0.2):
            # It comes late, perhaps when its leases are over and the server is another one.
            await passing(self.random.choice((2.0, 5.0, 10.0)))
        if self.chance(0.2):
            self.random.shuffle(jobs)
        if len(jobs) > 1 and self.chance(0.5):
            await self.delete_all(jobs)
            return
        for job in jobs:
            if self.chance(0.15):
                # It forgets this one, and whatever comes behind that in its group is held up until the lease runs out.
                continue
            await self.delete(job)

    def verdict(self, token: str) -> dict[str, Any]:
        """See Worker."""
        return {"lease": token, "outcome": "succeeded", "late": True}

    async def give_back(self, jobs: list[Any]) -> list[Any]:
        """Have the first one's lease end at once; what is left to be done. Sometimes it is done all the same, since deletes may be late."""
        job_id, token = jobs[0]["id"], jobs[0]["lease"]["token"]
        self.world.ledger.ends(token, self.now)
        body = {"lease": token, "lease_seconds": 0}
        reply = await self.ask("extend", "POST", f"/jobs/{job_id}/extend", body, ids=(job_id,), tokens={job_id: token})
        self.world.lane.counts["zero"] += reply is not None and reply.status == 200
        return jobs if self.chance(0.3) else jobs[1:]

    async def delete(self, job: Any) -> None:
        """Say that a message is done; sometimes twice."""
        job_id, token = job["id"], job["lease"]["token"]
        body = self.verdict(token)
        for _ in range(1 + self.chance(0.2)):
            self.world.ledger.ends(token, self.now)
            self.world.lane.ends(job_id, self.now)
            reply = await self.ask("conclude", "POST", f"/jobs/{job_id}/conclude", body, ids=(job_id,), tokens={job_id: token}, late=True)
            if reply is not None and reply.status == 200:
                self.deleted(job_id, token, reply.json)

    async def delete_all(self, jobs: list[Any]) -> None:
        """The same of several in one request."""
        for job in jobs:
            self.world.ledger.ends(job["lease"]["token"], self.now)
            self.world.lane.ends(job["id"], self.now)
        tokens = {job["id"]: job["lease"]["token"] for job in jobs}
        items = [{"id": job_id, **self.verdict(token)} for job_id, token in tokens.items()]
        reply = await self.ask("batch conclude", "POST", "/batch/conclude", {"jobs": items}, tokens=tokens, late=True)
        if reply is not None and reply.status == 200:
            for (job_id, token), result in zip(tokens.items(), reply.json["jobs"], strict=True):
                self.deleted(job_id, token, result)

    def deleted(self, job_id: str, token: str, answer: dict[str, Any]) -> None:
        """A message is done, if that is what was answered."""
        if answer.get("outcome") == "succeeded":
            self.world.succeeded(job_id)
            self.world.lane.ended(job_id, token, self.now)


class Keeper(Client):
    """Stops the queue for a while, or empties it of all that is in it."""

    async def step(self) -> None:
        await self.think(5)
        if self.chance(0.5):
            purge = self.world.lane.purges_all(self.now)
            reply = await self.purge()
            self.world.lane.purged(purge, self.now, answered=reply is not None and reply.status == 200)
            return
        await self.stop()

    async def purge(self) -> Reply | None:
        """Ask for it."""
        return await self.ask("purge all", "POST", f"/queues/{LANE}/purge?all=true")

    async def stop(self) -> None:
        """For a while."""
        await self.ask("pause", "POST", f"/queues/{LANE}/pause", paused=True)
        await self.think(1)
        await self.ask("resume", "POST", f"/queues/{LANE}/resume", paused=False)


COURIERS: dict[str, type[Client]] = {"sender": Sender, "receiver": Receiver, "keeper": Keeper}
