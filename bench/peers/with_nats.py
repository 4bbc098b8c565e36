"""NATS JetStream through nats-py: publish; a pull consumer that fetches, and acknowledges."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import nats
from nats.errors import TimeoutError as NothingCame
from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

from bench.peers.marks import handled

ABREAST = 16
UVLOOP = True
STREAM, SUBJECT, DURABLE = "BENCH", "bench.jobs", "workers"
FETCH = 100
WAIT_SECONDS = 1
"""A fetch that has some of its messages may wait for the rest as long as this, while others would take them."""


async def prepare(address: str, *, durable: bool) -> None:
    """A work-queue stream, and the consumer that workers share."""
    connection = await nats.connect(f"nats://{address}")
    stream = connection.jetstream()
    storage = StorageType.FILE if durable else StorageType.MEMORY
    await stream.add_stream(StreamConfig(STREAM, subjects=[SUBJECT], retention=RetentionPolicy.WORK_QUEUE, storage=storage))
    consumer = ConsumerConfig(durable_name=DURABLE, ack_wait=30, max_waiting=2_048, max_ack_pending=5_000)
    await stream.add_consumer(STREAM, consumer)
    await connection.close()


class _Producer:
    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def one(self, payload: str) -> None:
        await self.stream.publish(SUBJECT, payload.encode())

    async def many(self, payload: str, count: int) -> None:
        body = payload.encode()
        acknowledged = [await self.stream.publish_async(SUBJECT, body) for _ in range(count)]
        await asyncio.gather(*acknowledged)


@contextlib.asynccontextmanager
async def producer(address: str) -> AsyncIterator[_Producer]:
    """A connection."""
    connection = await nats.connect(f"nats://{address}")
    yield _Producer(connection.jetstream())
    await connection.close()


async def _serve(address: str, fetch: int, handled: Callable[[bytes], None]) -> None:
    connection = await nats.connect(f"nats://{address}")
    pull = await connection.jetstream().pull_subscribe_bind(consumer=DURABLE, stream=STREAM)
    while True:
        with contextlib.suppress(NothingCame):
            for message in await pull.fetch(fetch, timeout=WAIT_SECONDS):
                handled(message.data)
                await message.ack()


def work(address: str) -> None:
    """One that fetches up to `FETCH` at a time."""
    import uvloop

    uvloop.run(_serve(address, FETCH, handled))


def crowd(address: str, count: int, handled: Callable[[bytes], None]) -> None:
    """A connection and a fetch each."""

    async def run() -> None:
        tasks = [asyncio.create_task(_serve(address, 1, handled)) for _ in range(count)]
        asking = await nats.connect(f"nats://{address}")
        stream = asking.jetstream()
        while (await stream.consumer_info(STREAM, DURABLE)).num_waiting < count:
            await asyncio.sleep(0.05)
        print("ready", flush=True)
        await asyncio.gather(*tasks)

    import uvloop

    uvloop.run(run())
