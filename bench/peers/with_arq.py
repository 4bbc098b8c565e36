"""arq: `enqueue_job`; a Worker that polls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import uvloop
from arq import create_pool, func
from arq.connections import ArqRedis, RedisSettings
from arq.worker import Worker

from bench.peers.marks import handled

ABREAST = 16
UVLOOP = True
POLL_SECONDS = 0.01
"""By default 0.5, which no user who minds how soon jobs start would keep."""


async def noop(context: dict[str, Any], payload: str) -> None:
    """The job."""
    handled(payload)


class _Producer:
    def __init__(self, pool: ArqRedis) -> None:
        self.pool = pool

    async def one(self, payload: str) -> None:
        await self.pool.enqueue_job("noop", payload)


@contextlib.asynccontextmanager
async def producer(address: str) -> AsyncIterator[_Producer]:
    """A pool."""
    pool = await create_pool(RedisSettings.from_dsn(f"redis://{address}"))
    yield _Producer(pool)
    await pool.aclose()


def work(address: str) -> None:
    """16 jobs at once, their results not kept."""
    logging.disable(logging.INFO)
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    settings = RedisSettings.from_dsn(f"redis://{address}")
    Worker([func(noop, name="noop", keep_result=0)], redis_settings=settings, max_jobs=16, poll_delay=POLL_SECONDS).run()
