"""`client.group`, `client.groups` and jobs that are after others, against a real server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobqueue import AsyncClient, Client, GroupClosed, NewJob, UnknownGroup, UnknownJob


async def work(url: str, count: int, queue: str = "default") -> list[Any]:
    """Have so many jobs succeed with their payload doubled; what each was told of its parents."""
    told = []
    async with AsyncClient(url) as client:
        for _ in range(count):
            job = await client.dequeue(queue, wait=10)
            assert job is not None
            told.append([(each.id, each.outcome, each.result) for each in job.parents])
            await client.conclude(job.id, job.lease.token, "succeeded", result=job.payload * 2)
    return told


async def test_the_end_of_the_block_waits_for_all(url: str) -> None:
    """With tasks, and with threads; then the group says how its jobs ended, and a job that it enqueued is there."""
    working = asyncio.create_task(work(url, 4))
    async with AsyncClient(url) as client:
        async with client.group(on_succeeded=NewJob("done", queue="later")) as group:
            await group.enqueue(1)
            await group.enqueue_batch([NewJob(2)])
        assert (group.info.concluded, group.info.succeeded, group.info.members) == (True, 2, 2)
        assert group.info.on_succeeded is not None
        assert (await client.job(group.info.on_succeeded.job or "")).payload == "done"

    def threads() -> None:
        with Client(url) as client:
            with client.group("named") as group:
                group.enqueue(3, id="three")
                group.enqueue(4)
            assert (group.info.concluded, group.info.succeeded) == (True, 2)
            assert [info.id for info in client.groups.list()] == sorted([group.id, *[each.id for each in client.groups.list()][:-1]])
            assert {job.id for job in client.jobs(group="named").jobs} >= {"three"}

    await asyncio.to_thread(threads)
    await working


async def test_a_block_that_raises_cancels_the_group(url: str) -> None:
    """Its jobs are not left behind."""
    async with AsyncClient(url) as client:
        with pytest.raises(ZeroDivisionError):  # noqa: PT012 # the block is what raises
            async with client.group("g") as group:
                await group.enqueue(1, id="one")
                raise ZeroDivisionError
        info = await client.groups.wait("g", 10)
        assert (info.closed, info.concluded, info.cancelled, info.cancel_requested) == (True, True, 1, True)
        with pytest.raises(GroupClosed):
            await client.enqueue(1, group="g")
        with pytest.raises(UnknownGroup):
            await client.groups.get("h")


async def test_a_child_is_told_of_its_parents(url: str) -> None:
    """When it is taken; until then it says for whom it waits."""
    async with AsyncClient(url) as client:
        await client.enqueue(1, id="one")
        await client.enqueue(10, id="child", after=["one"], after_failure="run")
        child = await client.job("child")
        assert child.waiting_for is not None
        assert (child.after, child.after_failure, child.waiting_for[0].jobs) == (("one",), "run", ("one",))
        assert await work(url, 2) == [[], [("one", "succeeded", 2)]]
        assert [job.id for job in (await client.jobs(parent="one")).jobs] == ["child"]
        with pytest.raises(UnknownJob):
            await client.enqueue(1, after=["nobody"])
