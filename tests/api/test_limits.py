"""Limits and fairness over HTTP: PATCH, what is refused and how, what a queue shows, and all that a job may wait for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .flow import conclude, nothing, patch, put, reasons, settle
from .harness import Api, answered, assert_problem, at, request
from .test_events import opened
from .test_queues import POLICY

RATE = {"limit": 5, "per": 2.5, "burst": 4}
PER_KEY = {"order": "none", "concurrency": 2, "rate": RATE, "max_jobs": 9}
OTHER: dict[str, list[Any]] = {
    "lease_seconds": [60.0],
    "max_attempts": [2, None],
    "backoff": [{"base": 3.0, "factor": 1.0, "cap": 9.0}],
    "max_jobs": [7, None],
    "paused": [True, False],
    "concurrency": [1, 1_000_000, None],
    "rate": [RATE, {"limit": 1, "per": 1.0, "burst": 1}, {"limit": 1_000_000, "per": 86_400.0, "burst": 1_000_000}, None],
    "per_key": [PER_KEY, {"order": "halt", "concurrency": 1, "rate": None, "max_jobs": None}, None],
    "fair": [True, False],
    "dead_letter": ["dead", None],
    "keep_succeeded": [{"seconds": 60.0, "count": 5}, {"seconds": None, "count": 0}, None],
    "keep_failed": [{"seconds": 1.0, "count": None}, None],
    "delay": [5.0, 0.0, None],
    "expires_in": [1.0, 2_592_000.0, None],
    "tags": [{"team": "a", "é": ""}, {}],
    "attributes": [{"Name": "a\nb"}, {}],
    "weights": [{"a": 0.01, "é/ ?": 100.0}, {}],
}
"""What each field of a policy may become, one after the other."""


# PATCH.


@pytest.mark.parametrize("field", sorted(OTHER))
async def test_one_field_is_changed_and_the_others_stay(api: Api, field: str) -> None:
    """Null takes away what may be null; GET shows the same."""
    policy = {**POLICY, "max_jobs": 5, "concurrency": 3, "per_key": {**PER_KEY, "concurrency": None}, "weights": {"b": 2.0}}
    await put(api, **policy)
    for value in OTHER[field]:
        reply = await patch(api, **{field: value})
        policy[field] = value
        assert (reply.status, reply.json["policy"]) == (200, policy)
        assert (await api.get("/queues/q")).json == reply.json


async def test_every_field_of_a_policy_is_tried(api: Api) -> None:
    """One that is added must be added here."""
    assert set((await put(api))["policy"]) == set(OTHER)


async def test_several_fields_are_changed_at_once_or_none(api: Api) -> None:
    """One that is wrong, alone or beside what is there, leaves all as they were."""
    await put(api, max_jobs=5)
    assert (await patch(api, concurrency=3, fair=True)).json["policy"] == {**POLICY, "max_jobs": 5, "concurrency": 3, "fair": True}
    before = api.state()
    assert_problem(await patch(api, concurrency=4, rate={"limit": 1, "per": 0}), 400, "bad_request", "rate.per")
    assert_problem(await patch(api, per_key={"order": "fifo", "concurrency": 4}, max_jobs=1), 400, "bad_request", "per_key.concurrency")
    assert api.state() == before


async def test_an_empty_change_changes_nothing(api: Api) -> None:
    """An object without fields is one; no body is none."""
    await put(api, concurrency=3)
    policy = (await api.get("/queues/q")).json["policy"]
    assert (await patch(api)).json["policy"] == policy
    for body in (b"", b"[]", b"null", b"5", b"{", b'{"concurrency":}', b"\xff"):
        assert_problem(await api.send("PATCH", "/queues/q", body), 400, "bad_request")
    assert_problem(await api.send("PATCH", "/queues/q"), 400, "bad_request")
    assert_problem(await api.send("PATCH", "/queues/q", b"{}", {"Content-Type": "text/plain"}), 415, "unsupported_media_type")
    assert (await api.get("/queues/q")).json["policy"] == policy


async def test_an_unknown_queue_is_not_made_by_a_change(api: Api) -> None:
    """404, also where its name is none; only PUT and a job make one."""
    for name in ("none", "a%20b", "x" * 81, "-?name=none", "-?name=a%2Fb"):
        assert_problem(await patch(api, name, concurrency=1), 404, "unknown_queue")
    assert (await api.get("/queues")).json["queues"] == []


async def test_a_change_pauses_and_resumes(api: Api) -> None:
    """As the operations of these names, and listeners are told so."""
    await put(api)
    await api.enqueue(id="j", queue="q")
    stream = await opened(api, "?event=queue_paused&event=queue_resumed&event=queue_changed")
    await patch(api, paused=True)
    held = await api.hold("/jobs/dequeue", queue="q")
    await patch(api, max_attempts=2)
    await patch(api, paused=False)
    assert (await answered(held)).json["id"] == "j"
    assert [(await stream.event()).event for _ in range(3)] == ["queue_paused", "queue_changed", "queue_resumed"]


async def test_put_sets_the_limits_too(api: Api) -> None:
    """The whole policy: a limit that is left out is taken away, and hands out what it held at once."""
    await put(api, concurrency=1)
    for job_id in ("a", "b"):
        await api.enqueue(id=job_id, queue="q")
    assert (await api.take(queue="q"))["id"] == "a"
    held = await api.hold("/jobs/dequeue", queue="q")
    assert (await put(api))["policy"] == POLICY
    assert (await answered(held)).json["id"] == "b"


async def test_a_change_is_answered_as_the_table_says(api: Api) -> None:
    """HEAD and Allow know the verb; no page of another origin may use it, and a browser that asks first is told nothing."""
    await put(api)
    wire = await api.site.wire()
    reply = await wire.ask(request("OPTIONS", "/queues/q", None, "Origin: http://evil.example", "Access-Control-Request-Method: PATCH"))
    assert (reply.status, reply.headers["allow"]) == (405, "DELETE, GET, HEAD, PATCH, PUT")
    assert not [name for name in reply.headers if name.startswith("access-control")]
    before = api.state()
    assert_problem(
        await wire.ask(request("PATCH", "/queues/q", b'{"paused":true}', "Origin: http://evil.example")), 403, "forbidden", "Origin"
    )
    foreign = request("POST", "/queues/q/keys/a/pause", None, "Content-Length: 0", "Origin: http://evil.example")
    assert_problem(await wire.ask(foreign), 403, "forbidden", "Origin")
    assert api.state() == before
    head = await api.send("HEAD", "/queues/q/keys")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"rate": {"per": 1}}, "rate.limit"),
        ({"rate": {"limit": 1}}, "rate.per"),
        ({"rate": {"limit": 0, "per": 1}}, "rate.limit"),
        ({"rate": {"limit": 1, "per": 0.5}}, "rate.per"),
        ({"rate": {"limit": 1, "per": 1, "burst": 2}}, "rate.burst"),
        ({"rate": {"limit": 1, "per": 1, "each": 2}}, "rate.each"),
        ({"per_key": {"order": "lifo"}}, "per_key.order"),
        ({"per_key": {"concurrency": 10_001}}, "per_key.concurrency"),
        ({"per_key": {"order": "halt", "concurrency": 2}}, "per_key.concurrency"),
        ({"per_key": {"rate": {"limit": 2, "per": 1, "burst": 3}}}, "per_key.rate.burst"),
        ({"per_key": {"rate": {"limit": "2", "per": 1}}}, "per_key.rate.limit"),
        ({"per_key": {"max_jobs": 0}}, "per_key.max_jobs"),
        ({"per_key": {"nope": 1}}, "per_key.nope"),
        ({"weights": {"a": 0}}, "weights.a"),
        ({"weights": {"": 1}}, "weights"),
        ({"weights": {str(number): 1 for number in range(1_001)}}, "weights"),
        ({"nope": 1}, "nope"),
    ],
)
async def test_a_refusal_names_the_field_by_its_whole_path(api: Api, method: str, body: Any, field: str) -> None:
    """And nothing is changed by it."""
    await put(api, concurrency=3)
    before = api.state()
    assert_problem(await api.send(method, "/queues/q", json.dumps(body).encode()), 400, "bad_request", field)
    assert api.state() == before


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"weights": {"": 1}}, "weights: names a key that has 0 characters; 1 to 128 are allowed"),
        ({"weights": {"a\n": 1}}, "weights: names a key that contains a control character or a lone surrogate"),
        ({"per_key": {"order": "fifo", "concurrency": 2}}, "per_key.concurrency: must be 1, or left out, where the order is fifo"),
    ],
)
async def test_a_refusal_says_what_it_is_about(api: Api, body: Any, says: str) -> None:
    """A key among the weights is called one, and what an order allows is said as what to send."""
    await put(api)
    reply = await api.send("PATCH", "/queues/q", json.dumps(body).encode())
    assert assert_problem(reply, 400, "bad_request", says.partition(":")[0]) == says


# What a queue hands out and shows.


async def test_a_queue_has_so_many_jobs_in_progress(api: Api) -> None:
    """Those beyond are held and counted; a lease's end frees one, for the request that has waited longest."""
    await put(api, concurrency=2)
    for number in range(4):
        await api.enqueue(id=f"j{number}", queue="q")
    taken = (await api.post("/batch/dequeue", queue="q", limit=10, wait=0)).json["jobs"]
    assert [(job["id"], job["limited"]) for job in taken] == [("j0", True), ("j1", True)]
    found = (await api.get("/queues/q")).json
    assert (found["queued"], found["held"], found["held_by"], found["rate_next_at"]) == (2, 2, {"concurrency": 2}, None)
    held = await api.hold("/jobs/dequeue", queue="q")
    assert (await api.post("/jobs/j0/release", lease=taken[0]["lease"]["token"], delay=5)).status == 200
    assert (await answered(held)).json["id"] == "j2"
    await patch(api, concurrency=None)
    assert "limited" not in await api.take(queue="q")


