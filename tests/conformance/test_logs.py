"""Jobs' logs, of every backend: lines go in under a lease, and come out in order, also to whoever waits for more."""

from __future__ import annotations

import asyncio

import pytest

from jobqueue.backend.base import Extend
from jobqueue.backend.requests.logs import AppendLog, LogPage, ReadLog
from jobqueue.backend.restricted import RestrictedBackend
from jobqueue.errors import BadRequest, LeaseLost, NotInProgress, UnknownJob
from jobqueue.joblog import LINE_CHARS_MAX, LOG_BYTES_MAX, LogLine, LogPart
from jobqueue.model import Job, Outcome, Status, Verdict

from .rig import SUCCEEDED, Rig, spec, token


def part(*texts: str, offset: int | None = None) -> LogPart:
    return LogPart(tuple(LogLine(text) for text in texts), offset)


async def taken(rig: Rig, job_id: str = "j", **fields: object) -> Job:
    await rig.backend.enqueue(spec(job_id, **fields))
    return await rig.take(str(fields.get("queue", "default")))


async def texts(rig: Rig, job_id: str = "j", after: int = 0) -> list[str]:
    return [line.text for line in (await rig.backend.ask(ReadLog(id=job_id, after=after))).lines]


async def test_lines_are_read_as_they_were_said(rig: Rig) -> None:
    """Numbered, with level, attempt and time: the worker's, or when they came."""
    job = await taken(rig)
    state = await rig.backend.ask(
        AppendLog(id="j", token=token(job), part=LogPart((LogLine("one", "warning", 12.5), LogLine("two\n  three ü"))))
    )
    assert (state.lines, state.dropped) == (2, 0)
    page = await rig.backend.ask(ReadLog(id="j"))
    assert [(line.number, line.level, line.attempt, line.text) for line in page.lines] == [
        (1, "warning", 1, "one"),
        (2, "info", 1, "two\n  three ü"),
    ]
    assert page.lines[0].at == 12.5
    assert page.lines[1].at == pytest.approx(job.lease.started_at, abs=5) if job.lease else False
    assert (page.after, page.dropped, page.ended, page.status) == (2, 0, False, Status.IN_PROGRESS)
    assert await texts(rig, after=1) == ["two\n  three ü"]
    assert (await rig.backend.ask(ReadLog(id="j", limit=1))).after == 1


async def test_extends_and_concludes_carry_lines(rig: Rig) -> None:
    """In a batch and alone; what the last attempt said is there after its end, with what the one before said."""
    job = await taken(rig)
    await rig.backend.extend(Extend("j", token(job), log=part("a")))
    await rig.backend.extend_batch([Extend("j", token(job), log=part("b"))])
    await rig.backend.conclude("j", token(job), Verdict(outcome=Outcome.FAILED, retry_delay=0.0, log=part("c")))
    await rig.advance(1)
    job = await rig.take()
    await rig.backend.conclude("j", token(job), Verdict(outcome=Outcome.SUCCEEDED, log=part("d")))
    page = await rig.backend.ask(ReadLog(id="j"))
    assert [(line.attempt, line.text) for line in page.lines] == [(1, "a"), (1, "b"), (1, "c"), (2, "d")]
    assert (page.ended, page.outcome) == (True, Outcome.SUCCEEDED)


async def test_a_part_that_is_sent_again_adds_nothing(rig: Rig) -> None:
    """An offset says how many lines of this lease went before; another lease counts anew."""
    job = await taken(rig)
    for _ in range(2):
        await rig.backend.ask(AppendLog(id="j", token=token(job), part=part("a", "b", offset=0)))
    await rig.backend.ask(AppendLog(id="j", token=token(job), part=part("b", "c", offset=1)))
    await rig.backend.extend(Extend("j", token(job), log=part("c", offset=2)))
    assert await texts(rig) == ["a", "b", "c"]
    await rig.backend.release("j", token(job), 0.0)
    job = await rig.take()
    await rig.backend.ask(AppendLog(id="j", token=token(job), part=part("a", offset=0)))
    assert await texts(rig) == ["a", "b", "c", "a"]


