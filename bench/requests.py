"""What one request costs: enqueue (the fast way and the plain one, with token and rate limit, by strangers), dequeue, conclude, batches."""

from __future__ import annotations

import contextlib
import json
import statistics
import uuid
from collections.abc import Sequence
from typing import Any

from bench.load import Load, load_on
from bench.plan import Plan
from bench.process import bare, ours
from bench.report import Row, compared
from bench.wire import PAYLOAD, request

RATE = "1000000/s"
"""A limit that is looked at and never met."""

KEYS = ("enqueue", "plain", "token", "stranger", "dequeue", "conclude", "batch")
TOKEN = "bench-" + "t" * 37
BATCH = 100
SLICES = 5
"""Turns that bare and ours take within one measurement."""

ENQUEUE = request("POST", "/jobs/enqueue", {"payload": PAYLOAD})
ENQUEUE_WITH_TOKEN = request("POST", "/jobs/enqueue", {"payload": PAYLOAD}, TOKEN)
DEQUEUE = request("POST", "/jobs/dequeue", {"queue": "default", "wait": 20})
PURGE = request("POST", "/queues/default/purge")
PURGE_WITH_TOKEN = request("POST", "/queues/default/purge", token=TOKEN)
BATCH_ENQUEUE = request("POST", "/batch/enqueue", {"jobs": [{"payload": PAYLOAD}] * BATCH})
BATCH_DEQUEUE = request("POST", "/batch/dequeue", {"queue": "default", "limit": BATCH, "wait": 0})


def _path(job_id: str) -> str:
    return f"/jobs/{job_id}/conclude"


def _verdict(job: dict[str, Any]) -> dict[str, Any]:
    return {"lease": job["lease"]["token"], "outcome": "succeeded", "result": 1}


BARE_PATHS = ("/jobs/enqueue", "/jobs/dequeue", _path("0" * 36))


class Costs:
    """Nanoseconds of CPU by kind of request, one number a round; kinds of the bare handler's start with "bare "."""

    def __init__(self) -> None:
        self.rounds: dict[str, list[float]] = {}

    def add(self, kind: str, ns: float) -> None:
        """One round's."""
        self.rounds.setdefault(kind, []).append(ns)


