"""GET /jobs/{id}: the attempts that failed."""

from __future__ import annotations

from .harness import NOW, Api, at


async def test_past_attempts_are_shown_with_the_job(api: Api) -> None:
    """Number, worker, times, how each ended and its error, byte for byte; the oldest first, in the whole job alone."""
    await api.enqueue(id="j")
    lease = (await api.take(worker="w-1"))["lease"]["token"]
    api.clock.advance(2)
    error = b'{"why":"smtp", "why":1.10}'
    await api.post("/jobs/j/conclude", b'{"lease":"%b","outcome":"failed","retry_delay":0,"error":%b}' % (lease.encode(), error))
    api.clock.advance(0)
    await api.take(lease_seconds=10)
    api.clock.advance(10)
    reply = await api.get("/jobs/j")
    assert reply.json["past"] == [
        {"attempt": 1, "worker": "w-1", "started_at": NOW, "ended_at": at(2), "ended": "failed", "error": {"why": 1.1}},
        {"attempt": 2, "worker": None, "started_at": at(2), "ended_at": at(12), "ended": "lease_expired", "error": None},
    ]
    assert b'"ended":"failed","error":%b}' % error in reply.body
    (listed,) = (await api.get("/jobs")).json["jobs"]
    assert "past" not in listed
    assert (listed["attempts"], listed["error"]) == (2, "lease_expired")


async def test_error_too_long_for_the_past_is_the_jobs_own(api: Api) -> None:
    """An error of 1024 bytes is shown with its attempt, one of a byte more only as the job's `error`."""
    for job_id, size in (("fits", 1_022), ("long", 1_023)):
        token = await api.working(job_id, queue=job_id)
        await api.post(f"/jobs/{job_id}/conclude", lease=token, outcome="failed", error="x" * size, retry=False)
    assert [attempt["error"] for attempt in (await api.job("fits"))["past"]] == ["x" * 1_022]
    job = await api.job("long")
    assert (job["past"][0]["error"], job["error"]) == (None, "x" * 1_023)
