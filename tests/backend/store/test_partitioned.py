"""A backend over three partitions: what it refuses, and what holds where the suite of one partition does not apply (docs/semantics.md, By
the number of partitions)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from jobqueue.about import About
from jobqueue.backend.base import Backend, Conclude, Enqueued, Listen
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.requests.amend import AmendQueue
from jobqueue.backend.requests.bulk import BulkJobs
from jobqueue.backend.requests.every import ALL
from jobqueue.backend.requests.groups import CloseGroup, CreateGroup, GetGroup, ListGroups
from jobqueue.backend.requests.queues import MakeQueue
from jobqueue.backend.requests.request import BetweenServers, Request
from jobqueue.backend.requests.schedules import ChangeSchedule, GetSchedule, ListSchedules, PutSchedule
from jobqueue.backend.requests.tasks import GetTask, ListTasks, Redrive
from jobqueue.backend.requests.workers import ListWorkers, SetQuiet
from jobqueue.backend.restricted import RestrictedBackend
from jobqueue.backend.store.partitioned import PartitionedBackend
from jobqueue.backend.store.places import Places
from jobqueue.engine.events import K_ENQUEUED
from jobqueue.engine.filters import Matching
from jobqueue.errors import (
    BadRequest,
    IdConflict,
    QueueError,
    StorageUnavailable,
    UnknownJob,
    UnknownParent,
    Unsupported,
)
from jobqueue.group import GroupSpec
from jobqueue.limits import Limits
from jobqueue.model import JobChange, JobFilter, Outcome, Status
from jobqueue.partition import home_of, partition_of
from jobqueue.policy import PolicyChange, QueuePolicy
from jobqueue.schedule import Schedule, ScheduleChange
from tests.conformance.partitioned import COUNT, PartitionedRig
from tests.conformance.rig import FAILED_FOR_GOOD, SUCCEEDED, raised, spec, token, want

A, B, C = ({partition_of(f"q{number}", COUNT): f"q{number}" for number in range(100)}[index] for index in range(COUNT))
"""A queue in each partition."""

ENQUEUED = Listen(kinds=frozenset({K_ENQUEUED}))

BESIDE = f"{A}:beside"
"""Another queue in the partition of A."""


@pytest.fixture
async def rig() -> AsyncIterator[PartitionedRig]:
    made = PartitionedRig(Limits())
    yield made
    await made.close()


def id_at(index: int, count: int = 0) -> str:
    """A client's id whose home is this partition."""
    return [name for number in range(1_000) if home_of(name := f"id-{number}", COUNT) == index][count]


# What is refused.


async def refused(rig: PartitionedRig, request: Any) -> str | None:
    """The field that a request is refused for."""
    error = await raised(rig.backend.ask(request) if isinstance(request, Request) else request)
    assert isinstance(error, Unsupported), error
    return error.field


