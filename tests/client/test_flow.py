"""Keys, limits and what a job waits for, by either client; and servers that know nothing of them."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

import jobqueue
from jobqueue import BadRequest, Keep, Key, NewJob, PerKey, QueueFull, Rate, UnknownQueue
from jobqueue.testing import server

from .conftest import Connect
from .rig import Face, canned, proxied

ODD = ["a/b", "a%2Fb", "?", "#", "a b", "..", ".", "-", "\u00e9", "a\\b", "a;b", "a+b&c=d"]
"""What a client or a proxy would take for something else in a path."""


async def test_a_key_goes_in_and_comes_out(api: Face) -> None:
    """Alone and in a batch, in whatever shows the job; None where there is none."""
    assert (await api.enqueue(1, id="a", key="acme")).key == "acme"
    made = await api.enqueue_batch([NewJob(2, id="b", key="acme"), NewJob(3, id="c")])
    assert [one.key for one in made] == ["acme", None]
    assert [job.id for job in (await api.jobs(key="acme")).jobs] == ["b", "a"]
    assert [job.key for job in await api.all_jobs(limit=1)] == [None, "acme", "acme"]
    taken = await api.dequeue()
    assert (taken.key, taken.limited) == ("acme", False)
    assert (await api.release(taken.id, taken.lease.token)).key == "acme"
    assert [job.key for job in await api.dequeue_batch(limit=3)] == ["acme", "acme", None]
    with pytest.raises(jobqueue.IdConflict) as raised:
        await api.enqueue(1, id="a", key="other")
    assert raised.value.field == "key"
    with pytest.raises(BadRequest) as refused:
        await api.enqueue(1, key="a\n")
    assert refused.value.field == "key"


async def test_tags_go_in_and_jobs_are_found(api: Face) -> None:
    """By tag, worker, error and time; tags are an empty tuple where there are none."""
    made = await api.enqueue(1, id="a", tags=["x", "y"])
    assert made.tags == ("x", "y")
    assert [one.tags for one in await api.enqueue_batch([NewJob(2, id="b", tags=("y",)), NewJob(3, id="c")])] == [("y",), ()]
    assert [job.id for job in (await api.jobs(tag="y")).jobs] == ["b", "a"]
    taken = await api.dequeue(worker="w-1")
    assert taken.tags == ("x", "y")
    await api.conclude("a", taken.lease.token, "failed", error="it broke", retry=False)
    assert [job.id for job in await api.all_jobs(worker="w-1", error="broke")] == ["a"]
    assert [job.id for job in await api.all_jobs(created_before=made.created_at)] == []
    assert len(await api.all_jobs(created_after=made.created_at - timedelta(seconds=1))) == 3
    assert (await api.job("a")).tags == ("x", "y")
    with pytest.raises(BadRequest) as refused:
        await api.jobs(created_after=made.created_at.replace(tzinfo=None))
    assert refused.value.field == "created_after"


async def test_a_policy_is_put_and_changed(api: Face) -> None:
    """Every limit reaches the server; a change leaves the rest, None takes away."""
    rate, per_key = Rate(limit=5, per=2.0, burst=3), PerKey(order="fifo", rate=Rate(limit=1, per=1.0), max_jobs=7)
    put = await api.put_queue("q", max_attempts=2, concurrency=4, rate=rate, per_key=per_key, fair=True, weights={"a": 2.5})
    policy = put.policy
    assert (policy.concurrency, policy.rate, policy.per_key, policy.fair, policy.weights) == (4, rate, per_key, True, {"a": 2.5})
    changed = (await api.change_queue("q", rate=None, weights={}, lease_seconds=60)).policy
    assert changed == jobqueue.QueuePolicy(lease_seconds=60.0, max_attempts=2, concurrency=4, per_key=per_key, fair=True)
    assert (await api.change_queue("q")).policy == changed == (await api.queue("q")).policy
    other = (await api.change_queue("q", max_attempts=3, max_jobs=9, paused=True, concurrency=None, per_key=None, fair=False)).policy
    assert other == jobqueue.QueuePolicy(lease_seconds=60.0, max_attempts=3, max_jobs=9, paused=True)
    kept = (await api.change_queue("q", keep_succeeded=Keep(seconds=60, count=9), keep_failed=Keep(count=0))).policy
    assert (kept.keep_succeeded, kept.keep_failed, kept.max_jobs) == (Keep(60.0, 9), Keep(None, 0), 9)
    assert (await api.change_queue("q", keep_succeeded=None)).policy.keep_failed == Keep(count=0)
    assert (await api.put_queue("q", keep_failed=Keep(seconds=1.5))).policy == jobqueue.QueuePolicy(keep_failed=Keep(1.5))
    assert (await api.put_queue("q")).policy == jobqueue.QueuePolicy()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"per_key": PerKey(rate=Rate(limit=1, per=1, burst=2))}, "per_key.rate.burst"),
        ({"weights": {"a": 0}}, "weights.a"),
        ({"weights": {"a": float("nan")}}, "weights.a"),
        ({"rate": Rate(limit=1, per=float("inf"))}, "rate.per"),
        ({"per_key": PerKey(rate=Rate(limit=1, per=float("nan")))}, "per_key.rate.per"),
    ],
)
async def test_a_limit_that_cannot_be_is_refused(api: Face, fields: dict[str, Any], field: str) -> None:
    """By the server, or before anything is sent where JSON has no such number; both name the field."""
    await api.put_queue("q", concurrency=3)
    for ask in (api.put_queue, api.change_queue):
        with pytest.raises(BadRequest) as raised:
            await ask("q", **fields)
        assert raised.value.field == field
    assert (await api.queue("q")).policy.concurrency == 3
    with pytest.raises(UnknownQueue):
        await api.change_queue("none", concurrency=1)


async def test_a_job_says_what_it_waits_for(api: Face) -> None:
    """Typed, with times in UTC; in a list only where it was asked for."""
    await api.put_queue("q", concurrency=1, per_key=PerKey(order="fifo"))
    for job_id in ("a", "b"):
        await api.enqueue(1, id=job_id, queue="q", key="k")
    taken = await api.dequeue("q", worker="w", lease_seconds=60)
    assert taken.limited
    of_queue, of_key = (await api.job("b")).waiting_for
    assert (of_queue.reason, of_queue.used, of_queue.total, of_queue.key) == ("concurrency", 1, 1, None)
    assert (of_key.reason, of_key.key, of_key.block, of_key.job, of_key.worker) == ("key", "k", "order", "a", "w")
    assert of_key.until.utcoffset() == timedelta()
    assert (await api.job("a")).waiting_for == ()
    assert [job.waiting_for for job in (await api.jobs()).jobs] == [None, None]
    assert [len(job.waiting_for) for job in (await api.jobs(waiting_for=True)).jobs] == [2, 0]
    assert [len(job.waiting_for) for job in await api.all_jobs(waiting_for=True, limit=1)] == [2, 0]
    found = await api.queue("q")
    assert (found.held, found.held_by, found.keys, found.rate_next_at) == (1, {"concurrency": 1}, 1, None)


async def test_a_failed_job_says_that_it_halts_its_key(api: Face) -> None:
    """Until it is given up; no other job does."""
    await api.put_queue("q", per_key=PerKey(order="halt"))
    for job_id in ("a", "b"):
        await api.enqueue(1, id=job_id, queue="q", key="k")
    taken = await api.dequeue("q")
    await api.conclude(taken.id, taken.lease.token, "failed", retry=False)
    assert (await api.job("a")).halts is True
    assert [(job.id, job.halts) for job in (await api.jobs()).jobs] == [("b", False), ("a", True)]
    assert [(job.id, job.halts) for job in await api.all_jobs(limit=2)] == [("b", False), ("a", True)]
    assert (await api.cancel("a")).halts is False
    assert (await api.job("a")).halts is False


@pytest.mark.parametrize("key", ODD)
async def test_a_key_is_paused_whatever_its_name(api: Face, key: str) -> None:
    """It is the key that the server names, and the list has it."""
    await api.put_queue("q")
    paused = await api.pause_key("q", key)
    assert (paused.key, paused.paused, paused.block) == (key, True, "paused")
    assert await api.keys("q") == [paused]
    assert not (await api.resume_key("q", key)).paused


async def test_a_key_that_a_proxy_would_rewrite_goes_into_the_query(connect: Connect, url: str) -> None:
    """All else stays in the path."""
    async with proxied(url) as proxy:
        api = connect(proxy.url)
        await api.put_queue("q")
        for key in ("a/b", "..", "%", "a b", "-"):
            await api.pause_key("q", key)
    assert [request.target for request in proxy.seen[1:]] == [
        "/queues/q/keys/-/pause?key=a%2Fb",
        "/queues/q/keys/-/pause?key=%2E%2E",
        "/queues/q/keys/-/pause?key=%25",
        "/queues/q/keys/a%20b/pause",
        "/queues/q/keys/-/pause",
    ]


async def test_keys_come_page_by_page(api: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them, or so many of the first; none where the queue minds none."""
    assert (await api.put_queue("plain")).keys == 0
    assert await api.keys("plain") == []
    await api.put_queue("q", per_key=PerKey(order="fifo"))
    names = [f"k/{number:03d}" for number in range(250)]
    await api.enqueue_batch([NewJob(1, queue="q", key=name) for name in names])
    found: list[Key] = await api.keys("q")
    assert [key.key for key in found] == names
    assert [key.key for key in await api.keys("q", limit=150)] == names[:150]
    assert [key.key for key in await api.keys("q", limit=1)] == names[:1]
    for ask in (api.keys("none"), api.pause_key("none", "a"), api.resume_key("none", "a")):
        with pytest.raises(UnknownQueue):
            await ask


