"""A server that knows keys beside an owner that does not: what the owner would leave out is refused, the rest goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from jobqueue.backend.base import Conclude, Release
from jobqueue.backend.requests.bulk import BulkJobs
from jobqueue.backend.requests.groups import CreateGroup
from jobqueue.backend.requests.queues import DeleteQueue, MakeQueue, PurgeAll
from jobqueue.backend.requests.schedules import ChangeSchedule, PutSchedule
from jobqueue.backend.store import frames
from jobqueue.backend.store import messages as m
from jobqueue.backend.store.moved import Moved
from jobqueue.backend.store.parts import one_by_one
from jobqueue.engine.filters import Matching
from jobqueue.errors import BadRequest, LeaseLost, QueueError, StorageUnavailable
from jobqueue.group import GroupSpec
from jobqueue.limits import Limits
from jobqueue.model import Header, Job, JobChange, JobFilter, JobSpec, Outcome, Status, Verdict
from jobqueue.policy import PerKey, PolicyChange, QueuePolicy
from jobqueue.schedule import Schedule, ScheduleChange
from jobqueue.unique import Unique
from tests.conformance.remote import RemoteRig
from tests.conformance.rig import raised, spec, token


@asynccontextmanager
async def beside(monkeypatch: pytest.MonkeyPatch, knows: int) -> AsyncIterator[RemoteRig]:
    """A front whose owner says in its hello that it knows so much."""
    monkeypatch.setattr(frames, "KNOWS", knows)
    rig = RemoteRig(Limits())
    try:
        yield rig
    finally:
        await rig.close()


async def test_an_owner_that_knows_no_keys_is_asked_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What such an owner would carry out without its keys or limits is refused as unavailable, and changes nothing."""
    async with beside(monkeypatch, 0) as rig:
        backend = rig.backend
        await rig.put("j")
        for asked in (
            backend.enqueue(spec("a", key="k")),
            backend.enqueue_batch([spec("b"), spec("c", key="k")]),
            backend.put_policy("default", QueuePolicy(concurrency=1)),
            backend.put_policy("default", QueuePolicy(per_key=PerKey(max_jobs=1))),
            backend.put_policy("default", QueuePolicy(fair=True)),
            backend.change_policy("default", PolicyChange(max_attempts=1)),
            backend.set_key_paused("default", "k", True),
            backend.keys("default", "", 10),
            backend.waiting_for([1]),
            backend.jobs(JobFilter(key="k")),
        ):
            error = await raised(asked)
            assert type(error) is StorageUnavailable
            assert not isinstance(error, Moved)
            assert "of an older version" in error.detail
        assert (await backend.queue("default")).policy == QueuePolicy()
        assert (await backend.stats()).jobs_live == 1


async def test_an_owner_that_knows_no_keys_serves_all_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain jobs, plain policies and plain listings go on beside it."""
    async with beside(monkeypatch, 0) as rig:
        await rig.backend.enqueue_batch([spec("a"), spec("b")])
        await rig.backend.put_policy("default", QueuePolicy(max_jobs=9, paused=False))
        found, _ = await rig.backend.jobs(JobFilter(queue="default"))
        assert [job.id for job in found] == ["b", "a"]
        assert [job.id for job in await rig.take_all(limit=2)] == ["a", "b"]


async def test_an_owner_that_knows_no_tags_is_asked_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for filters that it would leave out; keys it knows."""
    async with beside(monkeypatch, 1) as rig:
        for asked in (
            rig.backend.enqueue(spec("a", tags=("t",))),
            rig.backend.enqueue_batch([spec("b"), spec("c", tags=("t",))]),
            rig.backend.enqueue(spec("a", unique=Unique("u"))),
            rig.backend.edit("a", JobChange(priority=1)),
            rig.backend.jobs(JobFilter(tag="t")),
            rig.backend.jobs(JobFilter(created_after=0.0)),
        ):
            error = await raised(asked)
            assert type(error) is StorageUnavailable
            assert "knows no tags" in error.detail
        await rig.put("d", key="k")
        assert [job.id for job in (await rig.backend.jobs(JobFilter(key="k")))[0]] == ["d"]


