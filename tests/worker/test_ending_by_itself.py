"""Workers that end by themselves: when nothing is left to do, or after so many jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from jobqueue.client.problems import ConnectionFailed
from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import RunningJob
from jobqueue.worker.worker import Worker

from .rig import Rig, soon
from .source import Scripted


@pytest.fixture(params=[False, True], ids=["inside", "outside"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rig = Rig(request.param)
    yield rig
    await rig.close()


def is_finished(worker: Worker) -> asyncio.Task[None]:
    return asyncio.create_task(worker.finished())


async def test_a_burst_ends_when_the_queue_is_empty(rig: Rig) -> None:
    """All that was there is done by then, one after the other; at an empty queue it ends at once."""
    handlers = Registry()

    @handlers.handler("work")
    async def work(job: RunningJob) -> str:
        return "done"

    jobs = [await rig.put() for _ in range(5)]
    worker = await rig.start(handlers, burst=True, concurrency=2)
    await asyncio.wait_for(worker.finished(), 20)
    assert [await rig.succeeded(job) for job in jobs] == ["done"] * 5
    assert worker.counts.succeeded == 5
    empty = await rig.start(handlers, burst=True)
    await asyncio.wait_for(empty.finished(), 20)


async def test_a_burst_waits_for_handlers_and_takes_what_they_enqueue(rig: Rig) -> None:
    """It is not over while one runs, and the last one's jobs are done too."""
    handlers, go_on, begun = Registry(), asyncio.Event(), asyncio.Event()
    made: list[str] = []

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        begun.set()
        await go_on.wait()
        made.append(await rig.put("more"))

    @handlers.handler("more")
    async def more(job: RunningJob) -> str:
        return "more"

    await rig.put()
    worker = await rig.start(handlers, burst=True)
    finished = is_finished(worker)
    await soon(begun)
    await rig.idle()
    assert not finished.done()
    go_on.set()
    await asyncio.wait_for(finished, 20)
    assert await rig.succeeded(made[0]) == "more"


async def test_a_burst_does_not_wait_for_what_is_delayed(rig: Rig) -> None:
    """Nor for a job's next attempt."""
    handlers = Registry()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        raise ValueError("again")

    job_id = await rig.put(backoff=None)
    worker = await rig.start(handlers, burst=True)
    await asyncio.wait_for(worker.finished(), 20)
    assert (await rig.job(job_id)).attempts == 1


async def test_a_burst_outlasts_an_outage(rig: Rig) -> None:
    """A server that does not answer is not an empty queue."""
    handlers, source = Registry(), Scripted()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        """Nothing."""

    source.takes.append(ConnectionFailed("refused"))
    source.give(2)
    worker = await rig.start(handlers, source, burst=True)
    finished = is_finished(worker)
    await rig.idle()
    assert not finished.done()
    await rig.advance(1)
    assert finished.done()
    assert worker.counts.succeeded == 2


async def test_a_worker_ends_after_its_jobs(rig: Rig) -> None:
    """It takes no more than those, hands all of them in, and leaves the rest to the next."""
    handlers, go_on = Registry(), asyncio.Event()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        await go_on.wait()

    jobs = [await rig.put() for _ in range(5)]
    worker = await rig.start(handlers, max_jobs=3, concurrency=16)
    finished = is_finished(worker)
    await rig.idle()
    assert (worker.running, finished.done()) == (3, False)
    go_on.set()
    await asyncio.wait_for(finished, 20)
    assert (worker.counts.taken, worker.counts.succeeded) == (3, 3)
    assert [(await rig.job(job)).status for job in jobs[3:]] == ["queued", "queued"]


@pytest.mark.parametrize("count", [0, -1, 1.5e10])
def test_a_number_of_jobs_that_is_none(count: float) -> None:
    """It is refused by name."""
    with pytest.raises(ValueError, match="max_jobs"):
        Worker(max_jobs=count)  # type: ignore[arg-type]
