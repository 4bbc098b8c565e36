"""One line of the worker's log for every attempt that failed, whatever ended it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobqueue.commands.executing import registry
from jobqueue.errors import TooLarge
from jobqueue.policy import QueuePolicy
from jobqueue.worker.endings import Discard, Release, Retry
from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import RunningJob

from .processes import handlers as in_processes
from .rig import Rig
from .source import Scripted


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


def told(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """The lines of a level, of all workers."""
    return [record.getMessage() for record in caplog.records if record.name == "jobqueue.worker" and record.levelno == level]


def line(job_id: str, job_type: str, error: str, attempt: int = 1, how: str = "failed", of: int | None = 1) -> str:
    return f"job {job_id} ({job_type}), attempt {attempt}{f' of {of}' if of else ''} {how}: {error}"


def of_all_kinds() -> Registry:
    """Handlers on the loop and in threads, each with its own way to fail."""
    handlers = Registry()

    @handlers.handler("async")
    async def on_the_loop(job: RunningJob) -> None:
        raise ValueError("no\nsuch mail")

    @handlers.handler("thread")
    def in_a_thread(job: RunningJob) -> None:
        raise KeyError("to")

    @handlers.handler("retry")
    async def retry(job: RunningJob) -> None:
        raise Retry("busy")

    @handlers.handler("discard")
    def discard(job: RunningJob) -> None:
        raise Discard("no such address")

    @handlers.handler("exit")
    async def leave(job: RunningJob) -> None:
        raise SystemExit(3)

    @handlers.handler("result")
    async def result(job: RunningJob) -> Any:
        return {1, object()}

    @handlers.handler("payload")
    async def payload(numbers: list[int]) -> None:
        """Never called with text."""

    return handlers


@pytest.mark.parametrize(
    ("job_type", "error", "how"),
    [
        ("async", "ValueError: no\\nsuch mail", "failed"),
        ("thread", "KeyError: 'to'", "failed"),
        ("retry", "Retry: busy", "failed"),
        ("discard", "Discard: no such address", "failed for good"),
        ("exit", "SystemExit: 3", "failed"),
        ("result", "TypeError: the result cannot be encoded as JSON: ", "failed for good"),
        ("payload", "ValidationError: ", "failed for good"),
    ],
)
async def test_an_attempt_that_fails_is_one_line(rig: Rig, caplog: pytest.LogCaptureFixture, job_type: str, error: str, how: str) -> None:
    """It has job, type, attempt and error; the traceback is not in it."""
    caplog.set_level(logging.INFO)
    await rig.start(of_all_kinds())
    job_id = await rig.put(job_type, "text", max_attempts=1)
    await rig.failed(job_id)
    (found,) = told(caplog)
    assert found.startswith(line(job_id, job_type, error, how=how))
    assert "Traceback" not in caplog.text


async def test_each_attempt_has_a_line_and_at_debug_its_traceback(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The number of the attempt is in both."""
    caplog.set_level(logging.DEBUG)
    await rig.start(of_all_kinds())
    job_id = await rig.put("thread", max_attempts=2)
    await rig.failed(job_id)
    assert told(caplog) == [line(job_id, "thread", "KeyError: 'to'", attempt, of=2) for attempt in (1, 2)]
    traces = [text for text in told(caplog, logging.DEBUG) if "in_a_thread" in text]
    assert [text.split(":")[0] for text in traces] == [f"job {job_id} (thread), attempt {attempt}" for attempt in (1, 2)]