async def test_what_joins_queues_of_two_partitions_is_refused(rig: PartitionedRig) -> None:
    """With the field that names the other one, and nothing is changed."""
    backend = rig.backend
    await rig.put("job", queue=A)
    assert await refused(rig, backend.put_policy(A, QueuePolicy(dead_letter=B))) == "dead_letter"
    assert await refused(rig, backend.change_policy(A, PolicyChange(dead_letter=B))) == "dead_letter"
    assert await refused(rig, AmendQueue(name=A, change=PolicyChange(dead_letter=B))) == "dead_letter"
    assert await refused(rig, MakeQueue(name=C, policy=QueuePolicy(dead_letter=B))) == "dead_letter"
    assert await refused(rig, backend.edit("job", JobChange(queue=B))) == "queue"
    assert await refused(rig, BulkJobs(action="edit", matching=Matching(queue=A), change=JobChange(queue=B))) == "edit.queue"
    assert await refused(rig, BulkJobs(action="edit", matching=Matching(tag="x"), change=JobChange(queue=A))) == "edit.queue"
    assert await refused(rig, Redrive(queue=A, to=B)) == "to"
    assert await refused(rig, CreateGroup(spec=GroupSpec(queue=A, on_concluded=spec(queue=B)))) == "on_concluded.queue"
    assert await refused(rig, CreateGroup(spec=GroupSpec(queue=A, on_succeeded=spec(queue=B)))) == "on_succeeded.queue"
    await backend.ask(PutSchedule(name="s", schedule=Schedule(job=spec(queue=A), every=60)))
    assert await refused(rig, PutSchedule(name="s", schedule=Schedule(job=spec(queue=B), every=60))) == "job.queue"
    assert await refused(rig, ChangeSchedule(name="s", change=ScheduleChange(job=spec(queue=B)))) == "job.queue"
    await backend.ask(CreateGroup(spec=GroupSpec(id="g", queue=A)))
    assert await refused(rig, rig.put("x", queue=B, group="g")) == "group"
    assert await refused(rig, rig.put("x", queue=B, after=("job",))) == "after"
    for reply in await backend.enqueue_batch([spec("x", queue=B, after=("job",)), spec("y", queue=B, group="g")]):
        assert isinstance(reply, Unsupported)
    assert [stats.name for stats in await backend.queues()] == [A]
    assert (await backend.stats()).jobs_live == 1


async def test_what_is_beside_can_be_joined(rig: PartitionedRig) -> None:
    """Queues whose names are the same up to a colon are in one partition."""
    backend = rig.backend
    await backend.put_policy(A, QueuePolicy(dead_letter=BESIDE))
    await rig.put("job", queue=A)
    assert (await rig.put("child", queue=BESIDE, after=("job",))).status is Status.SCHEDULED
    assert (await backend.edit("job", JobChange(queue=BESIDE))).queue == BESIDE
    await backend.ask(CreateGroup(spec=GroupSpec(id="g", queue=A, on_concluded=spec(queue=BESIDE))))
    await rig.put("member", queue=BESIDE, group="g")
    assert (await backend.ask(GetGroup(id="g"))).live == 1


async def test_what_nobody_knows_is_unknown(rig: PartitionedRig) -> None:
    """And not in another partition."""
    assert isinstance(await raised(rig.put("x", queue=B, after=("nothing",))), UnknownParent)
    assert (await raised(rig.put("x", queue=B, group="nothing"))).code == "unknown_group"


def test_every_request_says_what_it_does_with_partitions() -> None:
    """Each struct has a way of its own, or is between servers."""
    assert [kind.__name__ for kind in ALL if kind.spread is Request.spread] == []
    assert {kind.__name__ for kind in ALL if issubclass(kind, BetweenServers)} == {
        *("ClaimIds", "VoidClaims", "DropClaims", "GetClaims", "ListClaims", "Scout", "GetShare", "SetShare", "GivePartition")
    }


# Ids and numbers.


async def test_an_id_is_unique_in_all_partitions(rig: PartitionedRig) -> None:
    """Wherever its home is: the same again is the same job, and another queue is a conflict."""
    for home in range(COUNT):
        job_id = id_at(home)
        first = await rig.backend.enqueue(spec(job_id, queue=A))
        again = await rig.backend.enqueue(spec(job_id, queue=A))
        assert (first.created, again.created, again.job.number) == (True, False, first.job.number)
        for queue in (B, C):
            error = await raised(rig.backend.enqueue(spec(job_id, queue=queue)))
            assert isinstance(error, IdConflict)
            assert error.field == "queue"


async def test_a_forgotten_id_can_be_used_again(rig: PartitionedRig) -> None:
    """In any queue, once the job is gone."""
    for local in rig.locals:
        local.engine.history.bound(0, 0)
    for home in range(COUNT):
        job_id = id_at(home)
        for queue in (A, B, C):
            await rig.put(job_id, queue=queue)
            job = await rig.take(queue)
            await rig.backend.conclude(job_id, token(job), SUCCEEDED)
            assert isinstance(await raised(rig.backend.job(job_id)), UnknownJob)