async def test_a_rate_lets_the_next_go_at_its_time(api: Api) -> None:
    """The queue says when; a request that waits is answered then."""
    await put(api, rate={"limit": 2, "per": 10, "burst": 2})
    for number in range(3):
        await api.enqueue(id=f"j{number}", queue="q")
    assert len((await api.post("/batch/dequeue", queue="q", limit=10, wait=0)).json["jobs"]) == 2
    found = (await api.get("/queues/q")).json
    assert (found["held_by"], found["rate_next_at"]) == ({"rate": 1}, at(5))
    assert await reasons(api, "j2") == [{"reason": "rate", "until": at(5)}]
    held = await api.hold("/jobs/dequeue", queue="q")
    api.clock.advance(4.999)
    assert not held.done()
    api.clock.advance(0.001)
    assert (await answered(held)).json["id"] == "j2"


async def test_a_fair_queue_serves_its_keys_by_turns(api: Api) -> None:
    """By weight, whatever came first."""
    await put(api, fair=True, weights={"b": 2})
    for key, count in (("a", 4), ("b", 4)):
        for number in range(count):
            await api.enqueue(id=f"{key}{number}", queue="q", key=key)
    order = [(await api.take(queue="q"))["id"][0] for _ in range(6)]
    assert (order.count("a"), order.count("b")) == (2, 4)


