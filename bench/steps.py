"""What the backend does to thousands at once: the CPU of the longest turn of the loop, for every such operation, at the documented bounds.

In this process and without HTTP, so that a turn is the backend's alone: it includes the waking of those who wait, and not the writing of
their answers. In CPU time, so that other programs on the machine do not count.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from bench.plan import Plan
from bench.process import BenchError
from bench.report import Row
from jobqueue.backend.base import Conclude, Extend
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.requests.bulk import BulkJobs
from jobqueue.backend.requests.queues import DeleteQueue, PurgeAll
from jobqueue.clock import SystemClock
from jobqueue.engine.filters import Matching
from jobqueue.model import Job, JobFilter, JobSpec, Outcome, Verdict, Want
from jobqueue.unique import Unique

KEYS = ("steps",)
STEP_MS_MAX = 20.0
BATCH = 1_000
SUCCEEDED = Verdict(outcome=Outcome.SUCCEEDED)
FAILED = Verdict(outcome=Outcome.FAILED, retry=False)


class JumpingClock(SystemClock):
    """The machine's clock, which can be put forward."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def now(self) -> float:
        """See Clock.now."""
        return super().now() + self.ahead


class Stage:
    """One backend, filled for one operation."""

    def __init__(self, plan: Plan) -> None:
        self.many = plan.deep
        self.crowd = plan.held
        self.clock = JumpingClock()
        self.backend = LocalBackend(clock=self.clock)

    async def fill(self, count: int, **fields: Any) -> None:
        """Enqueue so many jobs."""
        for start in range(0, count, BATCH):
            specs = [JobSpec(payload=b"1", **fields) for _ in range(min(BATCH, count - start))]
            await self.backend.enqueue_batch(specs)

    async def take(self, count: int, **fields: Any) -> list[Job]:
        """Take so many jobs."""
        taken: list[Job] = []
        while len(taken) < count:
            taking = self.backend.dequeue(Want(limit=min(BATCH, count - len(taken)), **fields), 0)
            async with taking as jobs:
                taking.delivered()
            taken += jobs
        return taken

    async def one(self, wait: float) -> int:
        """One dequeue, as a request does it."""
        taking = self.backend.dequeue(Want(), wait)
        async with taking as jobs:
            taking.delivered()
        return len(jobs)

    async def stand(self, request: Callable[[], Coroutine[Any, Any, object]], count: int) -> list[asyncio.Task[object]]:
        """So many requests that wait."""
        tasks = [asyncio.create_task(request()) for _ in range(count)]
        await self.until(lambda: self.backend.waiters >= count)
        return tasks

    async def jump(self, seconds: float) -> None:
        """Let time pass. The loop's timer knows nothing of it, so the ticker is called in its place, and told that it is on time."""
        self.clock.ahead += seconds
        self.backend._armed = self.clock.now()
        asyncio.get_running_loop().call_soon(self.backend._tick)

    async def until(self, done: Callable[[], bool]) -> None:
        """Let the loop turn until it is so."""
        for _ in range(10_000_000):
            if done():
                return
            await asyncio.sleep(0)
        raise BenchError("what is measured does not come to its end")


Operation = Callable[[], Awaitable[object]]


async def _leases_extended(stage: Stage) -> Operation:
    await stage.fill(stage.many)
    for job in await stage.take(stage.many, lease_seconds=100.0):
        assert job.lease is not None
        stage.backend.engine.extend(stage.clock.now(), job.id, job.lease.token, 10_000.0)
    stage.backend.engine.events.clear()
    first = stage.backend.engine.lease_ends

    async def run() -> None:
        await stage.jump(200.0)
        await stage.until(lambda: first.earliest > stage.clock.now())

    return run


async def _leases_end(stage: Stage) -> Operation:
    await stage.fill(stage.many)
    await stage.take(stage.many, lease_seconds=100.0)

    async def run() -> None:
        await stage.jump(200.0)
        await stage.until(lambda: not stage.backend.engine.queues["default"].in_progress)

    return run


