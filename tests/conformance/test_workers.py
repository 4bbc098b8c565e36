"""Workers by what they say of themselves, of every backend: who there is, and that a quiet one is given no jobs."""

from __future__ import annotations

from typing import Any

import pytest

from jobqueue.about import About, WorkerStats
from jobqueue.backend.requests.workers import ListWorkers, SetQuiet
from jobqueue.backend.restricted import RestrictedBackend
from jobqueue.errors import BadRequest, Forbidden, UnknownWorker

from .rig import Held, Rig, want

ABOUT = About(host="h", concurrency=4, version="1.2", started=1_700_000_000.0)


async def stands(rig: Rig, name: str, *queues: str, about: About = ABOUT, **fields: Any) -> Held:
    """A worker that waits for a job. While one does, no backend of the suite is started anew."""
    return await rig.stand(*queues, worker=name, about=about, **fields)


async def listed(rig: Rig, **fields: Any) -> list[WorkerStats]:
    return (await rig.backend.ask(ListWorkers(**fields)))[0]


async def test_workers_are_listed_by_name(rig: Rig) -> None:
    """With what they said, page by page and by queue; one that says nothing of itself is not there."""
    await stands(rig, "b", "q", "r")
    await stands(rig, "a")
    await rig.stand(worker="c")
    a, b = await listed(rig)
    assert (b.name, b.about, b.queues, b.leases, b.quiet, b.doing, b.instances) == ("b", ABOUT, ("q", "r"), 0, False, "idle", 1)
    assert a.name == "a"
    assert abs(b.seen_at - rig.utc()) < 5
    page, cursor = await rig.backend.ask(ListWorkers(limit=1))
    assert ([stats.name for stats in page], cursor) == (["a"], "a")
    page, cursor = await rig.backend.ask(ListWorkers(after="a", limit=1))
    assert ([stats.name for stats in page], cursor) == (["b"], None)
    assert [stats.name for stats in await listed(rig, queue="q")] == ["b"]


async def test_a_worker_that_does_not_wait_is_known_with_all_its_queues(rig: Rig) -> None:
    """So that a token for one of them is not enough to make it quiet."""
    await stands(rig, "b")
    async with rig.backend.dequeue(want("mail", "sms", "bills", worker="a", about=ABOUT), 0) as jobs:
        assert jobs == []
    stats, _ = await listed(rig)
    assert sorted(stats.queues) == ["bills", "mail", "sms"]


async def test_a_worker_with_leases_is_busy(rig: Rig) -> None:
    """And listed for as long as it has them; one that has none goes a minute after its wait has ended."""
    await rig.put_all("x", "y")
    await rig.take_all(limit=2, worker="a", about=ABOUT, lease_seconds=300.0)
    await stands(rig, "a", wait=30.0)
    (stats,) = [stats for stats in await listed(rig) if stats.name == "a"]
    assert (stats.leases, stats.doing) == (2, "busy")


async def test_a_worker_that_asks_no_more_is_silent(rig: Rig) -> None:
    """From a minute on, and is forgotten a quarter of an hour later; one that asks again is idle."""
    await stands(rig, "stays", wait=5_000.0)
    await stands(rig, "goes", wait=1.0)
    await rig.advance(30)
    assert {stats.name: stats.doing for stats in await listed(rig)} == {"stays": "idle", "goes": "idle"}
    await rig.advance(40)
    assert {stats.name: stats.doing for stats in await listed(rig)} == {"stays": "idle", "goes": "silent"}
    await stands(rig, "goes", wait=1.0)
    assert {stats.name: stats.doing for stats in await listed(rig)} == {"stays": "idle", "goes": "idle"}
    await rig.advance(70)
    assert {stats.name: stats.doing for stats in await listed(rig)} == {"stays": "idle", "goes": "silent"}
    await rig.advance(900)
    assert [stats.name for stats in await listed(rig)] == ["stays"]


async def test_a_name_that_two_have_is_said(rig: Rig) -> None:
    """Both are one worker here, of which the last says what it is."""
    await stands(rig, "a")
    await stands(rig, "a", about=About(host="other"))
    (stats,) = await listed(rig)
    assert (stats.instances, stats.about) == (2, About(host="other"))


