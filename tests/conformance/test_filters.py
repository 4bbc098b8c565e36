"""Tags, and what listings filter by."""

from __future__ import annotations

import pytest

from jobqueue.errors import BadRequest, IdConflict
from jobqueue.model import JobFilter, Outcome, Status, Verdict

from .rig import FAILED, FAILED_FOR_GOOD, Rig, going_on, raised, spec, token


async def ids(rig: Rig, **wanted: object) -> list[str]:
    """The jobs of a filter, all pages of it."""
    found: list[str] = []
    cursor: int | None = None
    while True:
        page, cursor = await rig.backend.jobs(JobFilter(**going_on(cursor), **wanted))  # type: ignore[arg-type]
        found += [job.id for job in page]
        if cursor is None:
            return found


# Tags.


async def test_a_job_keeps_its_tags(rig: Rig) -> None:
    """In the order they were given, from the enqueue to the end, and over a retry."""
    assert (await rig.put("j", tags=("nightly", "\u00e9 t"))).tags == ("nightly", "\u00e9 t")
    job = await rig.take()
    assert job.tags == ("nightly", "\u00e9 t")
    await rig.backend.conclude("j", token(job), Verdict(outcome=Outcome.FAILED, retry=False))
    assert (await rig.backend.retry("j")).tags == ("nightly", "\u00e9 t")
    assert (await rig.backend.job("j")).tags == ("nightly", "\u00e9 t")
    assert (await rig.put("plain")).tags == ()


async def test_jobs_are_found_by_a_tag(rig: Rig) -> None:
    """Whole tags only, whatever the job's status, newest first."""
    await rig.put("a", tags=("x", "y"))
    await rig.put("b", tags=("y",))
    await rig.put("c", tags=("xx",))
    await rig.put("d")
    await rig.take()
    assert await ids(rig, tag="y") == ["b", "a"]
    assert await ids(rig, tag="x") == ["a"]
    assert await ids(rig, tag="none") == []
    assert await ids(rig, tag="y", queue="other") == []


async def test_a_repeat_with_other_tags_conflicts(rig: Rig) -> None:
    """Tags are content, their order included."""
    await rig.put("j", tags=("a", "b"))
    assert not (await rig.backend.enqueue(spec("j", tags=("a", "b")))).created
    for tags in ((), ("b", "a"), ("a",)):
        error = await raised(rig.backend.enqueue(spec("j", tags=tags)))
        assert isinstance(error, IdConflict)
        assert error.field == "tags"


@pytest.mark.parametrize("tags", [("",), ("x" * 65,), ("a\nb",), ("a", "a"), tuple("abcdefghi")])
async def test_tags_that_cannot_be_are_refused(rig: Rig, tags: tuple[str, ...]) -> None:
    """Empty, too long, with control characters, twice, or more than eight."""
    error = await raised(rig.backend.enqueue(spec("j", tags=tags)))
    assert isinstance(error, BadRequest)
    assert error.field == "tags"
    assert (await rig.backend.stats()).jobs_live == 0


# Other filters.


async def test_jobs_are_found_by_their_worker(rig: Rig) -> None:
    """Those that it has, and those that it ended; not those that it gave back."""
    await rig.finish("done")
    for job_id, worker in {"ended": "w-1", "held": "w-1", "other": "w-2", "back": "w-1"}.items():
        await rig.put(job_id)
        job = await rig.take(worker=worker)
        if job_id == "ended":
            await rig.backend.conclude(job_id, token(job), FAILED_FOR_GOOD)
        if job_id == "back":
            await rig.backend.release(job_id, token(job), 0)
    assert await ids(rig, worker="w-1") == ["held", "ended"]
    assert await ids(rig, worker="w-2") == ["other"]
    assert await ids(rig, worker="w") == []