async def test_a_job_is_found_by_a_server_that_has_not_seen_it(rig: PartitionedRig) -> None:
    """By its id, whoever chose it, and by its number; alone and in batches."""
    ids = [(await rig.put(queue=queue)).id for queue in (A, B, C)]
    ids += [id_at(home, count) for home in range(COUNT) for count in range(COUNT)]
    for home in range(COUNT):
        for count, queue in enumerate((A, B, C)):
            await rig.put(id_at(home, count), queue=queue)
    jobs = [await rig.take(queue) for queue in (A, B, C) for _ in range(COUNT + 1)]
    other = PartitionedBackend(rig.locals, Limits(), clock=rig.clock)
    for job_id in ids:
        job = await other.job(job_id)
        assert (await other.numbered(job.number)).id == job_id
    assert len({job.number for job in jobs}) == len(ids)
    other = PartitionedBackend(rig.locals, Limits(), clock=rig.clock)
    replies = await other.conclude_batch([*(Conclude(job.id, token(job), SUCCEEDED) for job in jobs), Conclude("none", "x", SUCCEEDED)])
    assert [reply.code for reply in replies if isinstance(reply, QueueError)] == ["unknown_job"]
    assert isinstance(replies[-1], UnknownJob)


async def test_a_job_of_a_number_that_came_from_elsewhere_is_found(rig: PartitionedRig) -> None:
    """As in a store that was moved from another number of partitions: nothing says where it is."""
    job = await rig.put(queue=B)
    rig.backend.places = Places(COUNT)  # type: ignore[attr-defined]
    index = partition_of(B, COUNT)
    engine = rig.locals[index].engine
    assert (await rig.backend.numbered(job.number)).id == job.id
    assert engine.jobs.numbered(job.number) is not None
    assert isinstance(await raised(rig.backend.numbered(job.number + 1)), UnknownJob)


def test_what_is_remembered_is_bounded() -> None:
    """And jobs that are where their ids say take nothing."""
    places = Places(COUNT, most=10)
    for number in range(1_000):
        places.seen_id(f"id-{number}", 0)
    assert len(places) == 10
    assert places.of_id("id-999") == 0


# Lists.


async def pages(rig: PartitionedRig, wanted: JobFilter) -> list[list[str]]:
    """The ids on each page, to the end."""
    found: list[list[str]] = []
    cursor: Any = wanted.cursor
    while True:
        jobs, cursor = await rig.backend.jobs(replace(wanted, cursor=cursor))
        found.append([job.id for job in jobs])
        if cursor is None:
            return found
        assert isinstance(cursor, str)


async def test_lists_are_in_the_order_of_creation(rig: PartitionedRig) -> None:
    """Of all partitions, in pages, both ways; also while new jobs come."""
    ids = []
    for number in range(12):
        ids.append((await rig.put(f"j{number}", queue=(A, B, C)[number % 3 if number < 9 else 0])).id)
        await rig.advance(1)
    newest = [job_id for page in await pages(rig, JobFilter(limit=5)) for job_id in page]
    assert newest == ids[::-1]
    oldest = [job_id for page in await pages(rig, JobFilter(limit=5, after=0)) for job_id in page]
    assert oldest == ids
    first, cursor = await rig.backend.jobs(JobFilter(limit=5))
    await rig.put("new", queue=B)
    rest = await pages(rig, JobFilter(limit=50, cursor=cursor))  # type: ignore[arg-type]
    assert [job.id for job in first] + [job_id for page in rest for job_id in page] == ids[::-1]


async def test_lists_by_end_show_each_job_once(rig: PartitionedRig) -> None:
    """In the order in which they ended, in pages of any size."""
    ids = [f"j{number}" for number in range(9)]
    for number, job_id in enumerate(ids):
        await rig.finish(job_id, queue=(A, B, C)[number % 3])
        await rig.advance(1)
    for limit in (1, 2, 5, 100):
        found = await pages(rig, JobFilter(limit=limit, by_end=True))
        assert [job_id for page in found for job_id in page] == ids[::-1]


