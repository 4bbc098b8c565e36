"""Dramatiq on Redis: `send`; a Worker with its 8 threads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.peers.marks import handled

ABREAST = 1


def _actor(address: str) -> Any:
    broker = RedisBroker(url=f"redis://{address}")
    dramatiq.set_broker(broker)

    @dramatiq.actor(broker=broker, queue_name="bench", max_retries=0)
    def noop(payload: str) -> None:
        handled(payload)

    return noop


class _Producer:
    def __init__(self, actor: Any) -> None:
        self.actor = actor

    async def one(self, payload: str) -> None:
        self.actor.send(payload)


@contextlib.asynccontextmanager
async def producer(address: str) -> AsyncIterator[_Producer]:
    """The actor."""
    yield _Producer(_actor(address))


def work(address: str) -> None:
    """What `dramatiq --processes 1` runs in its one process."""
    worker = dramatiq.Worker(_actor(address).broker, worker_threads=8)
    worker.start()
    threading.Event().wait()
