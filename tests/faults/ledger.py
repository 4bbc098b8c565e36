"""What a test was promised, and whether it was kept: the shared meaning of "intact".

An `Api` speaks to one server, in this process or in another, and books every acknowledged enqueue and every lease it sees. `intact`
drains what is left and accounts for every acknowledged job: the server lives, nothing acknowledged is lost, no job has two live leases.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from .wire import PATIENCE_SECONDS, Answer, Client, call, job_path, request, until

_JITTER_SECONDS = 0.002
"""Times on the wire are rounded down to milliseconds."""

_numbers = itertools.count()


def epoch(stamp: str) -> float:
    """A time from the wire as seconds since the epoch."""
    return datetime.fromisoformat(stamp).timestamp()


class Api:
    """A server at `port`, and the books on it.

    Every Api has a queue of its own and puts its name before the ids of its jobs, so tests that share a server do not meet. Its methods
    take and return ids without that; the books and `full` have them whole.
    """

    def __init__(self, port: int, *, pass_time: Callable[[], None] | None = None) -> None:
        self.port = port
        self.queue = f"q{next(_numbers)}"
        self.acknowledged: set[str] = set()
        self.concluded: set[str] = set()
        self.ends: dict[str, str] = {}
        self.leases: dict[str, dict[str, Any]] = {}
        self.forgets = False
        """Whether the test makes history forget, so that a concluded job may be unknown afterwards."""
        self._pass_time = pass_time
        self._now: Callable[[], float] = time.time
        self._clients: list[Client] = []

    def use_clock(self, now: Callable[[], float]) -> None:
        """Take the server's clock for this one's: it does not follow the machine's."""
        self._now = now

    def full(self, job_id: str) -> str:
        """A job's id as the server knows it."""
        return job_id if job_id in self.acknowledged else f"{self.queue}.{job_id}"

    # Connections.

    async def connect(self, *, sip: bool = False) -> Client:
        """A connection that is closed when the test ends."""
        client = await Client.connect(self.port, sip=sip)
        self._clients.append(client)
        return client

    async def call(self, method: str, path: str, body: object = None, headers: str = "") -> Answer:
        """One request on a connection of its own."""
        return await call(self.port, method, path, body, headers)

    def close(self) -> None:
        """Close what the test left open."""
        for client in self._clients:
            client.fin()

    # Producers.

    def _mine(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"queue": self.queue, **fields}

    async def put(self, job_id: str | None = None, payload: object = 1, **fields: Any) -> str:
        """Enqueue a job that must be taken in; its id. Without one the server makes it."""
        if job_id is not None:
            fields["id"] = self.full(job_id)
        answer = await self.call("POST", "/jobs/enqueue", self._mine({"payload": payload, **fields}))
        assert answer.status == 201, answer
        self.acknowledged.add(answer.json["id"])
        return str(answer.json["id"])

    async def put_all(self, ids: Iterable[str], **fields: Any) -> None:
        """Enqueue many in batches, in order."""
        items = [self._mine({"payload": 1, "id": self.full(job_id), **fields}) for job_id in ids]
        for start in range(0, len(items), 1_000):
            answer = await self.call("POST", "/batch/enqueue", {"jobs": items[start : start + 1_000]})
            assert answer.status == 200, answer
            for job in answer.json["jobs"]:
                assert job["created"] is True, job
                self.acknowledged.add(job["id"])

    # Workers.

    def poll(self, wait: float = 30.0, **fields: Any) -> bytes:
        """The bytes of a dequeue."""
        return request("POST", "/jobs/dequeue", self._mine({"wait": wait, **fields}))

    async def hold(self, standing: int, wait: float = 30.0, **fields: Any) -> Client:
        """A connection whose dequeue stands in line as the `standing`th of this queue."""
        client = await self.connect()
        await client.send(self.poll(wait, **fields))
        await self.stand(standing)
        return client

    async def stand(self, count: int) -> None:
        """Wait until so many stand in line."""

        async def standing() -> bool:
            return bool((await self.stats())["waiters"] == count)

        await until(standing, f"{count} waiters in line")

    def took(self, job: dict[str, Any]) -> dict[str, Any]:
        """Book a job that a worker was handed. Fails if someone else's lease on it is live, or nobody enqueued it."""
        job_id = job["id"]
        assert job_id in self.acknowledged, f"{job_id} was never acknowledged"
        assert job_id not in self.concluded, f"{job_id} was handed out after it was concluded"
        held = self.leases.get(job_id)
        if held is not None and held["token"] != job["lease"]["token"]:
            left = epoch(held["expires_at"]) - self._now()
            assert left <= _JITTER_SECONDS, f"{job_id} has two live leases: the earlier ends in {left:.3f} s"
        self.leases[job_id] = job["lease"]
        return {**job, "id": job_id.removeprefix(f"{self.queue}.")}

    def gave_up(self, job_id: str) -> None:
        """Book that a lease has ended by itself: it was released, or the server's word is that it has expired."""
        self.leases.pop(self.full(job_id), None)

    async def take(self, wait: float = 0.0, **fields: Any) -> dict[str, Any]:
        """The job that a dequeue is handed; there must be one."""
        answer = await self.call("POST", "/jobs/dequeue", self._mine({"wait": wait, **fields}))
        assert answer.status == 200, answer
        return self.took(answer.json)

    async def take_all(self, limit: int = 1_000, wait: float = 0.0, **fields: Any) -> list[dict[str, Any]]:
        """The jobs that a batch dequeue is handed."""
        answer = await self.call("POST", "/batch/dequeue", self._mine({"wait": wait, "limit": limit, **fields}))
        assert answer.status == 200, answer
        return [self.took(job) for job in answer.json["jobs"]]

    async def handed(self, client: Client) -> dict[str, Any]:
        """The job that a held dequeue is answered with."""
        answer = await client.answer()
        assert answer.status == 200, answer
        return self.took(answer.json)

    async def conclude(self, job_id: str, token: str, outcome: str = "succeeded", **fields: Any) -> Answer:
        """Conclude; booked if it was accepted."""
        answer = await self.call("POST", job_path(self.full(job_id), "conclude"), {"lease": token, "outcome": outcome, **fields})
        if answer.status == 200 and answer.json["status"] == "concluded":
            self.over(job_id, answer.json["outcome"])
        return answer

    def over(self, job_id: str, outcome: str = "succeeded") -> None:
        """Book that a job is concluded."""
        job_id = self.full(job_id)
        self.concluded.add(job_id)
        self.ends[job_id] = outcome
        self.leases.pop(job_id, None)

    # Looking.

    async def stats(self) -> dict[str, Any]:
        """The queue as the server shows it; an empty one is made if it does not exist."""
        answer = await self.call("GET", f"/queues/{self.queue}")
        if answer.status == 404:
            answer = await self.call("PUT", f"/queues/{self.queue}", {})
        assert answer.status == 200, answer
        stats: dict[str, Any] = answer.json
        return stats

    async def counts(self) -> tuple[int, int]:
        """How many jobs are queued and in progress."""
        stats = await self.stats()
        return stats["queued"], stats["in_progress"]

    async def reach(self, queued: int, in_progress: int) -> None:
        """Wait until so many jobs are queued and in progress."""
        seen = (-1, -1)

        async def there() -> bool:
            nonlocal seen
            seen = await self.counts()
            return seen == (queued, in_progress)

        try:
            await until(there, "")
        except AssertionError:
            raise AssertionError(f"queued and in progress stay {seen}, not {(queued, in_progress)}") from None

    async def job(self, job_id: str) -> dict[str, Any]:
        """A job as the server shows it."""
        answer = await self.call("GET", job_path(self.full(job_id)))
        assert answer.status == 200, answer
        job: dict[str, Any] = answer.json
        return job

    async def _all_jobs(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        cursor = ""
        while True:
            answer = await self.call("GET", f"/jobs?queue={self.queue}&limit=1000{cursor}")
            assert answer.status == 200, answer
            for job in answer.json["jobs"]:
                assert job["id"] not in found
                found[job["id"]] = job
            if answer.json["cursor"] is None:
                return found
            cursor = f"&cursor={answer.json['cursor']}"

    # The verdict.

    async def _hand_in(self, jobs: Iterable[tuple[str, str]]) -> None:
        """Conclude jobs, by id and token, whose leases may have run out in the meantime."""
        for job_id, token in list(jobs):
            expires_at = epoch(self.leases[self.full(job_id)]["expires_at"])
            answer = await self.conclude(job_id, token)
            if answer.status != 200:
                assert answer.code == "lease_lost", answer
                assert expires_at <= self._now() + _JITTER_SECONDS, f"the live lease on {job_id} was refused"
                self.gave_up(job_id)

    async def intact(self) -> None:
        """Drain what is left and account for every acknowledged job."""
        assert (await self.call("GET", "/healthz")).status == 200
        await self._hand_in((job_id, lease["token"]) for job_id, lease in self.leases.items() if job_id not in self.concluded)
        end = time.monotonic() + PATIENCE_SECONDS
        while self.acknowledged - self.concluded:
            jobs = await self.take_all(wait=0.0 if self._pass_time else 0.5, lease_seconds=60)
            await self._hand_in((job["id"], job["lease"]["token"]) for job in jobs)
            if not jobs and self._pass_time:
                self._pass_time()
                await asyncio.sleep(0)
            left = self.acknowledged - self.concluded
            assert time.monotonic() < end, f"{len(left)} acknowledged jobs are lost, such as {sorted(left)[:3]}"
        stats = await self.stats()
        assert (stats["scheduled"], stats["queued"], stats["in_progress"]) == (0, 0, 0)
        found = await self._all_jobs()
        assert set(found) <= self.acknowledged
        if not self.forgets:
            assert {job_id: job["outcome"] for job_id, job in found.items()} == self.ends
