"""Ours by the synchronous `Client` in the producer, one call at a time; the worker is the other row's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from bench.peers.with_jobqueue import QUEUE, TYPE, work
from jobqueue import Client, NewJob

__all__ = ["ABREAST", "producer", "work"]

ABREAST = 1


class _Producer:
    def __init__(self, client: Client) -> None:
        self.client = client

    async def one(self, payload: str) -> None:
        self.client.enqueue(payload, queue=QUEUE, type=TYPE)

    async def many(self, payload: str, count: int) -> None:
        for made in self.client.enqueue_batch([NewJob(payload, queue=QUEUE, type=TYPE)] * count):
            if isinstance(made, Exception):
                raise made


@contextlib.asynccontextmanager
async def producer(address: str) -> AsyncIterator[_Producer]:
    """A client."""
    with Client(address) as client:
        yield _Producer(client)