async def _fall_due(stage: Stage) -> Operation:
    await stage.fill(stage.many, delay=100.0)

    async def run() -> None:
        await stage.jump(200.0)
        await stage.until(lambda: not stage.backend.engine.queues["default"].scheduled)

    return run


async def _dequeue_over_expired(stage: Stage) -> Operation:
    await stage.fill(stage.many, expires_in=100.0)
    await stage.fill(1)

    async def run() -> None:
        stage.clock.ahead += 200.0
        assert await stage.one(0.0)

    return run


async def _resume(stage: Stage) -> Operation:
    await stage.fill(stage.crowd)
    await stage.backend.set_paused("default", True)
    tasks = await stage.stand(lambda: stage.one(50.0), stage.crowd)

    async def run() -> None:
        await stage.backend.set_paused("default", False)
        await asyncio.gather(*tasks)

    return run


async def _batch_to_waiters(stage: Stage) -> Operation:
    tasks = await stage.stand(lambda: stage.one(50.0), BATCH)

    async def run() -> None:
        await stage.fill(BATCH)
        await asyncio.gather(*tasks)

    return run


async def _waits_end(stage: Stage) -> Operation:
    tasks = await stage.stand(lambda: stage.one(50.0), stage.crowd)

    async def run() -> None:
        await stage.jump(60.0)
        await asyncio.gather(*tasks)

    return run


async def _result(stage: Stage) -> Operation:
    await stage.fill(1)
    (job,) = await stage.take(1)
    assert job.lease is not None
    token = job.lease.token
    tasks = await stage.stand(lambda: stage.backend.job(job.id, 50.0), stage.crowd)

    async def run() -> None:
        await stage.backend.conclude(job.id, token, SUCCEEDED)
        await asyncio.gather(*tasks)

    return run


async def _drain(stage: Stage) -> Operation:
    tasks = await stage.stand(lambda: stage.one(50.0), stage.crowd)

    async def run() -> None:
        stage.backend.drain()
        await asyncio.gather(*tasks)

    return run


async def _purge(stage: Stage) -> Operation:
    await stage.fill(stage.many)
    return lambda: stage.backend.purge("default")


