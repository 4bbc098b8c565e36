from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator

import pytest

from jobqueue.client.problems import ConnectionFailed, UnexpectedAnswer
from jobqueue.errors import BadRequest, Draining, LeaseLost, StorageUnavailable, TooLarge, TooManyWaiters, Unauthorized, UnknownJob
from jobqueue.model import FAILED, SUCCEEDED
from jobqueue.worker.endings import Release
from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import RunningJob
from jobqueue.worker.runs import Run
from jobqueue.worker.worker import Worker

from .outside import until
from .rig import Rig
from .source import Scripted

AWAY = ConnectionFailed("refused")


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


@pytest.fixture
async def source() -> Scripted:
    return Scripted()


@pytest.fixture
def handlers() -> Registry:
    """One that does nothing, and one that works until it is cancelled."""
    handlers = Registry()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None: ...

    @handlers.handler("long")
    async def long(job: RunningJob) -> None:
        await asyncio.Event().wait()

    return handlers


def concluded(source: Scripted) -> list[list[str]]:
    """The ids that each call concluded."""
    return [[item.id for item in call] for call in source.concluded]


async def test_what_ends_while_a_call_is_on_its_way_goes_out_in_the_next(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """Endings collect for as long as the call before takes, no longer and no shorter."""
    worker = await rig.start(handlers, source)
    source.concluding.clear()
    first, second, third = source.give()[0], None, None
    await rig.idle()
    (second,) = source.give()
    await rig.idle()
    (third,) = source.give()
    await rig.idle()
    assert concluded(source) == [[first]]
    source.concluding.set()
    await rig.idle()
    assert concluded(source) == [[first], [second, third]]
    assert worker.counts.succeeded == 3


async def test_jobs_are_taken_while_endings_are_handed_in(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """A finished handler's slot is free at once, not when the server has heard of it."""
    worker = await rig.start(handlers, source, concurrency=1)
    source.concluding.clear()
    source.give(5)
    await rig.idle()
    assert worker.counts.taken == 5
    source.concluding.set()


@pytest.mark.parametrize(
    ("error", "begins", "ends"),
    [
        (AWAY, "the server is away, trying again until it is back", "the server is back"),
        (TooManyWaiters("full"), "the server is at one of its limits, trying again until there is room", "the server has room again"),
        (Draining("shutting down"), "the server is shutting down, trying again until it is back", "the server is back"),
        (
            StorageUnavailable("no space left"),
            "the server cannot store changes (its disk may be full), trying again until it can",
            "the server stores changes again",
        ),
    ],
)
async def test_a_server_that_is_away_is_asked_again_less_and_less_often(
    rig: Rig, source: Scripted, handlers: Registry, error: Exception, begins: str, ends: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Pauses double up to five seconds, are never quite the same, and the outage is logged once as it begins and once as it ends."""
    caplog.set_level(logging.INFO, "jobqueue.worker")
    source.takes.extend([error] * 9)  # type: ignore[list-item]
    began = rig.clock.now()
    worker = await rig.start(handlers, source)
    (job_id,) = source.give()
    pauses = [0.15, 0.3, 0.6, 1.2, 2.4, 3.75, 3.75, 3.75, 3.75]
    for times, pause in enumerate(pauses, 1):
        assert len(source.wants) == times
        await rig.advance(pause - 0.01, step=10)
        assert len(source.wants) == times
        await rig.advance(0.01)
    assert concluded(source) == [[job_id]]
    assert worker.error is None
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        f"{begins}: {error}",
        f"{ends} after {rig.clock.now() - began:.1f} s",
    ]


async def test_an_ending_is_kept_until_the_server_is_back(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """It is told again and again; nothing is told twice once it was heard."""
    source.concludes.extend([AWAY, AWAY, {}])
    worker = await rig.start(handlers, source)
    (job_id,) = source.give()
    await rig.advance(2)
    assert concluded(source) == [[job_id]] * 3
    await rig.advance(60)
    assert len(source.concluded) == 3
    assert (worker.counts.succeeded, worker.counts.lost) == (1, 0)


async def test_an_ending_is_dropped_when_its_lease_ends_first(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """Somebody else has the job by then, so there is nothing left to tell."""
    source.concludes.extend([AWAY] * 100)
    source.extends.extend([AWAY] * 100)
    worker = await rig.start(handlers, source, lease_seconds=30)
    source.give()
    await rig.advance(29)
    tries = len(source.concluded)
    assert (tries > 5, worker.counts.lost) == (True, 0)
    await rig.advance(10)
    assert worker.counts.lost == 1
    assert len(source.concluded) <= tries + 1


async def test_a_success_is_told_late_once(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """When the server says that its lease was lost, and when that has ended while the server was away; then its answer holds."""
    lost = LeaseLost("job-1")
    source.concludes.extend([{"job-1": lost}, {}, {"job-2": lost}, {"job-2": lost}])
    worker = await rig.start(handlers, source)
    source.give()
    await rig.advance(1)
    assert [[item.verdict.late for item in call] for call in source.concluded] == [[False], [True]]
    assert (worker.counts.succeeded, worker.counts.lost) == (1, 0)
    source.give()
    await rig.advance(60)
    assert [[item.verdict.late for item in call] for call in source.concluded[2:]] == [[False], [True]]
    assert (worker.counts.succeeded, worker.counts.lost) == (1, 1)


async def test_a_failure_is_not_told_late(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """It has been counted by then."""

    @handlers.handler("fails")
    async def fails(job: RunningJob) -> None:
        raise ValueError

    source.concludes.append({"job-1": LeaseLost("job-1")})
    worker = await rig.start(handlers, source)
    source.give(job_type="fails")
    await rig.advance(60)
    assert (len(source.concluded), worker.counts.lost) == (1, 1)


async def test_what_is_late_ends_no_outage(rig: Rig, source: Scripted, handlers: Registry, caplog: pytest.LogCaptureFixture) -> None:
    """A server that does not hear it is away still."""
    caplog.set_level(logging.INFO, "jobqueue.worker")
    source.concludes.extend([AWAY] * 100)
    source.extends.extend([AWAY] * 100)
    worker = await rig.start(handlers, source, lease_seconds=30)
    source.give()
    await rig.advance(35)
    assert worker.counts.lost == 1
    assert [item.verdict.late for call in source.concluded[-2:] for item in call] == [False, True]
    assert not [record for record in caplog.records if "server is back" in record.getMessage()]


async def test_a_handler_whose_lease_ends_while_the_server_is_away_is_stopped(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """Its job may be another worker's by now."""
    source.extends.extend([AWAY] * 100)
    worker = await rig.start(handlers, source, lease_seconds=30)
    source.give(job_type="long")
    await rig.idle()
    await rig.advance(29.5)
    assert worker.running == 1
    await rig.advance(0.5)
    assert (worker.running, worker.counts.lost) == (0, 1)


async def test_all_leases_are_extended_in_one_call(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """However many there are, and however often."""
    await rig.start(handlers, source, lease_seconds=9, concurrency=50)
    jobs = source.give(50, "long")
    await rig.advance(9)
    assert [[item.id for item in call] for call in source.extended] == [jobs] * 3


@pytest.mark.parametrize("error", [LeaseLost("job-2"), UnknownJob("job-2")])
async def test_a_heartbeat_learns_of_one_lost_lease_and_keeps_the_others(
    rig: Rig, source: Scripted, handlers: Registry, error: LeaseLost | UnknownJob
) -> None:
    """The handler of that one is stopped, and told of to nobody."""
    source.extends.append({"job-2": error})
    worker = await rig.start(handlers, source)
    source.give(3, "long")
    await rig.advance(5)
    assert (worker.running, worker.counts.lost) == (2, 1)
    await rig.advance(5)
    assert [item.id for item in source.extended[-1]] == ["job-1", "job-3"]
    assert source.concluded == []


async def test_progress_that_the_server_refuses_is_left_out_of_the_next_heartbeat(
    rig: Rig, source: Scripted, handlers: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    """A note must not cost a job its lease."""
    said = asyncio.Event()

    @handlers.handler("says")
    async def says(job: RunningJob) -> None:
        job.progress(0.5, "too long for this server")
        said.set()
        await asyncio.Event().wait()

    source.extends.append({"job-1": BadRequest("message", "has 24 characters")})
    worker = await rig.start(handlers, source)
    source.give(1, "says")
    await rig.advance(5)
    assert [[item.message for item in call] for call in source.extended] == [["too long for this server"], [None]]
    assert worker.running == 1
    assert "the server refused the progress of job job-1: message: has 24 characters" in caplog.text


async def test_a_refused_ending_becomes_a_final_failure_that_says_so(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """The job is not done over and over for the sake of a result that will not be taken."""
    source.concludes.append({"job-2": TooLarge("result", "has 300000 bytes")})
    worker = await rig.start(handlers, source)
    source.give(3)
    await rig.idle()
    assert concluded(source) == [["job-1", "job-2", "job-3"], ["job-2"]]
    verdict = source.concluded[-1][0].verdict
    assert (verdict.outcome, verdict.retry) == (FAILED, False)
    assert verdict.error == (b'{"type":"TooLarge","message":"the server refused the attempt\'s ending: result: has 300000 bytes"}')
    assert (worker.counts.succeeded, worker.counts.failed) == (2, 1)


async def test_one_ending_too_large_for_any_call_harms_no_other(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """A call that is refused as a whole is made again for each by itself."""
    refused = TooLarge(None, "the body has 5000000 bytes")
    source.concludes.extend([refused, {}, refused])
    worker = await rig.start(handlers, source)
    source.give(2)
    await rig.idle()
    assert concluded(source) == [["job-1", "job-2"], ["job-1"], ["job-2"], ["job-2"]]
    assert [call[0].verdict.outcome for call in source.concluded[1:]] == [SUCCEEDED, SUCCEEDED, FAILED]
    assert (worker.counts.succeeded, worker.counts.failed) == (1, 1)


async def test_large_results_go_out_in_calls_that_the_server_takes(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """A call carries half a MiB, or a single result of any size."""

    @handlers.handler("large")
    async def large(job: RunningJob) -> str:
        return "x" * 200_000

    await rig.start(handlers, source)
    source.give(5, "large")
    await rig.idle()
    assert concluded(source) == [["job-1", "job-2"], ["job-3", "job-4"], ["job-5"]]


async def test_a_release_is_kept_until_the_server_is_back_too(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """And one the server does not allow is made with a delay that it does, and not at once."""

    @handlers.handler("later")
    async def later(job: RunningJob) -> None:
        raise Release(delay=3_600)

    source.releases.extend([AWAY, {"job-1": BadRequest("delay", "60 at most")}, {}])
    worker = await rig.start(handlers, source)
    source.give(1, "later")
    await rig.advance(2)
    assert [call[0].delay for call in source.released] == [3_600, 3_600, 10]
    assert worker.counts.released == 1


@pytest.mark.parametrize("error", [Unauthorized("no token"), BadRequest("wait", "20 s is above the server's 10")])
async def test_a_server_that_refuses_the_worker_ends_it(rig: Rig, source: Scripted, handlers: Registry, error: Exception) -> None:
    """Asking again would not help: whoever runs the worker is told, and what runs may finish."""
    worker = await rig.start(handlers, source, concurrency=2)
    source.give(1, "long")
    await rig.idle()
    source.takes.append(error)  # type: ignore[arg-type]
    source.give()
    await rig.idle()
    assert await worker.broken() is error
    assert worker.running == 1
    await rig.stop(worker, 5)
    assert [item.id for call in source.released for item in call] == ["job-1"]


async def test_what_the_server_never_hears_of_does_not_hold_up_the_end(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """Five seconds are spent on it; then the leases are left to end by themselves."""
    source.concludes.extend([AWAY] * 100)
    source.extends.extend([AWAY] * 100)
    worker = await rig.start(handlers, source, lease_seconds=600)
    source.give()
    await rig.idle()
    began = rig.clock.now()
    await rig.stop(worker, 0)
    assert rig.clock.now() - began == pytest.approx(5, abs=0.5)
    assert source.closed


async def test_a_lease_that_is_handed_out_again_is_run_once(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """As after an answer that was lost and asked for again."""
    worker = await rig.start(handlers, source)
    source.give(1, "long")
    again = source.ready[0]
    await rig.idle()
    source.ready.append(again)
    source.give()
    await rig.idle()
    assert (worker.counts.taken, worker.running) == (2, 1)


# Taking ahead.


async def quick(rig: Rig, source: Scripted, handlers: Registry, **options: float) -> Worker:
    """A worker that has found its handlers quick, and asks for many jobs at once."""
    source.prefetch = 100
    worker = await rig.start(handlers, source, concurrency=2, **options)
    for _ in range(2):
        source.give()
        await rig.idle()
    return worker


async def test_nothing_is_taken_ahead_of_slow_handlers(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """A job that would wait here is left to a worker that is idle."""
    source.prefetch = 100
    opened = asyncio.Event()

    @handlers.handler("slow")
    async def slow(job: RunningJob) -> None:
        await opened.wait()

    worker = await rig.start(handlers, source, concurrency=2)
    source.give(10, "slow")
    await rig.idle()
    await rig.advance(4)
    opened.set()
    await rig.idle()
    opened.clear()
    source.give(10, "slow")
    await rig.idle()
    assert {want.limit for want in source.wants} <= {1, 2}
    assert worker.running == 2


async def test_quick_handlers_are_taken_ahead_for(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """One call brings more jobs than can run at once, up to the bound."""
    worker = await quick(rig, source, handlers)
    assert source.wants[-1].limit == 102
    source.give(300)
    for _ in range(30):
        await rig.idle()
    assert worker.counts.succeeded == 302
    assert len(source.wants) < 20


async def test_an_idle_worker_begins_before_it_asks_for_more(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """The handler need not wait until the next request is made and sent."""
    asked: list[int] = []

    @handlers.handler("first")
    async def first(job: RunningJob) -> None:
        asked.append(len(source.wants))

    await rig.start(handlers, source)
    for _ in range(2):
        await rig.idle()
        source.give(1, "first")
    await rig.idle()
    assert asked == [1, 2]


async def test_what_was_taken_ahead_and_cannot_begin_goes_back(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """Within a second, its attempt not counted; and no more are taken ahead while handlers are that slow."""
    worker = await quick(rig, source, handlers)
    source.give(50, "long")
    await rig.idle()
    await rig.advance(0.75, step=0.25)
    assert source.released == []
    await rig.advance(0.25)
    assert [len(call) for call in source.released] == [48]
    assert (worker.running, worker.counts.released) == (2, 48)
    takes = len(source.wants)
    source.give(10, "long")
    await rig.advance(5)
    assert len(source.wants) == takes
    assert len(source.ready) == 10


async def test_a_job_taken_ahead_is_cancelled_or_lost_before_it_begins(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """Its handler is never called; a cancelled one is concluded, a lost one told of to nobody."""
    worker = await quick(rig, source, handlers, lease_seconds=0.9)
    *_, cancelled, lost = source.give(4, "long")
    source.extends.append({cancelled: True, lost: LeaseLost(lost)})
    await rig.idle()
    concluded_before = len(source.concluded)
    await rig.advance(0.3)
    assert (worker.running, worker.counts.lost) == (2, 1)
    assert [(item.id, item.verdict.outcome) for call in source.concluded[concluded_before:] for item in call] == [(cancelled, FAILED)]
    assert source.released == []


async def test_stopping_gives_back_what_has_not_begun_at_once(rig: Rig, source: Scripted, handlers: Registry) -> None:
    """Without waiting for the grace period of what runs."""
    worker = await quick(rig, source, handlers)
    source.give(10, "long")
    await rig.idle()
    stopping = asyncio.create_task(worker.stop(100))
    await rig.idle()
    assert [len(call) for call in source.released] == [8]
    assert worker.running == 2
    await rig.advance(100)
    await stopping
    assert [len(call) for call in source.released] == [8, 2]


async def test_another_reason_is_told_within_an_outage(
    rig: Rig, source: Scripted, handlers: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that comes back with a full disk is not away any more."""
    source.takes.extend([AWAY, AWAY, StorageUnavailable("no space left")])
    await rig.start(handlers, source)
    await rig.advance(5)
    told = [record.getMessage() for record in caplog.records]
    assert [line.split(",")[0] for line in told] == ["the server is away", "the server cannot store changes (its disk may be full)"]


async def test_what_is_no_server_ends_a_worker_at_its_first_request_only(
    rig: Rig, source: Scripted, handlers: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    """Once a server was there the URL is right, and a proxy's 404 means that it is gone for a while; so does a 502 at any time."""
    wrong = UnexpectedAnswer(404, "404 without a problem: b'not found'")
    source.takes.append(wrong)
    ended = await rig.start(handlers, source)
    assert ended.error is wrong
    assert "no jobqueue server answers at this URL" in caplog.text
    other = Scripted()
    other.takes.append(UnexpectedAnswer(502, "bad gateway"))
    worker = await rig.start(handlers, other)
    other.give()
    await rig.advance(5)
    other.takes.append(wrong)
    other.give()
    await rig.advance(5)
    assert worker.error is None
    other.give()
    await rig.advance(5)
    assert worker.counts.succeeded == 3


@pytest.mark.parametrize("job_type", ["work", "short", "plain"])
async def test_a_job_that_is_over_leaves_nothing_to_the_garbage_collector(
    rig: Rig, source: Scripted, handlers: Registry, job_type: str
) -> None:
    """Its objects refer to each other, but not in a circle: they are freed at once, which costs much less."""

    @handlers.handler("short")
    async def short(job: RunningJob) -> None:
        await asyncio.sleep(0)

    @handlers.handler("plain")
    def plain(job: RunningJob) -> None: ...

    def there() -> list[object]:
        return [one for one in gc.get_objects() if type(one) in (Run, RunningJob)]

    worker = await rig.start(handlers, source)
    before = there()  # of other tests
    gc.collect()
    gc.disable()
    try:
        source.give(20, job_type)
        await until(lambda: worker.counts.succeeded == 20)
        await rig.idle()
        left = [one for one in there() if not any(one is old for old in before)]
    finally:
        gc.enable()
    assert not left