async def test_a_list_of_one_queue_is_its_partitions(rig: PartitionedRig) -> None:
    """With numbers as cursors."""
    await rig.put_all("a", "b", "c", queue=A)
    found, cursor = await rig.backend.jobs(JobFilter(queue=A, limit=2))
    assert [job.id for job in found] == ["c", "b"]
    assert cursor == found[-1].number
    found, cursor = await rig.backend.jobs(JobFilter(queue=A, limit=2, before=found[-1].number))
    assert ([job.id for job in found], cursor) == (["a"], None)


@pytest.mark.parametrize("cursor", ["1", "1.2", "1.2.3.4", "1.x.3", "..", "a.b.c", "1.2." + "9" * 30])
async def test_a_cursor_of_something_else_is_refused(rig: PartitionedRig, cursor: str) -> None:
    """It names the field, and lists that have ended have no cursor."""
    error = await raised(rig.backend.jobs(JobFilter(cursor=cursor))) if cursor != ".." else BadRequest("cursor", "")
    assert isinstance(error, BadRequest)
    assert error.field == "cursor"
    assert isinstance(await raised(rig.backend.jobs(JobFilter(before=5))), BadRequest)
    assert isinstance(await raised(rig.locals[0].jobs(JobFilter(cursor="1.2.3"))), BadRequest)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_pages_show_every_job_once(data: st.DataObject) -> None:
    """However small pages and the jobs that are looked at are, whatever matches, and whatever is enqueued and forgotten meanwhile."""

    async def run() -> None:
        scan = data.draw(st.integers(1, 6))
        rig = PartitionedRig(Limits(page_scan_max=scan, page_jobs_max=1, page_jobs_default=1))
        ids: list[str] = []
        for number in range(data.draw(st.integers(0, 20))):
            queue = data.draw(st.sampled_from([A, B, C]))
            tags = ("odd",) if data.draw(st.booleans()) else ()
            job = await rig.put(f"j{number}", queue=queue, tags=tags)
            if tags:
                ids.append(job.id)
            if data.draw(st.booleans()):
                await rig.advance(1)
        after = data.draw(st.sampled_from([None, 0]))
        wanted = JobFilter(tag="odd", limit=data.draw(st.integers(1, 5)), after=after)
        seen: list[Any] = []
        cursor: Any = None
        for _ in range(200):
            jobs, cursor = await rig.backend.jobs(replace(wanted, cursor=cursor))
            assert len(jobs) <= wanted.limit
            seen += jobs
            if cursor is None:
                break
            if after is None and data.draw(st.booleans()):
                await rig.put(queue=data.draw(st.sampled_from([A, B, C])), tags=("odd",))
        assert cursor is None
        assert sorted(job.id for job in seen) == sorted(ids)
        created = [job.created_at for job in seen]
        assert created == sorted(created, reverse=after is None)
        await rig.close()

    asyncio.run(run())


async def test_lists_by_name_are_merged(rig: PartitionedRig) -> None:
    """Queues, groups and schedules, page by page."""
    names = [f"q{number}" for number in range(10)]
    for name in names:
        await rig.backend.put_policy(name, QueuePolicy())
        await rig.backend.ask(CreateGroup(spec=GroupSpec(id=name, queue=name)))
        await rig.backend.ask(PutSchedule(name=name, schedule=Schedule(job=spec(queue=name), every=60)))
    queues, groups, schedules = [], [], []
    after: str | None = ""
    while after is not None:
        page, after = await rig.backend.queue_page(after, 3)
        queues += [stats.name for stats in page]
    after = ""
    while after is not None:
        found, after = await rig.backend.ask(ListGroups(after=after, limit=3))
        groups += [stats.id for stats in found]
    after = ""
    while after is not None:
        listed, after = await rig.backend.ask(ListSchedules(after=after, limit=3))
        schedules += [stats.name for stats in listed]
    assert queues == groups == schedules == sorted(names)
    assert (await rig.backend.ask(CloseGroup(id="q3"))).closed
    assert (await rig.backend.ask(GetSchedule(name="q3"))).schedule.job.queue == "q3"
    elsewhere = next(name for name in names if partition_of(name, COUNT) != partition_of("q3", COUNT))
    error = await raised(rig.backend.ask(CreateGroup(spec=GroupSpec(id="q3", queue=elsewhere))))
    assert isinstance(error, IdConflict)


