"""A worker says of itself what it is, and takes nothing while it is quiet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from jobqueue.about import QUIET_SECONDS
from jobqueue.backend.requests.workers import ListWorkers, SetQuiet
from jobqueue.errors import BadRequest
from jobqueue.model import JobSpec
from jobqueue.worker.handlers import Registry
from jobqueue.worker.running import RunningJob

from .rig import Rig
from .source import Scripted


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.close()


async def test_a_quiet_worker_finishes_and_takes_nothing(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """It says so in its log, asks gently, and goes on when it is resumed."""
    handlers, go_on = Registry(), asyncio.Event()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        await go_on.wait()

    worker = await rig.start(handlers, name="w", version="1.2", concurrency=3)
    first = await rig.put()
    ((stats,), _) = await rig.backend.ask(ListWorkers())
    assert (stats.name, stats.about.version, stats.about.concurrency, stats.leases) == ("w", "1.2", 3, 1)
    assert stats.about.host
    await rig.backend.ask(SetQuiet(name="w", quiet=True))
    await rig.idle()
    assert worker.quiet
    assert "quiet: taking no jobs until resumed" in caplog.text
    second = await rig.put()
    go_on.set()
    await rig.advance(30)
    assert (await rig.job(first)).outcome == "succeeded"
    assert (await rig.job(second)).status == "queued"
    await rig.backend.ask(SetQuiet(name="w", quiet=False))
    await rig.advance(QUIET_SECONDS)
    assert (await rig.job(second)).outcome == "succeeded"
    assert not worker.quiet


async def test_a_job_that_came_before_the_quiet_is_done(rig: Rig) -> None:
    """A job that is handed out in the same turn of the loop in which its worker is made quiet is not left to its lease."""
    handlers = Registry()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None: ...

    worker = await rig.start(handlers, name="w")
    assert rig.backend.waiters == 1
    made = await rig.backend.enqueue(JobSpec(payload=b"1", type="work"))
    await rig.backend.ask(SetQuiet(name="w", quiet=True))
    await rig.idle()
    assert (await rig.job(made.job.id)).outcome == "succeeded"
    await rig.advance(QUIET_SECONDS)
    assert worker.quiet


async def test_a_server_that_lists_no_workers_is_served(rig: Rig) -> None:
    """What it does not know it is not told again."""
    handlers, source = Registry(), Scripted()

    @handlers.handler("work")
    async def work(job: RunningJob) -> None:
        """Nothing."""

    source.takes.append(BadRequest("host", "is unknown"))
    worker = await rig.start(handlers, source)
    source.give()
    await rig.advance(1)
    assert worker.counts.succeeded == 1
    assert [want.about is None for want in source.wants[:2]] == [False, True]


@pytest.mark.parametrize("version", ["", "x" * 65])
def test_a_version_that_is_none(rig: Rig, version: str) -> None:
    """It is refused by name before the server would."""
    with pytest.raises(ValueError, match="version"):
        rig.make(version=version)
