"""What a front tells its clients is what the owner would: health, events up to the end, and who ended a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from jobqueue.backend.base import Listen
from jobqueue.errors import NotInProgress, StorageUnavailable
from jobqueue.limits import Limits
from jobqueue.model import Outcome, Verdict
from tests.backend.journals import GatedJournal
from tests.conformance.remote import RemoteRig
from tests.conformance.rig import raised, spec, token


@pytest.fixture
async def rig() -> AsyncIterator[RemoteRig]:
    """An owner and a front, linked."""
    made = RemoteRig(Limits())
    await made.backend.stats()
    yield made
    await made.close()


async def test_a_front_is_not_ready_while_the_owners_storage_fails(rig: RemoteRig) -> None:
    """Work that is sent to it could not be stored either; it says so for as long as it lasts."""
    journal = rig.local.journal = GatedJournal()
    journal.fail()
    assert type(await raised(rig.backend.check())) is StorageUnavailable
    journal.recover()
    await rig.backend.check()


@pytest.mark.parametrize("turns", range(8))
async def test_a_front_that_drains_tells_its_listeners_what_has_happened(rig: RemoteRig, turns: int) -> None:
    """Also what was on its way, wherever on it: the events end after the last one and not before it."""
    ids = []
    async with rig.backend.listen(Listen()) as listening:
        first = asyncio.create_task(listening.notices(10, 60))  # type: ignore[arg-type]
        await rig.idle()
        await rig.local.enqueue(spec("j"))
        for _ in range(turns):
            await asyncio.sleep(0)
        rig.backend.drain()
        await rig.idle()
        told = first.result()
        while told is not None:
            ids += [notice.id for notice in told if notice.id is not None]
            told = await listening.notices(10, 60)
    assert ids == ["j"]


async def test_of_many_who_end_a_job_once_one_has(rig: RemoteRig) -> None:
    """Those who found the token in the job, all of them before any ended it, are refused but for one."""
    await rig.put("j")
    await rig.take()
    found = await asyncio.gather(*(rig.backend.job("j") for _ in range(5)))
    verdict = Verdict(outcome=Outcome.SUCCEEDED, once=True)
    replies = await asyncio.gather(*(rig.backend.conclude("j", token(job), verdict) for job in found), return_exceptions=True)
    assert [type(reply) for reply in replies[1:]] == [NotInProgress] * 4
    assert not isinstance(replies[0], BaseException)
