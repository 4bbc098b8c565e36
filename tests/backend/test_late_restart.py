"""Late successes, times of unique keys and purges when a server ends and another goes on from its rows."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from jobqueue.backend.requests.queues import DeleteQueue, PurgeAll
from jobqueue.limits import Limits
from jobqueue.model import Outcome, Status, Verdict
from jobqueue.policy import PerKey, QueuePolicy
from jobqueue.unique import Unique
from tests.backend.restarting import started_anew
from tests.conformance.durable import DurableRig
from tests.conformance.rig import FAILED_FOR_GOOD, SUCCEEDED, raised, spec, token

LATE = Verdict(outcome=Outcome.SUCCEEDED, late=True)
ONCE = Unique("k/1", "enqueued", 300.0)


@pytest.fixture
async def rig() -> AsyncIterator[DurableRig]:
    """A server on a file."""
    made = await DurableRig(Limits(history_jobs_max=2)).opened()
    yield made
    await made.close()


async def test_a_late_success_is_taken_after_a_restart(rig: DurableRig) -> None:
    """The job waited through it, as a dead letter too; one that was handed out again was lost before it and is so after it."""
    await rig.backend.put_policy("dying", QueuePolicy(max_attempts=1, dead_letter="dead"))
    await rig.put("letter", queue="dying")
    await rig.put_all("waits", "lost")
    tokens = {job.id: token(job) for job in await rig.take_all("default", "dying", limit=3, lease_seconds=5)}
    await rig.advance(5)
    (again,) = [job for job in await rig.take_all(limit=2) if job.id == "lost"]
    await started_anew(rig)
    assert (await rig.backend.conclude("letter", tokens["letter"], LATE)).outcome is Outcome.SUCCEEDED
    assert (await raised(rig.backend.conclude("lost", tokens["lost"], LATE))).code == "lease_lost"
    await rig.backend.release("lost", token(again), 0.0)
    await started_anew(rig)
    assert (await raised(rig.backend.conclude("lost", tokens["lost"], LATE))).code == "lease_lost"


async def test_a_lease_of_zero_is_not_held_longer_for_a_restart(rig: DurableRig) -> None:
    """Its worker had nothing to extend."""
    await rig.put("j")
    await rig.take(lease_seconds=0)
    await rig.local.close()
    rig.backend = rig.local = await rig.start()
    await rig.idle()
    assert (await rig.backend.job("j")).status is Status.QUEUED


@pytest.mark.parametrize("state", ["waits", "in progress", "ended", "forgotten"])
async def test_a_time_that_an_enqueue_holds_is_known(rig: DurableRig, state: str) -> None:
    """Within it the first is answered, after it there is a new one; and two live jobs of one key are no contradiction."""
    made = (await rig.backend.enqueue(spec("j", unique=ONCE))).job
    if state != "waits":
        job = await rig.take(lease_seconds=1_000)
        if state != "in progress":
            await rig.backend.conclude("j", token(job), SUCCEEDED)
    if state == "forgotten":
        for other in "abc":
            await rig.finish(other)
    await started_anew(rig)
    answered = await rig.backend.enqueue(spec(unique=ONCE))
    assert (answered.job.id, answered.job.number, answered.created) == ("j", made.number, False)
    await rig.advance(300)
    await started_anew(rig)
    second = await rig.backend.enqueue(spec("second", unique=ONCE))
    assert second.created
    await started_anew(rig)
    assert (await rig.backend.enqueue(spec(unique=ONCE))).job.id == "second"


@pytest.mark.parametrize("state", ["waits", "in progress", "ended", "forgotten"])
@pytest.mark.parametrize("unique", [ONCE, Unique("k/1", for_=300.0)], ids=["enqueued", "concluded"])
async def test_a_purge_is_not_forgotten(rig: DurableRig, state: str, unique: Unique) -> None:
    """What it ended has ended, the unique keys that it freed are free, and a key that it let go on goes on."""
    await rig.backend.put_policy("default", QueuePolicy(per_key=PerKey("halt")))
    await rig.finish("failed", FAILED_FOR_GOOD, key="k")
    await rig.put("j", unique=unique)
    if state != "waits":
        job = await rig.take(lease_seconds=1_000)
        if state != "in progress":
            await rig.backend.conclude("j", token(job), SUCCEEDED)
    if state == "forgotten":
        for other in "abc":
            await rig.finish(other)
    await rig.backend.ask(PurgeAll(name="default"))
    await started_anew(rig)
    assert (await rig.backend.queue("default")).in_progress == 0
    assert (await rig.backend.enqueue(spec("again", unique=unique))).created
    await rig.put("next", key="k")
    assert {job.id for job in await rig.take_all(limit=9)} == {"again", "next"}


async def test_a_deleted_queue_is_gone(rig: DurableRig) -> None:
    """With its policy, also after a restart; its jobs ended in it."""
    await rig.backend.put_policy("default", QueuePolicy(max_attempts=7))
    await rig.put_all("a", "b")
    await rig.take()
    await rig.backend.ask(DeleteQueue(name="default"))
    await started_anew(rig)
    assert await rig.backend.queues() == []
    assert (await rig.backend.job("a")).outcome is Outcome.CANCELLED
