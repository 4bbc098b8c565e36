"""Fairness as a figure: how long nine tenants wait behind a tenth that came first with all its jobs, and what weights give.

Time is the bench's own here: the engine is told what time it is, and how long a job takes is set. So nothing depends on the machine.
"""

from __future__ import annotations

import heapq
import statistics
from collections import Counter
from random import Random
from typing import NamedTuple

from jobqueue.engine.engine import Engine
from jobqueue.model import Job, JobSpec, Outcome, Verdict, Want
from jobqueue.policy import QueuePolicy

TENANTS = 10
WORKERS = 10
JOB_SECONDS = 0.1
"""What each job takes: ten workers do 100 a second."""
WORKER_COUNTS = (1, 2, 3, 4, 5, 10, 50)
"""For weights: what each tenant should have in progress is a whole number with a few of them only."""
EVERY_SECONDS = 0.2
"""How often each of the nine has a job, on average: together they have 45 a second, so the backlog shrinks meanwhile."""
WEIGHTS = {"one": 1.0, "three": 3.0}
SUCCEEDED = Verdict(outcome=Outcome.SUCCEEDED)


class Plan(NamedTuple):
    """Sizes. backlog: of the first tenant; jobs: of each of the others; hand_outs: by weight."""

    backlog: int
    jobs: int
    hand_outs: int


class Waits(NamedTuple):
    """How long the nine waited: jobs handed out between a job's enqueue and its own hand-out, and seconds."""

    jobs_p50: float
    jobs_p99: float
    seconds_p50: float
    seconds_p99: float


class Shop:
    """Workers that take the next job as soon as they are done with one, and tenants whose jobs come at set times.

    spread: by what part of it a job may take longer or shorter than JOB_SECONDS.
    """

    def __init__(self, policy: QueuePolicy, workers: int, spread: float) -> None:
        self.engine = Engine()
        self._workers = workers
        self._spread = spread
        self._random = Random(3)
        self.engine.put_policy("default", policy)
        self.coming: list[tuple[float, int, str]] = []
        self._running: list[tuple[float, int, Job]] = []
        self._handed_out = 0
        self._came: dict[int, tuple[float, int]] = {}
        self.handed: Counter[str] = Counter()
        self.waits: dict[str, list[tuple[int, float]]] = {}

    def run(self, until: int) -> None:
        """Until so many have been handed out."""
        now = 0.0
        heapq.heapify(self.coming)
        while self._handed_out < until:
            while self.coming and self.coming[0][0] <= now:
                self._enqueue(now, heapq.heappop(self.coming)[2])
            while self._running and self._running[0][0] <= now:
                job = heapq.heappop(self._running)[2]
                assert job.lease is not None
                self.engine.conclude(now, job.id, job.lease.token, SUCCEEDED)
            while len(self._running) < self._workers and self._handed_out < until and (jobs := self.engine.dequeue(now, Want())):
                self._hand_out(now, jobs[0])
            self.engine.events.clear()
            now = min(self.coming[0][0] if self.coming else self._running[0][0], self._running[0][0])

    def _enqueue(self, now: float, tenant: str) -> None:
        job, _ = self.engine.enqueue(now, JobSpec(payload=b"1", key=tenant))
        self._came[job.number] = (now, self._handed_out)

    def _hand_out(self, now: float, job: Job) -> None:
        came, handed_out = self._came.pop(job.number)
        assert job.key is not None
        self.waits.setdefault(job.key, []).append((self._handed_out - handed_out, now - came))
        self.handed[job.key] += 1
        self._handed_out += 1
        heapq.heappush(self._running, (now + JOB_SECONDS * self._random.uniform(1 - self._spread, 1 + self._spread), job.number, job))


def waits(plan: Plan, fair: bool) -> Waits:
    """Ten tenants, the first with its whole backlog ahead of what the others send."""
    shop, random = Shop(QueuePolicy(fair=fair), WORKERS, 0.0), Random(16)
    shop.coming = [(0.0, number, "tenant-0") for number in range(plan.backlog)]
    for tenant in range(1, TENANTS):
        at = 0.0
        for number in range(plan.jobs):
            at += random.expovariate(1.0 / EVERY_SECONDS)
            shop.coming.append((at, plan.backlog + number, f"tenant-{tenant}"))
    shop.run(len(shop.coming))
    found = [wait for tenant, each in shop.waits.items() if tenant != "tenant-0" for wait in each]
    jobs, seconds = [wait[0] for wait in found], [wait[1] for wait in found]
    return Waits(statistics.median(jobs), _p99(jobs), statistics.median(seconds), _p99(seconds))


def share(plan: Plan, workers: int) -> float:
    """How many hand-outs the tenant of weight 3 gets for each of the one of weight 1, while both have more than enough queued."""
    shop = Shop(QueuePolicy(fair=True, weights=WEIGHTS), workers, 0.5)
    shop.coming = [(0.0, number, tenant) for number in range(plan.hand_outs) for tenant in WEIGHTS]
    shop.run(plan.hand_outs)
    return shop.handed["three"] / shop.handed["one"]


def _p99(values: list[int] | list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]
