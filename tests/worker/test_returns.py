"""Jobs that a worker gives back: the later they come again, the more often it was."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from jobqueue.model import Outcome, Status
from jobqueue.worker.endings import DELAY_SECONDS_MAX, Release, Retry
from jobqueue.worker.handlers import Registry
from jobqueue.worker.returns import JOBS_REMEMBERED_MAX, RETURN_SECONDS_MAX, Returns
from jobqueue.worker.running import Leased, RunningJob

from .outside import until
from .rig import Middle, Rig, error_of

HOUR = 3_600


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


def nobodys() -> Registry:
    """Handlers, none of them for the jobs of these tests."""
    handlers = Registry()
    handlers.handler("mail")(lambda job: None)
    return handlers


async def delay_of(rig: Rig, job_id: str) -> float:
    """How long until a job that was given back is to be had again."""
    job = await rig.job(job_id)
    assert (job.status, job.attempts) == (Status.SCHEDULED, 0), job
    assert job.run_at is not None
    return job.run_at - rig.clock.now()


async def delays_of(rig: Rig, job_id: str, times: int) -> list[float]:
    """The delays of a job that is given back again and again."""
    delays = []
    for _ in range(times):
        delays.append(await delay_of(rig, job_id))
        await rig.advance(delays[-1], step=delays[-1])
    return delays


# Jobs that there is no handler for.


async def test_a_job_that_no_handler_is_for_is_given_back_ever_later_and_not_counted(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """A delay that doubles, with chance on top so that many do not come at once; the log hears of the type, and the worker counts."""
    worker = await rig.start(nobodys())
    job_id = await rig.put("post", max_attempts=1)
    delays = await delays_of(rig, job_id, 8)
    assert delays == pytest.approx([1.25, 2.5, 5, 10, 20, 40, 75, 75])
    assert worker.counts.unhandled == 9
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert 1 < len(told) < 9
    assert told[0].getMessage() == (
        f"job {job_id} is released: this worker has no handler for jobs of type 'post'; it has handlers for 'mail'"
    )


async def test_a_job_without_a_type_is_told_as_one(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody has to know that no type is None in Python."""
    await rig.start(nobodys())
    await rig.put(None)
    await rig.advance(5)
    told = next(record for record in caplog.records if record.levelno == logging.WARNING)
    assert told.getMessage().endswith("this worker has no handler for jobs without a type; it has handlers for 'mail'")


async def test_another_worker_that_has_the_handler_gets_it(rig: Rig) -> None:
    """As during a roll-out: no job fails for being seen by the older worker first, however often."""
    old = await rig.start(nobodys(), name="old")
    jobs = [await rig.put("post", number, max_attempts=1) for number in range(30)]
    await rig.advance(5)
    handlers = Registry()
    handlers.handler("post")(lambda job: job.payload)
    new = await rig.start(handlers, name="new")
    await rig.advance(HOUR / 4, step=5)
    assert [await rig.succeeded(job_id) for job_id in jobs] == list(range(30))
    assert (new.counts.succeeded, old.counts.failed) == (30, 0)
    assert old.running == 0


@pytest.mark.parametrize("seconds", [0, 30])
async def test_it_fails_for_good_after_the_time_that_is_named(rig: Rig, seconds: float) -> None:
    """Attempts that are left are not used: a worker that had it would have had it by now."""
    await rig.start(nobodys(), unhandled_seconds=seconds)
    job_id = await rig.put("post")
    await rig.advance(seconds - 1)
    if seconds:
        assert (await rig.job(job_id)).status is Status.SCHEDULED
    await rig.advance(RETURN_SECONDS_MAX)
    job = await rig.done(job_id)
    assert (job.outcome, job.attempts) == (Outcome.FAILED, 1)
    assert error_of(job) == {
        "type": "UnknownHandler",
        "message": "this worker has no handler for jobs of type 'post'; it has handlers for 'mail'",
    }


async def test_by_default_that_is_an_hour(rig: Rig) -> None:
    """Long enough for most roll-outs, and to be noticed."""
    await rig.start(nobodys())
    job_id = await rig.put("post")
    await rig.advance(HOUR, step=5)
    assert (await rig.job(job_id)).status is Status.SCHEDULED
    await rig.advance(2 * RETURN_SECONDS_MAX, step=5)
    assert (await rig.done(job_id)).outcome is Outcome.FAILED


def test_what_is_remembered_of_jobs_is_bounded() -> None:
    """The one that was not given back for longest is forgotten, and begins anew."""
    returns = Returns(["mail"], HOUR, Middle())

    def given_back(number: int) -> float | None:
        return returns.unhandled(_leased(f"job-{number}", f"type-{number}"), 0.0).delay

    for number in range(JOBS_REMEMBERED_MAX):
        given_back(number)
    assert given_back(0) == 2.5
    given_back(JOBS_REMEMBERED_MAX)
    assert len(returns) == JOBS_REMEMBERED_MAX
    assert given_back(0) == 5
    assert given_back(1) == 1.25


# Release.