async def test_a_key_that_is_full_is_told_by_its_field(connect: Connect) -> None:
    """QueueFull, for a job of the key, a key too many, and one too many paused."""
    async with server(paused_keys_max=1, keys_max=2) as url:
        api = connect(url, retrying=jobqueue.Retrying(tries=1))
        await api.put_queue("q", per_key=PerKey(max_jobs=1))
        await api.enqueue(1, queue="q", key="a")
        await api.pause_key("q", "b")
        for ask in (api.enqueue(1, queue="q", key="a"), api.enqueue(1, queue="q", key="c"), api.pause_key("q", "a")):
            with pytest.raises(QueueFull) as raised:
                await ask
            assert raised.value.field == "key"


JOB = {
    "id": "j",
    "number": 1,
    "queue": "q",
    "type": None,
    "description": None,
    "priority": 5,
    "status": "queued",
    "outcome": None,
    "attempts": 0,
    "max_attempts": None,
    "created_at": "2026-11-22T07:30:20.786Z",
    "run_at": None,
    "expires_at": None,
    "started_at": None,
    "concluded_at": None,
    "lease_expires_at": None,
    "worker": None,
    "progress": None,
    "message": None,
    "cancel_requested": False,
    "error": None,
}
LEASED = {name: JOB[name] for name in ("id", "number", "queue", "type", "description", "priority", "attempts", "created_at", "error")}
TOTALS = dict.fromkeys(("enqueued", "dequeued", "redelivered", "succeeded", "failed", "cancelled", "expired", "retried"), 0)
QUEUE = {
    "name": "q",
    "policy": {
        "lease_seconds": 300.0,
        "max_attempts": 5,
        "backoff": {"base": 1.0, "factor": 2.0, "cap": 300.0},
        "max_jobs": 7,
        "paused": False,
    },
    "scheduled": 0,
    "queued": 0,
    "in_progress": 0,
    "waiters": 0,
    "oldest_queued_at": None,
    "totals": TOTALS,
}
"""What a server said that knew no keys."""


async def test_a_server_that_knows_no_keys_is_understood(connect: Connect, url: str) -> None:
    """What it leaves out is None, or nothing is held."""

    def said(body: Any) -> bytes:
        return canned(200, json.dumps(body).encode(), "Content-Type: application/json")

    lease = {"token": "t", "expires_at": JOB["created_at"]}
    answers = [
        said(body)
        for body in ({**JOB, "payload": 1, "past": []}, {"jobs": [JOB], "cursor": None}, {**LEASED, "lease": lease, "payload": 1}, QUEUE)
    ]
    async with proxied(url, *answers) as proxy:
        api = connect(proxy.url)
        job, page, taken, queue = await api.job("j"), await api.jobs(), await api.dequeue("q"), await api.queue("q")
    assert (job.key, job.waiting_for, page.jobs[0].key, page.jobs[0].waiting_for) == (None,) * 4
    assert (taken.key, taken.limited) == (None, False)
    assert (queue.held, queue.held_by, queue.keys, queue.rate_next_at) == (0, {}, 0, None)
    assert queue.policy == jobqueue.QueuePolicy(max_jobs=7)
