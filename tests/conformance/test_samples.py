"""The history of queues' numbers, which is the same whoever owns the queue, and of which the day outlives the server."""

from __future__ import annotations

import pytest

from jobqueue.backend.requests.samples import GetHistory, Sampled
from jobqueue.errors import UnknownQueue

from .rig import Rig, raised, spec


async def sampled(rig: Rig) -> None:
    """Jobs of two queues, and a step of five minutes that has ended since."""
    await rig.backend.enqueue_batch([spec("a", queue="mail"), spec("b", queue="mail"), spec("c", queue="sms")])
    await rig.advance(301)


async def test_the_day_is_kept(rig: Rig) -> None:
    """A step's samples are there when it is over, for each queue and for all, and when another server goes on."""
    await sampled(rig)
    whole = await rig.backend.ask(GetHistory(span="day"))
    assert (whole.step_seconds, whole.begins_at % 300) == (300, 0)
    assert whole.columns["enqueued"][-1] == 3
    mail = (await rig.backend.ask(GetHistory(span="day", queue="mail"))).columns
    assert (mail["enqueued"][-1], mail["queued"][-1], mail["in_progress"][-1]) == (2, 2, 0)
    assert mail["oldest_seconds"][-1] == pytest.approx(300, abs=1)
    assert {len(column) for column in mail.values()} == {288}


async def test_some_queues_are_added_up(rig: Rig) -> None:
    """Counts and depths are sums, the oldest is the oldest of all."""
    await sampled(rig)
    some = (await rig.backend.ask(GetHistory(span="day", among=("mail", "sms", "unknown")))).columns
    assert some["queued"][-1] == 3
    assert some["oldest_seconds"][-1] == pytest.approx(300, abs=1)
    assert (await rig.backend.ask(GetHistory(span="day", among=()))).columns["queued"][-1] == 0
    assert sorted(await rig.backend.ask(Sampled())) == ["mail", "sms"]


async def test_a_queue_that_is_not_there_has_no_history(rig: Rig) -> None:
    """It is refused as unknown."""
    assert isinstance(await raised(rig.backend.ask(GetHistory(queue="nothing"))), UnknownQueue)
