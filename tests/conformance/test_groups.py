"""Groups, of every backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from jobqueue.backend.requests.groups import CancelGroup, CloseGroup, CreateGroup, GetGroup, ListGroups
from jobqueue.errors import GroupClosed, IdConflict, TooManyGroups, UnknownGroup
from jobqueue.group import GroupSpec, GroupStats
from jobqueue.model import JobFilter, Outcome

from .conftest import MakeBackend
from .rig import FAILED_FOR_GOOD, SUCCEEDED, Rig, raised, spec, token

Watch = Callable[..., Awaitable[asyncio.Task[GroupStats]]]


@pytest.fixture
async def watch(rig: Rig) -> AsyncIterator[Watch]:
    """Starts requests that wait for a group's end."""
    tasks: list[asyncio.Task[GroupStats]] = []

    async def start(group_id: str, wait: float = 60.0) -> asyncio.Task[GroupStats]:
        task = asyncio.create_task(rig.backend.ask(GetGroup(id=group_id, wait=wait)))  # type: ignore[arg-type]
        tasks.append(task)
        await rig.idle()
        return task

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def create(rig: Rig, group_id: str | None = "g", **fields: object) -> GroupStats:
    """Make a group whose callbacks go to the queue `after`."""
    asked = GroupSpec(id=group_id, on_concluded=spec(queue="default:after"), on_succeeded=spec(queue="default:after"), **fields)  # type: ignore[arg-type]
    return (await rig.backend.ask(CreateGroup(spec=asked)))[0]


async def end(rig: Rig, outcome: Outcome = Outcome.SUCCEEDED) -> None:
    """Have the next job of the default queue end."""
    job = await rig.take()
    await rig.backend.conclude(job.id, token(job), SUCCEEDED if outcome is Outcome.SUCCEEDED else FAILED_FOR_GOOD)


async def test_whoever_waits_is_answered_with_the_last_end(rig: Rig, watch: Watch) -> None:
    """Not before the group is closed; callbacks are there then."""
    await create(rig)
    await rig.put_all("a", "b", group="g")
    waiting = [await watch("g"), await watch("g")]
    await end(rig)
    await rig.backend.ask(CloseGroup(id="g"))
    await rig.idle()
    assert not any(task.done() for task in waiting)
    await end(rig)
    await rig.idle()
    for task in waiting:
        stats = task.result()
        assert (stats.concluded, stats.members, stats.ended, stats.live) == (True, 2, 2, 0)
        assert stats.on_concluded is not None
        assert (stats.on_concluded.state, stats.on_concluded.job) == ("made", "g:concluded")
    assert [(await rig.take("default:after")).id, (await rig.take("default:after")).id] == ["g:concluded", "g:succeeded"]
    assert await rig.take_all("default:after") == []


async def test_a_wait_that_passes_is_answered_the_group_as_it_is(rig: Rig, watch: Watch) -> None:
    """And one for a group that has concluded, or that nobody knows, does not wait."""
    await create(rig)
    await rig.put("a", group="g")
    task = await watch("g", 5.0)
    await rig.advance(5)
    assert (task.result().concluded, task.result().live) == (False, 1)
    await rig.backend.ask(CancelGroup(id="g"))
    await rig.idle()
    await rig.advance(1)
    assert (await rig.backend.ask(GetGroup(id="g", wait=60.0))).concluded
    assert isinstance(await raised(rig.backend.ask(GetGroup(id="h", wait=60.0))), UnknownGroup)


async def test_a_closed_empty_group_has_concluded(rig: Rig, watch: Watch) -> None:
    """In the step that closes it."""
    await create(rig)
    task = await watch("g")
    stats = await rig.backend.ask(CloseGroup(id="g"))
    await rig.idle()
    assert stats.concluded
    assert task.result().concluded
    assert len(await rig.take_all("default:after", limit=9)) == 2


