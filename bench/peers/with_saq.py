"""SAQ: `enqueue`; a Worker, which blocks on Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvloop
from saq import Queue, Worker

from bench.peers.marks import handled

ABREAST = 16
UVLOOP = True


async def noop(context: dict[str, Any], *, payload: str) -> None:
    """The job."""
    handled(payload)


class _Producer:
    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    async def one(self, payload: str) -> None:
        await self.queue.enqueue("noop", payload=payload, ttl=-1)


@contextlib.asynccontextmanager
async def producer(address: str) -> AsyncIterator[_Producer]:
    """A queue."""
    queue = Queue.from_url(f"redis://{address}", name="bench")
    await queue.connect()
    yield _Producer(queue)
    await queue.disconnect()


async def _serve(address: str, concurrency: int) -> None:
    queue = Queue.from_url(f"redis://{address}", name="bench", max_concurrent_ops=max(20, concurrency))
    await queue.connect()
    await Worker(queue, [noop], concurrency=concurrency).start()


def work(address: str) -> None:
    """16 jobs at once; a ttl of -1 keeps no results."""
    uvloop.run(_serve(address, 16))


def crowd(address: str, count: int, handled: Callable[[str], None]) -> None:
    """One Worker with so many slots, each of which blocks on a connection of its own."""

    async def run() -> None:
        import redis.asyncio

        worker = asyncio.create_task(_serve(address, count))
        asking = redis.asyncio.Redis.from_url(f"redis://{address}")
        while (await asking.info("clients"))["blocked_clients"] < count:
            await asyncio.sleep(0.05)
        print("ready", flush=True)
        await worker

    uvloop.run(run())
