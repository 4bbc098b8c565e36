"""What comes back is a snapshot that nobody changes afterwards."""

from __future__ import annotations

import asyncio

import msgspec

from jobqueue.backend.base import Conclude, Enqueued, Extend, Release
from jobqueue.model import Job, JobFilter
from jobqueue.policy import QueuePolicy

from .rig import FAILED, FAILED_FOR_GOOD, SUCCEEDED, Rig, spec, token


def frozen(value: object) -> object:
    """A value's content, to be compared later."""
    return msgspec.to_builtins(value, builtin_types=(bytes,))


async def test_a_job_handed_out_never_changes(rig: Rig) -> None:
    """Replies of every operation on a job still say, at the end of its life, what they said when they were given."""
    kept: list[tuple[Job, object]] = []

    def keep(*jobs: Job) -> None:
        kept.extend((job, frozen(job)) for job in jobs)

    keep(await rig.put("j", delay=5))
    watched = asyncio.create_task(rig.backend.job("j", 1_000))  # type: ignore[arg-type]
    keep(await rig.backend.job("j"))
    await rig.advance(5)
    keep(*(await rig.backend.jobs(JobFilter()))[0])
    keep(released := await rig.take(attempt_id="x"), await rig.take(attempt_id="x"))
    keep(await rig.backend.release("j", token(released), 0))
    keep(expired := await rig.take(lease_seconds=10))
    keep(await rig.backend.extend(Extend("j", token(expired), 20.0, 0.5, "half")))
    await rig.advance(20)
    keep(failed := await rig.take())
    keep(await rig.backend.conclude("j", token(failed), FAILED_FOR_GOOD))
    keep(await watched)
    keep(await rig.backend.retry("j"))
    waiter = rig.hold()
    await rig.idle()
    keep(*waiter.jobs)
    keep(await rig.backend.cancel("j"))
    keep(await rig.backend.conclude("j", token(waiter.jobs[0]), SUCCEEDED))
    assert len(kept) == 15
    assert [frozen(job) for job, _ in kept] == [before for _, before in kept]


async def test_batch_replies_never_change(rig: Rig) -> None:
    """Replies of batch operations are snapshots too."""
    enqueued = await rig.backend.enqueue_batch([spec("a"), spec("b")])
    kept = [(reply.job, frozen(reply.job)) for reply in enqueued if isinstance(reply, Enqueued)]
    jobs = await rig.take_all(limit=2)
    kept += [(job, frozen(job)) for job in jobs]
    extended = await rig.backend.extend_batch([Extend(job.id, token(job), 60.0) for job in jobs])
    kept += [(job, frozen(job)) for job in extended if isinstance(job, Job)]
    released = await rig.backend.release_batch([Release(job.id, token(job)) for job in jobs])
    kept += [(job, frozen(job)) for job in released if isinstance(job, Job)]
    jobs = await rig.take_all(limit=2)
    concluded = await rig.backend.conclude_batch([Conclude(job.id, token(job), FAILED) for job in jobs])
    kept += [(job, frozen(job)) for job in concluded if isinstance(job, Job)]
    assert await rig.backend.purge("default") == 2
    assert len(kept) == 10
    assert [frozen(job) for job, _ in kept] == [before for _, before in kept]


async def test_changing_a_snapshot_changes_nothing(rig: Rig) -> None:
    """Whoever writes to a job he was handed writes to his own copy."""
    await rig.put("j")
    job = await rig.take()
    job.attempts, job.payload, job.hold = 99, b"0", None
    stands = await rig.backend.job("j")
    assert (stands.attempts, stands.payload) == (1, b"1")
    assert stands.lease is not None


async def test_stats_are_snapshots(rig: Rig) -> None:
    """Totals and queue stats do not follow what happens after they were read."""
    await rig.put("j")
    totals, (queue,) = await rig.backend.stats(), await rig.backend.queues()
    before = frozen((totals, queue))
    await rig.take()
    await rig.backend.put_policy("default", QueuePolicy(paused=True))
    await rig.put("k", queue="other")
    assert frozen((totals, queue)) == before