async def test_a_quiet_worker_is_given_nothing(rig: Rig) -> None:
    """Its held dequeues end at once and say so, and so does each after that; others are served; resumed it is served too."""
    held = await stands(rig, "a")
    other = await stands(rig, "b")
    assert (await rig.backend.ask(SetQuiet(name="a", quiet=True))).quiet
    await rig.idle()
    assert (held.answered, held.jobs, other.answered) == (True, [], False)
    assert [stats.quiet for stats in await listed(rig)] == [True, False]
    await rig.put("x")
    await rig.idle()
    assert other.ids == ["x"]
    await rig.put("y")
    taking = rig.backend.dequeue(want(worker="a", about=ABOUT), 20.0)
    async with taking as jobs:
        assert (jobs, taking.quiet) == ([], True)
        assert not (await rig.backend.ask(SetQuiet(name="a", quiet=False))).quiet
    taking = rig.backend.dequeue(want(worker="a", about=ABOUT), 20.0)
    async with taking as jobs:
        assert ([job.id for job in jobs], taking.quiet) == (["y"], False)
        taking.delivered()


async def test_quiet_survives_a_restart(rig: Rig) -> None:
    """Whoever was told to take nothing does not begin again since the server did."""
    await stands(rig, "a/b", wait=5.0)
    await rig.backend.ask(SetQuiet(name="a/b", quiet=True))
    await rig.idle()
    await rig.put("x")
    taking = rig.backend.dequeue(want(worker="a/b", about=ABOUT), 0.0)
    async with taking as jobs:
        assert (jobs, taking.quiet) == ([], True)


async def test_what_is_refused(rig: Rig) -> None:
    """A worker that nobody knows, one without a name, and words out of bounds: nothing is changed."""
    with pytest.raises(UnknownWorker):
        await rig.backend.ask(SetQuiet(name="a", quiet=True))
    with pytest.raises(UnknownWorker):
        await rig.backend.ask(SetQuiet(name="a", quiet=False))
    for field, about in (
        ("host", About(host="")),
        ("host", About(host="x" * 256)),
        ("concurrency", About(concurrency=0)),
        ("version", About(version="a\n")),
        ("started", About(started=-1.0)),
        ("worker", ABOUT),
    ):
        with pytest.raises(BadRequest) as refused:
            await rig.take_all(worker=None if field == "worker" else "a", about=about)
        assert refused.value.field == field
    assert await listed(rig) == []


async def test_whoever_may_use_some_queues_sees_their_workers(rig: Rig) -> None:
    """Without the names of other queues; one that takes jobs of others too is not theirs to make quiet."""
    await stands(rig, "both", "a", "b")
    await stands(rig, "theirs", "a")
    await stands(rig, "none", "b")
    backend = RestrictedBackend(rig.backend, "t", lambda queue: queue == "a")
    page, _ = await backend.ask(ListWorkers())
    assert [(stats.name, stats.queues) for stats in page] == [("both", ("a",)), ("theirs", ("a",))]
    with pytest.raises(Forbidden):
        await backend.ask(ListWorkers(queue="b"))
    with pytest.raises(Forbidden):
        await backend.ask(SetQuiet(name="both", quiet=True))
    with pytest.raises(UnknownWorker):
        await backend.ask(SetQuiet(name="none", quiet=True))
    assert (await backend.ask(SetQuiet(name="theirs", quiet=True))).quiet


async def test_nobody_makes_a_worker_quiet_by_taking_its_name(rig: Rig) -> None:
    """Whoever may use one queue, and asks for jobs of it under the name of a worker of others, may not quiet that."""
    await stands(rig, "w", "b")
    await stands(rig, "w", "a", about=About(host="other"))
    backend = RestrictedBackend(rig.backend, "t", lambda queue: queue == "a")
    (stats,) = (await backend.ask(ListWorkers()))[0]
    assert (stats.queues, stats.instances) == (("a",), 2)
    with pytest.raises(Forbidden):
        await backend.ask(SetQuiet(name="w", quiet=True))
    assert not (await listed(rig))[0].quiet


async def test_small_pages_of_those_who_see_little_cost_few_walks(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of one passes over all that is not theirs at once, and comes to the same as a large one."""
    for number in range(6):
        await stands(rig, f"w-{number}", "a" if number > 3 else "b")
    walks = []
    beneath = RestrictedBackend.beneath

    async def counted(self: RestrictedBackend, request: Any) -> Any:
        walks.append(request)
        return await beneath(self, request)

    monkeypatch.setattr(RestrictedBackend, "beneath", counted)
    backend = RestrictedBackend(rig.backend, "t", lambda queue: queue == "a")
    page, cursor = await backend.ask(ListWorkers(limit=1))
    assert ([stats.name for stats in page], cursor, len(walks)) == (["w-4"], "w-4", 1)
    page, cursor = await backend.ask(ListWorkers(limit=1, after="w-4"))
    assert ([stats.name for stats in page], cursor) == (["w-5"], None)
