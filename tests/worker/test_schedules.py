"""What a handler is told of the schedule that made its job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from jobqueue.backend.requests.schedules import PutSchedule, RunSchedule
from jobqueue.client.types import MadeBy
from jobqueue.model import JobSpec
from jobqueue.schedule import Schedule
from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import RunningJob

from .rig import Rig


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


async def test_a_handler_sees_the_slot(rig: Rig) -> None:
    """Its time, None of a run by hand; and no schedule where none made the job."""
    seen: list[MadeBy | None] = []
    handlers = Registry()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        seen.append(job.schedule)

    job = JobSpec(payload=b"1", type="work")
    await rig.backend.ask(PutSchedule(name="s", schedule=Schedule(job=job, every=86_400.0, starts_at=946_684_800.0)))
    made, created = await rig.backend.ask(RunSchedule(name="s"))
    assert created
    assert made.schedule == "s"
    await rig.put()
    await rig.start(handlers)
    due = (await rig.backend.ask(PutSchedule(name="s", schedule=Schedule(job=job, every=86_400.0, starts_at=946_684_800.0)))).next[0]
    await rig.advance(due - rig.clock.now() - rig.clock.skew(), 3_600.0)
    assert seen == [MadeBy("s", None), None, MadeBy("s", datetime.fromtimestamp(due, UTC))]
