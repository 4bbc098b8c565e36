"""Samples: what queues counted and held, by steps of ten seconds and of five minutes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobqueue.backend.local import LocalBackend
from jobqueue.backend.requests.samples import GetHistory, History
from jobqueue.clock import ManualClock
from jobqueue.engine import samples
from jobqueue.model import JobSpec, Outcome, Verdict, Want

DONE = Verdict(outcome=Outcome.SUCCEEDED)
FAILED = Verdict(outcome=Outcome.FAILED)


class Server:
    """A backend in memory that takes samples, its clock at the beginning of a step of five minutes."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.backend = LocalBackend(clock=self.clock)
        self.backend.sample(self.clock.now())

    async def enqueue(self, *queues: str) -> None:
        for queue in queues:
            await self.backend.enqueue(JobSpec(payload=b"1", queue=queue))

    async def work(self, queue: str, verdict: Verdict = DONE, took: float = 0.0) -> None:
        async with (taking := self.backend.dequeue(Want(queues=(queue,)), 0)) as (job,):
            taking.delivered()
        assert job.lease is not None
        self.clock.advance(took)
        await self.backend.conclude(job.id, job.lease.token, verdict)

    async def history(self, queue: str | None = None, **asked: Any) -> History:
        return await self.backend.ask(GetHistory(queue=queue, **asked))

    async def last(self, count: int, column: str, queue: str | None = None, **asked: Any) -> list[Any]:
        """The last samples of one column."""
        return (await self.history(queue, **asked)).columns[column][-count:]


@pytest.fixture
async def server() -> Server:
    return Server()


async def test_each_step_has_what_happened_in_it(server: Server) -> None:
    """Counts are those of the step, depth is that of its end, and a step in which nothing happened is 0."""
    await server.enqueue("a", "a", "b")
    server.clock.advance(11)
    await server.work("a")
    server.clock.advance(20)
    assert await server.last(3, "enqueued") == [3, 0, 0]
    assert await server.last(3, "concluded") == [0, 1, 0]
    assert await server.last(3, "queued") == [3, 2, 2]
    assert await server.last(3, "queued", "a") == [2, 1, 1]
    assert await server.last(3, "concluded", "b") == [0, 0, 0]


async def test_failures_are_counted_as_jobs_and_as_attempts(server: Server) -> None:
    """A failed attempt whose job is tried again is an attempt alone."""
    await server.enqueue("a", "a")
    await server.work("a", FAILED)
    await server.work("a", Verdict(outcome=Outcome.FAILED, retry=False))
    server.clock.advance(11)
    assert await server.last(1, "failed", "a") == [1]
    assert await server.last(1, "attempts_failed", "a") == [2]


async def test_pickup_and_duration_are_of_the_step_and_of_the_queue(server: Server) -> None:
    """They are percentiles of what was handed out and concluded in it; null where there was none."""
    await server.enqueue("slow")
    server.clock.advance(30.1)
    await server.work("slow", took=2.0)
    await server.enqueue("quick")
    await server.work("quick", took=0.1)
    server.clock.advance(20)
    (waited, none) = await server.last(2, "pickup_p95_seconds", "slow")
    assert 15 < waited < 60
    assert none is None
    assert 1 < (await server.last(2, "duration_p50_seconds", "slow"))[0] < 5
    assert 0.05 < (await server.last(2, "duration_p50_seconds", "quick"))[0] < 0.25
    assert (await server.last(2, "duration_p50_seconds"))[0] > 0.05
    some = await server.last(2, "duration_p50_seconds", among=("quick", "slow", "none"))
    assert some == await server.last(2, "duration_p50_seconds", "slow")


async def test_the_oldest_is_as_old_as_it_is_at_the_end_of_a_step(server: Server) -> None:
    """In seconds, of the job that leaves next; of all queues the oldest of these."""
    await server.enqueue("a")
    server.clock.advance(5)
    await server.enqueue("b")
    server.clock.advance(16)
    assert await server.last(2, "oldest_seconds", "a") == pytest.approx([10, 20], abs=0.1)
    assert await server.last(2, "oldest_seconds", "b") == pytest.approx([5, 15], abs=0.1)
    assert await server.last(2, "oldest_seconds") == pytest.approx([10, 20], abs=0.1)