class _Round:
    """One round on open connections: every kind once, bare and ours next to each other."""

    def __init__(self, costs: Costs, plan: Plan, *loads: Load) -> None:
        self.costs = costs
        self.plan = plan
        self.bare, self.ours, self.token, self.plain, self.strange = loads
        self.bare_first = False

    async def pair(self, kind: str, load: Load, requests: Sequence[bytes], expect: int, bare_request: bytes | None = None) -> list[bytes]:
        """Measure `requests` on `load`, and as many of the same bytes (or of `bare_request`) on the bare handler; our answers.

        In slices by turns, each a few hundredths of a second, so that whatever else the machine does at the time falls on both.
        """
        answers: list[bytes] = []
        spent = {"ours": 0.0, "bare": 0.0}
        size = -(-len(requests) // SLICES)
        for start in range(0, len(requests), size):
            part = requests[start : start + size]
            self.bare_first = not self.bare_first
            for who in ("bare", "ours") if self.bare_first else ("ours", "bare"):
                if who == "ours":
                    ns, bodies = await load.cost(part, expect)
                    answers += bodies
                else:
                    ns, _ = await self.bare.cost(part if bare_request is None else [bare_request] * len(part), 200)
                spent[who] += ns * len(part)
        self.costs.add(kind, spent["ours"] / len(requests))
        self.costs.add(f"bare {kind}", spent["bare"] / len(requests))
        return answers

    async def singles(self) -> None:
        """One request for one thing."""
        many = self.plan.requests
        await self.pair("enqueue", self.ours, [ENQUEUE] * many, 201)
        await self.pair("plain", self.plain, [ENQUEUE] * many, 201)
        await self.plain.send([PURGE], 200)
        await self.pair("token", self.token, [ENQUEUE_WITH_TOKEN] * many, 201)
        # Header lines that the server never met before, nor meets again: it parses them, and has none of the others' left afterwards.
        strangers = [request("POST", "/jobs/enqueue", {"payload": PAYLOAD}, more=f"X-Stranger: {uuid.uuid4()}") for _ in range(many)]
        await self.pair("stranger", self.strange, strangers, 201, strangers[0])
        await self.token.send([PURGE_WITH_TOKEN], 200)
        jobs = [json.loads(body) for body in await self.pair("dequeue", self.ours, [DEQUEUE] * many, 200)]
        await self.ours.send([PURGE], 200)
        concludes = [request("POST", _path(job["id"]), _verdict(job)) for job in jobs]
        # The bare handler serves fixed paths only (a variable one would cost it more), so all of its requests name one job.
        alike = request("POST", _path("0" * 36), _verdict(jobs[0]))
        await self.pair("conclude", self.ours, concludes, 200, alike)

    async def batches(self) -> None:
        """100 jobs a request, in slices between the bare handler's. Adds the cost of one job through all three, and of one bare enqueue."""
        parts: list[float] = []
        bare_parts: list[float] = []
        for _ in range(SLICES):
            bare_ns, _ = await self.bare.cost([ENQUEUE] * (self.plan.requests // SLICES), 200)
            bare_parts.append(bare_ns)
            parts.append(await self._through(self.plan.batches // SLICES) / BATCH)
        self.costs.add("batch", statistics.mean(parts))
        self.costs.add("bare batch", statistics.mean(bare_parts))

    async def _through(self, batches: int) -> float:
        """So many batches enqueued, dequeued and concluded; nanoseconds for one batch, all three together."""
        enqueue_ns, _ = await self.ours.cost([BATCH_ENQUEUE] * batches, 200)
        dequeue_ns, bodies = await self.ours.cost([BATCH_DEQUEUE] * batches, 200)
        concludes = []
        for body in bodies:
            items = [{"id": job["id"], **_verdict(job)} for job in json.loads(body)["jobs"]]
            assert len(items) == BATCH
            concludes.append(request("POST", "/batch/conclude", {"jobs": items}))
        conclude_ns, bodies = await self.ours.cost(concludes, 200)
        assert all(job["status"] == "concluded" for job in json.loads(bodies[-1])["jobs"])
        return enqueue_ns + dequeue_ns + conclude_ns


async def measure(plan: Plan) -> Costs:
    """All rounds, after one that only warms up."""
    costs = Costs()
    async with contextlib.AsyncExitStack() as stack:
        started = (bare(*BARE_PATHS), ours(), ours("--rate-limit", RATE, token=TOKEN), ours("--http", "plain"))
        servers = [stack.enter_context(context) for context in started]
        # Strangers come over connections of their own, which a server comes to know them by.
        loads = [await stack.enter_async_context(load_on(server)) for server in (*servers, servers[1])]
        for number in range(plan.rounds + 1):
            of_round = _Round(costs if number else Costs(), plan, *loads)
            await of_round.singles()
            await of_round.batches()
    return costs


async def rows(plan: Plan) -> list[Row]:
    """The rows of this file."""
    rounds = (await measure(plan)).rounds
    return [
        compared("enqueue", "enqueue", 0.6, rounds["enqueue"], rounds["bare enqueue"]),
        compared("plain", "enqueue on the plain way (`--http plain`)", 0.9, rounds["plain"], rounds["bare plain"]),
        compared("token", "enqueue with a token and a rate limit (metrics are always on)", 0.65, rounds["token"], rounds["bare token"]),
        compared("stranger", "enqueue, header lines never met before", 0.8, rounds["stranger"], rounds["bare stranger"])._replace(
            budget="none", met=True
        ),
        compared("dequeue", "dequeue, a job being there", 0.7, rounds["dequeue"], rounds["bare dequeue"]),
        compared("conclude", "conclude", 0.7, rounds["conclude"], rounds["bare conclude"]),
        compared("batch", "batch of 100, per job: enqueue + dequeue + conclude", 0.2, rounds["batch"], rounds["bare batch"]),
    ]
