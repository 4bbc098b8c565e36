"""Celery on Redis: `apply_async` without results; a worker with the solo pool, the quickest for what does nothing."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from celery import Celery

from bench.peers.marks import handled

ABREAST = 1


def _app(address: str) -> Celery:
    app = Celery("bench", broker=f"redis://{address}/0")
    app.conf.update(
        task_ignore_result=True,
        worker_prefetch_multiplier=64,
        task_default_queue="bench",
        worker_hijack_root_logger=False,
        worker_disable_rate_limits=True,
    )

    @app.task(name="noop")
    def noop(payload: str) -> None:
        handled(payload)

    return app


class _Producer:
    def __init__(self, task: Any) -> None:
        self.task = task

    async def one(self, payload: str) -> None:
        self.task.apply_async((payload,))


@contextlib.asynccontextmanager
async def producer(address: str) -> AsyncIterator[_Producer]:
    """The task."""
    with _app(address) as app:
        yield _Producer(app.tasks["noop"])


def work(address: str) -> None:
    """One job at a time, 64 taken ahead, none of the chatter between workers."""
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "ERROR"]
    _app(address).worker_main(["worker", "--pool", "solo", *quiet])
