"""RQ: `enqueue`, `enqueue_many`; `SimpleWorker`, which runs jobs in its own process instead of forking for each."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

from redis import Redis
from rq import Queue, SimpleWorker

from bench.peers.marks import handled

ABREAST = 1


def noop(payload: str) -> None:
    """The job."""
    handled(payload)


class _Producer:
    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    async def one(self, payload: str) -> None:
        self.queue.enqueue(noop, payload, result_ttl=0)

    async def many(self, payload: str, count: int) -> None:
        self.queue.enqueue_many([Queue.prepare_data(noop, (payload,), result_ttl=0) for _ in range(count)])


@contextlib.asynccontextmanager
async def producer(address: str) -> AsyncIterator[_Producer]:
    """A queue."""
    with Redis.from_url(f"redis://{address}") as connection:
        yield _Producer(Queue("bench", connection=connection))


def work(address: str) -> None:
    """One job at a time."""
    connection = Redis.from_url(f"redis://{address}")
    SimpleWorker([Queue("bench", connection=connection)], connection=connection).work(logging_level=logging.WARNING)
