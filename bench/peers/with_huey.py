"""huey on Redis: a task called; a consumer with threads, no results kept."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import redis
from huey import RedisHuey

from bench.peers.marks import handled

ABREAST = 1


def _huey(address: str, mark: Callable[[str], None]) -> tuple[RedisHuey, Any]:
    huey = RedisHuey("bench", url=f"redis://{address}", results=False, blocking=True)

    @huey.task(name="noop")
    def noop(payload: str) -> None:
        mark(payload)

    return huey, noop


class _Producer:
    def __init__(self, task: Any) -> None:
        self.task = task

    async def one(self, payload: str) -> None:
        self.task(payload)


@contextlib.asynccontextmanager
async def producer(address: str) -> AsyncIterator[_Producer]:
    """The task."""
    yield _Producer(_huey(address, handled)[1])


def _consume(address: str, workers: int, mark: Callable[[str], None]) -> None:
    logging.disable(logging.WARNING)
    _huey(address, mark)[0].create_consumer(workers=workers, worker_type="thread", periodic=False).run()


def work(address: str) -> None:
    """8 threads."""
    _consume(address, 8, handled)


def crowd(address: str, count: int, handled: Callable[[str], None]) -> None:
    """One consumer with so many threads, each of which blocks on a connection of its own."""

    def tell() -> None:
        asking = redis.Redis.from_url(f"redis://{address}")
        while asking.info("clients")["blocked_clients"] < count:
            time.sleep(0.05)
        print("ready", flush=True)

    threading.Thread(target=tell, daemon=True).start()
    _consume(address, count, handled)
