"""Queues that nobody uses, of every backend."""

from __future__ import annotations

from jobqueue.backend.base import Listen
from jobqueue.backend.requests.schedules import PutSchedule
from jobqueue.errors import UnknownQueue
from jobqueue.limits import Limits
from jobqueue.policy import QueuePolicy
from jobqueue.schedule import Schedule

from .conftest import MakeBackend
from .rig import FAILED_FOR_GOOD, SUCCEEDED, Rig, raised, spec, token

HOUR = Limits().unused_queue_seconds
LONG = 2 * HOUR
"""By then an unused queue is gone: it is noticed when its last lease would have ended, and an hour later looked at again."""


async def names(rig: Rig) -> list[str]:
    """The queues there are."""
    return [queue.name for queue in await rig.backend.queues()]


async def test_a_queue_that_nobody_uses_is_deleted(rig: Rig) -> None:
    """After an hour without a job, and not before; with it its totals, which begin anew with the next job."""
    await rig.finish("j", queue="run-1")
    await rig.advance(HOUR - 1)
    assert await names(rig) == ["run-1"]
    await rig.advance(LONG)
    assert await names(rig) == []
    assert isinstance(await raised(rig.backend.queue("run-1")), UnknownQueue)
    # Its concluded jobs are remembered as long as any.
    assert (await rig.backend.job("j")).queue == "run-1"
    await rig.put("k", queue="run-1")
    assert (await rig.backend.queue("run-1")).enqueued_total == 1


async def test_use_begins_the_hour_anew(rig: Rig) -> None:
    """A job that came and went in between does, however short it was there."""
    await rig.finish("j", queue="q")
    for number in range(3):
        await rig.advance(HOUR * 3 / 4)
        await rig.finish(f"k{number}", queue="q")
    await rig.advance(HOUR * 3 / 4)
    assert await names(rig) == ["q"]
    await rig.advance(LONG)
    assert await names(rig) == []


async def test_a_queue_with_a_job_stays(rig: Rig) -> None:
    """Whether it waits, is scheduled, or is in progress."""
    await rig.put(queue="queued")
    await rig.put(queue="scheduled", delay=10 * HOUR)
    await rig.put(queue="leased")
    await rig.take("leased", lease_seconds=5 * HOUR)
    await rig.advance(2 * HOUR)
    assert await names(rig) == ["leased", "queued", "scheduled"]


async def test_a_queue_that_somebody_waits_for_stays(rig: Rig) -> None:
    """Its totals go on; when the last has gone away, its hour begins."""
    await rig.finish("j", queue="q")
    worker = await rig.stand("q", wait=2 * HOUR)
    await rig.advance(2 * HOUR - 1)
    assert await names(rig) == ["q"]
    await rig.advance(1)
    assert worker.answered
    await rig.advance(HOUR / 2)
    assert await names(rig) == ["q"]
    await rig.advance(LONG)
    assert await names(rig) == []


async def test_a_waiter_of_a_queue_that_went_is_handed_its_next_job(rig: Rig) -> None:
    """A worker that comes after it was deleted waits for its name, as for one that never was."""
    await rig.finish("j", queue="q")
    await rig.advance(LONG)
    worker = await rig.stand("q")
    await rig.put("k", queue="q")
    await rig.idle()
    assert worker.ids == ["k"]


async def test_a_queue_whose_policy_was_set_stays(rig: Rig) -> None:
    """Also where that is the default, and where it was made by use; so does one that was paused, and one of which a key was."""
    await rig.backend.put_policy("made", QueuePolicy())
    for name in ("set", "paused", "keyed"):
        await rig.finish(name, queue=name)
    await rig.backend.put_policy("set", QueuePolicy())
    await rig.backend.set_paused("paused", True)
    await rig.backend.set_paused("paused", False)
    await rig.backend.set_key_paused("keyed", "k", True)
    await rig.backend.set_key_paused("keyed", "k", False)
    await rig.advance(2 * HOUR)
    assert await names(rig) == ["keyed", "made", "paused", "set"]


async def test_a_queue_that_is_named_elsewhere_stays(rig: Rig) -> None:
    """By a policy for its dead letters, or by a schedule for its jobs."""
    await rig.backend.put_policy("default", QueuePolicy(dead_letter="default:dead"))
    await rig.finish("j", FAILED_FOR_GOOD)
    taken = await rig.take("default:dead")
    await rig.backend.conclude("j", token(taken), SUCCEEDED)
    await rig.backend.ask(PutSchedule(name="s", schedule=Schedule(job=spec(queue="nightly"), every=30 * HOUR)))
    await rig.finish("n", queue="nightly")
    await rig.advance(2 * HOUR)
    assert await names(rig) == ["default", "default:dead", "nightly"]


async def test_a_failed_job_of_a_queue_that_went_can_be_retried(rig: Rig) -> None:
    """Its queue is made anew for it."""
    await rig.finish("j", FAILED_FOR_GOOD, queue="q")
    await rig.advance(LONG)
    await rig.backend.retry("j")
    assert (await rig.take("q")).id == "j"


async def test_a_name_for_every_run_does_not_come_to_the_bound(make_backend: MakeBackend) -> None:
    """With room for three queues, any number of them can be used, as long as it is not in one hour."""
    rig = await make_backend(queues_max=3)
    for number in range(9):
        await rig.finish(f"j{number}", queue=f"run-{number}")
        await rig.advance(LONG)
    assert len(await names(rig)) <= 3


async def test_it_can_be_left_undone(make_backend: MakeBackend) -> None:
    """A time of 0 is for ever."""
    rig = await make_backend(unused_queue_seconds=0)
    await rig.finish("j", queue="q")
    await rig.advance(10 * HOUR)
    assert await names(rig) == ["q"]


async def test_listeners_are_told(rig: Rig) -> None:
    """As of a queue that somebody deletes."""
    await rig.finish("j", queue="q")
    async with rig.backend.listen(Listen()) as listening:
        await rig.advance(LONG)
        notices = await listening.notices(100, 0)
    assert notices is not None
    assert [(notice.kind, notice.queue) for notice in notices][-1] == ("queue_deleted", "q")
