from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from jobqueue.model import Outcome, Status
from jobqueue.policy import Backoff
from jobqueue.worker.endings import Discard, Release, Retry
from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import Leased, RunningJob

from .rig import OUTSIDE, Rig, error_of


@dataclass
class Mail:
    to: str
    copies: int = 1


class Resize(msgspec.Struct):
    width: int


@pytest.fixture(params=OUTSIDE, ids=["", "outside"][: len(OUTSIDE)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rig = Rig(request.param)
    yield rig
    await rig.close()


async def test_an_async_handler_runs_on_the_loop_and_what_it_returns_is_the_result(rig: Rig) -> None:
    """The handler found by the job's type is given the job, on the worker's own thread."""
    handlers = Registry()
    threads = []

    @handlers.handler("sum")
    async def add(job: RunningJob) -> int:
        threads.append(threading.get_ident())
        return sum(job.payload)

    await rig.start(handlers)
    assert await rig.succeeded(await rig.put("sum", [1, 2, 3])) == 6
    assert threads == [threading.get_ident()]


async def test_a_plain_handler_runs_in_a_thread(rig: Rig) -> None:
    """A plain function does not hold up the loop: it runs in a thread of its own."""
    handlers = Registry()
    threads = []

    @handlers.handler("sum")
    def add(job: RunningJob) -> int:
        threads.append(threading.get_ident())
        return sum(job.payload)

    await rig.start(handlers)
    assert await rig.succeeded(await rig.put("sum", [1, 2, 3])) == 6
    assert threads
    assert threading.get_ident() not in threads


async def test_a_handler_sees_what_the_queue_knows_of_its_job(rig: Rig) -> None:
    """Id, type, queue, attempt, worker, times, priority, description, and the error of the attempt before."""
    handlers = Registry()
    seen: list[RunningJob[Any]] = []

    @handlers.handler("look")
    async def look(job: RunningJob) -> None:
        seen.append(job)
        if job.attempts == 1:
            raise RuntimeError("not yet")

    await rig.start(handlers, queues=["eyes"], name="w-1", lease_seconds=60)
    at = rig.clock.now()
    job_id = await rig.put("look", {"a": 1}, queue="eyes", priority=2, description="see")
    assert await rig.succeeded(job_id) is None
    first, second = seen
    assert (first.id, first.type, first.queue, first.attempts, first.worker) == (job_id, "look", "eyes", 1, "w-1")
    assert (first.priority, first.description, first.payload, first.raw_payload) == (2, "see", {"a": 1}, b'{"a":1}')
    assert first.created_at.timestamp() == at
    assert first.lease_expires_at.timestamp() == at + 60
    assert first.error is None
    assert second.attempts == 2
    assert second.error == {"type": "RuntimeError", "message": "not yet"}


async def test_a_payload_comes_as_the_type_that_the_handler_names(rig: Rig) -> None:
    """A dataclass, a Struct, alone or beside the job, or as the job's own parameter."""
    handlers = Registry()

    @handlers.handler("dataclass")
    async def one(mail: Mail) -> str:
        return f"{mail.to} {mail.copies}"

    @handlers.handler("struct")
    def two(job: RunningJob, resize: Resize) -> str:
        return f"{job.type} {resize.width}"

    @handlers.handler("generic")
    async def three(job: RunningJob[Mail]) -> str:
        return job.payload.to

    @handlers.handler("plain")
    async def four(job) -> str:  # type: ignore[no-untyped-def]
        return str(job.payload_as(Resize).width)

    await rig.start(handlers)
    assert await rig.succeeded(await rig.put("dataclass", {"to": "a@b.c"})) == "a@b.c 1"
    assert await rig.succeeded(await rig.put("struct", {"width": 7})) == "struct 7"
    assert await rig.succeeded(await rig.put("generic", {"to": "x"})) == "x"
    assert await rig.succeeded(await rig.put("plain", {"width": 9})) == "9"


@pytest.mark.parametrize("plain", [True, False])
async def test_a_payload_of_another_type_fails_for_good(rig: Rig, plain: bool) -> None:
    """The handler is not called, and the job not tried again: the payload would be the same."""
    handlers = Registry()
    called = []
    if plain:

        @handlers.handler("mail")
        def send(mail: Mail) -> None:
            called.append(mail)
    else:

        @handlers.handler("mail")
        async def send_async(job: RunningJob[Mail]) -> None:
            called.append(job)

    await rig.start(handlers)
    job = await rig.done(await rig.put("mail", {"to": 5}))
    assert (job.outcome, job.attempts) == (Outcome.FAILED, 1)
    assert error_of(job) == {"type": "ValidationError", "message": "Expected `str`, got `int` - at `$.to`"}
    assert not called


async def test_a_handler_without_a_name_takes_every_other_job(rig: Rig) -> None:
    """Those of an unknown type, and those that have none."""
    handlers = Registry()

    @handlers.handler("mail")
    async def mail(job: RunningJob) -> str:
        return "mail"

    @handlers.handler()
    async def rest(job: RunningJob) -> str:
        return f"rest {job.type}"

    await rig.start(handlers)
    assert await rig.succeeded(await rig.put("mail")) == "mail"
    assert await rig.succeeded(await rig.put("post")) == "rest post"
    assert await rig.succeeded(await rig.put(None)) == "rest None"


@pytest.mark.parametrize("error", [ValueError("it is \udcff bad"), SystemExit("no"), KeyError("k"), asyncio.CancelledError("own")])
@pytest.mark.parametrize("plain", [True, False])
async def test_whatever_a_handler_raises_is_the_jobs_error_and_the_worker_goes_on(rig: Rig, error: BaseException, plain: bool) -> None:
    """Its class and its text, whether it is an Exception or not; it is tried again by the job's own policy."""
    handlers = Registry()

    if plain:

        @handlers.handler("break")
        def fail(job: RunningJob) -> None:
            raise error
    else:

        @handlers.handler("break")
        async def fail_async(job: RunningJob) -> None:
            raise error

    @handlers.handler("work")
    async def work(job: RunningJob) -> str:
        return "fine"

    await rig.start(handlers)
    job = await rig.done(await rig.put("break", max_attempts=3))
    assert (job.outcome, job.attempts) == (Outcome.FAILED, 3)
    assert error_of(job) == {"type": type(error).__name__, "message": str(error).replace("\udcff", "\\udcff")}
    assert await rig.succeeded(await rig.put("work")) == "fine"


async def test_a_failure_is_retried_after_the_backoff_of_the_queue(rig: Rig) -> None:
    """The worker does not retry by itself: the job is scheduled as its policy says."""
    handlers = Registry()
    attempts = []

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        attempts.append(job.attempts)
        raise ValueError("no")

    await rig.start(handlers)
    job_id = await rig.put("work", backoff=Backoff(100.0, 1.0, 100.0))
    job = await rig.job(job_id)
    assert (job.status, attempts) == (Status.SCHEDULED, [1])
    assert job.run_at is not None
    await rig.advance(job.run_at - rig.clock.now())
    assert attempts == [1, 2]


async def test_discard_fails_the_job_for_good(rig: Rig) -> None:
    """Attempts are left and not used; the reason is the error, or else what was being handled."""
    handlers = Registry()

    @handlers.handler("reason")
    async def reason(job: RunningJob) -> None:
        raise Discard("no such address")

    @handlers.handler("cause")
    async def cause(job: RunningJob) -> None:
        try:
            raise LookupError("gone")
        except LookupError:
            raise Discard  # noqa: B904 # what was being handled is to be found

    await rig.start(handlers)
    job = await rig.done(await rig.put("reason"))
    assert (job.attempts, error_of(job)) == (1, {"type": "Discard", "message": "no such address"})
    job = await rig.done(await rig.put("cause"))
    assert (job.attempts, error_of(job)) == (1, {"type": "LookupError", "message": "gone"})


async def test_release_gives_the_job_back_and_does_not_count(rig: Rig) -> None:
    """After the delay it is handed out again as the same attempt."""
    handlers = Registry()
    attempts = []

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        attempts.append(job.attempts)
        if len(attempts) == 1:
            raise Release(delay=30)

    worker = await rig.start(handlers)
    job_id = await rig.put("work")
    job = await rig.job(job_id)
    assert (job.status, job.attempts) == (Status.SCHEDULED, 0)
    assert job.run_at == rig.clock.now() + 30
    await rig.advance(30)
    await rig.succeeded(job_id)
    assert attempts == [1, 1]
    assert (worker.counts.released, worker.counts.succeeded) == (1, 1)


async def test_retry_fails_the_attempt_and_leaves_the_delay_to_the_policy(rig: Rig) -> None:
    """It counts, and is tried again while attempts are left."""
    handlers = Registry()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        raise Retry("busy")

    await rig.start(handlers)
    job = await rig.done(await rig.put("work", max_attempts=2))
    assert (job.attempts, error_of(job)) == (2, {"type": "Retry", "message": "busy"})


async def test_retry_may_say_when(rig: Rig) -> None:
    """Its delay takes the policy's place, and the attempt counts."""
    handlers = Registry()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        raise Retry("not yet", delay=90)

    await rig.start(handlers)
    job_id = await rig.put("work")
    job = await rig.job(job_id)
    assert (job.status, job.attempts, job.run_at) == (Status.SCHEDULED, 1, rig.clock.now() + 90)


@pytest.mark.parametrize("result", [object(), {1, object()}, "\ud800"])
async def test_a_result_that_is_no_json_is_a_final_failure(rig: Rig, result: object) -> None:
    """Doing the work again would not help, so it is not tried again, and the error says what is wrong."""
    handlers = Registry()
    handlers.handler("work")(lambda job: result)
    await rig.start(handlers)
    job = await rig.done(await rig.put("work"))
    assert (job.outcome, job.attempts) == (Outcome.FAILED, 1)
    assert error_of(job)["message"].startswith("the result cannot be encoded as JSON: ")


@pytest.mark.parametrize(("result", "kind"), [("x" * 1_100_000, "TooLarge")])
async def test_a_result_that_the_server_refuses_is_a_final_failure(rig: Rig, result: Any, kind: str) -> None:
    """Jobs whose endings went out in the same call are not touched by it."""
    handlers = Registry()

    @handlers.handler("work")
    async def work(job: RunningJob) -> Any:
        return result if job.payload else "small"

    await rig.start(handlers)
    good, bad, fine = await rig.put("work", False), await rig.put("work", True), await rig.put("work", False)
    job = await rig.done(bad)
    assert (job.outcome, job.attempts, error_of(job)["type"]) == (Outcome.FAILED, 1, kind)
    assert await rig.succeeded(good) == await rig.succeeded(fine) == "small"


def test_everyone_who_waits_for_a_cancel_is_woken() -> None:
    """Any number of a handler's threads, and one that comes to wait only afterwards."""
    leased = Leased(id="1", token="t", queue="q", payload=b"1", attempts=1, created_at=datetime.now(UTC))
    job: RunningJob[Any] = RunningJob(leased, "w", 0.0)
    assert not job.wait_cancelled(0)
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(job.wait_cancelled, 60) for _ in range(8)]
        job.cancel()
        assert all(future.result(10) for future in waiting)
    late = RunningJob(leased, "w", 0.0)
    late.cancel()
    assert late.wait_cancelled(60)
    assert late.noticed


async def test_handlers_that_are_over_at_once_leave_the_loop_its_turns(rig: Rig) -> None:
    """However many jobs were taken ahead, no more are done in one turn than may run at once."""
    turns = 0
    done: list[int] = []
    handlers = Registry()
    loop = asyncio.get_running_loop()

    def turn() -> None:
        nonlocal turns
        turns += 1
        if len(done) < 40:
            loop.call_soon(turn)

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        done.append(turns)

    for _ in range(40):
        await rig.put()
    turn()
    worker = await rig.start(handlers, concurrency=2, prefetch=20)
    while len(done) < 40:
        await rig.idle()
    assert max(done.count(at) for at in set(done)) <= 4
    await rig.stop(worker)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has eager tasks from 3.12 on")
async def test_a_loop_that_begins_tasks_where_they_are_made_does_any_number_of_jobs(rig: Rig) -> None:
    """A handler that ends at once does not begin the next job inside of its own end."""
    depths: list[int] = []
    handlers = Registry()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        depths.append(len(inspect.stack(0)))

    for _ in range(20):
        await rig.put()
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
    worker = await rig.start(handlers, concurrency=1, prefetch=20)
    while len(depths) < 20:
        await rig.idle()
    assert max(depths) < min(depths) + 20
    await rig.stop(worker)
