"""Schedules, of every backend: what is asked about them, and that their jobs come."""

from __future__ import annotations

import pytest

from jobqueue.backend.requests.schedules import (
    Backfill,
    ChangeSchedule,
    DeleteSchedule,
    GetSchedule,
    ListSchedules,
    PutSchedule,
    RunSchedule,
)
from jobqueue.errors import BadRequest, UnknownSchedule
from jobqueue.model import Status
from jobqueue.schedule import Schedule, ScheduleChange

from .rig import Rig, spec


def every(seconds: float, **fields: object) -> Schedule:
    return Schedule(job=spec(payload=b"[1]"), every=seconds, **fields)  # type: ignore[arg-type]


async def test_a_schedule_makes_a_job_at_each_slot(rig: Rig) -> None:
    """Under an id that says which, handed to whoever waits for it in that step; what it made is shown."""
    made = await rig.backend.ask(PutSchedule(name="s", schedule=every(10)))
    assert (made.name, len(made.next)) == ("s", 5)
    assert made.next[0] == pytest.approx(made.begun_at + 10)
    waiter = await rig.stand()
    await rig.advance(10)
    (job,) = waiter.jobs
    assert (job.schedule, job.payload, job.attempts) == ("s", b"[1]", 1)
    assert job.id.startswith("s@")
    shown = await rig.backend.ask(GetSchedule(name="s"))
    assert (shown.last_job, shown.running, shown.made_total) == (job.id, (job.id,), 1)


async def test_one_that_is_put_twice_is_one(rig: Rig) -> None:
    """It stays as it is and makes each job once; another payload keeps its times, and the next job has it."""
    first = await rig.backend.ask(PutSchedule(name="s", schedule=every(60, overlap="allow")))
    await rig.advance(30)
    assert await rig.backend.ask(PutSchedule(name="s", schedule=every(60, overlap="allow"))) == first
    await rig.advance(30)
    other = Schedule(job=spec(payload=b"[2]"), every=60, overlap="allow")
    changed = await rig.backend.ask(PutSchedule(name="s", schedule=other))
    assert (changed.begun_at, changed.made_total) == (first.begun_at, 1)
    assert await rig.backend.ask(PutSchedule(name="s", schedule=other)) == changed
    await rig.advance(60)
    jobs = [await rig.backend.job(job_id) for job_id in (await rig.backend.ask(GetSchedule(name="s"))).running]
    assert [job.payload for job in jobs] == [b"[1]", b"[2]"]


async def test_schedules_are_listed_by_name(rig: Rig) -> None:
    """Page by page, each with its next slot."""
    for name in ("b", "a", "c"):
        await rig.backend.ask(PutSchedule(name=name, schedule=every(60)))
    page, cursor = await rig.backend.ask(ListSchedules(limit=2))
    assert ([each.name for each in page], cursor) == (["a", "b"], "b")
    assert [len(each.next) for each in page] == [1, 1]
    page, cursor = await rig.backend.ask(ListSchedules(after="b", limit=2))
    assert ([each.name for each in page], cursor) == (["c"], None)


async def test_a_schedule_is_changed_run_and_deleted(rig: Rig) -> None:
    """Paused it has no next slot; run, it makes a job beside them; deleted, it is unknown, and its jobs stay."""
    await rig.backend.ask(PutSchedule(name="s", schedule=every(60)))
    changed = await rig.backend.ask(ChangeSchedule(name="s", change=ScheduleChange(paused=True)))
    assert (changed.schedule.paused, changed.next) == (True, ())
    job, _ = await rig.backend.ask(RunSchedule(name="s"))
    assert (job.schedule, job.status) == ("s", Status.QUEUED)
    await rig.backend.ask(DeleteSchedule(name="s"))
    assert (await rig.backend.job(job.id)).schedule == "s"
    for gone in (GetSchedule(name="s"), DeleteSchedule(name="s"), RunSchedule(name="s")):
        with pytest.raises(UnknownSchedule):
            await rig.backend.ask(gone)


async def test_past_slots_are_run_on_request(rig: Rig) -> None:
    """Those of a stretch of time, under the ids that they would have had, once."""
    await rig.backend.ask(PutSchedule(name="s", schedule=every(10, overlap="allow", starts_at=rig.utc())))
    end = rig.utc()
    ids = await rig.backend.ask(Backfill(name="s", start=end - 25, end=end))
    assert len(ids) == len(set(ids))
    assert await rig.backend.ask(Backfill(name="s", start=end - 25, end=end)) == ids


async def test_a_schedule_that_cannot_be_changes_nothing(rig: Rig) -> None:
    """A field that is wrong is named."""
    with pytest.raises(BadRequest) as caught:
        await rig.backend.ask(PutSchedule(name="s", schedule=Schedule(job=spec(), cron="99 * * * *")))
    assert caught.value.field == "cron"
    with pytest.raises(UnknownSchedule):
        await rig.backend.ask(GetSchedule(name="s"))
