from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from jobqueue.model import Outcome, Status, Want
from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import RunningJob

from .rig import OUTSIDE, PATIENCE_SECONDS, Rig, error_of


@pytest.fixture(params=OUTSIDE, ids=["", "outside"][: len(OUTSIDE)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rig = Rig(request.param)
    yield rig
    await rig.close()


class Gate:
    """A handler that works until it is let go, async or plain; what became of it."""

    def __init__(self, handlers: Registry, name: str = "work", **options: object) -> None:
        self.begun: list[RunningJob] = []
        self.cancelled: list[str] = []
        self.opened = asyncio.Event()
        handlers.handler(name, **options)(self.work)  # type: ignore[arg-type]

    async def work(self, job: RunningJob) -> str:
        self.begun.append(job)
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled.append(job.id)
            raise
        return "done"


class PlainGate:
    """The same as a plain function. heeds: whether it looks at job.cancelled."""

    def __init__(self, handlers: Registry, heeds: bool = True, **options: object) -> None:
        self.begun = threading.Semaphore(0)
        self.heeded = threading.Semaphore(0)
        self.opened = threading.Event()
        self.heeds = heeds
        self.cancelled: list[str] = []
        handlers.handler("work", **options)(self.work)  # type: ignore[arg-type]

    def work(self, job: RunningJob) -> str:
        self.begun.release()
        if not self.heeds:
            assert self.opened.wait(PATIENCE_SECONDS)
            return "done"
        if job.wait_cancelled(PATIENCE_SECONDS):
            self.cancelled.append(job.id)
            self.heeded.release()
        return "stopped early"

    async def began(self) -> None:
        assert await asyncio.to_thread(self.begun.acquire, timeout=PATIENCE_SECONDS)

    async def stopped(self) -> None:
        assert await asyncio.to_thread(self.heeded.acquire, timeout=PATIENCE_SECONDS)


# Time-outs.


async def test_an_async_handler_whose_time_is_up_is_cancelled_and_its_job_tried_again(rig: Rig) -> None:
    """The attempt failed with TimeoutError, and counts."""
    handlers = Registry()
    gate = Gate(handlers, timeout=10)
    await rig.start(handlers)
    job_id = await rig.put(max_attempts=2)
    await rig.advance(9.5)
    assert not gate.cancelled
    await rig.advance(0.5)
    assert gate.cancelled == [job_id]
    assert error_of(await rig.job(job_id)) == {"type": "TimeoutError", "message": "the job ran longer than 10 s"}
    assert [job.attempts for job in gate.begun] == [1, 2]
    await rig.advance(10)
    assert (await rig.done(job_id)).outcome is Outcome.FAILED


async def test_the_workers_time_out_holds_where_the_handler_has_none(rig: Rig) -> None:
    """The handler's own wins where it has one."""
    handlers = Registry()
    own, other = Gate(handlers, "own", timeout=20), Gate(handlers, "other")
    await rig.start(handlers, timeout=10)
    await rig.put("own")
    await rig.put("other")
    await rig.advance(10)
    assert (len(own.cancelled), len(other.cancelled)) == (0, 1)


async def test_a_handler_that_swallows_its_time_out_is_given_up_after_a_while(rig: Rig) -> None:
    """It may clean up for two seconds; then its job is handed in without it. Its slot stays taken until it is really over."""
    handlers = Registry()
    opened = asyncio.Event()
    begun = []

    @handlers.handler("work", timeout=10)
    async def stubborn(job: RunningJob) -> str:
        begun.append(job.id)
        while not opened.is_set():
            try:
                await opened.wait()
            except asyncio.CancelledError:
                continue
        return "after all"

    worker = await rig.start(handlers, concurrency=1)
    job_id = await rig.put(max_attempts=1)
    await rig.put()
    await rig.advance(11.5)
    assert (await rig.job(job_id)).status is Status.IN_PROGRESS
    await rig.advance(0.5)
    assert error_of(await rig.job(job_id))["type"] == "TimeoutError"
    assert (len(begun), worker.running) == (1, 1)
    opened.set()
    await rig.idle()
    assert len(begun) == 2


async def test_a_plain_handler_whose_time_is_up_keeps_its_slot_until_it_returns(rig: Rig) -> None:
    """Its job is concluded right then; nothing else runs in its place, since the thread still does."""
    handlers = Registry()
    gate = PlainGate(handlers, heeds=False, timeout=10)
    worker = await rig.start(handlers, concurrency=1)
    first, second = await rig.put(max_attempts=1), await rig.put()
    await gate.began()
    await rig.advance(10)
    assert error_of(await rig.job(first)) == {"type": "TimeoutError", "message": "the job ran longer than 10 s"}
    assert (await rig.job(second)).status is Status.QUEUED
    assert worker.running == 1
    gate.opened.set()
    assert await rig.succeeded(second) == "done"


# Leases.


@pytest.mark.parametrize("lease_seconds", [1.0, 3.0, 30.0, 600.0])
async def test_a_lease_is_extended_for_as_long_as_the_handler_runs(rig: Rig, lease_seconds: float) -> None:
    """Over many of its lengths, the lease stays the first one and never comes near its end."""
    handlers = Registry()
    gate = Gate(handlers)
    await rig.start(handlers, lease_seconds=lease_seconds)
    job_id = await rig.put()
    lease = (await rig.job(job_id)).lease
    assert lease is not None
    for _ in range(200):
        await rig.advance(lease_seconds / 10, step=lease_seconds / 10)
        now = (await rig.job(job_id)).lease
        assert now is not None
        assert now.token == lease.token
        assert now.expires_at - rig.clock.now() >= lease_seconds / 2
    gate.opened.set()
    assert await rig.succeeded(job_id) == "done"
    assert len(gate.begun) == 1


async def test_a_lost_lease_stops_the_handler_and_its_outcome_is_dropped(rig: Rig) -> None:
    """Somebody else has the job, or will: what this one did is told to nobody."""
    handlers = Registry()
    gate = Gate(handlers)
    worker = await rig.start(handlers)
    job_id = await rig.put()
    lease = (await rig.job(job_id)).lease
    assert lease is not None
    await rig.backend.set_paused("default", True)
    await rig.backend.release(job_id, lease.token, 0)
    await rig.advance(5)
    assert gate.cancelled == [job_id]
    assert (worker.counts.lost, worker.counts.failed, worker.running) == (1, 0, 0)
    assert (await rig.job(job_id)).status is Status.QUEUED


# Progress.


async def test_progress_goes_to_the_server_soon_and_not_more_often_than_twice_a_second(rig: Rig) -> None:
    """The first note at once, the newest of many half a second later; a message stays until there is another."""
    handlers = Registry()
    gate = Gate(handlers)
    await rig.start(handlers)
    job_id = await rig.put()
    (job,) = gate.begun

    async def shown() -> tuple[float | None, str | None]:
        await rig.idle()
        lease = (await rig.job(job_id)).lease
        assert lease is not None
        return lease.progress, lease.message

    job.progress(0.25, "page 1")
    assert await shown() == (0.25, "page 1")
    job.progress(0.5, "page 2")
    job.progress(0.75)
    assert await shown() == (0.25, "page 1")
    await rig.advance(0.5)
    assert await shown() == (0.75, "page 2")


async def test_progress_from_a_thread_goes_out_too(rig: Rig) -> None:
    """The job may be used from any thread."""
    handlers = Registry()
    said = threading.Event()
    opened = threading.Event()

    @handlers.handler("work")
    def work(job: RunningJob) -> None:
        job.progress(0.5)
        said.set()
        assert opened.wait(PATIENCE_SECONDS)

    await rig.start(handlers)
    job_id = await rig.put()
    assert await asyncio.to_thread(said.wait, PATIENCE_SECONDS)
    await rig.idle()
    lease = (await rig.job(job_id)).lease
    opened.set()
    assert lease is not None
    assert lease.progress == 0.5
    await rig.done(job_id)


@pytest.mark.parametrize(
    ("fraction", "message", "field"),
    [
        (-0.1, None, "fraction"),
        (1.1, None, "fraction"),
        (float("nan"), None, "fraction"),
        (0, "x" * 1_025, "message"),
        (0, "\0", "message"),
    ],
)
async def test_progress_that_cannot_be_is_refused_where_it_is_said(rig: Rig, fraction: float, message: str, field: str) -> None:
    """It raises ValueError in the handler, naming the parameter."""
    handlers = Registry()
    handlers.handler("work")(lambda job: job.progress(fraction, message))
    await rig.start(handlers)
    error = await rig.failed(await rig.put(max_attempts=1))
    assert error["type"] == "ValueError"
    assert error["message"].startswith(f"{field}: ")


# Cancels.


async def test_a_cancel_reaches_an_async_handler(rig: Rig) -> None:
    """Within five seconds, as asyncio.CancelledError; the job ends as cancelled."""
    handlers = Registry()
    gate = Gate(handlers)
    await rig.start(handlers, lease_seconds=600)
    job_id = await rig.put()
    await rig.backend.cancel(job_id)
    await rig.advance(5)
    assert gate.cancelled == [job_id]
    assert (await rig.job(job_id)).outcome is Outcome.CANCELLED


async def test_a_cancel_reaches_a_plain_handler(rig: Rig) -> None:
    """It sees job.cancelled; whatever it returns, the job ends as cancelled."""
    handlers = Registry()
    gate = PlainGate(handlers)
    await rig.start(handlers)
    job_id = await rig.put()
    await gate.began()
    await rig.backend.cancel(job_id)
    await rig.advance(5)
    assert (await rig.done(job_id)).outcome is Outcome.CANCELLED
    assert gate.cancelled == [job_id]


# Stopping.


async def test_stopping_lets_running_jobs_finish_and_takes_no_more(rig: Rig) -> None:
    """Within the grace period; a job that comes meanwhile stays in its queue."""
    handlers = Registry()
    gate = Gate(handlers)
    worker = await rig.start(handlers)
    job_id = await rig.put()
    stopping = asyncio.create_task(worker.stop(10))
    await rig.idle()
    later = await rig.put()
    await rig.advance(9)
    assert not stopping.done()
    gate.opened.set()
    await rig.idle()
    assert stopping.done()
    assert await rig.succeeded(job_id) == "done"
    assert (await rig.job(later)).status is Status.QUEUED


@pytest.mark.parametrize("kind", [Gate, PlainGate])
async def test_what_still_runs_after_the_grace_period_is_stopped_and_given_back(rig: Rig, kind: type[Gate] | type[PlainGate]) -> None:
    """Its attempt does not count, and what it returns after seeing that it is to stop is not taken for its result."""
    handlers = Registry()
    gate = kind(handlers)
    worker = await rig.start(handlers)
    job_id = await rig.put()
    if isinstance(gate, PlainGate):
        await gate.began()
    await rig.stop(worker, 3)
    job = await rig.job(job_id)
    assert (job.status, job.attempts) == (Status.QUEUED, 0)
    if isinstance(gate, PlainGate):
        await gate.stopped()
    assert gate.cancelled == [job_id]
    assert worker.counts.released == 1


async def test_a_thread_that_does_not_stop_does_not_hold_up_the_end(rig: Rig) -> None:
    """Its job is given back without it, and what it returns later is dropped."""
    handlers = Registry()
    gate = PlainGate(handlers, heeds=False)
    worker = await rig.start(handlers)
    job_id = await rig.put()
    await gate.began()
    await rig.stop(worker, 1)
    job = await rig.job(job_id)
    assert (job.status, job.attempts) == (Status.QUEUED, 0)
    gate.opened.set()


async def test_hurrying_ends_the_grace_period(rig: Rig) -> None:
    """What runs is stopped at once, not at the end of the grace period."""
    handlers = Registry()
    gate = Gate(handlers)
    worker = await rig.start(handlers)
    job_id = await rig.put()
    hurry = asyncio.Event()
    stopping = asyncio.create_task(worker.stop(1_000, hurry))
    await rig.idle()
    assert not gate.cancelled
    hurry.set()
    await rig.idle()
    assert stopping.done()
    assert gate.cancelled == [job_id]
    assert (await rig.job(job_id)).attempts == 0


async def test_a_stopped_worker_keeps_no_place_in_line(rig: Rig) -> None:
    """A job that comes right then goes to the next that asks."""
    handlers = Registry()
    Gate(handlers)
    worker = await rig.start(handlers)
    assert rig.backend.totals().waiters == 1
    await rig.stop(worker)
    assert rig.backend.totals().waiters == 0
    job_id = await rig.put()
    async with rig.backend.dequeue(Want(), 0) as jobs:
        assert [job.id for job in jobs] == [job_id]


# How many at once.


async def test_no_more_handlers_run_at_once_than_asked_for(rig: Rig) -> None:
    """The rest stay in their queue, for any worker that is free."""
    handlers = Registry()
    gate = Gate(handlers)
    worker = await rig.start(handlers, concurrency=3)
    jobs = [await rig.put() for _ in range(8)]
    assert (len(gate.begun), worker.running) == (3, 3)
    assert rig.backend.totals().leases == 3
    gate.opened.set()
    for job_id in jobs:
        assert await rig.succeeded(job_id) == "done"


async def test_queues_are_served_in_their_order_of_preference(rig: Rig) -> None:
    """A job of the first queue goes before an older one of the second."""
    handlers = Registry()
    order = []
    handlers.handler()(lambda job: order.append(job.queue))
    second, first = await rig.put(queue="second"), await rig.put(queue="first")
    await rig.start(handlers, queues=["first", "second"], concurrency=1)
    await rig.done(first)
    await rig.done(second)
    assert order == ["first", "second"]
