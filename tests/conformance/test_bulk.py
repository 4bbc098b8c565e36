"""One operation on every job that a filter matches."""

from __future__ import annotations

from typing import Any

import pytest

from jobqueue.backend.requests.bulk import BulkDone, BulkJobs, ForgetJob
from jobqueue.backend.requests.logs import AppendLog, ReadLog
from jobqueue.engine.filters import Matching
from jobqueue.errors import BadRequest, NotForgettable, TooLarge, UnknownJob
from jobqueue.joblog import LogLine, LogPart
from jobqueue.model import JobChange, Outcome, Status
from jobqueue.policy import PerKey, QueuePolicy

from .conftest import MakeBackend
from .rig import FAILED_FOR_GOOD, SUCCEEDED, Rig, raised, token


async def bulk(rig: Rig, action: Any, change: JobChange | None = None, dry_run: bool = False, **fields: Any) -> BulkDone:
    """One request of it, from the beginning."""
    return await rig.backend.ask(BulkJobs(action=action, matching=Matching(**fields), change=change or JobChange(), dry_run=dry_run))


async def statuses(rig: Rig, *ids: str) -> list[str]:
    """How jobs are, in words."""
    return [str(job.outcome or job.status) for job in [await rig.backend.job(each) for each in ids]]


async def ended(rig: Rig, job_id: str, verdict: Any, **fields: Any) -> None:
    """A job that a worker has ended."""
    await rig.put(job_id, queue="ended", **fields)
    job = await rig.take("ended")
    assert job.id == job_id
    await rig.backend.conclude(job_id, token(job), verdict)


async def test_what_waits_is_cancelled_and_who_works_is_told(rig: Rig) -> None:
    """Of what matches; the count is of these alone, and doing it again does nothing."""
    await rig.put_all("a", "b", tags=("x",))
    await rig.put("later", tags=("x",), delay=60)
    await rig.put("other", tags=("y",))
    assert (await rig.take()).id == "a"
    assert await bulk(rig, "cancel", dry_run=True, tag="x") == BulkDone(matched=3, done=0, refused={}, cursor=None)
    assert await statuses(rig, "b", "later") == ["queued", "scheduled"]
    assert await bulk(rig, "cancel", tag="x") == BulkDone(matched=3, done=3, refused={}, cursor=None)
    assert await statuses(rig, "a", "b", "later", "other") == ["in_progress", "cancelled", "cancelled", "queued"]
    lease = (await rig.backend.job("a")).lease
    assert lease is not None
    assert lease.cancel_requested
    assert (await bulk(rig, "cancel", tag="x")).matched == 0


async def test_what_did_not_succeed_is_queued_again(rig: Rig) -> None:
    """By its error, say; a success is not matched, and whoever waits is handed the jobs."""
    await ended(rig, "bad", FAILED_FOR_GOOD)
    await ended(rig, "good", SUCCEEDED)
    await rig.put("gone", queue="ended")
    await rig.backend.cancel("gone")
    held = await rig.stand("ended")
    assert await bulk(rig, "retry", error="broken", queue="ended") == BulkDone(matched=1, done=1, refused={}, cursor=None)
    await rig.idle()
    assert held.ids == ["bad"]
    assert (await bulk(rig, "retry", queue="ended")).done == 1
    assert await statuses(rig, "good", "gone") == ["succeeded", "queued"]


async def test_what_has_no_room_is_refused_by_its_code(make_backend: MakeBackend) -> None:
    """And stays as it was, while others are done."""
    rig = await make_backend()
    for each in ("a", "b"):
        await ended(rig, each, FAILED_FOR_GOOD)
    await rig.backend.put_policy("ended", QueuePolicy(max_jobs=1))
    assert await bulk(rig, "retry", outcome=Outcome.FAILED) == BulkDone(matched=2, done=1, refused={"queue_full": 1}, cursor=None)
    assert await statuses(rig, "a", "b") == ["queued", "failed"]