async def test_the_oldest_lines_are_dropped(rig: Rig) -> None:
    """Beyond what a log may hold; how many is told, and numbers go on."""
    job = await taken(rig)
    text = "x" * (LINE_CHARS_MAX - 50)
    for at in range(40):
        await rig.backend.ask(AppendLog(id="j", token=token(job), part=part(f"{at} {text}")))
    page = await rig.backend.ask(ReadLog(id="j"))
    assert sum(len(line.text) for line in page.lines) <= LOG_BYTES_MAX
    assert page.after == 40
    assert page.lines[0].number == page.dropped + 1
    assert page.lines[-1].text.startswith("39 ")
    assert 10 <= len(page.lines) <= 16


async def test_a_reader_is_told_of_new_lines(rig: Rig) -> None:
    """It waits while there are none, and is answered when some come, when the job ends, and when its wait has passed."""
    job = await taken(rig)

    def reader(after: int, wait: float = 20) -> asyncio.Task[LogPage]:
        return asyncio.create_task(rig.backend.ask(ReadLog(id="j", after=after, wait=wait)))

    waiting = reader(0)
    await rig.idle()
    assert not waiting.done()
    await rig.backend.ask(AppendLog(id="j", token=token(job), part=part("a")))
    assert [line.text for line in (await waiting).lines] == ["a"]
    assert [line.text for line in (await reader(0)).lines] == ["a"]
    short = reader(1, wait=5)
    await rig.idle()
    await rig.advance(5)
    page = await short
    assert (page.lines, page.after, page.ended) == ([], 1, False)
    ending = reader(1)
    await rig.idle()
    await rig.backend.conclude("j", token(job), SUCCEEDED)
    page = await ending
    assert (page.lines, page.ended, page.status) == ([], True, Status.CONCLUDED)
    assert (await reader(1)).ended


async def test_what_no_log_takes(rig: Rig) -> None:
    """A token that is not the lease's, a job that is not there, and lines that are too long or hold controls change nothing."""
    job = await taken(rig)
    for bad, error in (
        (AppendLog(id="j", token="no", part=part("a")), LeaseLost),
        (AppendLog(id="none", token="no", part=part("a")), UnknownJob),
        (AppendLog(id="j", token=token(job), part=part("x" * (LINE_CHARS_MAX + 1))), BadRequest),
        (AppendLog(id="j", token=token(job), part=part("fine", "\x00")), BadRequest),
        (AppendLog(id="j", token=token(job), part=part(*["a"] * 1001)), BadRequest),
    ):
        with pytest.raises(error):
            await rig.backend.ask(bad)
    with pytest.raises(BadRequest) as refused:
        await rig.backend.extend(Extend("j", token(job), log=part("\x1b")))
    assert refused.value.field == "log[0].text"
    with pytest.raises(BadRequest):
        await rig.backend.conclude("j", token(job), Verdict(outcome=Outcome.SUCCEEDED, log=part("\x1b")))
    assert await texts(rig) == []
    with pytest.raises(UnknownJob):
        await rig.backend.ask(ReadLog(id="none"))
    await rig.backend.conclude("j", token(job), SUCCEEDED)
    with pytest.raises(NotInProgress):
        await rig.backend.ask(AppendLog(id="j", token=token(job), part=part("late")))


async def test_logs_of_other_queues_are_not_seen(rig: Rig) -> None:
    """A token for some queues reads and writes logs of jobs there; of others it is told that there is no such job."""
    job = await taken(rig, queue="a")
    theirs = RestrictedBackend(rig.backend, "t", lambda queue: queue == "a")
    others = RestrictedBackend(rig.backend, "o", lambda queue: queue == "b")
    await theirs.ask(AppendLog(id="j", token=token(job), part=part("a")))
    assert [line.text for line in (await theirs.ask(ReadLog(id="j"))).lines] == ["a"]
    for request in (ReadLog(id="j"), ReadLog(id="j", wait=5), AppendLog(id="j", token=token(job), part=part("a"))):
        with pytest.raises(UnknownJob):
            await others.ask(request)


async def test_a_draining_server_takes_lines(rig: Rig) -> None:
    """A worker hands in what it did, and a reader is answered at once."""
    job = await taken(rig)
    waiting = asyncio.create_task(rig.backend.ask(ReadLog(id="j", wait=20)))
    await rig.idle()
    rig.backend.drain()
    assert (await waiting).lines == []
    await rig.backend.ask(AppendLog(id="j", token=token(job), part=part("a")))
    assert await texts(rig) == ["a"]
