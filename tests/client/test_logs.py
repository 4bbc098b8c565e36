"""Jobs' logs, by either client."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobqueue import BadRequest, Conclude, Extend, LeaseLost, LogLine, UnknownJob

from .rig import Face

AT = datetime(2027, 1, 15, 8, 0, 0, 500_000, tzinfo=UTC)


async def test_lines_go_in_and_come_out(api: Face) -> None:
    """By themselves, with an extend and a conclude, alone and in batches; each once, whatever is sent again."""
    await api.enqueue(1, id="a/b")
    job = await api.dequeue()
    lease = job.lease.token
    state = await api.log("a/b", lease, ["one", LogLine("two", "warning", AT)], offset=0)
    assert (state.lines, state.dropped) == (2, 0)
    assert (await api.log("a/b", lease, ["two"], offset=1)).lines == 2
    await api.extend("a/b", lease, log=["three"])
    await api.extend_batch([Extend("a/b", lease, log=["three", "four"], log_offset=2)])
    await api.conclude_batch([Conclude("a/b", lease, "failed", log=["five"], retry_delay=0.0)])
    job = await api.dequeue()
    await api.conclude("a/b", job.lease.token, "succeeded", log=["six"], log_offset=0)
    lines = await api.logs("a/b")
    assert [line.text for line in lines] == ["one", "two", "three", "four", "five", "six"]
    assert (lines[1].level, lines[1].time, lines[1].number, lines[5].attempt) == ("warning", AT, 2, 2)
    page = await api.log_page("a/b", after=1, limit=2)
    assert ([line.text for line in page.lines], page.after, page.ended) == (["two", "three"], 3, False)
    assert [line.text for line in await api.logs("a/b", after=4, follow=True)] == ["five", "six"]


async def test_what_is_refused(api: Face) -> None:
    """By its field, or since the job is not there or not ours."""
    with pytest.raises(UnknownJob):
        await api.logs("none")
    await api.enqueue(1, id="a")
    await api.dequeue()
    with pytest.raises(LeaseLost):
        await api.log("a", "nonsense", ["x"])
    with pytest.raises(BadRequest) as refused:
        await api.log("a", "nonsense", ["x", "\x00"])
    assert refused.value.field == "lines[1].text"