async def test_an_hour_and_a_day_are_kept_and_no_more(server: Server) -> None:
    """What is older has gone, and a day's steps add up what the hour's counted."""
    await server.enqueue("a", "a")
    server.clock.advance(301)
    assert await server.last(1, "enqueued", span="day") == [2]
    assert sum(filter(None, (await server.history()).columns["enqueued"])) == 2
    await server.enqueue("a")
    server.clock.advance(3_700)
    assert sum(filter(None, (await server.history("a")).columns["enqueued"])) == 0
    day = await server.history("a", span="day")
    assert sum(filter(None, day.columns["enqueued"])) == 3
    assert (day.step_seconds, {len(column) for column in day.columns.values()}) == (300, {288})
    server.clock.advance(86_400)
    assert sum(filter(None, (await server.history("a", span="day")).columns["enqueued"])) == 0
    assert len(server.backend.engine.samples.queues["a"].day.rows) <= 288 * samples.ROW_BYTES


async def test_before_the_server_ran_nothing_is_known(server: Server) -> None:
    """Those steps are null; a queue that was not there then had nothing."""
    server.clock.advance(10.5)
    await server.enqueue("a")
    server.clock.advance(10)
    assert await server.last(3, "enqueued") == [None, 0, 1]
    assert await server.last(3, "enqueued", "a") == [None, 0, 1]


async def test_idle_queues_keep_no_samples(server: Server) -> None:
    """What they held goes when it is a day old, and so does their place."""
    await server.enqueue("a")
    await server.work("a")
    server.clock.advance(11)
    assert list(server.backend.engine.samples.queues) == ["a"]
    rows = len(server.backend.engine.samples.queues["a"].hour.rows)
    server.clock.advance(1_000)
    assert len(server.backend.engine.samples.queues["a"].hour.rows) == rows == samples.ROW_BYTES
    server.clock.advance(87_000)
    assert server.backend.engine.samples.queues == {}


async def test_as_many_queues_have_samples_as_may(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one has none while all are busy, which reads as not known, and gets the place of one that is idle. All together have all."""
    monkeypatch.setattr(samples, "QUEUES_MAX", 2)
    await server.enqueue("a", "b", "c")
    server.clock.advance(11)
    assert set(server.backend.engine.samples.queues) == {"a", "b"}
    assert await server.last(1, "enqueued", "c") == [None]
    assert await server.last(1, "enqueued") == [3]
    await server.work("a")
    server.clock.advance(samples.IDLE_SECONDS + 30)
    await server.enqueue("c")
    server.clock.advance(11)
    assert set(server.backend.engine.samples.queues) == {"b", "c"}
    assert await server.last(1, "enqueued", "c") == [1]
    assert await server.last(1, "enqueued", "a") == [None]


async def test_many_queues_are_looked_at_in_slices(server: Server) -> None:
    """No turn looks at more than so many, and the step is there when all were looked at."""
    await server.enqueue(*(f"q{number}" for number in range(1_200)))
    looks: list[int] = []
    look = server.backend.engine.samples.look

    def counted(now: float, count: int) -> list[str]:
        looks.append(count)
        return look(now, count)

    server.backend.engine.samples.look = counted  # type: ignore[method-assign]
    server.clock.advance(11)
    assert looks == [500, 500, 500]
    assert await server.last(1, "queued") == [1_200]


async def test_a_clock_that_is_set_back_drops_what_has_not_been_yet(server: Server) -> None:
    """Samples of steps that are to come again are dropped; one that is set forward leaves a gap."""
    await server.enqueue("a")
    server.clock.advance(100)
    server.clock.step_wall_clock(-50)
    server.clock.advance(20)
    assert [value for value in (await server.history()).columns["queued"] if value is not None] == [1] * 6
    server.clock.step_wall_clock(600)
    server.clock.advance(20)
    assert (await server.last(10, "queued"))[-1] == 1
    assert (await server.last(10, "queued"))[0] is None


async def test_a_queue_that_is_deleted_takes_nothing_from_the_sum(server: Server) -> None:
    """What all queues counted never falls below 0 when one of them goes."""
    await server.enqueue("a", "b")
    await server.work("a")
    server.clock.advance(11)
    await server.backend.delete_queue("a")
    server.clock.advance(10)
    assert await server.last(2, "enqueued") == [2, 0]
    assert await server.last(2, "concluded") == [1, 0]


async def test_a_drained_server_takes_no_samples(server: Server) -> None:
    """It sets no timer for them any more."""
    server.backend.drain()
    server.clock.advance(100)
    await asyncio.sleep(0)
    assert (await server.history()).columns["enqueued"] == [None] * 360
