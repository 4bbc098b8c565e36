"""Limited jobs and jobs of one key in a worker's hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from jobqueue.model import Outcome, Status
from jobqueue.policy import PerKey, QueuePolicy
from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import RunningJob

from .rig import Rig

FIFO = QueuePolicy(per_key=PerKey(order="fifo"))


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


class Gates:
    """Handlers that say when they begin, and end when they are let."""

    def __init__(self) -> None:
        self.handlers = Registry()
        self.began: list[int] = []
        self.gates: dict[int, asyncio.Event] = {}
        self.fail: set[int] = set()
        self.handlers.handler("work")(self._work)

    async def _work(self, job: RunningJob) -> int:
        self.began.append(job.payload)
        await self.gates.setdefault(job.payload, asyncio.Event()).wait()
        if job.payload in self.fail:
            self.fail.discard(job.payload)
            self.gates[job.payload].clear()
            raise RuntimeError("not yet")
        return int(job.payload)

    def let(self, number: int) -> None:
        self.gates.setdefault(number, asyncio.Event()).set()


async def test_jobs_of_one_key_run_one_after_the_other(rig: Rig) -> None:
    """However many of an ordered key one answer brings, each begins when the one before it has ended; other keys do not wait for them."""
    gates = Gates()
    await rig.backend.put_policy("default", FIFO)
    for number in range(3):
        await rig.put(payload=number, key="a")
    await rig.put(payload=10, key="b")
    await rig.start(gates.handlers, concurrency=8)
    assert gates.began == [0, 10]
    gates.let(0)
    await rig.idle()
    assert gates.began == [0, 10, 1]
    gates.let(1)
    await rig.idle()
    assert gates.began == [0, 10, 1, 2]


async def test_when_one_fails_those_behind_it_go_back(rig: Rig) -> None:
    """A job that fails is done before those that came after it, whoever has them."""
    gates = Gates()
    await rig.backend.put_policy("default", FIFO)
    ids = [await rig.put(payload=number, key="a") for number in range(3)]
    gates.fail.add(0)
    await rig.start(gates.handlers, concurrency=8)
    gates.let(0)
    await rig.idle()
    await rig.advance(0.1, 0.01)
    assert gates.began == [0, 0]
    for number in range(3):
        gates.let(number)
        await rig.advance(0.1, 0.01)
    assert gates.began == [0, 0, 1, 2]
    jobs = [await rig.job(job_id) for job_id in ids]
    assert [(job.outcome, job.attempts) for job in jobs] == [(Outcome.SUCCEEDED, 2), (Outcome.SUCCEEDED, 1), (Outcome.SUCCEEDED, 1)]


async def test_what_waits_behind_a_long_one_goes_back(rig: Rig) -> None:
    """A job behind one that takes its time is given back uncounted, and taken again when its turn has come."""
    gates = Gates()
    await rig.backend.put_policy("default", FIFO)
    first, second = await rig.put(payload=0, key="a"), await rig.put(payload=1, key="a")
    await rig.start(gates.handlers, concurrency=8)
    assert (await rig.job(second)).status is Status.IN_PROGRESS
    await rig.advance(2)
    assert (await rig.job(second)).status is Status.QUEUED
    gates.let(0)
    gates.let(1)
    await rig.advance(1)
    assert [(await rig.job(job_id)).attempts for job_id in (first, second)] == [1, 1]
    assert gates.began == [0, 1]


async def test_nothing_limited_is_taken_ahead(rig: Rig) -> None:
    """A worker that takes plain jobs ahead takes of a queue with a limit only what can begin, so that another worker has the rest."""
    gates = Gates()
    for number in range(60):
        await rig.put(payload=number)
        gates.let(number)
    worker = await rig.start(gates.handlers, concurrency=2, prefetch=16)
    await rig.advance(1, 0.05)
    assert len(gates.began) == 60
    await rig.backend.put_policy("default", QueuePolicy(concurrency=10))
    ids = [await rig.put(payload=100 + number) for number in range(20)]
    await rig.advance(0.5, 0.05)
    assert worker.running == 2
    jobs = [await rig.job(job_id) for job_id in ids]
    assert [job.status for job in jobs].count(Status.IN_PROGRESS) == 2
    assert [job.attempts for job in jobs] == [1, 1] + [0] * 18


async def test_a_handler_sees_the_key(rig: Rig) -> None:
    """`job.key` is what the producer said, None where it said nothing."""
    seen: list[str | None] = []
    handlers = Registry()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        seen.append(job.key)

    await rig.put(key="acme")
    await rig.put()
    await rig.start(handlers)
    assert seen == ["acme", None]