# What a job waits for.


async def test_a_job_that_runs_or_is_over_waits_for_nothing(api: Api) -> None:
    """An empty list, and in a list of jobs only where it was asked for."""
    token = await api.working("j", queue="q")
    assert await reasons(api, "j") == []
    await api.post("/jobs/j/conclude", lease=token, outcome="succeeded")
    assert await reasons(api, "j") == []
    for query in ("", "?waiting_for=false"):
        assert "waiting_for" not in (await api.get(f"/jobs{query}")).json["jobs"][0]
    for value in ("yes", "", "2", "null", "true&waiting_for=true"):
        assert_problem(await api.get(f"/jobs?waiting_for={value}"), 400, "bad_request", "waiting_for")


async def test_a_scheduled_job_waits_for_its_time(api: Api) -> None:
    """By its delay, or its backoff."""
    await api.enqueue(id="j", delay=7)
    assert await reasons(api, "j") == [{"reason": "time", "until": at(7)}]


async def test_a_job_in_line_waits_for_those_ahead_and_for_a_worker(api: Api) -> None:
    """How many go before it, and how many are in progress where nobody stands for its queue."""
    await api.working("taken", queue="q")
    for job_id, priority in (("a", 5), ("b", 5), ("c", 0)):
        await api.enqueue(id=job_id, queue="q", priority=priority)
    assert await reasons(api, "b") == [{"reason": "line", "ahead": 2}, {"reason": "workers", "used": 1}]
    assert await reasons(api, "c") == [{"reason": "line", "ahead": 0}, {"reason": "workers", "used": 1}]


