"""The operations on queues."""

from __future__ import annotations

from typing import Any

import pytest

from jobqueue.backend.shell import SLICE
from jobqueue.model import Want
from jobqueue.policy import QueuePolicy

from .conftest import Serve
from .harness import NOW, Api, answered, assert_problem, at

FREE: dict[str, Any] = {
    "concurrency": None,
    "rate": None,
    "per_key": None,
    "fair": False,
    "weights": {},
    "dead_letter": None,
    "keep_succeeded": None,
    "keep_failed": None,
    "delay": None,
    "expires_in": None,
    "tags": {},
    "attributes": {},
}
POLICY: dict[str, Any] = {
    "lease_seconds": 300,
    "max_attempts": 5,
    "backoff": {"base": 1, "factor": 2, "cap": 300},
    "max_jobs": None,
    "paused": False,
    **FREE,
}
TOTALS = dict.fromkeys(
    ("enqueued", "dequeued", "redelivered", "succeeded", "failed", "cancelled", "expired", "retried"), 0
) | dict.fromkeys(("moved_in", "moved_out", "dead_lettered", "attempts_failed"), 0)

FAILURES = dict.fromkeys(("retrying", *(f"{what}_{minutes}m" for what in ("jobs", "attempts") for minutes in (1, 5, 60))), 0)


async def test_a_new_queue_has_the_default_policy(api: Api) -> None:
    """PUT with an empty object makes a queue; every field of the answer."""
    reply = await api.put("/queues/q")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json == {
        "name": "q",
        "policy": POLICY,
        "scheduled": 0,
        "queued": 0,
        "in_progress": 0,
        "waiters": 0,
        "oldest_queued_at": None,
        "held": 0,
        "held_by": {},
        "keys": 0,
        "rate_next_at": None,
        "created_at": at(0),
        "modified_at": at(0),
        "paused_at": None,
        "paused_by": None,
        "failures": FAILURES,
        "totals": TOTALS,
    }
    assert (await api.get("/queues/q")).json == reply.json


async def test_put_sets_the_whole_policy(api: Api) -> None:
    """What is left out goes back to the defaults."""
    policy = {"lease_seconds": 60, "max_attempts": 2, "backoff": {"base": 3, "factor": 1, "cap": 9}, "max_jobs": 7, "paused": True}
    limits = {
        "concurrency": 3,
        "rate": {"limit": 5, "per": 2, "burst": 4},
        "per_key": {"order": "none", "concurrency": 2, "rate": {"limit": 1, "per": 1, "burst": 1}, "max_jobs": 9},
        "fair": True,
        "weights": {"a": 2},
        "dead_letter": "dead",
        "keep_succeeded": {"seconds": 3600, "count": 100},
        "keep_failed": {"seconds": None, "count": 5},
        "delay": 5,
        "expires_in": 60,
        "tags": {"team": "a"},
        "attributes": {"Name": "n"},
    }
    assert (await api.put("/queues/q", **policy, **limits)).json["policy"] == {**policy, **limits}
    assert (await api.put("/queues/q", **policy)).json["policy"] == {**policy, **FREE}
    changed = {**POLICY, "backoff": {**POLICY["backoff"], "cap": 10}}
    assert (await api.put("/queues/q", backoff={"cap": 10})).json["policy"] == changed
    assert (await api.put("/queues/q", lease_seconds=None, backoff=None, max_jobs=None)).json["policy"] == POLICY
    unbounded = {**POLICY, "max_attempts": None}
    assert (await api.put("/queues/q", max_attempts=None)).json["policy"] == unbounded, "null is no bound, not the default"


async def test_the_servers_defaults_are_the_default_policy(serve: Serve) -> None:
    """Settings for lease and attempts reach queues made by PUT and by use alike."""
    api = await serve(lease_seconds_default=30.0, max_attempts_default=9)
    await api.enqueue(queue="used")
    await api.put("/queues/made")
    for queue in (await api.get("/queues")).json["queues"]:
        assert (queue["policy"]["lease_seconds"], queue["policy"]["max_attempts"]) == (30, 9)


async def test_a_queue_counts_its_jobs(api: Api) -> None:
    """By status, who waits, the age of the oldest, and totals since the start."""
    await api.concluded("s", queue="q")
    await api.concluded("f", "failed", queue="q")
    await api.post("/jobs/f/retry")
    assert (await api.take(queue="q"))["id"] == "f"
    await api.enqueue(id="c", queue="q")
    await api.post("/jobs/c/cancel")
    await api.enqueue(queue="q", expires_in=1)
    api.clock.advance(1)
    await api.enqueue(queue="q", delay=9)
    api.clock.advance(1)
    await api.enqueue(queue="q")
    await api.enqueue(queue="q")
    found = (await api.get("/queues/q")).json
    assert (found["scheduled"], found["queued"], found["in_progress"], found["oldest_queued_at"]) == (1, 2, 1, at(2))
    assert found["totals"] == {
        "enqueued": 7,
        "dequeued": 3,
        "redelivered": 0,
        "succeeded": 1,
        "failed": 1,
        "cancelled": 1,
        "expired": 1,
        "retried": 1,
        "moved_in": 0,
        "moved_out": 0,
        "dead_lettered": 0,
        "attempts_failed": 1,
    }


