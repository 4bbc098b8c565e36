"""classic: what GET /jobs/stats counts."""

from __future__ import annotations

import time

from tests.api.harness import Api

from .conftest import Serve
from .dialogue import Speaker


async def check_stats(classic: Speaker, queued: int, in_progress: int, concluded: int) -> None:
    (reply,) = await classic.together("> GET /jobs/stats", 1)
    assert reply.status == 200
    assert list(reply.json) == ["Queued", "InProgress", "Concluded", "UptimeMillis"]
    assert list(reply.json.values())[:3] == [queued, in_progress, concluded]


async def test_stats_follow_a_job(classic: Speaker) -> None:
    """Each status is counted, concluded ones also after history forgot them."""
    await check_stats(classic, 0, 0, 0)
    for _ in range(3):
        await classic.together('> POST /jobs/enqueue {"Type": "TIME_CRITICAL"}', 1)
    await check_stats(classic, 3, 0, 0)
    await classic.together("> GET /jobs/dequeue", 1)
    await check_stats(classic, 2, 1, 0)
    await classic.together("> POST /jobs/1/conclude", 1)
    await check_stats(classic, 2, 0, 1)
    await classic.together("> GET /jobs/dequeue", 1)
    await check_stats(classic, 1, 1, 1)
    classic.api.clock.advance(300)
    await check_stats(classic, 2, 0, 1)


async def test_stats_count_concluded_jobs_that_history_forgot(serve: Serve) -> None:
    """What was done stays done."""
    classic = Speaker(await serve(history_jobs_max=1), "/classic")
    for number in (1, 2, 3):
        await classic.together('> POST /jobs/enqueue {"Type": "TIME_CRITICAL"}', 1)
        await classic.together("> GET /jobs/dequeue", 1)
        await classic.together(f"> POST /jobs/{number}/conclude", 1)
    await check_stats(classic, 0, 0, 3)


async def test_stats_count_a_retried_job_once(api: Api, classic: Speaker) -> None:
    """A job that failed for good, was queued again and then succeeded is one concluded job; one scheduled for later is queued."""
    await api.concluded("j", "failed")
    await check_stats(classic, 0, 0, 1)
    assert (await api.post("/jobs/j/retry")).status == 200
    await check_stats(classic, 1, 0, 0)
    token = (await api.take())["lease"]["token"]
    await check_stats(classic, 0, 1, 0)
    assert (await api.post("/jobs/j/conclude", lease=token, outcome="failed")).json["status"] == "scheduled"
    await check_stats(classic, 1, 0, 0)
    api.clock.advance(3600)
    token = (await api.take())["lease"]["token"]
    assert (await api.post("/jobs/j/conclude", lease=token, outcome="succeeded")).status == 200
    await check_stats(classic, 0, 0, 1)


async def test_stats_count_every_queue_and_every_end(api: Api, classic: Speaker) -> None:
    """Cancelled and expired jobs are concluded too, in whatever queue."""
    await api.enqueue(id="a", queue="q")
    await api.enqueue(id="b", queue="r", expires_in=1)
    await api.enqueue(id="c", queue="s")
    await check_stats(classic, 3, 0, 0)
    assert (await api.post("/jobs/a/cancel")).status == 200
    api.clock.advance(1)
    await check_stats(classic, 1, 0, 2)


async def test_uptime_is_in_milliseconds(api: Api, classic: Speaker) -> None:
    """A whole number that grows with the server's age."""
    (first,) = await classic.together("> GET /jobs/stats", 1)
    api.app.site.life.started -= 3600
    (second,) = await classic.together("> GET /jobs/stats", 1)
    age = time.monotonic() - api.app.site.life.started
    assert isinstance(first.json["UptimeMillis"], int)
    assert 0 <= first.json["UptimeMillis"] + 3_600_000 <= second.json["UptimeMillis"] <= age * 1_000
