"""What failed lately, as queues and the server tell it."""

from __future__ import annotations

from typing import Any

from .harness import Api


async def failures(api: Api, queue: str = "q") -> dict[str, int]:
    """What a queue says that is not 0."""
    told: dict[str, int] = (await api.get(f"/queues/{queue}")).json["failures"]
    return {name: count for name, count in told.items() if count}


async def fail(api: Api, job_id: str, **fields: Any) -> None:
    """An attempt at the next job of q, which is this one, fails."""
    job = await api.take(queue="q")
    assert job["id"] == job_id
    assert (await api.post(f"/jobs/{job_id}/conclude", lease=job["lease"]["token"], outcome="failed", **fields)).status == 200


async def test_an_attempt_counts_before_the_last_one_does(api: Api) -> None:
    """A job that waits for its next attempt is retrying, and no failed job yet; one that its producer delayed is neither."""
    await api.enqueue(id="j", queue="q")
    await api.enqueue(id="later", queue="q", delay=60)

    await fail(api, "j", retry_delay=30)

    assert await failures(api) == {"retrying": 1, "attempts_1m": 1, "attempts_5m": 1, "attempts_60m": 1}
    api.clock.advance(30)
    await fail(api, "j", retry=False)
    told = await failures(api)
    assert told == {"jobs_1m": 1, "jobs_5m": 1, "jobs_60m": 1, "attempts_1m": 2, "attempts_5m": 2, "attempts_60m": 2}
    assert {name: count for name, count in (await api.get("/stats")).json["held"]["failures"].items() if count} == told
    assert (await api.get("/queues/q")).json["totals"]["attempts_failed"] == 2
    assert b'jobqueue_jobs_attempts_failed_total{queue="q"} 2.0' in (await api.get("/metrics")).body


async def test_what_failed_long_ago_counts_no_more(api: Api) -> None:
    """Each count has its minutes, and a twelfth of them at most beyond."""
    await api.enqueue(queue="q", delay=80_000)
    await api.concluded("j", "failed", queue="q")
    api.clock.advance(60)
    assert (await failures(api))["jobs_1m"] == 1
    api.clock.advance(5)
    assert await failures(api) == {"jobs_5m": 1, "jobs_60m": 1, "attempts_5m": 1, "attempts_60m": 1}
    api.clock.advance(300)
    assert await failures(api) == {"jobs_60m": 1, "attempts_60m": 1}
    await api.concluded("again", "failed", queue="q")
    assert (await failures(api))["jobs_5m"] == 1
    api.clock.advance(3_901)
    assert await failures(api) == {}


async def test_a_lease_that_runs_out_is_a_failed_attempt(api: Api) -> None:
    """The worker died: it counts as if that had said so. One whose job was to be cancelled does not."""
    await api.working("j", queue="q", lease_seconds=10)
    api.clock.advance(10)
    job = await api.take(queue="q")
    assert (await failures(api))["attempts_5m"] == 1
    await api.post("/jobs/j/cancel")
    await api.post("/jobs/j/conclude", lease=job["lease"]["token"], outcome="failed")
    assert (await failures(api))["attempts_5m"] == 1


async def test_a_backlog_hides_no_failure(api: Api) -> None:
    """Old jobs fail today behind forty thousand newer ones: they are counted when they fail."""
    for number in range(20):
        await api.enqueue(id=f"old-{number}", queue="q", priority=0)
    for _ in range(40):
        assert (await api.post("/batch/enqueue", jobs=[{"payload": 1, "queue": "q"}] * 1000)).status == 200
    for number in range(20):
        await fail(api, f"old-{number}", retry=False)
    assert (await failures(api))["jobs_5m"] == 20