async def test_an_owner_that_knows_no_headers_is_asked_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor to keep to what a policy may say since; a policy that says none of it it keeps to."""
    async with beside(monkeypatch, 2) as rig:
        headers = (Header("tenant", b"a"),)
        carries = JobSpec(payload=b"1", headers=headers)
        for asked in (
            rig.backend.enqueue(spec("a", headers=headers)),
            rig.backend.enqueue_batch([spec("b"), spec("c", headers=headers)]),
            rig.backend.put_policy("default", QueuePolicy(delay=1.0)),
            rig.backend.put_policy("default", QueuePolicy(expires_in=60.0)),
            rig.backend.put_policy("default", QueuePolicy(tags={"a": "b"})),
            rig.backend.put_policy("default", QueuePolicy(attributes={"a": "b"})),
            rig.backend.change_policy("default", PolicyChange(expires_in=None)),
            rig.backend.ask(MakeQueue(name="q")),
            rig.backend.ask(PutSchedule(name="s", schedule=Schedule(job=carries, every=60.0))),
            rig.backend.ask(ChangeSchedule(name="s", change=ScheduleChange(job=carries))),
            rig.backend.ask(CreateGroup(spec=GroupSpec(id="g", on_succeeded=carries))),
        ):
            error = await raised(asked)
            assert type(error) is StorageUnavailable
            assert "knows no headers" in error.detail
        assert (await rig.backend.stats()).jobs_live == 0
        late = Verdict(outcome=Outcome.SUCCEEDED, late=True)
        for later in (
            rig.backend.conclude("a", "t", late),
            rig.backend.conclude_batch([Conclude("a", "t", late)]),
            rig.backend.ask(PurgeAll(name="default")),
            rig.backend.ask(DeleteQueue(name="default")),
            rig.backend.enqueue(spec("d", unique=Unique("k", "enqueued", 60.0))),
        ):
            assert "knows no headers" in (await raised(later)).detail  # type: ignore[arg-type]
        await rig.backend.put_policy("default", QueuePolicy(max_jobs=9))
        await rig.backend.change_policy("default", PolicyChange(max_jobs=8))
        await rig.backend.ask(PutSchedule(name="s", schedule=Schedule(job=JobSpec(payload=b"1"), every=60.0)))
        await rig.backend.ask(CreateGroup(spec=GroupSpec(id="g", on_succeeded=JobSpec(payload=b"1"))))


async def test_an_owner_that_knows_no_batches_of_releases_is_asked_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each item is answered in its place all the same, and one that fails harms no other."""
    async with beside(monkeypatch, 3) as rig:
        await rig.put_all("a", "b")
        a, b = await rig.take_all(limit=2)
        bad = BadRequest("delay", "is no number")
        items = [Release("a", "no"), bad, Release("a", token(a)), Release("b", token(b), 5.0)]
        lost, passed, queued, scheduled = await rig.backend.release_batch(items)
        assert isinstance(lost, LeaseLost)
        assert passed is bad
        assert [reply.status for reply in (queued, scheduled) if isinstance(reply, Job)] == [Status.QUEUED, Status.SCHEDULED]


async def test_releases_that_are_asked_for_one_by_one_fail_as_a_batch_does() -> None:
    """An owner that goes away before the first fails the whole, which may be asked again; after it, each of the rest."""
    gone: list[QueueError] = []

    async def ask(item: Release) -> Job:
        raise gone.pop(0)

    gone[:] = [Moved("before")]
    assert isinstance(await raised(one_by_one(ask, [Release("a", "t")])), Moved)
    gone[:] = [LeaseLost("a"), Moved("after")]
    assert [type(reply) for reply in await one_by_one(ask, [Release("a", "t"), Release("b", "t")])] == [LeaseLost, Moved]


async def test_an_owner_that_does_not_know_which_jobs_are_retried_is_not_asked_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would list, or cancel, all the others too."""
    async with beside(monkeypatch, 5) as rig:
        await rig.put("a")
        bulk = BulkJobs(action="cancel", matching=Matching(queue="default", retrying=True))
        for later in (rig.backend.jobs(JobFilter(retrying=True)), rig.backend.ask(bulk)):
            error = await raised(later)
            assert isinstance(error, StorageUnavailable)
            assert "no filter by retrying" in error.detail
        assert (await rig.backend.job("a")).status is Status.QUEUED
        assert [job.id for job in (await rig.backend.jobs(JobFilter()))[0]] == ["a"]


async def test_an_owner_that_knows_keys_is_asked_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers of this version speak of keys."""
    async with beside(monkeypatch, 1) as rig:
        await rig.backend.put_policy("default", QueuePolicy(per_key=PerKey(order="fifo")))
        assert (await rig.put("a", key="k")).key == "k"


def test_a_hello_of_before_knows_nothing() -> None:
    """A server of before says nothing of it."""
    hello = m.decode_first(m.encode((m.HELLO, 0, m.VERSION, "old", b"n" * 16)))
    assert isinstance(hello, m.Hello)
    assert hello.knows == 0