async def test_tasks_and_bulk_reach_all_partitions(rig: PartitionedRig) -> None:
    """A task is found wherever it runs; an operation on many jobs goes on in each partition until it has ended in all."""
    for queue in (A, B, C):
        await rig.put_all(*(f"{queue}-{number}" for number in range(3)), queue=queue, tags=("x",))
        task = await rig.backend.ask(Redrive(queue=queue))
        assert (await rig.backend.ask(GetTask(id=task.id))).id == task.id
    assert len(await rig.backend.ask(ListTasks())) == 3
    await rig.put(queue=A)
    done, cursor, parts = 0, None, 0
    while parts == 0 or cursor is not None:
        part = await rig.backend.ask(BulkJobs(action="cancel", matching=Matching(tag="x"), cursor=cursor))
        done, cursor, parts = done + part.done, part.cursor, parts + 1
    assert done == 9
    assert isinstance(await raised(rig.backend.ask(BulkJobs(action="cancel", matching=Matching(tag="x"), cursor="1-2"))), BadRequest)


# Taking jobs.


async def test_preference_counts_among_what_is_there(rig: PartitionedRig) -> None:
    """The first queue that has a job, wherever it is; the jobs of an answer are of one partition."""
    for queue in (A, B, C):
        await rig.put(queue=queue)
        await rig.put(queue=queue)
    for queues in ((B, A, C), (C, B, A), (A, C, B)):
        job = await rig.take(*queues)
        assert job.queue == queues[0]
    assert {job.queue for job in await rig.take_all(C, A, B, limit=10)} == {C}
    assert {job.queue for job in await rig.take_all(C, A, B, limit=10)} == {A}


async def test_the_first_job_ends_the_wait_everywhere(rig: PartitionedRig) -> None:
    """And the request stands nowhere any more."""
    for queue in (C, A, B):
        held = await rig.stand(A, B, C)
        job = await rig.put(queue=queue)
        await rig.idle()
        assert held.ids == [job.id]
        assert (await rig.backend.stats()).waiters == 0


async def test_a_second_job_of_the_same_moment_returns(rig: PartitionedRig) -> None:
    """It is handed out in its partition, put back, and not counted as an attempt."""
    held = await rig.stand(A, B)
    other = await rig.stand(B)
    await asyncio.gather(rig.put("a", queue=A), rig.put("b", queue=B))
    await rig.idle()
    assert held.answered
    assert held.ids in (["a"], ["b"])
    assert other.ids == (["b"] if held.ids == ["a"] else [])
    for job_id in ("a", "b"):
        job = await rig.backend.job(job_id)
        assert job.attempts == (1 if job_id in held.ids + other.ids else 0)


async def test_a_wait_that_passes_is_answered_once(rig: PartitionedRig) -> None:
    """With no jobs, when it has passed in all partitions; and at once when the server drains."""
    held = await rig.stand(A, B, C, wait=10)
    await rig.advance(9)
    assert not held.answered
    await rig.advance(2)
    assert (held.answered, held.ids) == (True, [])
    held = await rig.stand(A, B, C)
    rig.backend.drain()
    await rig.idle()
    assert held.answered


async def test_who_goes_away_stands_nowhere(rig: PartitionedRig) -> None:
    """Whenever it goes; a job that it was given in that moment returns."""
    held = await rig.stand(A, B, C)
    held.task.cancel()
    await rig.idle()
    assert (await rig.backend.stats()).waiters == 0
    held = await rig.stand(A, B, C)
    await rig.put("a", queue=B)
    held.task.cancel()
    await rig.idle()
    job = await rig.backend.job("a")
    assert (job.status, job.attempts) in ((Status.QUEUED, 0), (Status.IN_PROGRESS, 1))
    assert (job.status is Status.IN_PROGRESS) == bool(held.jobs)