async def test_redeliveries_are_counted(api: Api) -> None:
    """An attempt beyond a job's first."""
    await api.working("j", queue="q", lease_seconds=1)
    api.clock.advance(1)
    await api.take(queue="q")
    totals = (await api.get("/queues/q")).json["totals"]
    assert (totals["dequeued"], totals["redelivered"]) == (2, 1)


async def test_queues_are_listed_by_name(api: Api) -> None:
    """Each as its own GET shows it."""
    for name in ("b", "a", "B"):
        await api.put(f"/queues/{name}")
    listed = (await api.get("/queues")).json["queues"]
    assert [queue["name"] for queue in listed] == ["B", "a", "b"]
    assert listed == [(await api.get(f"/queues/{queue['name']}")).json for queue in listed]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("DELETE", ""), ("GET", "/keys"), ("POST", "/keys/k/pause"), ("POST", "/keys/-/resume?key=k")]
    + [("POST", f"/{op}") for op in ("pause", "resume", "purge", "retry")],
)
async def test_an_unknown_queue_is_404(api: Api, method: str, path: str) -> None:
    """Only a job, or PUT, makes a queue."""
    assert "'none'" in assert_problem(await api.send(method, f"/queues/none{path}"), 404, "unknown_queue")
    assert (await api.get("/queues")).json["queues"] == []


@pytest.mark.parametrize("name", ["a%20b", "x" * 81, "%C3%A9", "a%2Fb", "%00"])
async def test_a_queue_of_another_name_cannot_be_made(api: Api, name: str) -> None:
    """1 to 80 characters of A-Z a-z 0-9 . _ : -"""
    assert_problem(await api.put(f"/queues/{name}"), 400, "bad_request", "queue")
    assert_problem(await api.get(f"/queues/{name}"), 404, "unknown_queue")


async def test_an_empty_queue_can_be_deleted(api: Api) -> None:
    """204; its concluded jobs stay in history."""
    await api.concluded("j", queue="q")
    reply = await api.send("DELETE", "/queues/q")
    assert (reply.status, reply.body) == (204, b"")
    assert_problem(await api.get("/queues/q"), 404, "unknown_queue")
    assert (await api.job("j"))["queue"] == "q"


@pytest.mark.parametrize("state", ["queued", "scheduled", "in_progress"])
async def test_a_queue_with_live_jobs_is_not_deleted(api: Api, state: str) -> None:
    """409, nothing changed."""
    await api.enqueue(id="j", queue="q", delay=5 if state == "scheduled" else None)
    if state == "in_progress":
        await api.take(queue="q")
    before = api.state()
    assert_problem(await api.send("DELETE", "/queues/q"), 409, "queue_not_empty")
    assert api.state() == before


async def test_a_waiter_outlives_its_queue(api: Api) -> None:
    """Who stands for a queue that is deleted is served by the one that comes after it."""
    await api.put("/queues/q")
    held = await api.hold("/jobs/dequeue", queue="q")
    assert (await api.send("DELETE", "/queues/q")).status == 204
    await api.enqueue(id="j", queue="q")
    assert (await answered(held)).json["id"] == "j"


async def test_pause_and_resume_answer_the_queue(api: Api) -> None:
    """Doing it twice is the same as once; the rest of the policy stays."""
    await api.put("/queues/q", max_attempts=2)
    for operation, paused in (("pause", True), ("pause", True), ("resume", False), ("resume", False)):
        reply = await api.post(f"/queues/q/{operation}")
        assert (reply.status, reply.json["name"]) == (200, "q")
        assert reply.json["policy"] == {**POLICY, "max_attempts": 2, "paused": paused}


async def test_purge_cancels_what_waits(api: Api) -> None:
    """Queued and scheduled jobs of that queue, not those in progress, not those of others."""
    await api.working("working", queue="q")
    await api.enqueue(id="queued", queue="q")
    await api.enqueue(id="scheduled", queue="q", delay=5)
    await api.enqueue(id="other")
    reply = await api.post("/queues/q/purge")
    assert (reply.status, reply.json) == (200, {"queue": "q", "purged": 2})
    shown = {job["id"]: job["outcome"] or job["status"] for job in (await api.get("/jobs")).json["jobs"]}
    assert shown == {"working": "in_progress", "queued": "cancelled", "scheduled": "cancelled", "other": "queued"}
    assert (await api.post("/queues/q/purge")).json["purged"] == 0


async def test_retry_redrives_every_failed_job(api: Api) -> None:
    """Those that failed, oldest first; not the cancelled, not another queue's."""
    for job_id in ("a", "b"):
        await api.concluded(job_id, "failed", queue="q")
    await api.concluded("other", "failed")
    await api.enqueue(id="c", queue="q")
    await api.post("/jobs/c/cancel")
    reply = await api.post("/queues/q/retry")
    assert (reply.status, reply.json) == (200, {"queue": "q", "retried": 2})
    assert [(await api.take(queue="q"))["id"] for _ in range(2)] == ["a", "b"]
    assert (await api.job("other"))["outcome"] == "failed"


