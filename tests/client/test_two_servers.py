"""Both clients and the worker on two servers of one store, either of which ends and comes back in the midst of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from jobqueue import AsyncClient, Outcome, RunningJob, Worker
from tests.servers import Pair

from .conftest import Connect
from .rig import GUARD

PATIENCE_SECONDS = 30


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """Two servers, the first of which owns the queue."""
    async with Pair() as both:
        assert both.owner == 0
        yield both


async def standing(pair: Pair, count: int) -> None:
    """Return when so many dequeues are held."""
    async with asyncio.timeout(GUARD):
        while pair.waiters != count:  # noqa: ASYNC110 # it lives in the server and signals nobody
            await asyncio.sleep(0)


async def restart(pair: Pair, number: int) -> None:
    """One ends, and comes back where it was."""
    await pair.stop(number)
    await pair.start(number)


async def test_clients_ride_over_servers_that_end_and_come_back(pair: Pair, connect: Connect) -> None:
    """A held dequeue, a wait for a result and a lease are kept, and what was enqueued at one is there at the other."""
    client = connect(pair.urls)
    for _ in range(2):
        held = asyncio.create_task(client.dequeue(wait=20))
        await standing(pair, 1)
        number = pair.owner
        assert number is not None
        await pair.stop(number)
        await standing(pair, 1)
        sent = await client.enqueue({"number": number})
        job = await held
        assert job is not None
        assert (job.id, job.attempts) == (sent.id, 1)
        waiting = asyncio.create_task(client.job(job.id, wait=20))
        await standing(pair, 1)
        await pair.start(number)
        await pair.stop(1 - number)
        await standing(pair, 1)
        await client.conclude(job.id, job.lease.token, "succeeded", result=number)
        assert (await waiting).result == number
        await pair.start(1 - number)
    assert client.pauses == []


async def test_a_worker_rides_over_servers_that_end_and_come_back(pair: Pair) -> None:
    """Each job is done, and done once, though every server was gone twice."""
    ran: Counter[str] = Counter()
    worker = Worker(pair.urls, concurrency=4)
    due = asyncio.Semaphore(0)

    @worker.handler("count")
    async def count(job: RunningJob) -> int:
        ran[job.id] += 1
        due.release()
        return job.attempts

    async with AsyncClient(pair.urls) as client:
        await worker.start()
        sent = []
        for number in (0, 1, 0, 1):
            sent += [await client.enqueue(None, type="count") for _ in range(10)]
            await asyncio.wait_for(due.acquire(), PATIENCE_SECONDS)
            ending = asyncio.create_task(restart(pair, number))
            sent += [await client.enqueue(None, type="count") for _ in range(10)]
            await ending
        for job in sent:
            done = await client.job(job.id, wait=PATIENCE_SECONDS)
            assert (done.outcome, done.result) == (Outcome.SUCCEEDED, 1)
        await worker.stop()
    assert set(ran.values()) == {1}