async def test_an_attempt_is_answered_again_from_its_partition(rig: PartitionedRig) -> None:
    """Also if an earlier queue has a job by now."""
    await rig.put("c", queue=C)
    first = await rig.take(A, B, C, attempt_id="x")
    await rig.put("a", queue=A)
    again = await rig.take(A, B, C, attempt_id="x")
    assert (first.id, token(first)) == (again.id, token(again)) == ("c", token(first))


async def test_a_newer_request_of_an_attempt_replaces_the_older_one(rig: PartitionedRig) -> None:
    """The older is answered with nothing, wherever it stands."""
    older = await rig.stand(A, B, attempt_id="x")
    newer = await rig.stand(A, B, attempt_id="x")
    await rig.idle()
    assert (older.answered, older.ids) == (True, [])
    await rig.put("b", queue=B)
    await rig.idle()
    assert newer.ids == ["b"]


async def test_a_deleted_queue_leaves_the_others(rig: PartitionedRig) -> None:
    """Who waits for another queue too goes on waiting for that."""
    await rig.backend.put_policy(A, QueuePolicy())
    held = await rig.stand(A, B)
    await rig.backend.delete_queue(A)
    await rig.idle()
    await rig.put("b", queue=B)
    await rig.idle()
    assert held.ids == ["b"]


async def test_a_worker_is_one_in_all_partitions(rig: PartitionedRig) -> None:
    """Its queues and leases are put together; when it is quiet, it is so everywhere."""
    await rig.put(queue=A)
    await rig.take(A, B, worker="w", about=About(host="h"))
    held = await rig.stand(B, A, worker="w", about=About(host="h"))
    (stats,), _ = await rig.backend.ask(ListWorkers())
    assert (stats.name, sorted(stats.queues), stats.leases) == ("w", sorted([A, B]), 1)
    assert await rig.backend.ask(ListWorkers(queue=C)) == ([], None)
    assert (await rig.backend.ask(SetQuiet(name="w", quiet=True))).quiet
    await rig.idle()
    assert held.answered
    for queue in (A, B, C):
        await rig.put(queue=queue)
        taking = rig.backend.dequeue(want(queue, worker="w", about=About(host="h")), 0)
        async with taking as jobs:
            assert (jobs, taking.quiet) == ([], True)
    taking = rig.backend.dequeue(want(A, B, C, worker="w", about=About(host="h")), 5)
    async with taking as jobs:
        assert (jobs, taking.quiet) == ([], True)
    assert not (await rig.backend.ask(SetQuiet(name="w", quiet=False))).quiet
    assert len(await rig.take_all(C, worker="w", about=About(host="h"))) == 1


# Partitions that cannot be asked.


def away(rig: PartitionedRig, index: int) -> PartitionedBackend:
    """A backend for which one partition has no owner."""

    class Away:
        at_once = True

        def __getattr__(self, name: str) -> Any:
            async def refuse(*_: Any, **__: Any) -> Any:
                raise StorageUnavailable("there is no owner at the moment")

            return refuse

        def dequeue(self, *_: Any) -> Any:
            class Taking:
                quiet = False

                async def __aenter__(self) -> Any:
                    raise StorageUnavailable("there is no owner at the moment")

            return Taking()

    backends: list[Any] = list(rig.locals)
    backends[index] = Away()
    return PartitionedBackend(backends, Limits(), clock=rig.clock)


