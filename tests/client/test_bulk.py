"""Many jobs at once, tasks, edits and dead letters, by either client."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jobqueue import (
    BadRequest,
    Bulk,
    InProgress,
    NewJob,
    NotForgettable,
    NotInProgress,
    Origin,
    Outcome,
    TooLarge,
    UnknownJob,
    UnknownQueue,
    UnknownTask,
)
from jobqueue.testing import server

from .conftest import Connect
from .rig import Face


async def fail(api: Face, *ids: str, queue: str = "default") -> None:
    """Jobs that failed for good, in their order."""
    for each in ids:
        await api.enqueue(1, id=each, queue=queue)
        job = await api.dequeue(queue, wait=0)
        await api.conclude(each, job.lease.token, "failed", error={"why": "broken"}, retry=False)


async def test_each_action_is_done_to_what_matches(api: Face) -> None:
    """And to nothing else; a dry run says how many, an empty filter is refused."""
    await api.enqueue_batch([NewJob(number, id=f"j-{number}", tags=["x"] if number else []) for number in range(3)])
    assert await api.bulk("cancel", tag="x", dry_run=True) == Bulk(matched=2, done=0, refused={})
    assert await api.bulk("edit", tag="x", edit={"priority": 1, "tags": ["y"], "payload": {"n": 1}}) == Bulk(matched=2, done=2, refused={})
    job = await api.job("j-2")
    assert (job.priority, job.tags, job.payload) == (1, ("y",), {"n": 1})
    since = job.created_at - timedelta(seconds=1)
    assert (await api.bulk("cancel", status="queued", tag="y", created_after=since)).done == 2
    assert (await api.bulk("retry", outcome="cancelled")).done == 2
    assert (await api.bulk("cancel", queue="default")).done == 3
    assert (await api.bulk("forget", status="concluded", created_before=job.created_at - timedelta(days=1))).done == 0
    assert (await api.bulk("forget", status="concluded")).done == 3
    with pytest.raises(UnknownJob):
        await api.job("j-2")


@pytest.mark.parametrize(
    ("field", "asked"),
    [
        ("filter", {"action": "cancel"}),
        ("action", {"action": "purge", "tag": "x"}),
        ("edit", {"action": "edit", "tag": "x"}),
        ("edit.prio", {"action": "edit", "tag": "x", "edit": {"prio": 1}}),
        ("edit.priority", {"action": "edit", "tag": "x", "edit": {"priority": 17}}),
        ("edit.delay", {"action": "edit", "tag": "x", "edit": {"delay": float("nan")}}),
        ("filter.status", {"action": "cancel", "status": "done"}),
    ],
)
async def test_what_cannot_be_meant_is_refused(api: Face, field: str, asked: dict[str, Any]) -> None:
    """By its field."""
    with pytest.raises(BadRequest) as refused:
        await api.bulk(**asked)
    assert refused.value.field == field


async def test_a_payload_that_is_too_large_is_refused(api: Face) -> None:
    """Before it is given to any job."""
    with pytest.raises(TooLarge):
        await api.bulk("edit", tag="x", edit={"payload": "x" * 1_100_000})


async def test_it_goes_on_until_all_is_done(connect: Connect) -> None:
    """A part after the other, telling how far it is; what could not be done is counted by why over all of them."""
    async with server(page_scan_max=2, page_jobs_max=2, page_jobs_default=2) as url:
        api = connect(url)
        await fail(api, "a", "b", "c", "d", "e")
        await api.put_queue("default", max_jobs=3)
        told: list[Bulk] = []
        found = await api.bulk("retry", outcome="failed", progress=told.append)
        assert found == Bulk(matched=5, done=3, refused={"queue_full": 2})
        assert [(part.matched, part.done) for part in told] == [(2, 2), (4, 3), (5, 3)]


async def test_a_job_that_waits_is_edited(api: Face) -> None:
    """What is given changes, the rest stays; one that a worker has, or that is concluded, says which."""
    await api.enqueue({"a": 1}, id="j", description="old", tags=["x"], expires_in=60)
    edited = await api.edit("j", priority=0, description=None, expires_in=None, tags=())
    assert (edited.priority, edited.description, edited.expires_at, edited.tags) == (0, None, None, ())
    assert (await api.job("j")).payload == {"a": 1}
    later = await api.edit("j", delay=60, payload=[1, 2], queue="other")
    assert (later.status, later.queue) == ("scheduled", "other")
    assert (await api.edit("j", delay=0)).status == "queued"
    assert (await api.enqueue("something else", id="j")).created is False
    job = await api.dequeue("other", wait=0)
    assert job.payload == [1, 2]
    with pytest.raises(InProgress):
        await api.edit("j", priority=1)
    await api.conclude("j", job.lease.token, "succeeded")
    with pytest.raises(NotInProgress):
        await api.edit("j", priority=1)


async def test_a_dead_letter_says_where_it_comes_from_and_is_redriven(api: Face) -> None:
    """As a task, which ends; a task that is not there is unknown."""
    await api.put_queue("default", max_attempts=None, dead_letter="dead")
    await fail(api, "a", "b")
    job = await api.job("a")
    assert isinstance(job.origin, Origin)
    assert (job.queue, job.status, job.origin.queue, job.origin.reason, job.error) == (
        "dead",
        "queued",
        "default",
        "failed",
        {"why": "broken"},
    )
    assert ((await api.queue("default")).totals.dead_lettered, (await api.queue("dead")).totals.moved_in) == (2, 2)
    assert (await api.redrive("dead", error="broken", dry_run=True)).total == 2
    assert (await api.redrive("dead", type="none")).total == 0
    task = await api.redrive("dead", rate=0.001, to="again")
    assert (task.kind, task.queue, task.to, task.rate, task.total, task.ended_at) == ("redrive", "dead", "again", 0.001, 2, None)
    assert task.id in [one.id for one in await api.tasks()]
    over = await api.cancel_task(task.id)
    assert (over.state, await api.task(task.id)) == ("cancelled", over)
    whole = await api.redrive("dead", as_new=True)
    while (await api.task(whole.id)).state == "running":
        pass
    assert (await api.queue("dead")).queued == 0
    for unknown in (api.task("a/b"), api.cancel_task("none")):
        with pytest.raises(UnknownTask):
            await unknown
    with pytest.raises(UnknownQueue):
        await api.redrive("none")


async def test_one_job_is_forgotten(api: Face) -> None:
    """It is answered as it was, and nobody knows it afterwards; one that is not concluded is refused."""
    await api.enqueue("ann", id="a")
    with pytest.raises(NotForgettable, match="is queued, and only a concluded job"):
        await api.forget("a")
    await api.cancel("a")
    assert (await api.forget("a")).outcome is Outcome.CANCELLED
    with pytest.raises(UnknownJob):
        await api.job("a")
    with pytest.raises(UnknownJob):
        await api.forget("a")


async def test_jobs_that_are_retried_are_told_from_the_others(api: Face) -> None:
    """By listings and by what is done to many jobs."""
    await api.enqueue(1, id="tomorrow", delay=86_400)
    await api.enqueue(1, id="again")
    job = await api.dequeue("default", wait=0)
    await api.conclude("again", job.lease.token, "failed", error="no", retry_delay=600)
    assert [each.id for each in (await api.jobs(retrying=True)).jobs] == ["again"]
    assert [each.id for each in (await api.jobs(retrying=False)).jobs] == ["tomorrow"]
    assert await api.bulk("cancel", retrying=True) == Bulk(matched=1, done=1, refused={})
    assert (await api.job("tomorrow")).status.value == "scheduled"