async def test_a_redrive_stops_when_the_queue_is_full(api: Api) -> None:
    """How many it did is said; the others stay failed."""
    for job_id in ("a", "b"):
        await api.concluded(job_id, "failed", queue="q")
    await api.put("/queues/q", max_jobs=1)
    assert (await api.post("/queues/q/retry")).json["retried"] == 1
    assert [(await api.job(job_id))["status"] for job_id in ("a", "b")] == ["queued", "concluded"]


@pytest.mark.parametrize(("method", "path"), [("DELETE", "")] + [("POST", f"/{op}") for op in ("pause", "resume", "purge", "retry")])
async def test_operations_on_queues_take_no_body(api: Api, method: str, path: str) -> None:
    """An empty object is accepted, anything more is refused rather than ignored, a field by its name."""
    await api.put("/queues/q")
    before = api.state()
    for body, field in ((b'{"force":true}', "force"), (b"[]", None), (b"null", None), (b"x", None), (b" ", None)):
        assert_problem(await api.send(method, f"/queues/q{path}", body), 400, "bad_request", field)
    assert api.state() == before
    for body in (b"{}", b" { } ", b""):
        await api.put("/queues/q")
        assert (await api.send(method, f"/queues/q{path}", body)).status in (200, 204)


async def test_oldest_queued_at_is_when_the_job_became_available(api: Api) -> None:
    """A delayed job's age counts from run_at."""
    await api.enqueue(queue="q", delay=5)
    api.clock.advance(7)
    assert (await api.get("/queues/q")).json["oldest_queued_at"] == at(5)
    await api.enqueue(queue="p")
    assert (await api.get("/queues/p")).json["oldest_queued_at"] == at(7) > NOW


async def test_oldest_queued_at_is_when_a_job_was_retried(api: Api) -> None:
    """It has waited since then, not since it was made."""
    await api.concluded("j", "failed", queue="q")
    api.clock.advance(9)
    await api.post("/jobs/j/retry")
    assert (await api.get("/queues/q")).json["oldest_queued_at"] == at(9)


async def test_a_run_at_long_past_makes_no_old_queue(api: Api) -> None:
    """A job has waited since it was enqueued at most."""
    await api.enqueue(queue="q", run_at="2001-01-01T00:00:00Z")
    assert (await api.get("/queues/q")).json["oldest_queued_at"] == NOW


async def test_a_hand_out_that_is_put_back_stays_counted(api: Api) -> None:
    """Totals only grow: the put-back is told by jobqueue_jobs_undelivered_total, the next hand-out counts anew, as no redelivery."""
    await api.enqueue(queue="q")
    async with api.backend.dequeue(Want(queues=("q",)), 0.0) as jobs:
        assert len(jobs) == 1
    assert (await api.take(queue="q"))["attempts"] == 1
    totals = (await api.get("/queues/q")).json["totals"]
    assert (totals["dequeued"], totals["redelivered"]) == (2, 0)
    assert b"\njobqueue_jobs_undelivered_total 1.0\n" in (await api.get("/metrics")).body


async def test_queues_come_in_pages_by_name(serve: Serve) -> None:
    """However many there are, an answer has a bound; the pages together are all of them, those made meanwhile in their places."""
    api = await serve(page_queues_max=3)
    names = sorted(f"q{number}" for number in range(8))
    for name in reversed(names):
        assert (await api.put(f"/queues/{name}")).status == 200
    found: list[str] = []
    query = ""
    while True:
        page = (await api.get(f"/queues{query}")).json
        assert len(page["queues"]) <= 3
        found += [queue["name"] for queue in page["queues"]]
        if page["cursor"] is None:
            break
        query = f"?cursor={page['cursor']}"
        if "q9" not in names:
            names.append("q9")
            assert (await api.put("/queues/q9")).status == 200
    assert found == names
    assert [queue["name"] for queue in (await api.get("/queues?limit=1&cursor=q3")).json["queues"]] == ["q4"]
    for query in ("limit=0", "limit=4", "limit=x", "limit=2&limit=2", "after=q3"):
        assert_problem(await api.get(f"/queues?{query}"), 400, "bad_request", query.partition("=")[0])


async def test_no_step_looks_at_every_queue(serve: Serve) -> None:
    """What reads all queues, for a dialect's counts and the metrics, lets others run after each SLICE of them."""
    api = await serve()
    for number in range(3 * SLICE):
        await api.backend.put_policy(f"q{number}", QueuePolicy())
    turns = 0
    work = api.backend.queues()
    while True:
        try:
            assert work.send(None) is None  # type: ignore[func-returns-value] # what asyncio.sleep(0) yields
        except StopIteration as stop:
            found = stop.value
            break
        turns += 1
    assert (turns, len(found)) == (2, 3 * SLICE)
    assert (await api.get("/classic/jobs/stats")).status == 200
