"""The past attempts of a job, as clients are shown them."""

from __future__ import annotations

from datetime import timedelta

from jobqueue import Attempt

from .rig import Face


async def test_a_job_tells_of_its_past_attempts(api: Face) -> None:
    """Each that failed, with its worker, its times and its error as plain Python objects."""
    await api.enqueue(1, id="j", max_attempts=2)
    for number in (1, 2):
        job = await api.dequeue(worker=f"w-{number}")
        await api.conclude(job.id, job.lease.token, "failed", error={"why": number}, retry_delay=0)
    past = (await api.job("j")).past
    assert all(isinstance(attempt, Attempt) for attempt in past)
    assert [(attempt.attempt, attempt.worker, attempt.ended, attempt.error) for attempt in past] == [
        (1, "w-1", "failed", {"why": 1}),
        (2, "w-2", "failed", {"why": 2}),
    ]
    assert all(attempt.ended_at - attempt.started_at >= timedelta() for attempt in past)


async def test_a_job_that_never_failed_has_no_past(api: Face) -> None:
    """Nothing is told of the attempt in progress or of one that was given back."""
    await api.enqueue(1, id="j")
    job = await api.dequeue()
    await api.release(job.id, job.lease.token)
    await api.dequeue()
    assert (await api.job("j")).past == ()
