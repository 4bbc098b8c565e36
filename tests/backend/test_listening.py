"""Listening over a journal: nothing is told before it is committed. And readiness, which the same journal decides."""

from __future__ import annotations

import asyncio

import pytest

from jobqueue.backend.base import Listen, Listening
from jobqueue.backend.local import LocalBackend
from jobqueue.clock import ManualClock
from jobqueue.engine.engine import Engine
from jobqueue.errors import StorageUnavailable
from jobqueue.limits import Limits
from jobqueue.model import JobSpec

from .journals import GatedJournal


class Stand:
    """A backend on a journal that commits when told."""

    def __init__(self, **bounds: int) -> None:
        self.journal = GatedJournal()
        self.clock = ManualClock()
        self.backend = LocalBackend(engine=Engine(Limits(**bounds)), clock=self.clock, journal=self.journal)
        self.tasks: list[asyncio.Task[object]] = []

    async def enqueue(self, job_id: str) -> None:
        """Ask for an enqueue, which waits for its commit."""
        self.tasks.append(asyncio.ensure_future(self.backend.enqueue(JobSpec(payload=b"1", id=job_id))))
        await self.turns()

    async def turns(self) -> None:
        """Let everything happen that can."""
        for _ in range(8):
            await asyncio.sleep(0)

    async def told(self, listening: Listening) -> list[str]:
        """The ids of the jobs that a listener is told of by now."""
        await self.turns()
        notices = await listening.notices(100, 0)
        assert notices is not None
        return [notice.id for notice in notices if notice.id is not None]

    async def close(self) -> None:
        """Close; whoever still waits is answered."""
        await self.backend.close()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_an_event_is_told_when_it_is_committed() -> None:
    """Not before, one commit after another."""
    stand = Stand()
    async with stand.backend.listen(Listen()) as listening:
        await stand.enqueue("1")
        first = stand.journal.ticket
        await stand.enqueue("2")
        assert await stand.told(listening) == []
        stand.journal.commit(first)
        assert await stand.told(listening) == ["1"]
        stand.journal.commit()
        assert await stand.told(listening) == ["2"]
        await stand.enqueue("3")
        assert await stand.told(listening) == []
        stand.journal.commit()
        assert await stand.told(listening) == ["3"]
    await stand.close()


async def test_a_commit_wakes_who_waits() -> None:
    """The listener that waits is told in the turn of the commit."""
    stand = Stand()
    async with stand.backend.listen(Listen()) as listening:
        asking = asyncio.ensure_future(listening.notices(100, 60))
        await stand.enqueue("1")
        assert not asking.done()
        stand.journal.commit()
        await stand.turns()
        assert [notice.id for notice in await asking or []] == [None, "1"]
    await stand.close()


async def test_what_could_not_be_committed_is_told_once_it_is() -> None:
    """Nothing is told while the storage fails; when it works again, at the latest the next question brings it."""
    stand = Stand()
    async with stand.backend.listen(Listen()) as listening:
        await stand.enqueue("1")
        stand.journal.fail()
        assert await stand.told(listening) == []
        assert await stand.told(listening) == []
        stand.journal.recover()
        await listening.notices(100, 0)
        assert await stand.told(listening) == ["1"]
    await stand.close()


async def test_events_that_wait_for_a_commit_are_bounded_too() -> None:
    """A listener misses what the ring had to drop before it was committed, and is let go."""
    stand = Stand(notices_max=2)
    async with stand.backend.listen(Listen()) as listening:
        for job_id in ("1", "2", "3"):
            await stand.enqueue(job_id)
        stand.journal.commit()
        await stand.turns()
        assert await listening.notices(100, 0) is None
    await stand.close()


async def test_a_backend_whose_storage_fails_takes_no_new_work() -> None:
    """It says so for as long as it lasts."""
    stand = Stand()
    await stand.backend.check()
    stand.journal.fail()
    with pytest.raises(StorageUnavailable):
        await stand.backend.check()
    stand.journal.recover()
    await stand.backend.check()
    await stand.close()
