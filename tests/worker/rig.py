"""A worker on a backend of this process, on a clock that stands still until a test advances it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from jobqueue.backend.local import LocalBackend
from jobqueue.clock import ManualClock, Timer
from jobqueue.engine.engine import Engine
from jobqueue.limits import Limits
from jobqueue.model import Job, JobSpec, Outcome, Status
from jobqueue.policy import Backoff
from jobqueue.worker.handlers import Registry
from jobqueue.worker.sources import BackendSource
from jobqueue.worker.worker import Worker

PATIENCE_SECONDS = 20
TURNS = 12
"""Turns of the loop in which everything has happened that can happen without time passing."""


class Middle:
    """The middle of every range: no chance at all."""

    def uniform(self, a: float, b: float, /) -> float:
        return (a + b) / 2


class SoonClock(ManualClock):
    """A ManualClock on which what is due at once happens by itself, as on any clock."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        timer = super().call_at(when, callback)
        if when <= self.now():
            asyncio.get_running_loop().call_soon(self.advance, 0)
        return timer


OUTSIDE = [False, True] if sys.version_info >= (3, 12) else [False]
"""A worker of another process than the server's begins async handlers where it takes their jobs, where Python can."""


class Outside:
    """A backend of this process as a source that may be anywhere."""

    def __init__(self, backend: LocalBackend) -> None:
        self._inside = BackendSource(backend)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inside, name)


class Rig:
    """The backend, its clock, and workers that are stopped at the end."""

    def __init__(self, outside: bool = False) -> None:
        self.outside = outside
        self.clock = SoonClock()
        self.backend = LocalBackend(engine=Engine(Limits()), clock=self.clock)
        self._workers: list[Worker] = []

    def make(self, source: Any = None, **options: Any) -> Worker:
        source = source or (Outside(self.backend) if self.outside else self.backend)
        worker = Worker(source, clock=self.clock, chance=Middle(), **options)
        self._workers.append(worker)
        return worker

    async def start(self, handlers: Registry, source: Any = None, **options: Any) -> Worker:
        worker = self.make(source, handlers=handlers, **options)
        await worker.start()
        await self.idle()
        return worker

    async def idle(self) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def advance(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass in steps, so that what is due at each has happened before the next."""
        end = self.clock.now() + seconds
        while self.clock.now() < end:
            self.clock.advance(min(step, end - self.clock.now()))
            await self.idle()

    async def put(self, job_type: str | None = "work", payload: Any = None, **fields: Any) -> str:
        """Enqueue a job; its id. A failure is tried again at once unless the job says otherwise."""
        fields.setdefault("backoff", Backoff(0.0, 1.0, 0.0))
        spec = JobSpec(payload=msgspec.json.encode(payload), type=job_type, **fields)
        job_id = (await self.backend.enqueue(spec)).job.id
        await self.idle()
        return job_id

    async def job(self, job_id: str) -> Job:
        return await self.backend.job(job_id)

    async def done(self, job_id: str) -> Job:
        """The job, once it is concluded."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            job = await self.backend.job(job_id, 3_600)
        assert job.status is Status.CONCLUDED
        return job

    async def succeeded(self, job_id: str) -> Any:
        """The result of a job, once it has succeeded."""
        job = await self.done(job_id)
        assert job.outcome is Outcome.SUCCEEDED, job.error
        assert job.conclusion is not None
        return None if job.conclusion.result is None else msgspec.json.decode(job.conclusion.result)

    async def failed(self, job_id: str) -> dict[str, str]:
        """The error of a job, once it has failed for good."""
        job = await self.done(job_id)
        assert job.outcome is Outcome.FAILED
        return error_of(job)

    async def stop(self, worker: Worker, grace_seconds: float = 0.0) -> None:
        """Stop a worker, time passing as it waits."""
        stopping = asyncio.create_task(worker.stop(grace_seconds))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not stopping.done():
                await self.advance(0.5)
        await stopping

    async def close(self) -> None:
        for worker in self._workers:
            await self.stop(worker)
        await self.backend.close()
        assert self.backend.totals().waiters == 0


def error_of(job: Job) -> dict[str, str]:
    assert job.error is not None
    error: dict[str, str] = msgspec.json.decode(job.error)
    return error


async def soon(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await event.wait()