@pytest.mark.parametrize(
    ("error", "piece", "found"),
    [
        (b'"it timed out"', "timed out", True),
        (b'"it timed out"', "Timed", False),
        (b'{"type": "ValueError", "message": "caf\\u00e9"}', "caf\u00e9", True),
        (b'{"type": "ValueError", "message": "caf\xc3\xa9"}', "ValueError", True),
        (b'{"type": "ValueError"}', '"type": "Val', True),
        (b'"say \\"no\\""', 'say "no"', True),
        (b'"two\\nlines"', "two\nlines", True),
        (b'[1e999, "x\\u00e9"]', "1e999", True),
        (b'[1e999, "x\\u00e9"]', "nothing", False),
        (b"null", "broken", False),
    ],
)
async def test_jobs_are_found_by_a_piece_of_their_last_error(rig: Rig, error: bytes, piece: str, found: bool) -> None:
    """As it was sent, or spelt in another way of JSON; of jobs that failed and those that are tried again."""
    await rig.finish("final", Verdict(outcome=Outcome.FAILED, error=error, retry=False))
    await rig.finish("again", Verdict(outcome=Outcome.FAILED, error=error))
    await rig.finish("other", Verdict(outcome=Outcome.FAILED))
    await rig.put("plain")
    assert await ids(rig, error=piece) == (["again", "final"] if found else [])


async def test_jobs_are_found_by_when_they_were_created(rig: Rig) -> None:
    """From a time on, up to it, or between two: the first included, the second not; also after the wall clock was set."""
    at = {}
    for job_id in ("a", "b", "c"):
        at[job_id] = (await rig.put(job_id)).created_at
        await rig.advance(1)
    assert await ids(rig, created_after=at["b"]) == ["c", "b"]
    assert await ids(rig, created_before=at["b"]) == ["a"]
    assert await ids(rig, created_after=at["a"], created_before=at["c"]) == ["b", "a"]
    assert await ids(rig, created_after=at["c"] + 1) == []
    rig.step_wall_clock(3600)
    shown = (await rig.backend.job("b")).created_at
    assert await ids(rig, created_after=shown) == ["c", "b"]


async def test_old_jobs_are_found_behind_many_newer_ones(rig: Rig) -> None:
    """A time is looked up, both ways, however small the pages are; gaps that history left do no harm."""
    for number in range(300):
        await rig.put(f"j{number}", tags=("odd",) if number % 2 else ())
        if number % 100 == 99:
            await rig.advance(1)
    first = (await rig.backend.job("j0")).created_at
    assert await ids(rig, created_before=first + 1, tag="odd", limit=7) == [f"j{number}" for number in range(99, 0, -2)]
    page, cursor = await rig.backend.jobs(JobFilter(created_before=first + 1, limit=1))
    assert [job.id for job in page] == ["j99"]
    assert cursor is not None
    page, cursor = await rig.backend.jobs(JobFilter(after=0, created_before=first + 1, limit=1000))
    assert ([job.id for job in page], cursor) == ([f"j{number}" for number in range(100)], None)
    page, _ = await rig.backend.jobs(JobFilter(after=0, created_after=first + 2, limit=3))
    assert [job.id for job in page] == ["j200", "j201", "j202"]


async def test_filters_hold_together(rig: Rig) -> None:
    """Every one that is given must be true of a job."""
    await rig.finish("a", FAILED, tags=("t",))
    await rig.finish("b", FAILED)
    await rig.put("c", tags=("t",))
    assert await ids(rig, tag="t", error="broken") == ["a"]


async def test_jobs_that_are_retried_are_told_from_the_others(rig: Rig) -> None:
    """They were attempted and wait for their next attempt; a job that is only delayed does not, and one that waits in line neither."""
    await rig.put("tomorrow", delay=86_400)
    for name in ("first", "second"):
        await rig.put(name, type=name)
        job = await rig.take()
        await rig.backend.conclude(name, token(job), Verdict(outcome=Outcome.FAILED, retry_delay=600))
    await rig.advance(1)
    await rig.put("other", queue="elsewhere")
    await rig.advance(1)
    await rig.put("last")

    assert await ids(rig, retrying=True) == ["second", "first"]
    assert await ids(rig, retrying=True, limit=1) == ["second", "first"]
    assert await ids(rig, retrying=True, type="first") == ["first"]
    assert await ids(rig, retrying=True, queue="elsewhere") == []
    assert await ids(rig, retrying=True, queue="none") == []
    assert await ids(rig, retrying=False) == ["last", "other", "tomorrow"]
    assert await ids(rig, retrying=False, status=Status.SCHEDULED) == ["tomorrow"]
    await rig.backend.cancel("second")
    assert await ids(rig, retrying=True) == ["first"]
