"""What the suite needs beside the Backend protocol: a way to let time pass, and to make it misbehave.

A new backend joins the suite with one subclass of `Rig` and one line in `RIGS`. Tests reach the backend through `rig.backend` alone,
and only by methods of the protocol.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any

from jobqueue.backend.base import Backend
from jobqueue.backend.local import LocalBackend
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine
from jobqueue.errors import QueueError
from jobqueue.limits import Limits
from jobqueue.model import DEFAULT_QUEUE, Job, JobSpec, Outcome, Verdict, Want

SUCCEEDED = Verdict(outcome=Outcome.SUCCEEDED, result=b'"done"')
FAILED = Verdict(outcome=Outcome.FAILED, error=b'"broken"')
FAILED_FOR_GOOD = Verdict(outcome=Outcome.FAILED, error=b'"broken"', retry=False)


def spec(job_id: str | None = None, **fields: object) -> JobSpec:
    """A job to enqueue; whatever a test does not say does not matter to it."""
    return JobSpec(**{"payload": b"1", "id": job_id, **fields})  # type: ignore[arg-type]


def want(*queues: str, **fields: object) -> Want:
    """What a dequeue asks for; the default queue unless told."""
    return Want(queues=queues or (DEFAULT_QUEUE,), **fields)  # type: ignore[arg-type]


def token(job: Job) -> str:
    """The token of a leased job."""
    assert job.lease is not None
    return job.lease.token


class Held:
    """A worker that holds one dequeue open, in a task of its own, and delivers whatever it is answered."""

    def __init__(self, backend: Backend, wanted: Want, wait: float) -> None:
        self._backend = backend
        self._want = wanted
        self._wait = wait
        self.jobs: list[Job] = []
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> list[Job]:
        taking = self._backend.dequeue(self._want, self._wait)
        async with taking as jobs:
            self.jobs = jobs
            taking.delivered()
        return jobs

    @property
    def answered(self) -> bool:
        """Whether the request is over; False while it stands in line."""
        return self.task.done()

    @property
    def ids(self) -> list[str]:
        """The ids of the jobs it was handed."""
        return [job.id for job in self.jobs]


class Rig(ABC):
    """One backend under test, its time, and shorthands for what a test does often."""

    backend: Backend

    lease_bytes = 0
    """What a leased job holds that nobody asked for."""

    def __init__(self) -> None:
        self._held: list[Held] = []

    # What a subclass brings.

    @abstractmethod
    def utc(self) -> float:
        """What the wall clock shows: seconds since the epoch."""

    @abstractmethod
    async def idle(self) -> None:
        """Let everything happen that can happen without time passing."""

    @abstractmethod
    async def advance(self, seconds: float, then: Callable[[], object] | None = None) -> None:
        """Let time pass, then be idle. Whole seconds pass exactly.

        then: called right after time has passed, in the same turn of the loop if that can be had; everything before it passes in one go.
        """

    @abstractmethod
    async def stall(self, seconds: float) -> None:
        """Let time pass while the whole process stands still, so that its timers fire late; then be idle."""

    @abstractmethod
    def step_wall_clock(self, seconds: float) -> None:
        """Move the wall clock and nothing else, as an operator or NTP would."""

    # Shorthands.

    async def put(self, job_id: str | None = None, **fields: object) -> Job:
        """Enqueue a job."""
        return (await self.backend.enqueue(spec(job_id, **fields))).job

    async def put_all(self, *ids: str, **fields: object) -> None:
        """Enqueue jobs of these ids in this order: one by one, hundreds in batches, since some rigs begin anew before every call."""
        if len(ids) < 100:
            for job_id in ids:
                await self.put(job_id, **fields)
            return
        for start in range(0, len(ids), 100):
            for reply in await self.backend.enqueue_batch([spec(job_id, **fields) for job_id in ids[start : start + 100]]):
                assert not isinstance(reply, QueueError), reply

    async def take_all(self, *queues: str, limit: int = 1, **fields: object) -> list[Job]:
        """What a dequeue that does not wait is answered, delivered."""
        taking = self.backend.dequeue(want(*queues, limit=limit, **fields), 0)
        async with taking as jobs:
            taking.delivered()
        return jobs

    async def take(self, *queues: str, **fields: object) -> Job:
        """The one job that a dequeue is handed at once."""
        (job,) = await self.take_all(*queues, **fields)
        return job

    def hold(self, *queues: str, wait: float = 60.0, **fields: object) -> Held:
        """Start a held dequeue; it takes its place in line when the test next yields."""
        held = Held(self.backend, want(*queues, **fields), wait)
        self._held.append(held)
        return held

    async def stand(self, *queues: str, wait: float = 60.0, **fields: object) -> Held:
        """A held dequeue that stands in line."""
        held = self.hold(*queues, wait=wait, **fields)
        await self.idle()
        assert not held.answered
        return held

    async def finish(self, job_id: str, verdict: Verdict = SUCCEEDED, **fields: object) -> Job:
        """Enqueue a job, take it and conclude it, in a queue that holds no other."""
        await self.put(job_id, **fields)
        job = await self.take(*([str(fields["queue"])] if "queue" in fields else []))
        assert job.id == job_id
        return await self.backend.conclude(job_id, token(job), verdict)

    async def close(self) -> None:
        """Close the backend, which must leave nobody waiting."""
        await self.backend.close()
        await self.idle()
        standing = [held for held in self._held if not held.answered]
        for held in standing:
            held.task.cancel()
        await self.idle()
        assert not standing, "a held dequeue was not answered when the backend closed"
        assert await self.waiters() == 0

    async def waiters(self) -> int:
        """How many stand, asked of a backend that is closed."""
        return (await self.backend.stats()).waiters


class StallingClock(ManualClock):
    """A ManualClock whose timers can be late."""

    def stand_still(self, seconds: float) -> None:
        """Let time pass with no timer running; those that fell due run at the next `advance`, late."""
        self._now += seconds


class LocalRig(Rig):
    """The local backend on a clock of its own."""

    TURNS = 12
    """Turns of the loop within which every chain of hand-outs of these tests has run its course."""

    STEPS = 16
    """A power of two, so that steps of whole seconds add up without rounding."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.clock = StallingClock()
        self.backend = LocalBackend(engine=Engine(limits), clock=self.clock)
        self.backend.sample(self.clock.now())

    def utc(self) -> float:
        return self.clock.now() + self.clock.skew()

    async def idle(self) -> None:
        for _ in range(self.TURNS):
            self.clock.advance(0)
            await asyncio.sleep(0)

    async def advance(self, seconds: float, then: Callable[[], object] | None = None) -> None:
        if then is not None:
            self.clock.advance(seconds)
            then()
            await self.idle()
            return
        for _ in range(self.STEPS):
            self.clock.advance(seconds / self.STEPS)
            await asyncio.sleep(0)
        await self.idle()

    async def stall(self, seconds: float) -> None:
        self.clock.stand_still(seconds)
        await self.idle()

    def step_wall_clock(self, seconds: float) -> None:
        self.clock.step_wall_clock(seconds)


async def _local(limits: Limits) -> Rig:
    return LocalRig(limits)


RIGS: dict[str, Callable[[Limits], Awaitable[Rig]]] = {"local": _local}
"""Every backend that must pass the suite."""


def going_on(cursor: int | str | None) -> dict[str, Any]:
    """What asks for the page of jobs after the one with this cursor."""
    return {"cursor": cursor} if isinstance(cursor, str) else {"before": cursor}


async def raised(awaitable: Awaitable[object]) -> QueueError:
    """The error that an operation raises."""
    try:
        reply = await awaitable
    except QueueError as error:
        return error
    raise AssertionError(f"nothing was raised; the reply was {reply!r}")
