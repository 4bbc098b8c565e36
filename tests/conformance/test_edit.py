"""Editing a job that waits."""

from __future__ import annotations

from typing import Any

import pytest

from jobqueue.errors import BadRequest, InProgress, NotInProgress, QueueError, QueueFull, TooLarge, UnknownJob
from jobqueue.model import Job, JobChange, Status
from jobqueue.policy import PerKey, QueuePolicy

from .rig import FAILED, Rig, raised, spec, token


async def edit(rig: Rig, job_id: str, **change: Any) -> Job:
    """Change a job."""
    return await rig.backend.edit(job_id, JobChange(**change))


async def order(rig: Rig, *queues: str) -> list[str]:
    """Take all that there is, and name it in the order in which it came."""
    return [job.id for job in await rig.take_all(*queues, limit=100)]


async def test_what_is_given_changes_and_nothing_else(rig: Rig) -> None:
    """Payload, description, tags and expiry, without the job losing its place."""
    await rig.put_all("a", "b", tags=("old",), type="t")
    job = await edit(rig, "a", payload=b"[2]", description="new", tags=("x",), expires_in=60.0)
    assert (job.payload, job.description, job.tags, job.type) == (b"[2]", "new", ("x",), "t")
    assert job.expires_at == rig.utc() + 60
    assert (await edit(rig, "a", expires_in=None, description=None)).expires_at is None
    first = await rig.take()
    assert (first.id, first.payload, first.description, first.tags) == ("a", b"[2]", None, ("x",))


async def test_an_edited_expiry_holds(rig: Rig) -> None:
    """A job expires by its new time, also one that had none."""
    await rig.put("a")
    await rig.put("b", expires_in=5)
    await edit(rig, "a", expires_in=10.0)
    await edit(rig, "b", expires_in=20.0)
    await rig.advance(11)
    assert ((await rig.backend.job("a")).status, (await rig.backend.job("b")).status) == (Status.CONCLUDED, Status.QUEUED)


async def test_a_new_priority_means_the_back_of_it(rig: Rig) -> None:
    """Behind all that is there; the same priority again moves nothing."""
    await rig.put_all("a", "b", "c")
    await rig.put("urgent", priority=1)
    await edit(rig, "b", priority=1)
    await edit(rig, "a", priority=5)
    assert await order(rig) == ["urgent", "b", "a", "c"]


async def test_a_new_queue_means_its_back(rig: Rig) -> None:
    """Made if need be; whoever waits there is handed the job at once, and both queues count right."""
    await rig.put_all("a", "b")
    await rig.put("there", queue="default:other")
    assert (await edit(rig, "a", queue="default:other")).queue == "default:other"
    assert await order(rig, "default:other") == ["there", "a"]
    held = await rig.stand("default:new")
    await edit(rig, "b", queue="default:new")
    await rig.idle()
    assert held.ids == ["b"]
    left = await rig.backend.queue("default")
    assert (left.queued, left.moved_out_total, (await rig.backend.queue("default:new")).moved_in_total) == (0, 2, 1)


async def test_a_new_time_schedules_and_queues(rig: Rig) -> None:
    """A queued job waits for it, and then joins the back; a scheduled one is queued at once by a delay of 0."""
    await rig.put_all("a", "b")
    await rig.put("later", delay=1000)
    assert (await edit(rig, "a", delay=10.0)).status is Status.SCHEDULED
    now = rig.utc()
    assert (await edit(rig, "later", run_at=now + 20)).run_at == now + 20
    assert await edit(rig, "b", delay=0.0)
    await rig.advance(10)
    assert (await edit(rig, "later", delay=0.0)).status is Status.QUEUED
    assert await order(rig) == ["b", "a", "later"]


async def test_only_a_job_that_waits_is_edited(rig: Rig) -> None:
    """One in progress and one that is concluded are refused, each with its own code, and stay as they are."""
    await rig.put("a")
    job = await rig.take()
    assert isinstance(await raised(edit(rig, "a", priority=1)), InProgress)
    await rig.backend.conclude("a", token(job), FAILED)
    assert (await edit(rig, "a", priority=1)).status is Status.SCHEDULED
    await rig.backend.cancel("a")
    assert isinstance(await raised(edit(rig, "a", priority=2)), NotInProgress)
    assert isinstance(await raised(edit(rig, "none", priority=2)), UnknownJob)
    assert (await rig.backend.job("a")).priority == 1


@pytest.mark.parametrize(
    ("change", "field", "kind"),
    [
        ({"priority": 10}, "priority", BadRequest),
        ({"queue": "a b"}, "queue", BadRequest),
        ({"delay": -1.0}, "delay", BadRequest),
        ({"delay": 1.0, "run_at": 1.0}, "run_at", BadRequest),
        ({"run_at": 1e12}, "run_at", BadRequest),
        ({"expires_in": 0.0}, "expires_in", BadRequest),
        ({"tags": ("a", "a")}, "tags", BadRequest),
        ({"description": "\x00"}, "description", BadRequest),
        ({"payload": b"1" * 1_100_000}, "payload", TooLarge),
    ],
)
async def test_an_edit_that_cannot_be_changes_nothing(rig: Rig, change: dict[str, Any], field: str, kind: type[QueueError]) -> None:
    """Whatever else it asks for."""
    await rig.put("a")
    error = await raised(edit(rig, "a", **{"payload": b"2", "tags": ("t",), **change}))
    assert isinstance(error, kind)
    assert error.field == field
    job = await rig.backend.job("a")
    assert (job.payload, job.priority, job.tags) == (b"1", 5, ())


async def test_a_queue_that_is_full_takes_no_edited_job(rig: Rig) -> None:
    """By its own bound, or that of the key; the job stays where it is."""
    await rig.backend.put_policy("default:full", QueuePolicy(max_jobs=1))
    await rig.backend.put_policy("default:keyed", QueuePolicy(per_key=PerKey(max_jobs=1)))
    await rig.idle()
    await rig.put("f", queue="default:full")
    await rig.put("k", queue="default:keyed", key="x")
    await rig.put("a", key="x")
    for queue in ("default:full", "default:keyed"):
        assert isinstance(await raised(edit(rig, "a", queue=queue)), QueueFull)
    assert (await rig.backend.job("a")).queue == "default"


async def test_a_key_goes_on_when_its_holder_leaves(rig: Rig) -> None:
    """A job that is between two attempts holds its key, until it is put into another queue; with a new priority it holds it on."""
    await rig.backend.put_policy("default", QueuePolicy(per_key=PerKey(order="fifo")))
    await rig.idle()
    await rig.put_all("a", "b", key="k")
    await rig.backend.conclude("a", token(await rig.take()), FAILED)
    await edit(rig, "a", priority=9)
    assert await order(rig) == []
    await edit(rig, "a", queue="default:other")
    assert await order(rig) == ["b"]


async def test_a_repeat_of_an_edited_job_is_not_compared(rig: Rig) -> None:
    """It is answered the job there is."""
    await rig.put("a", priority=3)
    await edit(rig, "a", payload=b"2")
    reply = await rig.backend.enqueue(spec("a", priority=7))
    assert (reply.created, reply.job.payload, reply.job.priority) == (False, b"2", 3)


async def test_a_job_that_came_back_keeps_its_place_when_its_time_is_edited(rig: Rig) -> None:
    """One that a worker gave back with a delay goes before what never left, once it is told to run at once."""
    await rig.put_all("a", "b")
    taken = await rig.take()
    await rig.backend.release(taken.id, token(taken), 60.0)
    assert (await edit(rig, "a", delay=0.0)).status is Status.QUEUED
    assert await order(rig) == ["a", "b"]
