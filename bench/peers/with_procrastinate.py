"""Procrastinate on PostgreSQL: `defer_async`, `batch_defer_async`; a worker that is woken by NOTIFY."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import procrastinate

from bench.peers.marks import handled

ABREAST = 16


def _app(address: str) -> tuple[procrastinate.App, Any]:
    # As many connections as jobs at once, and what the listener and the fetcher take.
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=address, min_size=1, max_size=20))

    @app.task(name="noop", queue="bench")
    async def noop(payload: str) -> None:
        handled(payload)

    return app, noop


async def prepare(address: str, *, durable: bool) -> None:
    """The schema."""
    app, _ = _app(address)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


class _Producer:
    def __init__(self, task: Any) -> None:
        self.task = task

    async def one(self, payload: str) -> None:
        await self.task.defer_async(payload=payload)

    async def many(self, payload: str, count: int) -> None:
        await self.task.batch_defer_async(*[{"payload": payload}] * count)


@contextlib.asynccontextmanager
async def producer(address: str) -> AsyncIterator[_Producer]:
    """The task of an open app."""
    app, task = _app(address)
    async with app.open_async():
        yield _Producer(task)


def work(address: str) -> None:
    """16 jobs at once, deleted when done."""
    logging.disable(logging.WARNING)

    async def run() -> None:
        app, _ = _app(address)
        async with app.open_async():
            await app.run_worker_async(queues=["bench"], concurrency=16, delete_jobs="always")

    asyncio.run(run())
