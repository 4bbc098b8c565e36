"""Late successes, leases that end at once, and purges of all, by either client."""

from __future__ import annotations

import pytest

import jobqueue
from jobqueue import Conclude, Concluded, Extend, Extended, LeaseLost, Unique

from .rig import Face


async def test_a_late_success_counts(api: Face) -> None:
    """Where it is asked for; in a batch too. The dead letter that it was says how often it had been tried."""
    await api.put_queue("q", max_attempts=1, dead_letter="dead")
    await api.enqueue(1, id="a")
    await api.enqueue(1, id="b", queue="q")
    tokens = {}
    for queue in ("default", "q"):
        job = await api.dequeue(queue, wait=0)
        tokens[job.id] = job.lease.token
        ended = await api.extend(job.id, job.lease.token, lease_seconds=0)
        assert (ended.id, ended.cancel_requested) == (job.id, False)
    with pytest.raises(LeaseLost):
        await api.conclude("a", tokens["a"], "succeeded")
    assert (await api.conclude("a", tokens["a"], "succeeded", result=1, late=True)).outcome == "succeeded"
    assert (await api.job("b")).origin.attempts == 1
    lost, taken = await api.conclude_batch([Conclude("b", tokens["b"], "succeeded", late=late) for late in (False, True)])
    assert isinstance(lost, LeaseLost)
    assert isinstance(taken, Concluded)


async def test_leases_may_end_at_once(api: Face) -> None:
    """One of zero seconds, and one that is extended by none."""
    await api.enqueue(1, id="a", max_attempts=3)
    token = (await api.dequeue(wait=0)).lease.token
    (ended,) = await api.extend_batch([Extend("a", token, 0)])
    assert isinstance(ended, Extended)
    again = await api.dequeue(wait=5, lease_seconds=0)
    assert (again.id, again.attempts) == ("a", 2)
    assert (await api.dequeue(wait=5)).attempts == 3


async def test_a_queue_is_purged_of_all_and_deleted_with_it(api: Face) -> None:
    """Jobs in progress too; how many is answered."""
    for _ in range(2):
        await api.enqueue(1, queue="q")
        await api.enqueue(1, queue="q", delay=60)
        await api.dequeue("q", wait=0)
        assert await api.purge("q", all=True) == 2
    await api.enqueue(1, queue="q")
    assert await api.delete_queue("q", force=True) == 1
    with pytest.raises(jobqueue.UnknownQueue):
        await api.delete_queue("q", force=True)


async def test_a_key_may_be_held_from_the_enqueue_on(api: Face) -> None:
    """For a time that is needed."""
    once = Unique("k", "enqueued", 60)
    made = await api.enqueue(1, unique=once)
    job = await api.dequeue(wait=0)
    await api.conclude(job.id, job.lease.token, "succeeded")
    again = await api.enqueue(1, unique=once)
    assert (again.id, again.created) == (made.id, False)
    with pytest.raises(jobqueue.BadRequest, match=r"unique\.for"):
        await api.enqueue(1, unique=Unique("k", "enqueued"))
