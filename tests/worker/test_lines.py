"""What handlers say for their jobs' logs: it arrives once, in order, and costs no request of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from jobqueue import JobLogHandler
from jobqueue.backend.requests.logs import ReadLog
from jobqueue.client.problems import ConnectionFailed
from jobqueue.errors import BadRequest
from jobqueue.joblog import LINE_CHARS_MAX, LogLine, LogPart
from jobqueue.worker.endings import Release
from jobqueue.worker.handlers import Registry
from jobqueue.worker.lines import PENDING_MAX, Lines
from jobqueue.worker.running import RunningJob

from . import processes
from .rig import Rig
from .source import Scripted


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


async def log_of(rig: Rig, job_id: str) -> list[str]:
    return [line.text for line in (await rig.backend.ask(ReadLog(id=job_id))).lines]


def said(part: LogPart | None) -> tuple[list[str], int | None] | None:
    return None if part is None else ([line.text for line in part.lines], part.offset)


async def test_lines_go_out_with_beats_and_with_the_ending(rig: Rig) -> None:
    """Those of half a second together, from a coroutine and from a thread; the last ones with the conclude."""
    handlers, go_on = Registry(), asyncio.Event()

    @handlers.handler("async")
    async def speaks(job: RunningJob) -> None:
        job.log("one")
        job.log("two", "warning")
        await go_on.wait()
        job.log("three")

    @handlers.handler("thread")
    def blocks(job: RunningJob) -> None:
        for number in range(3_000):
            job.log(str(number))

    await rig.start(handlers)
    job_id = await rig.put("async")
    await rig.advance(1)
    assert await log_of(rig, job_id) == ["one", "two"]
    go_on.set()
    await rig.succeeded(job_id)
    assert await log_of(rig, job_id) == ["one", "two", "three"]
    job_id = await rig.put("thread")
    await rig.succeeded(job_id)
    page = await rig.backend.ask(ReadLog(id=job_id))
    assert page.dropped > 0
    assert [line.text for line in page.lines] == [str(line.number - 1) for line in page.lines]


async def test_a_process_says_lines_too(rig: Rig) -> None:
    """Also what is logged there by logging."""
    await rig.start(processes.handlers)
    job_id = await rig.put("speak", "aloud")
    await rig.succeeded(job_id)
    assert await log_of(rig, job_id) == ["aloud", "logged"]


async def test_records_go_to_the_job_in_whose_context_they_are_made(rig: Rig) -> None:
    """Of coroutines that run side by side, of threads and of what asyncio.to_thread runs; none of what is logged outside of a job."""
    logger, handlers = logging.getLogger("test.lines"), Registry()
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    handler = JobLogHandler()
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    logger.addHandler(handler)
    both = asyncio.Barrier(2)

    @handlers.handler("async")
    async def speaks(job: RunningJob) -> None:
        await both.wait()
        logger.warning("of %s", job.id)
        await asyncio.to_thread(logger.debug, "beside %s", job.id)

    @handlers.handler("thread")
    def blocks(job: RunningJob) -> None:
        logger.error("of %s", job.id)

    await rig.start(handlers)
    logger.info("of nobody")
    ids = [await rig.put("async", id="a"), await rig.put("async", id="b"), await rig.put("thread", id="c")]
    for job_id in ids:
        await rig.succeeded(job_id)
    for job_id in ("a", "b"):
        lines = (await rig.backend.ask(ReadLog(id=job_id))).lines
        assert [(line.level, line.text) for line in lines] == [
            ("warning", f"test.lines of {job_id}"),
            ("debug", f"test.lines beside {job_id}"),
        ]
    assert await log_of(rig, "c") == ["test.lines of c"]


async def test_lines_are_sent_until_the_server_has_them(rig: Rig) -> None:
    """Again while it is away, saying how many went before, so that none is there twice; and before a release, which carries none."""
    handlers, source, go_on = Registry(), Scripted(), asyncio.Event()

    @handlers.handler("work")
    async def speaks(job: RunningJob) -> None:
        job.log("one")
        await go_on.wait()
        job.log("two")
        raise Release

    source.extends.append(ConnectionFailed("away"))
    await rig.start(handlers, source)
    source.give()
    await rig.advance(2)
    calls = [said(item.log) for call in source.extended for item in call]
    assert calls[:2] == [(["one"], 0), (["one"], 0)]
    go_on.set()
    await rig.idle()
    assert said(source.extended[-1][0].log) == (["two"], 1)
    assert len(source.released) == 1


async def test_lines_that_the_server_refuses_cost_no_result(rig: Rig) -> None:
    """A server that knows no logs refuses what carries them; the ending goes without."""
    handlers, source = Registry(), Scripted()

    @handlers.handler("work")
    async def speaks(job: RunningJob) -> str:
        job.log("one")
        return "done"

    source.concludes.append({"job-1": BadRequest("log", "is unknown")})
    worker = await rig.start(handlers, source)
    source.give()
    await rig.advance(1)
    assert [said(call[0].verdict.log) for call in source.concluded] == [(["one"], 0), None]
    assert worker.counts.succeeded == 1


def test_a_line_is_made_fit() -> None:
    """A text that is too long is cut, controls are replaced; what is no text and no level is refused."""
    lines: list[LogLine] = []
    job: RunningJob[object] = RunningJob(None, "w", 0.0, say=lines.append)  # type: ignore[arg-type] # nothing of it is looked at
    job.log("x" * 5_000)
    job.log("a\r\nb\x1b[0m\ud800\t")
    assert (len(lines[0].text), lines[0].text[-1]) == (LINE_CHARS_MAX, "…")
    assert lines[1].text == "a\nb\ufffd[0m\ufffd\t"
    with pytest.raises(ValueError, match="text"):
        job.log(5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="level"):
        job.log("a", "loud")  # type: ignore[arg-type]


def test_what_comes_too_fast_is_left_out_and_counted() -> None:
    """Memory is bounded while the server is away, and the log says what it lacks."""
    lines = Lines()
    for number in range(PENDING_MAX + 7):
        lines.add(LogLine(str(number), at=1.0))
    while (part := lines.part()) is not None:
        lines.sent(part)
    lines.add(LogLine("later", at=2.0))
    left = said(lines.part())
    assert left is not None
    assert left[0] == ["7 lines left out: they were logged faster than they could be sent", "later"]
    assert left[1] == PENDING_MAX
