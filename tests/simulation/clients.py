"""The clients: producers, workers, those of the dialects, those who wait for results, operators. Each goes on until the world closes."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from .caller import Caller, Reply
from .flow import KEYS, some_policy
from .history import Ask
from .loop import EPOCH


class Client(Caller):
    """A program that does one thing after the other until it is told to stop."""

    async def run(self) -> None:
        """Work until the world closes, then hang up."""
        await self.think(1)
        while not self.world.closing:
            await self.step()
            await self.think(self.world.plan.pace)
        self.drop()

    async def step(self) -> None:
        """One thing."""

    def queue(self) -> str:
        return self.random.choice(self.world.plan.queues)

    def chance(self, likelihood: float) -> bool:
        return self.random.random() < likelihood


class Producer(Client):
    """Submits jobs, alone, many at a time, several requests in a row; repeats what was not answered, and sometimes what was."""

    def item(self) -> dict[str, Any]:
        """A job that differs from every other in its payload."""
        random = self.random
        serial = self.world.serial()
        item: dict[str, Any] = {"payload": {"n": serial}, "queue": self.queue(), "priority": random.choice((0, 5, 5, 5, 9))}
        if self.chance(0.7):
            item["id"] = f"{self.name}-{serial}"
        if self.chance(0.2):
            item["delay"] = random.choice((0, 0.25, 0.5, 1, 3))
        if self.chance(0.15):
            item["expires_in"] = random.choice((0.5, 1, 2, 10))
        if self.chance(0.5):
            item["max_attempts"] = random.choice((1, 2, 3, 6))
        if self.chance(0.5):
            item["backoff"] = {"base": random.choice((0, 0.5, 1)), "factor": 1, "cap": 1}
        if self.chance(0.3):
            item["lease_seconds"] = random.choice((1, 2, 5))
        if self.world.plan.flow and self.chance(0.8):
            item["key"] = random.choice(KEYS)
        return item

    async def step(self) -> None:
        kind = self.random.choice(("one", "one", "one", "many", "row"))
        if kind == "many":
            await self.batch([self.item() for _ in range(self.random.choice((1, 2, 5, 12)))])
            return
        items = [self.item() for _ in range(self.random.choice((2, 3)) if kind == "row" else 1)]
        for _ in range(3):
            asks = [self.make("enqueue", "POST", "/jobs/enqueue", item) for item in items]
            for item in items:
                self.world.ledger.submits(item.get("id"), self.now)
            replies = await self.exchange(asks)
            for item, reply in zip(items, replies, strict=True):
                self.note(item, reply)
            if all(replies) and not self.chance(0.1):
                return
            items = [item for item in items if "id" in item]
            if not items:
                return

    def note(self, item: dict[str, Any], reply: Reply | None) -> None:
        """Remember what was acknowledged."""
        if reply is not None and reply.status in (200, 201):
            self.remember(item, reply.json["id"], reply)
        elif reply is not None and reply.status not in (408, 429, 503):
            self.world.history.fault(f"an enqueue was answered {reply.status} {reply.body!r}")

    def remember(self, item: dict[str, Any], job_id: str, reply: Reply) -> None:
        self.world.acknowledged(job_id, json.dumps(item["payload"], separators=(",", ":")).encode(), reply.life)

    async def batch(self, items: list[dict[str, Any]]) -> None:
        """Many at a time."""
        for item in items:
            self.world.ledger.submits(item.get("id"), self.now)
        reply = await self.ask("batch enqueue", "POST", "/batch/enqueue", {"jobs": items})
        if reply is not None and reply.status == 200:
            for item, result in zip(items, reply.json["jobs"], strict=True):
                if "id" in result:
                    self.remember(item, result["id"], reply)


class Worker(Client):
    """Takes jobs, alone or many at a time, and does to them what workers do: finish, fail, extend, give back, crash, come late."""

    attempts = 0

    async def step(self) -> None:
        random = self.random
        self.attempts += 1
        queues = [self.queue()] if self.chance(0.7) else random.sample(self.world.plan.queues, len(self.world.plan.queues))
        wait = random.choice(self.world.plan.waits)
        worker = f"{self.name}.{self.attempts}"
        body: dict[str, Any] = {"queue": queues, "wait": wait, "worker": worker, "lease_seconds": random.choice(self.world.plan.leases)}
        if self.chance(0.4):
            body["attempt_id"] = worker
        many = self.chance(0.25)
        if many:
            body["limit"] = random.choice((1, 2, 5))
        for _ in range(3):
            ask, reply = await self.dequeue(body, many)
            if reply is not None or "attempt_id" not in body or self.world.closing:
                break
        if reply is not None and reply.status == 200:
            jobs = reply.json["jobs"] if many else [reply.json]
            self.deliver(ask, jobs, reply)
            if jobs:
                await self.work(jobs)

    async def dequeue(self, body: dict[str, Any], many: bool) -> tuple[Ask, Reply | None]:
        """Ask for jobs."""
        known = {
            "queues": tuple(body["queue"]),
            "wait": float(body["wait"]),
            "worker": body["worker"],
            "attempt": body.get("attempt_id"),
            "lease_seconds": float(body["lease_seconds"]),
        }
        op, path = ("batch dequeue", "/batch/dequeue") if many else ("dequeue", "/jobs/dequeue")
        ask = self.make(op, "POST", path, body, **known)
        return ask, (await self.exchange([ask]))[0]

    def deliver(self, ask: Ask, jobs: list[Any], reply: Reply) -> None:
        """Write down what was taken, unless it cannot count: memory was lost since, or the client had half closed (docs/semantics.md)."""
        if not self.world.remembers(reply.life) or ask.link.client.half_closed:
            return
        for job in jobs:
            payload = json.dumps(job["payload"], separators=(",", ":")).encode()
            until = self.world.engine_time(job["lease"]["expires_at"], ask.sent_at)
            self.world.ledger.delivered(ask, job["id"], job["lease"]["token"], payload, self.now, until)

    async def work(self, jobs: list[Any]) -> None:
        """Do something to jobs that were taken together."""
        await self.think(self.world.plan.toil)
        if self.chance(0.1):
            # This worker crashes, and knows nothing of its jobs any more.
            self.drop(self.random.choice(("fin", "rst", "vanish")))
            return
        if self.chance(0.3):
            await self.extend(jobs)
            await self.think(self.world.plan.toil)
        if len(jobs) > 1 and self.chance(0.7):
            await self.conclude_all(jobs)
            return
        for job in jobs:
            await self.finish(job)

    async def finish(self, job: Any) -> None:
        """End one attempt."""
        job_id, token = job["id"], job["lease"]["token"]
        if self.chance(0.2):
            await self.release(job_id, token, self.random.choice((0, 0, 0.5, 2)))
            return
        body = self.verdict(token)
        for again in range(1 + self.chance(0.2)):
            sent_at = self.now
            self.world.ledger.ends(token, self.now)
            reply = await self.ask("conclude", "POST", f"/jobs/{job_id}/conclude", body, ids=(job_id,), tokens={job_id: token})
            if reply is not None and reply.status == 200 and reply.json["outcome"] == "succeeded":
                self.world.succeeded(job_id)
            elif reply is not None and reply.status in (404, 409) and not again:
                self.world.refused(job_id, token, sent_at, reply.status)
        if self.chance(0.15) and self.world.ledger.spent:
            # Confused: it speaks of a job that it, or somebody else, had before.
            job_id, token = self.random.choice(self.world.ledger.spent[-20:])
            self.world.ledger.confused.add(token)
            await self.release(job_id, token, 0)

    def verdict(self, token: str) -> dict[str, Any]:
        body: dict[str, Any] = {"lease": token, "outcome": "succeeded" if self.chance(0.75) else "failed"}
        if body["outcome"] == "failed":
            body["error"] = "no luck"
            if self.chance(0.2):
                body["retry"] = False
        elif self.chance(0.5):
            body["result"] = {"by": self.name}
        return body

    async def release(self, job_id: str, token: str, delay: float) -> None:
        """Give a job back."""
        self.world.ledger.ends(token, self.now)
        body = {"lease": token, "delay": delay}
        await self.ask("release", "POST", f"/jobs/{job_id}/release", body, ids=(job_id,), tokens={job_id: token})

    async def conclude_all(self, jobs: list[Any]) -> None:
        """End several attempts in one request."""
        items = []
        for job in jobs:
            self.world.ledger.ends(job["lease"]["token"], self.now)
            items.append({"id": job["id"], **self.verdict(job["lease"]["token"])})
        tokens = {job["id"]: job["lease"]["token"] for job in jobs}
        reply = await self.ask("batch conclude", "POST", "/batch/conclude", {"jobs": items}, tokens=tokens)
        if reply is not None and reply.status == 200:
            for result in reply.json["jobs"]:
                if result.get("outcome") == "succeeded":
                    self.world.succeeded(result["id"])

    async def extend(self, jobs: list[Any]) -> None:
        """Say that the work goes on."""
        seconds = self.random.choice((1, 2, 5))
        for job in jobs:
            self.world.ledger.extends(job["lease"]["token"], self.now + seconds)
        tokens = {job["id"]: job["lease"]["token"] for job in jobs}
        sent_at = self.now
        if len(jobs) > 1:
            items = [{"id": job["id"], "lease": job["lease"]["token"], "lease_seconds": seconds} for job in jobs]
            reply = await self.ask("batch extend", "POST", "/batch/extend", {"jobs": items}, tokens=tokens)
            results = reply.json["jobs"] if reply is not None and reply.status == 200 else []
        else:
            job_id, token = jobs[0]["id"], jobs[0]["lease"]["token"]
            body = {"lease": token, "lease_seconds": seconds, "progress": 0.5}
            reply = await self.ask("extend", "POST", f"/jobs/{job_id}/extend", body, ids=(job_id,), tokens=tokens)
            results = [reply.json] if reply is not None and reply.status == 200 else []
        for result in results:
            if "expires_at" in result:
                self.world.ledger.extended(tokens[result["id"]], self.world.engine_time(result["expires_at"], sent_at))


class Watcher(Client):
    """Waits for the results of jobs that others submitted."""

    async def step(self) -> None:
        known = list(self.world.ledger.acknowledged)
        if not known:
            return
        job_id = self.random.choice(known[-30:])
        wait = self.random.choice(self.world.plan.waits)
        sent_at = self.now
        reply = await self.ask("wait", "GET", f"/jobs/{job_id}?wait={wait}", ids=(job_id,), wait=float(wait))
        if reply is None or reply.status != 200 or reply.json["status"] == "concluded" or "retry-after" in reply.headers:
            return
        if self.now < sent_at + wait - 0.002:
            self.world.history.fault(f"{self.name} was told after {self.now - sent_at:.3f} of {wait} s that {job_id} is not concluded")


class Operator(Client):
    """Pauses, resumes, purges, retries, cancels, looks around."""

    async def step(self) -> None:
        queue = self.queue()
        known = list(self.world.ledger.acknowledged)
        job_id = self.random.choice(known[-30:]) if known else None
        kind = self.random.choice(("pause", "resume", "resume", "purge", "redrive", "policy", "delete", "cancel", "retry", "look", "list"))
        place = f"/queues/{queue}"
        if kind in ("pause", "resume"):
            await self.ask(kind, "POST", f"{place}/{kind}", paused=kind == "pause")
            if kind == "pause":
                await self.think(2)
                await self.ask("resume", "POST", f"{place}/resume", paused=False)
        elif kind == "purge":
            if self.chance(0.3):
                await self.ask(kind, "POST", f"{place}/purge")
        elif kind == "redrive":
            await self.ask(kind, "POST", f"{place}/retry")
        elif kind == "policy":
            paused = self.chance(0.2)
            policy = {"lease_seconds": self.random.choice((1, 3, 10)), "backoff": {"base": 0.5, "factor": 2, "cap": 2}, "paused": paused}
            await self.ask(kind, "PUT", place, policy, paused=paused)
        elif kind == "delete":
            await self.ask(kind, "DELETE", place)
        elif kind == "list":
            await self.ask(kind, "GET", f"/jobs?limit={self.random.choice((3, 100))}&queue={queue}")
        elif kind == "look":
            await self.ask(kind, "GET", self.random.choice((place, "/queues")))
        elif job_id is not None:
            await self.ask(kind, "POST", f"/jobs/{job_id}/{kind}", ids=(job_id,))


class Warden(Client):
    """Changes what holds jobs back, and lets keys go on that a failed job has halted."""

    async def step(self) -> None:
        queue = self.queue()
        if self.chance(0.6):
            policy = {"lease_seconds": 3, "backoff": {"base": 0.5, "factor": 2, "cap": 2}, **some_policy(self.random, queue)}
            await self.ask("policy", "PUT", f"/queues/{queue}", policy, paused=False)
        else:
            await self.ask("resume key", "POST", f"/queues/{queue}/keys/{self.random.choice(KEYS)}/resume")
        await self.think(2)


class Classic(Client):
    """A client of the classic dialect: numbers for ids, no tokens."""

    async def step(self) -> None:
        if self.chance(0.5):
            await self.ask("classic enqueue", "POST", "/classic/jobs/enqueue", {"Type": "TIME_CRITICAL", "payload": None})
            return
        consumer = str(self.world.serial())
        wait = self.random.choice(self.world.plan.waits)
        known: dict[str, Any] = {"queues": ("default",), "wait": float(wait), "worker": consumer}
        headers = (f"QUEUE_CONSUMER: {consumer}",)
        reply = await self.ask("classic dequeue", "GET", f"/classic/jobs/dequeue?wait={wait}", headers=headers, **known)
        if reply is not None and reply.status == 200:
            await self.think(self.world.plan.toil)
            number = reply.json["ID"]
            await self.ask("classic conclude", "POST", f"/classic/jobs/{number}/conclude", headers=headers)


class Simple(Client):
    """A client of the simplequeue dialect: ids of its own, no leases at all."""

    async def step(self) -> None:
        if self.chance(0.5):
            serial = self.world.serial()
            body: dict[str, Any] = {"jobId": f"{self.name}-{serial}", "data": {"n": serial}}
            for _ in range(1 + self.chance(0.3)):
                self.world.ledger.submits(body["jobId"], self.now)
                reply = await self.ask("simple submit", "POST", "/simplequeue/jobs/submit", body)
                if reply is not None and reply.status in (200, 201):
                    self.world.acknowledged(body["jobId"], json.dumps(body["data"], separators=(",", ":")).encode(), reply.life)
            return
        wait = self.random.choice(self.world.plan.waits)
        reply = await self.ask("simple next", "GET", f"/simplequeue/jobs/next?wait={wait}", queues=("default",), wait=float(wait))
        if reply is not None and reply.status == 200:
            await self.think(self.world.plan.toil)
            done = {"jobId": reply.json["jobId"], "status": self.random.choice(("succeeded", "succeeded", "failed"))}
            await self.ask("simple complete", "POST", "/simplequeue/jobs/complete", done, ids=(done["jobId"],))


class Pool(Client):
    """A client of the workpool dialect, which submits and waits for the result."""

    async def step(self) -> None:
        reply = await self.ask("pool submit", "POST", "/workpool/job", {"name": "sum", "body": {"n": self.world.serial()}})
        if reply is None or reply.status != 201:
            return
        job = reply.json["createdJob"]
        self.world.acknowledged(job["id"], json.dumps(job["body"], separators=(",", ":")).encode(), reply.life)
        wait = self.random.choice(self.world.plan.waits)
        await self.ask("pool result", "GET", f"/workpool/result/{job['id']}?wait={wait}", ids=(job["id"],), wait=float(wait))


KINDS: dict[str, type[Client]] = {
    "producer": Producer,
    "worker": Worker,
    "watcher": Watcher,
    "operator": Operator,
    "warden": Warden,
    "classic": Classic,
    "simple": Simple,
    "pool": Pool,
}


def seconds_of(stamp: str) -> float:
    """What a stamp of the server's says, in seconds since the wall clock's own beginning."""
    return datetime.fromisoformat(stamp).timestamp() - EPOCH