async def test_a_failure_keeps_on_succeeded_back_until_a_retry_has_succeeded(rig: Rig) -> None:
    """on_concluded does not come again."""
    await create(rig)
    await rig.put("a", group="g")
    await rig.backend.ask(CloseGroup(id="g"))
    await end(rig, Outcome.FAILED)
    assert [job.id for job in await rig.take_all("default:after", limit=9)] == ["g:concluded"]
    await rig.backend.retry("a")
    stats = await rig.backend.ask(GetGroup(id="g"))
    assert (stats.concluded, stats.live, stats.failed) == (False, 1, 0)
    await end(rig)
    assert [job.id for job in await rig.take_all("default:after", limit=9)] == ["g:succeeded"]


async def test_cancel_closes_and_cancels(rig: Rig) -> None:
    """Those that wait at once; the group's end is counted like any other (oban#799)."""
    await create(rig)
    await rig.put_all("a", "b", group="g")
    stats = await rig.backend.ask(CancelGroup(id="g"))
    assert (stats.closed, stats.cancelled) == (True, True)
    await rig.idle()
    await rig.advance(1)
    stats = await rig.backend.ask(GetGroup(id="g"))
    assert (stats.concluded, stats.cancelled_jobs) == (True, 2)
    assert [job.id for job in await rig.take_all("default:after", limit=9)] == ["g:concluded"]
    assert isinstance(await raised(rig.put("c", group="g")), GroupClosed)


async def test_groups_are_made_once_and_listed(rig: Rig) -> None:
    """Page by page, by id; the same again is the same group, another under its id is refused."""
    for name in ("b", "a", "c"):
        await create(rig, name)
    assert (await rig.backend.ask(CreateGroup(spec=GroupSpec(id="d"))))[1]
    assert not (await rig.backend.ask(CreateGroup(spec=GroupSpec(id="d"))))[1]
    assert isinstance(await raised(rig.backend.ask(CreateGroup(spec=GroupSpec(id="a")))), IdConflict)
    page, cursor = await rig.backend.ask(ListGroups(limit=3))
    assert ([each.id for each in page], cursor) == (["a", "b", "c"], "c")
    page, cursor = await rig.backend.ask(ListGroups(after="c", limit=3))
    assert ([each.id for each in page], cursor) == (["d"], None)


async def test_groups_are_bounded(make_backend: MakeBackend) -> None:
    """As many may be open, no more; those that have concluded do not count, and the oldest of them are forgotten."""
    rig = await make_backend(groups_max=1, groups_kept_max=1)
    await create(rig, "a")
    assert isinstance(await raised(create(rig, "b")), TooManyGroups)
    await rig.backend.ask(CloseGroup(id="a"))
    await create(rig, "b")
    await rig.backend.ask(CloseGroup(id="b"))
    assert isinstance(await raised(rig.backend.ask(GetGroup(id="a"))), UnknownGroup)
    assert (await rig.backend.ask(GetGroup(id="b"))).concluded


async def test_members_are_listed(rig: Rig) -> None:
    """By the group's id."""
    await create(rig)
    await rig.put_all("a", "b", group="g")
    await rig.put("c")
    found, _ = await rig.backend.jobs(JobFilter(group="g"))
    assert [job.id for job in found] == ["b", "a"]
    assert isinstance(await raised(rig.put("d", group="h")), UnknownGroup)


async def test_a_group_larger_than_history_is_counted_whole(make_backend: MakeBackend) -> None:
    """Also over restarts."""
    rig = await make_backend(history_jobs_max=2)
    await create(rig)
    for name in ("a", "b", "c", "d", "e"):
        await rig.put(name, group="g")
        await end(rig)
    stats = await rig.backend.ask(CloseGroup(id="g"))
    assert (stats.succeeded, stats.concluded) == (5, True)
    assert len(await rig.take_all("default:after", limit=9)) == 2


async def test_a_drain_answers_whoever_waits_for_a_group(rig: Rig, watch: Watch) -> None:
    """With the group as it is."""
    await create(rig)
    await rig.put("a", group="g")
    task = await watch("g")
    rig.backend.drain()
    await rig.idle()
    assert task.done()
