"""Ours: `AsyncClient` in the producer, `Worker` in the worker, as docs/clients.md has them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from bench.peers.marks import handled
from jobqueue import AsyncClient, NewJob, RunningJob, Worker

ABREAST = 16
UVLOOP = True
QUEUE, TYPE = "bench", "noop"
HOLD_SECONDS = 50


class _Producer:
    def __init__(self, client: AsyncClient) -> None:
        self.client = client

    async def one(self, payload: str) -> None:
        await self.client.enqueue(payload, queue=QUEUE, type=TYPE)

    async def many(self, payload: str, count: int) -> None:
        for made in await self.client.enqueue_batch([NewJob(payload, queue=QUEUE, type=TYPE)] * count):
            if isinstance(made, Exception):
                raise made


@contextlib.asynccontextmanager
async def producer(address: str) -> AsyncIterator[_Producer]:
    """A client."""
    async with AsyncClient(address) as client:
        yield _Producer(client)


def work(address: str) -> None:
    """A Worker with its defaults."""
    worker = Worker(address, queues=[QUEUE])

    @worker.handler(TYPE)
    async def noop(job: RunningJob) -> None:
        handled(job.payload)

    worker.run()


def crowd(address: str, count: int, handled: Callable[[str], None]) -> None:
    """As many held dequeues, each on a connection of its own."""

    async def one(client: AsyncClient) -> None:
        while True:
            job = await client.dequeue(QUEUE, wait=HOLD_SECONDS)
            if job is not None:
                handled(job.payload)
                await client.conclude(job.id, job.lease.token, "succeeded")

    async def run() -> None:
        async with AsyncClient(address) as client:
            tasks = [asyncio.create_task(one(client)) for _ in range(count)]
            async with AsyncClient(address) as asking:
                await asking.put_queue(QUEUE)
                while (await asking.queue(QUEUE)).waiters < count:
                    await asyncio.sleep(0.05)
            print("ready", flush=True)
            await asyncio.gather(*tasks)

    import uvloop

    uvloop.run(run())