async def test_a_release_without_a_delay_comes_back_ever_later(rig: Rig) -> None:
    """Its worker would have it again at once, thousands of times a second."""
    handlers = Registry()
    released = []

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        released.append(job.attempts)
        raise Release

    await rig.start(handlers)
    job_id = await rig.put(max_attempts=1)
    assert await delays_of(rig, job_id, 12) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60, 60])
    assert released == [1] * 13


async def test_a_release_says_when_and_not_at_once(rig: Rig) -> None:
    """The handler's own delay does not grow; one too short for a pause is a tenth of a second, none at all is as if not said."""
    handlers = Registry()

    @handlers.handler("work")
    def work(job: RunningJob) -> None:
        raise Release(delay=job.payload)

    await rig.start(handlers, concurrency=1)
    for delay, expected in ((30, 30), (0.5, 0.5), (1e-9, 0.1)):
        job_id = await rig.put(payload=delay)
        for _ in range(3):
            await threads_done(rig, job_id)
            left = await delay_of(rig, job_id)
            assert left == pytest.approx(expected)
            await rig.advance(left, step=left)
        await threads_done(rig, job_id)
    job_id = await rig.put(payload=0)
    await threads_done(rig, job_id)
    assert await delay_of(rig, job_id) == pytest.approx(0.1)


async def test_a_job_that_ended_is_forgotten(rig: Rig) -> None:
    """Run again by hand, it is released as if for the first time."""
    handlers = Registry()
    ending: list[Any] = [Release(), Release(), ValueError("no"), Release()]

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        raise ending.pop(0)

    await rig.start(handlers)
    job_id = await rig.put(max_attempts=1)
    assert await delays_of(rig, job_id, 2) == pytest.approx([0.1, 0.2])
    assert (await rig.done(job_id)).outcome is Outcome.FAILED
    await rig.backend.retry(job_id)
    await rig.idle()
    assert await delay_of(rig, job_id) == pytest.approx(0.1)


# Numbers that handlers give.


ODD = [
    float("nan"),
    float("inf"),
    float("-inf"),
    -1,
    DELAY_SECONDS_MAX + 1,
    10**400,
    "5",
    b"5",
    [],
    1j,
    Decimal("nan"),
    Decimal("snan"),
    Decimal(-1),
]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("kind", [Retry, Release])
@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:12])
async def test_a_delay_that_is_none_fails_the_attempt_by_name(rig: Rig, kind: Any, odd: Any, late: bool) -> None:
    """Never at once again: the attempt counts and the job's backoff decides. It may have been set on the exception too."""
    handlers = Registry()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        if not late:
            raise kind(delay=odd)
        error = kind()
        error.delay = odd
        raise error

    await rig.start(handlers)
    job = await rig.done(await rig.put(max_attempts=2))
    assert (job.outcome, job.attempts) == (Outcome.FAILED, 2)
    error = error_of(job)
    assert error["type"] == "ValueError"
    assert error["message"].removeprefix(f"{kind.__name__}: ").startswith(f"delay: {odd!r} is ")


@pytest.mark.parametrize(
    "odd", [float("nan"), float("inf"), -0.1, 1.1, 10**400, "0.5", None, Decimal("snan")], ids=lambda odd: repr(odd)[:12]
)
async def test_progress_that_is_none_fails_the_attempt_by_name(rig: Rig, odd: Any) -> None:
    """And nothing of it is sent."""
    handlers = Registry()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        job.progress(odd)

    await rig.start(handlers)
    error = await rig.failed(await rig.put(max_attempts=1))
    assert error["type"] == "ValueError"
    assert error["message"].startswith(f"fraction: {odd!r} is ")


@pytest.mark.parametrize("odd", [float("nan"), -1, "1", None, Decimal("nan"), -(10**400)])
async def test_a_pause_that_is_none_fails_the_attempt_by_name(rig: Rig, odd: Any) -> None:
    """For as long as it takes is one: infinity, and what no clock counts to."""
    handlers = Registry()
    handlers.handler("work")(lambda job: job.wait_cancelled(odd))
    await rig.start(handlers)
    error = await rig.failed(await rig.put(max_attempts=1))
    assert error["type"] == "ValueError"
    assert error["message"].startswith(f"seconds: {odd!r} is not a number")


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, 10**400])
def test_a_pause_may_be_as_long_as_it_takes(seconds: float) -> None:
    """It ends with the cancel."""
    job: RunningJob[Any] = RunningJob(_leased("1"), "w", 0.0)
    thread = threading.Thread(target=job.wait_cancelled, args=(seconds,))
    thread.start()
    job.cancel()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -1, "1", Decimal("nan")])
async def test_a_grace_period_that_is_none_is_refused(rig: Rig, odd: Any) -> None:
    """The worker goes on, and can be stopped."""
    worker = await rig.start(nobodys())
    with pytest.raises(ValueError, match=r"^grace_seconds: "):
        await worker.stop(odd)
    await rig.put("mail")


def _leased(job_id: str, job_type: str | None = None) -> Leased:
    return Leased(id=job_id, token="t", queue="q", payload=b"1", attempts=1, created_at=datetime.now(UTC), type=job_type)


async def threads_done(rig: Rig, job_id: str) -> None:
    """Until a thread's job is given back."""

    async def given_back() -> bool:
        return (await rig.job(job_id)).status is Status.SCHEDULED

    await until(given_back)