async def test_jobs_that_wait_are_edited(rig: Rig) -> None:
    """They go to the back of a new queue in the order in which they were made; one in progress is not matched."""
    await rig.put_all("a", "b", "c", type="t")
    assert (await rig.take()).id == "a"
    done = await bulk(rig, "edit", JobChange(queue="default:other", tags=("moved",)), type="t", queue="default")
    assert (done.matched, done.done) == (2, 2)
    assert [job.id for job in await rig.take_all("default:other", limit=9)] == ["b", "c"]
    assert (await rig.backend.job("c")).tags == ("moved",)


async def test_concluded_jobs_are_forgotten(rig: Rig) -> None:
    """At once; live ones are not matched, and the id may be used anew."""
    await ended(rig, "bad", FAILED_FOR_GOOD)
    await ended(rig, "good", SUCCEEDED)
    await rig.put("live", queue="ended")
    assert await bulk(rig, "forget", queue="ended") == BulkDone(matched=2, done=2, refused={}, cursor=None)
    for gone in ("bad", "good"):
        assert isinstance(await raised(rig.backend.job(gone)), UnknownJob)
    assert await statuses(rig, "live") == ["queued"]
    assert (await rig.put("bad", queue="elsewhere")).queue == "elsewhere"


async def test_what_halts_its_key_is_not_forgotten(rig: Rig) -> None:
    """It is counted as refused, and its key stays halted."""
    await rig.backend.put_policy("ended", QueuePolicy(per_key=PerKey(order="halt")))
    await ended(rig, "bad", FAILED_FOR_GOOD, key="k")
    await rig.put("behind", queue="ended", key="k")
    assert await bulk(rig, "forget", key="k") == BulkDone(matched=1, done=0, refused={"pinned": 1}, cursor=None)
    assert (await bulk(rig, "cancel", key="k", status=Status.CONCLUDED)).matched == 0
    assert await rig.take_all("ended") == []
    assert (await bulk(rig, "retry", key="k")).done == 1
    assert (await rig.take("ended")).id == "bad"


async def test_it_ends_after_a_part_and_goes_on(make_backend: MakeBackend) -> None:
    """From its cursor, past what came since it began, which it is not about."""
    rig = await make_backend(page_scan_max=2, page_jobs_max=2, page_jobs_default=2)
    await rig.put_all("a", "b", "c", "d", "e")
    first = await rig.backend.ask(BulkJobs(action="cancel", matching=Matching(queue="default")))
    assert first.done == 2
    done, cursor = first.done, first.cursor
    await rig.put("new")
    while cursor is not None:
        part = await rig.backend.ask(BulkJobs(action="cancel", matching=Matching(queue="default"), cursor=cursor))
        done, cursor = done + part.done, part.cursor
    assert done == 5
    assert await statuses(rig, "a", "e", "new") == ["cancelled", "cancelled", "queued"]


async def test_times_narrow_it_down(rig: Rig) -> None:
    """As they do in listings: from one on, and before another."""
    for each in ("a", "b", "c"):
        await rig.put(each)
        await rig.advance(10)
    start = (await rig.backend.job("a")).created_at
    assert (await bulk(rig, "cancel", created_after=start + 5, created_before=start + 15)).done == 1
    assert await statuses(rig, "a", "b", "c") == ["queued", "cancelled", "queued"]


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("filter", {"action": "cancel", "matching": Matching()}),
        ("cursor", {"action": "cancel", "matching": Matching(tag="x"), "cursor": "17"}),
        ("cursor", {"action": "cancel", "matching": Matching(tag="x"), "cursor": "1-" + "9" * 40}),
        ("edit", {"action": "edit", "matching": Matching(tag="x")}),
        ("edit", {"action": "retry", "matching": Matching(tag="x"), "change": JobChange(priority=1)}),
        ("edit.priority", {"action": "edit", "matching": Matching(tag="x"), "change": JobChange(priority=10)}),
        ("edit.queue", {"action": "edit", "matching": Matching(tag="x"), "change": JobChange(queue="no/name")}),
        ("edit.run_at", {"action": "edit", "matching": Matching(tag="x"), "change": JobChange(run_at=1e12)}),
    ],
)
async def test_what_cannot_be_meant_is_refused(rig: Rig, field: str, asked: dict[str, Any]) -> None:
    """By its field, with nothing changed: a filter that matches every job among it."""
    await rig.put("a", tags=("x",))
    error = await raised(rig.backend.ask(BulkJobs(**asked)))
    assert isinstance(error, BadRequest)
    assert error.field == field
    assert await statuses(rig, "a") == ["queued"]