async def test_the_others_go_on(rig: PartitionedRig) -> None:
    """What they have can be found and taken; what may be in the one that is away is not called unknown."""
    backend = away(rig, 1)
    own, foreign = (await rig.put(queue=A)).id, id_at(2)
    await rig.put(foreign, queue=A)
    await rig.put("lost", queue=B)
    assert (await backend.job(own)).id == own
    assert (await backend.job(foreign)).id == foreign
    assert isinstance(await raised(backend.job("lost")), StorageUnavailable)
    assert isinstance(await raised(backend.numbered(3_000_000)), StorageUnavailable)
    assert isinstance(await raised(backend.jobs(JobFilter())), StorageUnavailable)
    assert isinstance(await raised(backend.check()), StorageUnavailable)
    async with backend.dequeue(want(B, A), 5) as jobs:
        assert [job.id for job in jobs] == [own]
    async with backend.dequeue(want(B, A), 0) as jobs:
        assert [job.id for job in jobs] == [own]
    replies = await backend.enqueue_batch([spec(queue=A), spec(queue=B)])
    assert isinstance(replies[0], Enqueued)
    assert isinstance(replies[1], StorageUnavailable)


async def test_when_none_can_be_asked_they_are_asked_patiently(rig: PartitionedRig) -> None:
    """Also by a dequeue that does not wait; only if none answers then, it fails."""
    nobody = [cast(Backend, away(rig, index).backends[index]) for index in range(COUNT)]
    await rig.put("a", queue=A)
    backend = PartitionedBackend(rig.locals, Limits(), clock=rig.clock, hasty=nobody)
    taking = backend.dequeue(want(B, A), 0)
    async with taking as jobs:
        assert [job.id for job in jobs] == ["a"]
        taking.delivered()
    backend = PartitionedBackend(nobody, Limits(), clock=rig.clock)
    for wait in (0, 5):
        assert isinstance(await raised(backend.dequeue(want(B, A), wait).__aenter__()), StorageUnavailable)


# Events.


async def test_events_of_all_partitions_come_in_the_order_of_time(rig: PartitionedRig) -> None:
    """Each once, also to a listener that comes back with its cursor, which covers all partitions."""
    async with rig.backend.listen(ENQUEUED) as listening:
        assert not listening.missed
        for number in range(6):
            await rig.put(f"j{number}", queue=(A, B, C)[number % 3])
            await rig.advance(1)
        first = await listening.notices(4, 0)
        assert first is not None
        assert [notice.id for notice in first] == ["j0", "j1", "j2", "j3"]
    async with rig.backend.listen(ENQUEUED, first[-1].cursor) as listening:
        assert not listening.missed
        rest = await listening.notices(10, 0)
        assert rest is not None
        assert [notice.id for notice in rest] == ["j4", "j5"]
        end = listening.cursor
    async with rig.backend.listen(ENQUEUED, end) as listening:
        assert await listening.notices(10, 0) == []
    for wrong in ("x", "a.b.c", f"{end}.x"):
        async with rig.backend.listen(ENQUEUED, wrong) as listening:
            assert listening.missed


async def test_a_caller_who_sees_some_queues_sees_these(rig: PartitionedRig) -> None:
    """Also where all partitions are asked."""
    await rig.put("a", queue=A)
    await rig.put("b", queue=B)
    theirs = RestrictedBackend(rig.backend, "t", lambda queue: queue == A)
    found, _ = await theirs.jobs(JobFilter())
    assert [job.id for job in found] == ["a"]
    assert [stats.name for stats in await theirs.queues()] == [A]
    assert isinstance(await raised(theirs.enqueue(spec("b", queue=A))), IdConflict)


def test_one_partition_is_none() -> None:
    """It needs no backend over it."""
    with pytest.raises(ValueError, match="one partition"):
        PartitionedBackend([LocalBackend()], Limits())


async def test_no_queue_is_made_where_nobody_would_find_it(rig: PartitionedRig) -> None:
    """As for dead letters in a store that was moved from another number of partitions: they stay, or are kept in history."""
    index = partition_of(A, COUNT)
    engine = rig.locals[index].engine
    assert isinstance(await raised(rig.locals[index].enqueue(spec(queue=B))), Unsupported)
    engine.put_policy(A, QueuePolicy(max_attempts=1, dead_letter=B))
    failed = await rig.finish("x", FAILED_FOR_GOOD, queue=A)
    assert (failed.outcome, failed.queue) == (Outcome.FAILED, A)
    assert B not in engine.queues
