"""A queue that is deleted with its jobs, between the slices of it, which a backend in this process alone can show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from jobqueue.backend.requests import queues
from jobqueue.backend.requests.groups import CloseGroup, CreateGroup
from jobqueue.backend.requests.queues import DeleteQueue, PurgeAll
from jobqueue.group import GroupSpec
from jobqueue.limits import Limits
from jobqueue.model import Outcome, Status
from jobqueue.policy import PerKey, QueuePolicy
from tests.conformance.rig import LocalRig, spec
from tests.engine.invariants import invariants


@pytest.fixture
async def rig() -> AsyncIterator[LocalRig]:
    made = LocalRig(Limits())
    yield made
    invariants(made.backend.engine)
    await made.close()


async def test_what_the_last_step_makes_goes_too(rig: LocalRig) -> None:
    """A job that came meanwhile is the last of a group, and its end enqueues another: the queue is gone all the same."""
    await rig.backend.ask(CreateGroup(spec=GroupSpec(id="g", queue="default", on_concluded=spec(queue="default"))))
    await rig.put("a")
    deleting = asyncio.create_task(rig.backend.ask(DeleteQueue(name="default")))
    await asyncio.sleep(0)
    assert (await rig.backend.job("a")).outcome is Outcome.CANCELLED
    await rig.put("late", group="g")
    await rig.backend.ask(CloseGroup(id="g"))
    assert await deleting == 3
    assert await rig.backend.queues() == []


async def test_a_producer_does_not_keep_it_for_ever(rig: LocalRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that brings in more in each turn than a slice ends at first: more is done in one step, until it is through."""
    monkeypatch.setattr(queues, "SLICE", 2)
    monkeypatch.setattr(queues, "SLICE_MAX", 64)
    await rig.put_all("a", "b", "c")
    deleting = asyncio.create_task(rig.backend.ask(DeleteQueue(name="default")))
    for _ in range(1_000):
        if deleting.done():
            break
        await rig.backend.enqueue_batch([spec() for _ in range(5)])
        await asyncio.sleep(0)
    assert deleting.done()


async def test_who_waits_is_handed_nothing_that_stays(rig: LocalRig) -> None:
    """Of an ordered key the next job may go when the one before it ends: who is handed it learns at the next word that it has ended."""
    await rig.backend.put_policy("default", QueuePolicy(per_key=PerKey("fifo")))
    await rig.backend.enqueue_batch([spec(f"j{n}", key="k") for n in range(1_200)])
    await rig.take()
    waiter = await rig.stand()
    assert await rig.backend.ask(PurgeAll(name="default")) == 1_200
    await rig.idle()
    assert (await rig.backend.queue("default")).in_progress == 0
    for job_id in waiter.ids if waiter.answered else []:
        assert (await rig.backend.job(job_id)).status is Status.CONCLUDED