async def test_a_job_of_a_paused_queue_waits_for_that(api: Api) -> None:
    """Beside whatever else holds it; a worker that stands for the queue is none it waits for."""
    await put(api, paused=True)
    await api.enqueue(id="j", queue="q")
    await api.hold("/jobs/dequeue", queue="q")
    assert await reasons(api, "j") == [{"reason": "paused"}]


async def test_a_job_waits_for_a_place(api: Api) -> None:
    """In its queue, in its key, or both: so many of so many."""
    await put(api, concurrency=2, per_key={"concurrency": 1})
    for job_id, key in (("a", "k"), ("b", "k"), ("c", "m")):
        await api.enqueue(id=job_id, queue="q", key=key)
    await api.take(queue="q")
    of_key = {"reason": "concurrency", "key": "k", "used": 1, "total": 1}
    assert await reasons(api, "b") == [of_key]
    await api.take(queue="q")
    of_queue = {"reason": "concurrency", "used": 2, "total": 2}
    assert await reasons(api, "b") == [of_queue, of_key]
    await api.enqueue(id="d", queue="q", key="other")
    assert await reasons(api, "d") == [of_queue]


async def test_a_job_waits_for_the_rate_of_its_key(api: Api) -> None:
    """Its next time; another key's jobs do not."""
    await put(api, per_key={"rate": {"limit": 1, "per": 30}})
    for job_id, key in (("a", "k"), ("b", "k"), ("c", "m")):
        await api.enqueue(id=job_id, queue="q", key=key)
    assert [(await api.take(queue="q"))["id"] for _ in range(2)] == ["a", "c"]
    await nothing(api)
    assert await reasons(api, "b") == [{"reason": "rate", "key": "k", "until": at(30)}]
    assert (await api.get("/queues/q/keys")).json["keys"][0]["next_at"] == at(30)


async def test_a_job_waits_for_the_one_that_holds_its_key(api: Api) -> None:
    """With who has that and until when; between two attempts, until it is tried again; at the head of the line, for nothing."""
    await put(api, per_key={"order": "fifo"})
    for job_id in ("a", "b"):
        await api.enqueue(id=job_id, queue="q", key="k")
    assert [reason["reason"] for reason in await reasons(api, "a")] == ["line", "workers"]
    assert await reasons(api, "b") == [{"reason": "key", "key": "k", "block": "order", "job": "a"}]
    taken = await api.take(queue="q", worker="w", lease_seconds=60)
    assert await reasons(api, "b") == [{"reason": "key", "key": "k", "block": "order", "job": "a", "worker": "w", "until": at(60)}]
    await conclude(api, taken, "failed", retry_delay=9)
    assert await reasons(api, "b") == [{"reason": "key", "key": "k", "block": "order", "job": "a", "until": at(9)}]
    assert await reasons(api, "a") == [{"reason": "time", "until": at(9)}]


async def test_a_held_look_at_a_job_says_what_it_waits_for_in_the_end(api: Api) -> None:
    """When the wait has passed without a conclusion."""
    await put(api, concurrency=1)
    for job_id in ("a", "b"):
        await api.enqueue(id=job_id, queue="q")
    await api.take(queue="q")
    held = await api.hold("/jobs/b?wait=5", method="GET")
    api.clock.advance(5)
    assert (await answered(held)).json["waiting_for"] == [{"reason": "concurrency", "used": 1, "total": 1}]


async def test_a_page_of_a_thousand_jobs_says_of_each_what_it_waits_for(api: Api) -> None:
    """Many that wait for one are a page like any other."""
    await put(api, per_key={"order": "fifo"})
    jobs = [{"payload": 1, "id": f"j{number}", "queue": "q", "key": "k"} for number in range(1_000)]
    assert (await api.post("/batch/enqueue", {"jobs": jobs})).status == 200
    await api.take(queue="q")
    settle(api)
    page = (await api.get("/jobs?queue=q&status=queued&waiting_for=true&limit=1000")).json
    assert len(page["jobs"]) == 999
    assert {reason["job"] for job in page["jobs"] for reason in job["waiting_for"]} == {"j0"}