async def test_attempts_without_a_bound_are_told_by_their_number(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said of how many there are."""
    await rig.backend.put_policy("default", QueuePolicy(max_attempts=None))
    await rig.start(of_all_kinds())
    job_id = await rig.put("discard")
    await rig.failed(job_id)
    assert told(caplog) == [f"job {job_id} (discard), attempt 1 failed for good: Discard: no such address"]


async def test_time_that_is_up_is_told(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Of a thread too, which goes on."""
    handlers, go_on = Registry(), threading.Event()

    @handlers.handler("slow", timeout=5)
    async def slow(job: RunningJob) -> None:
        await asyncio.Event().wait()

    @handlers.handler("stuck", timeout=5)
    def stuck(job: RunningJob) -> None:
        go_on.wait(60)

    await rig.start(handlers)
    jobs = [(await rig.put(kind, max_attempts=1), kind) for kind in ("slow", "stuck")]
    await rig.advance(6)
    go_on.set()
    expected = [line(job_id, kind, "TimeoutError: the job ran longer than 5 s") for job_id, kind in jobs]
    assert sorted(told(caplog)) == sorted(expected)


async def test_a_cancel_is_no_failure_and_a_release_none(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The first is told at info, the second not at all."""
    caplog.set_level(logging.INFO)
    handlers = Registry()

    @handlers.handler("wait")
    async def wait(job: RunningJob) -> None:
        await asyncio.Event().wait()

    @handlers.handler("release")
    async def release(job: RunningJob) -> None:
        raise Release(delay=60)

    await rig.start(handlers)
    job_id = await rig.put("wait")
    await rig.put("release")
    await rig.backend.cancel(job_id)
    await rig.advance(31)
    assert told(caplog) == []
    assert f"job {job_id} (wait), attempt 1 was cancelled on request" in told(caplog, logging.INFO)


async def test_a_job_that_no_handler_is_for_is_told_when_it_fails(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The line is that of any other failure."""
    await rig.start(of_all_kinds(), unhandled_seconds=0)
    job_id = await rig.put("nobody's")
    await rig.failed(job_id)
    (found,) = told(caplog)
    assert found.startswith(line(job_id, "nobody's", "UnknownHandler: this worker has no handler for", how="failed for good", of=5))


async def test_a_result_that_the_server_refuses_is_told(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """As a failure of the attempt, which it is."""
    handlers, source = Registry(), Scripted()

    @handlers.handler("work")
    async def work(job: RunningJob) -> str:
        return "x" * 100

    source.concludes.append({"job-1": TooLarge("result", "has 102 bytes")})
    await rig.start(handlers, source)
    (job_id,) = source.give()
    await rig.advance(1)
    assert told(caplog) == [
        line(job_id, "work", "TooLarge: the server refused the attempt's ending: result: has 102 bytes", how="failed for good", of=None)
    ]


@pytest.mark.parametrize(
    ("job_type", "payload", "error", "how"),
    [
        ("die", None, "ProcessDied: the handler's process ended with exit code 7", "failed"),
        ("be killed", None, "ProcessDied: the handler's process was killed by signal 9 (Killed)", "failed"),
        ("discard", None, "Discard: never", "failed for good"),
        ("add", ["x"], "ValidationError: ", "failed for good"),
    ],
)
async def test_a_process_is_told_of_by_its_worker(
    rig: Rig,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    job_type: str,
    payload: Any,
    error: str,
    how: str,
) -> None:
    """In the same log and words, and not on the process's standard error."""
    await rig.start(in_processes)
    job_id = await rig.put(job_type, payload, max_attempts=1)
    await rig.failed(job_id)
    (found,) = told(caplog)
    assert found.startswith(line(job_id, job_type, error, how=how))
    assert "Discard" not in capfd.readouterr().err


async def test_a_process_sends_its_traceback_along(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """At debug, and it names the line of the handler."""
    caplog.set_level(logging.DEBUG)
    await rig.start(in_processes)
    await rig.failed(await rig.put("discard"))
    assert any('raise Discard("never")' in text for text in told(caplog, logging.DEBUG))


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("echo it broke >&2; exit 3", "CommandFailed: exit code 3: it broke"),
        ("kill -9 $$", "CommandFailed: killed by signal 9 (Killed)"),
    ],
)
async def test_a_command_that_fails_is_told(rig: Rig, caplog: pytest.LogCaptureFixture, command: str, error: str) -> None:
    """With its exit code or signal, in the same log as handlers."""
    await rig.start(registry(command))
    job_id = await rig.put(None, max_attempts=1)
    await rig.failed(job_id)
    assert told(caplog) == [line(job_id, "no type", error)]


async def test_a_log_that_raises_ends_no_worker(rig: Rig) -> None:
    """A log handler is the program's own."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("no log")

    broken = Broken()
    logger = logging.getLogger("jobqueue.worker")
    logger.addHandler(broken)
    try:
        worker = await rig.start(of_all_kinds())
        await rig.failed(await rig.put("discard"))
        await rig.failed(await rig.put("discard"))
        assert worker.error is None
    finally:
        logger.removeHandler(broken)