async def test_a_new_payload_too_large_is_refused(make_backend: MakeBackend) -> None:
    """Before any job is given it."""
    rig = await make_backend(payload_bytes_max=10)
    assert isinstance(await raised(bulk(rig, "edit", JobChange(payload=b"[" + b"1" * 20 + b"]"), tag="x")), TooLarge)


async def test_what_others_wait_for_is_not_forgotten(rig: Rig) -> None:
    """A job that has ended while one that is after it and another still waits."""
    await ended(rig, "parent", SUCCEEDED)
    await rig.put("other", queue="ended:not")
    await rig.put("child", after=("parent", "other"), queue="ended:not")
    assert await bulk(rig, "forget", queue="ended") == BulkDone(matched=1, done=0, refused={"pinned": 1}, cursor=None)
    await rig.backend.cancel("other")
    assert (await bulk(rig, "forget", queue="ended")).done == 1


async def test_one_job_is_forgotten(rig: Rig) -> None:
    """With all that is kept of it, and no other one; what it was is the answer, and its id is free for a job of other content."""
    await rig.put_all("j", "other")
    job = await rig.take()
    await rig.backend.ask(AppendLog(id="j", token=token(job), part=LogPart((LogLine("for ann"),))))
    await rig.backend.conclude("j", token(job), SUCCEEDED)
    gone = await rig.backend.ask(ForgetJob(id="j"))
    assert (gone.id, gone.outcome) == ("j", Outcome.SUCCEEDED)
    for asked in (rig.backend.job("j"), rig.backend.ask(ReadLog(id="j")), rig.backend.ask(ForgetJob(id="j"))):
        assert isinstance(await raised(asked), UnknownJob)
    assert (await rig.backend.stats()).history[Outcome.SUCCEEDED] == (0, 0)
    assert await statuses(rig, "other") == ["queued"]
    assert (await rig.backend.queue("default")).succeeded_total == 1
    assert (await rig.put("j", payload=b'"new"')).status is Status.QUEUED


async def test_a_job_that_is_not_concluded_is_not_forgotten(rig: Rig) -> None:
    """Neither one that waits nor one that a worker has; nothing changes, and the error says how it is."""
    await rig.put("leased")
    await rig.take()
    await rig.put("queued")
    await rig.put("later", delay=60)
    for job_id, word in (("leased", "in_progress"), ("queued", "queued"), ("later", "scheduled")):
        error = await raised(rig.backend.ask(ForgetJob(id=job_id)))
        assert isinstance(error, NotForgettable)
        assert f"is {word}" in str(error)
        assert await statuses(rig, job_id) == [word]


async def test_a_job_that_others_need_is_not_forgotten_by_itself(rig: Rig) -> None:
    """One that halts its key is once it is given up; one that a waiting job is after, once that has ended."""
    await rig.backend.put_policy("ended", QueuePolicy(per_key=PerKey(order="halt")))
    await ended(rig, "halting", FAILED_FOR_GOOD, key="k")
    await rig.put("child", queue="ended:not", after=("halting",), after_failure="hold")
    error = await raised(rig.backend.ask(ForgetJob(id="halting")))
    assert isinstance(error, NotForgettable)
    assert "halts its key" in str(error)
    await rig.backend.cancel("halting")
    error = await raised(rig.backend.ask(ForgetJob(id="halting")))
    assert isinstance(error, NotForgettable)
    assert "jobs after it" in str(error)
    await rig.backend.cancel("child")
    assert (await rig.backend.ask(ForgetJob(id="halting"))).outcome is Outcome.FAILED
