"""What becomes of waiters and of jobs that were handed out when the link between two servers breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobqueue.backend.base import Taking
from jobqueue.backend.store import messages as m
from jobqueue.backend.store.front import REFUSED_SECONDS
from jobqueue.backend.store.moved import Moved
from jobqueue.limits import Limits
from jobqueue.model import Job, JobFilter
from tests.conformance.remote import RemoteRig
from tests.conformance.rig import SUCCEEDED, Held, spec, want

from .links import cut, links


@pytest.fixture
async def rig() -> AsyncIterator[RemoteRig]:
    """An owner and a front, linked."""
    made = RemoteRig(Limits())
    await made.backend.stats()
    yield made
    await made.close()


async def test_a_waiter_whose_link_breaks_leaves_the_line(rig: RemoteRig) -> None:
    """It is told Moved; the job that comes goes to the next, who asks through another server."""
    waiter = await rig.stand()
    other = Held(rig.between.front("other"), want(), 60)
    await rig.idle()
    cut(links(rig)[0])
    await rig.idle()
    assert type(waiter.task.exception()) is Moved
    await rig.local.enqueue(spec("j"))
    await rig.idle()
    assert other.ids == ["j"]


@pytest.mark.parametrize("side", [0, 1], ids=["front", "owner"])
async def test_jobs_of_which_nothing_was_sent_are_put_back(rig: RemoteRig, side: int) -> None:
    """The link breaks in the turn in which the owner answers: the jobs are back, their attempts not counted."""
    waiter = await rig.stand()
    owner = links(rig)[1]
    await rig.local.enqueue(spec("j"))
    for _ in range(20):
        if owner._takings:
            break
        await asyncio.sleep(0)
    cut(links(rig)[side])
    owner.fail("is cut")
    assert rig.local.totals().leases == 0
    await rig.idle()
    assert waiter.answered
    assert rig.between.returned == []
    assert [(job.id, job.attempts) for job in await rig.take_all()] == [("j", 1)]


async def taken_over_a_link_that_broke(rig: RemoteRig) -> tuple[Taking, Job]:
    """A front has a job, its link ends, and it has not said what became of the job."""
    await rig.put("j")
    taking = rig.backend.dequeue(want(), 0)
    (job,) = await taking.__aenter__()
    cut(links(rig)[0])
    await rig.idle()
    return taking, job


async def test_jobs_that_were_sent_stay_leased_when_the_link_breaks(rig: RemoteRig) -> None:
    """The front may have delivered them already, and its word be lost. Put back, they would be with two workers."""
    taking, job = await taken_over_a_link_that_broke(rig)
    assert (rig.local.totals().leases, rig.local.totals().undelivered_total) == (1, 0)
    assert await rig.take_all() == []
    taking.delivered()
    await taking.__aexit__(None, None, None)
    assert rig.between.returned == []
    assert job.lease is not None
    assert (await rig.backend.conclude("j", job.lease.token, SUCCEEDED)).status == "concluded"


async def test_jobs_that_could_not_be_delivered_are_given_back_when_the_link_broke(rig: RemoteRig) -> None:
    """The front has no link any more by which to refuse them."""
    taking, job = await taken_over_a_link_that_broke(rig)
    await taking.__aexit__(None, None, None)
    assert [returned.id for returned in rig.between.returned] == [job.id] == ["j"]


@pytest.mark.parametrize("first", ["gone", "answered"])
async def test_jobs_whose_refusal_may_be_lost_are_given_back(rig: RemoteRig, first: str) -> None:
    """Whoever asked goes in the turn in which the jobs come, and the link breaks with the refusal on its way: none is left with nobody."""
    waiter = await rig.stand()
    front, _ = links(rig)
    read = front.got

    def got(message: Any) -> None:
        if first == "gone":
            waiter.task.cancel()
        read(message)
        if first == "answered":
            waiter.task.cancel()
        asyncio.get_running_loop().call_soon(cut, front)

    front.got = got  # type: ignore[method-assign]
    await rig.local.enqueue(spec("j"))
    await rig.idle()
    assert waiter.task.cancelled()
    assert [job.id for job in rig.between.returned] == ["j"]


@pytest.mark.parametrize("turns", range(12))
async def test_jobs_of_a_listing_that_nobody_waits_for_stay_with_their_workers(rig: RemoteRig, turns: int) -> None:
    """Whoever lists jobs and leaves, at whichever turn, was handed none of them: they are not given back when the link breaks."""
    await rig.put_all("j", "k")
    assert len(await rig.take_all(limit=2)) == 2
    listing = asyncio.ensure_future(rig.backend.jobs(JobFilter()))
    for _ in range(turns):
        await asyncio.sleep(0)
    listing.cancel()
    await rig.idle()
    cut(links(rig)[0])
    await rig.idle()
    assert rig.between.returned == []


async def test_a_refusal_of_long_ago_has_arrived(rig: RemoteRig) -> None:
    """What was put back over a link that lived on is not given back once more when it ends."""
    await rig.put("j")
    for seconds in (REFUSED_SECONDS / 2, REFUSED_SECONDS + 1.0):
        taking = rig.backend.dequeue(want(), 0)
        assert await taking.__aenter__()
        await taking.__aexit__(None, None, None)
        for _ in range(int(seconds)):
            # By the second, or the link would be silent for too long.
            await rig.idle()
            rig.between.clock.advance(1.0)
    front = links(rig)[0]
    cut(front)
    await rig.idle()
    assert rig.between.returned == []


async def test_delivered_jobs_stay_with_their_worker(rig: RemoteRig) -> None:
    """The link breaks after the owner was told: the lease holds, and the worker concludes through the next link."""
    await rig.put("j")
    job = await rig.take()
    await rig.idle()
    cut(links(rig)[0])
    await rig.idle()
    assert job.lease is not None
    assert (await rig.backend.conclude("j", job.lease.token, SUCCEEDED)).status == "concluded"


async def test_jobs_that_came_before_the_link_broke_are_handed_out(rig: RemoteRig) -> None:
    """The answer has been read, and the link ends before whoever asked goes on: the jobs are leased to that request."""
    await rig.put("j")
    task = asyncio.create_task(rig.take_all())
    front, _ = links(rig)
    read = front.got

    def got(message: Any) -> None:
        read(message)
        if type(message) is m.GotJobs:
            front.fail("is cut")

    front.got = got  # type: ignore[method-assign]
    await rig.idle()
    assert [job.id for job in task.result()] == ["j"]
    assert rig.local.totals().leases == 1


@pytest.mark.parametrize("by_end", [False, True], ids=["created", "concluded"])
async def test_a_page_larger_than_a_frame_is_cut_and_goes_on(rig: RemoteRig, by_end: bool) -> None:
    """In either order, each job once."""
    owner = links(rig)[1]
    for number in range(7):
        await rig.finish(f"j{number}", payload=b'"' + b"x" * 3_000 + b'"')
        await rig.advance(1)
    owner.frame_bytes_max = 20_000
    found, cursor, pages = list[str](), None, 0
    while pages == 0 or cursor is not None:
        page, cursor = await rig.backend.jobs(JobFilter(limit=10, by_end=by_end, before=cursor))  # type: ignore[arg-type]
        found, pages = found + [job.id for job in page], pages + 1
    assert found == [f"j{number}" for number in range(6, -1, -1)]
    assert pages > 1