async def _full(stage: Stage) -> None:
    """A third of the jobs in progress, a third with unique keys that are held for a time, the rest plain."""
    await stage.fill(stage.many // 3)
    await stage.take(stage.many // 3)
    await stage.fill(stage.many // 3)
    for start in range(0, stage.many // 3, BATCH):
        keys = [f"k{number}" for number in range(start, start + BATCH)]
        await stage.backend.enqueue_batch([JobSpec(payload=b"1", unique=Unique(key, "enqueued", 10_000.0)) for key in keys])


async def _purge_all(stage: Stage) -> Operation:
    await _full(stage)
    return lambda: stage.backend.ask(PurgeAll(name="default"))


async def _delete(stage: Stage) -> Operation:
    await _full(stage)
    await stage.backend.set_paused("default", True)
    tasks = await stage.stand(lambda: stage.one(1_000.0), stage.crowd)

    async def run() -> None:
        await stage.backend.ask(DeleteQueue(name="default"))
        await asyncio.gather(*tasks)

    return run


async def _leases_ended(stage: Stage) -> Operation:
    await stage.fill(BATCH)
    items = [Extend(job.id, job.lease.token, 0.0) for job in await stage.take(BATCH) if job.lease is not None]
    tasks = await stage.stand(lambda: stage.one(1_000.0), BATCH)

    async def run() -> None:
        await stage.backend.extend_batch(items)
        await asyncio.gather(*tasks)

    return run


async def _bulk(stage: Stage) -> Operation:
    await stage.fill(stage.many)
    return lambda: _all_of(stage, Matching(queue="default"))


async def _bulk_of_none(stage: Stage) -> Operation:
    await stage.fill(stage.many)
    return lambda: _all_of(stage, Matching(tag="none"))


async def _all_of(stage: Stage, matching: Matching) -> None:
    cursor: str | None = None
    while True:
        cursor = (await stage.backend.ask(BulkJobs(action="cancel", matching=matching, cursor=cursor))).cursor
        if cursor is None:
            return


async def _redrive(stage: Stage) -> Operation:
    count = stage.backend.limits.history_jobs_max
    await stage.fill(count)
    for job in await stage.take(count):
        assert job.lease is not None
        await stage.backend.conclude(job.id, job.lease.token, FAILED)
    return lambda: stage.backend.retry_failed("default")


async def _shared_attempt(stage: Stage) -> Operation:
    await stage.fill(stage.many)
    taken: list[Job] = []
    while len(taken) < stage.many:
        # Past the replay, which would answer the first batch again.
        taken += stage.backend.engine.dequeue(stage.clock.now(), Want(limit=BATCH, attempt_id="x"))
    stage.backend.engine.events.clear()
    last = [job for job in taken[-BATCH:] if job.lease is not None]
    items = [Conclude(job.id, job.lease.token, SUCCEEDED) for job in last if job.lease is not None]
    return lambda: stage.backend.conclude_batch(items)


async def _batch_extend(stage: Stage) -> Operation:
    await stage.fill(BATCH)
    items = [Extend(job.id, job.lease.token) for job in await stage.take(BATCH) if job.lease is not None]
    return lambda: stage.backend.extend_batch(items)


async def _listing(stage: Stage) -> Operation:
    await stage.fill(stage.many)
    return lambda: stage.backend.jobs(JobFilter(queue="nothing", limit=1_000))


OPERATIONS: dict[str, Callable[[Stage], Awaitable[Operation]]] = {
    "leases that were extended come up": _leases_extended,
    "leases end": _leases_end,
    "jobs fall due": _fall_due,
    "a dequeue passes over expired jobs": _dequeue_over_expired,
    "a queue is resumed, with waiters": _resume,
    "a batch of 1,000 jobs, with waiters": _batch_to_waiters,
    "waits end": _waits_end,
    "a result that many wait for": _result,
    "a drain": _drain,
    "a purge": _purge,
    "a purge of all that lives": _purge_all,
    "a queue is deleted with its jobs, with waiters": _delete,
    "a bulk cancel": _bulk,
    "a bulk cancel that finds nothing": _bulk_of_none,
    "a redrive": _redrive,
    "a batch of 1,000 concludes under one attempt_id": _shared_attempt,
    "a batch of 1,000 extends": _batch_extend,
    "a batch of 1,000 leases is ended, with waiters": _leases_ended,
    "a page that finds nothing": _listing,
}


async def longest_turn(operation: Operation) -> float:
    """Milliseconds of CPU of the longest turn of the loop while it runs."""
    longest, last, over = 0.0, time.process_time(), False
    loop = asyncio.get_running_loop()

    def turn() -> None:
        nonlocal longest, last
        now = time.process_time()
        longest, last = max(longest, now - last), now
        if not over:
            loop.call_soon(turn)

    loop.call_soon(turn)
    await asyncio.sleep(0)
    longest = 0.0
    await operation()
    await asyncio.sleep(0)
    over = True
    return longest * 1_000


async def rows(plan: Plan) -> list[Row]:
    """The rows of this file."""
    found = []
    for what, prepare in OPERATIONS.items():
        stage = Stage(plan)
        operation = await prepare(stage)
        # What is prepared is no server's garbage, and its collection no step's.
        gc.collect()
        gc.freeze()
        took = await longest_turn(operation)
        gc.unfreeze()
        await stage.backend.close()
        size = f"{plan.deep:,} jobs, {plan.held:,} waiters"
        found.append(
            Row("steps", f"longest turn: {what} ({size})", f"≤ {STEP_MS_MAX:.0f} ms", f"{took:.1f} ms", "", "", "", took <= STEP_MS_MAX)
        )
    return found
