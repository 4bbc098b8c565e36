"""The traceback that a worker sends with a failed attempt."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobqueue import AsyncClient, Outcome, Worker
from jobqueue.errors import BadRequest
from jobqueue.limits import KIB
from jobqueue.worker.endings import Discard, Retry
from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import RunningJob

from .processes import handlers as in_processes
from .rig import PATIENCE_SECONDS, Rig
from .source import Scripted


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


class Hostile(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("never")


def deep(left: int) -> None:
    if left:
        deep(left - 1)
    raise ValueError("at the bottom")


def of_all_kinds() -> Registry:
    handlers = Registry()

    @handlers.handler("async")
    async def on_the_loop(job: RunningJob) -> None:
        raise ValueError("no such mail")

    @handlers.handler("thread")
    def in_a_thread(job: RunningJob) -> None:
        raise ValueError("no such mail")

    @handlers.handler("retry")
    def retry(job: RunningJob) -> None:
        try:
            raise KeyError("cause")
        except KeyError as error:
            raise Retry("later") from error

    @handlers.handler("long")
    def long(job: RunningJob) -> None:
        raise ValueError("x" * 100_000)

    @handlers.handler("deep")
    def go_down(job: RunningJob) -> None:
        deep(500)

    @handlers.handler("surrogate")
    def surrogate(job: RunningJob) -> None:
        raise ValueError("\ud800")

    @handlers.handler("hostile")
    def hostile(job: RunningJob) -> None:
        raise Hostile

    return handlers


async def traceback_of(rig: Rig, job_type: str) -> str:
    job_id = await rig.put(job_type, max_attempts=1)
    await rig.failed(job_id)
    (attempt,) = (await rig.backend.job(job_id)).past
    assert attempt.traceback is not None
    assert len(attempt.traceback.encode()) <= 8 * KIB
    return attempt.traceback


@pytest.mark.parametrize(
    ("job_type", "parts"),
    [
        ("async", ["in on_the_loop", "ValueError: no such mail"]),
        ("thread", ["in in_a_thread", 'raise ValueError("no such mail")', "ValueError: no such mail"]),
        ("retry", ["KeyError: 'cause'", "in retry", "Retry: later"]),
        ("long", ["in long", "ValueError: xxx", "bytes left out"]),
        ("deep", ["in deep", "ValueError: at the bottom"]),
        ("surrogate", ["in surrogate", "ValueError: \\ud800"]),
        ("hostile", ["in hostile"]),
    ],
)
async def test_an_attempt_that_raised_is_sent_with_its_traceback(rig: Rig, job_type: str, parts: list[str]) -> None:
    """It names the handler's line and the error, and is bounded whatever was raised."""
    await rig.start(of_all_kinds())
    found = await traceback_of(rig, job_type)
    for part in parts:
        assert part in found


async def test_a_process_sends_its_traceback(rig: Rig) -> None:
    """It was made in the process, where the exception was."""
    await rig.start(in_processes)
    found = await traceback_of(rig, "discard")
    assert 'raise Discard("never")' in found


async def test_what_raised_nothing_has_none(rig: Rig) -> None:
    """A job that no handler is for has an error alone."""
    await rig.start(of_all_kinds(), unhandled_seconds=0)
    job_id = await rig.put("nobody's", max_attempts=1)
    await rig.failed(job_id)
    assert [one.traceback for one in (await rig.backend.job(job_id)).past] == [None]


async def test_a_server_that_does_not_know_tracebacks_is_told_the_failure_without(rig: Rig) -> None:
    """It may be older than the worker: the attempt ends as it did, and may be tried again."""
    source = Scripted()
    source.concludes.append({"job-1": BadRequest("traceback", "unknown field")})
    await rig.start(of_all_kinds(), source)
    source.give(job_type="async")
    await rig.advance(1)
    first, second = [item.verdict for call in source.concluded for item in call]
    assert first.traceback is not None
    assert second.traceback is None
    assert (second.retry, second.error) == (True, first.error)


async def test_it_goes_over_http(url: str) -> None:
    """A client sees it in the job's past."""
    worker = Worker(url)

    @worker.handler("fail")
    def fail(job: RunningJob[Any]) -> None:
        raise Discard("no")

    async with AsyncClient(url) as client:
        await worker.start()
        job = await client.job((await client.enqueue(None, type="fail")).id, wait=PATIENCE_SECONDS)
        await worker.stop()
        assert job.outcome is Outcome.FAILED
        assert 'raise Discard("no")' in (job.past[0].traceback or "")
