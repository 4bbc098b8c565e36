"""A list of Redis as a queue, the reliable way that its documentation tells: LPUSH; BLMOVE to a list of work in progress, LREM."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import redis
import redis.asyncio

from bench.peers.marks import handled

ABREAST = 1
JOBS, TAKEN = "bench:jobs", "bench:taken"
WAIT_SECONDS = 30


class _Producer:
    def __init__(self, client: redis.Redis) -> None:
        self.client = client

    async def one(self, payload: str) -> None:
        self.client.lpush(JOBS, payload)

    async def many(self, payload: str, count: int) -> None:
        self.client.lpush(JOBS, *[payload] * count)


@contextlib.asynccontextmanager
async def producer(address: str) -> AsyncIterator[_Producer]:
    """A client."""
    with redis.Redis.from_url(f"redis://{address}") as client:
        yield _Producer(client)


def work(address: str) -> None:
    """One job at a time."""
    client = redis.Redis.from_url(f"redis://{address}")
    while True:
        job = client.blmove(JOBS, TAKEN, WAIT_SECONDS, "RIGHT", "LEFT")
        if job is not None:
            handled(job)
            client.lrem(TAKEN, 1, job)


def crowd(address: str, count: int, handled: Callable[[bytes], None]) -> None:
    """A connection each."""

    async def one(client: redis.asyncio.Redis) -> None:
        while True:
            job = await client.blmove(JOBS, TAKEN, WAIT_SECONDS, "RIGHT", "LEFT")
            if job is not None:
                handled(job)
                await client.lrem(TAKEN, 1, job)

    async def run() -> None:
        client = redis.asyncio.Redis.from_url(f"redis://{address}")
        tasks = [asyncio.create_task(one(client)) for _ in range(count)]
        asking = redis.asyncio.Redis.from_url(f"redis://{address}")
        while (await asking.info("clients"))["blocked_clients"] < count:
            await asyncio.sleep(0.05)
        print("ready", flush=True)
        await asyncio.gather(*tasks)

    import uvloop

    uvloop.run(run())
