"""A crowd at one slot: with thousands of dequeues held and `concurrency` 1, whom a conclude wakes, and what that costs.

In this process and without HTTP, as in steps.py, so that every step of every task that waits can be counted.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any, NamedTuple

from bench.process import BenchError
from jobqueue.backend.local import LocalBackend
from jobqueue.limits import Limits
from jobqueue.model import Job, JobSpec, Outcome, Verdict, Want
from jobqueue.policy import QueuePolicy

SUCCEEDED = Verdict(outcome=Outcome.SUCCEEDED)
HOLD_SECONDS = 600.0
SETTLED_TURNS = 20
"""Turns of the loop in which whoever was woken in vain would have run."""


class Plan(NamedTuple):
    """Sizes. waiters: that stand all the while; freed: how often the slot becomes free."""

    waiters: tuple[int, ...]
    freed: int


class Woken(NamedTuple):
    """With so many standing: for each time that the slot became free, the tasks that ran (the least and the most), and microseconds of CPU
    until one had the job, by the clock of the process, conclude included.
    """

    waiters: int
    least: int
    most: int
    p50: float
    p99: float


class Crowd:
    """Dequeues that stand, and what became of them."""

    def __init__(self) -> None:
        self.backend = LocalBackend(Limits(waiters_max=1_000_000))
        self.steps = 0
        """How often a task of the crowd has been run by the loop."""
        self.holder: Job | None = None
        self.done = 0.0

    @coroutine
    def _counted(self, of: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """The same coroutine, each of whose steps counts."""
        sent = None
        while True:
            self.steps += 1
            try:
                awaited = of.send(sent)
            except StopIteration:
                return
            sent = yield awaited

    async def stand(self, count: int) -> list[asyncio.Task[None]]:
        """So many dequeues, one of which gets the first job."""
        await self.backend.put_policy("default", QueuePolicy(concurrency=1))
        tasks = [asyncio.create_task(self._counting()) for _ in range(count)]
        await self.turns(lambda: self.backend.waiters >= count)
        for _ in range(count // 1_000 + 1):
            await self.backend.enqueue_batch([JobSpec(payload=b"1") for _ in range(1_000)])
        await self.settled()
        return tasks

    async def _counting(self) -> None:
        await self._counted(self._one())

    async def _one(self) -> None:
        taking = self.backend.dequeue(Want(), HOLD_SECONDS)
        async with taking as jobs:
            taking.delivered()
        (self.holder,) = jobs
        self.done = time.process_time()

    async def free(self) -> tuple[int, float]:
        """Conclude the job that has the slot; the steps of the crowd's tasks, and the CPU in microseconds until one has the next."""
        job, steps = self.holder, self.steps
        if job is None or job.lease is None:
            raise BenchError("nobody has the slot")
        self.holder = None
        started = time.process_time()
        await self.backend.conclude(job.id, job.lease.token, SUCCEEDED)
        await self.turns(lambda: self.holder is not None)
        took = (self.done - started) * 1_000_000
        await self.settled()
        return self.steps - steps, took

    async def turns(self, done: Callable[[], bool]) -> None:
        """Let the loop turn until it is so."""
        for _ in range(1_000_000):
            if done():
                return
            await asyncio.sleep(0)
        raise BenchError("nobody is woken")

    async def settled(self) -> None:
        """Let everyone run who wants to."""
        for _ in range(SETTLED_TURNS):
            await asyncio.sleep(0)


async def woken(plan: Plan, waiters: int) -> Woken:
    """A slot that becomes free again and again."""
    crowd = Crowd()
    tasks = await crowd.stand(waiters + plan.freed)
    try:
        found = [await crowd.free() for _ in range(plan.freed)]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await crowd.backend.close()
    steps, took = [each[0] for each in found], [each[1] for each in found]
    return Woken(waiters, min(steps), max(steps), statistics.median(took), statistics.quantiles(took, n=100, method="inclusive")[98])
