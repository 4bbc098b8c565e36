"""POST /jobs/enqueue."""

from __future__ import annotations

import asyncio
import json

import pytest

from .conftest import Serve
from .harness import NOW, Api, answered, assert_problem, at


async def test_a_new_job_is_201_with_its_summary_and_its_location(api: Api) -> None:
    """Nothing but a payload: defaults are filled in, and Location leads to the job."""
    reply = await api.post("/jobs/enqueue", payload={"a": 1})
    assert (reply.status, reply.headers["content-type"]) == (201, "application/json")
    summary = reply.json
    assert reply.headers["location"] == f"/jobs/{summary['id']}"
    assert summary == {
        "id": summary["id"],
        "queue": "default",
        "type": None,
        "priority": 5,
        "status": "queued",
        "created_at": NOW,
        "run_at": None,
        "expires_at": None,
        "created": True,
    }
    found = await api.get(reply.headers["location"])
    assert found.json["payload"] == {"a": 1}


async def test_every_field_is_kept(api: Api) -> None:
    """What a producer says of a job is what GET says of it and what decides its life."""
    summary = await api.enqueue(
        [1, 2],
        id="j",
        queue="q.1:a-b_c",
        type="mail",
        description="two\nlines",
        priority=2,
        delay=2.5,
        expires_in=60,
        max_attempts=1,
        backoff={"base": 2, "factor": 3, "cap": 4},
        lease_seconds=7,
    )
    assert summary == {
        "id": "j",
        "queue": "q.1:a-b_c",
        "type": "mail",
        "priority": 2,
        "status": "scheduled",
        "created_at": NOW,
        "run_at": at(2.5),
        "expires_at": at(60),
        "created": True,
    }
    job = await api.job("j")
    assert (job["description"], job["max_attempts"], job["payload"]) == ("two\nlines", 1, [1, 2])
    api.clock.advance(2.5)
    taken = await api.take(queue="q.1:a-b_c")
    assert (taken["id"], taken["type"], taken["description"], taken["priority"]) == ("j", "mail", "two\nlines", 2)
    assert taken["lease"]["expires_at"] == at(9.5)


async def test_a_job_runs_at_run_at(api: Api) -> None:
    """run_at is RFC 3339 with any offset; the answer says it in UTC."""
    summary = await api.enqueue(id="j", run_at="2027-01-15T09:00:30.25+01:00")
    assert (summary["status"], summary["run_at"]) == ("scheduled", at(30.25))
    api.clock.advance(30.25)
    assert (await api.job("j"))["status"] == "queued"


async def test_a_run_at_in_the_past_means_now(api: Api) -> None:
    """A clock that is a little behind does not make an enqueue fail; what is shown is when the job came."""
    api.clock.advance(3)
    summary = await api.enqueue(run_at="2027-01-15T07:59:59Z")
    assert (summary["status"], summary["run_at"]) == ("queued", at(3))
    assert (await api.enqueue(run_at="1969-12-31T23:59:59Z"))["run_at"] == at(3)


@pytest.mark.parametrize("millisecond", [1, 7, 29, 57, 113, 333, 569, 999])
async def test_run_at_is_shown_as_it_was_sent(api: Api, millisecond: int) -> None:
    """A time of whole milliseconds comes back as that time."""
    asked = f"2027-01-15T08:00:10.{millisecond:03d}Z"
    assert (await api.enqueue(run_at=asked))["run_at"] == asked


async def test_null_is_as_good_as_leaving_a_field_out(api: Api) -> None:
    """Clients that always send every field are served."""
    optional = ("id", "type", "description", "delay", "run_at", "expires_in", "max_attempts", "backoff", "lease_seconds")
    assert (await api.enqueue(**dict.fromkeys(optional)))["status"] == "queued"


async def test_a_repeat_is_200_and_makes_no_second_job(api: Api) -> None:
    """The same id with the same content: created false, whatever became of the job meanwhile."""
    token = await api.working("j", type="t")
    repeat = await api.post("/jobs/enqueue", payload=1, id="j", type="t")
    assert (repeat.status, repeat.json["created"], repeat.json["status"]) == (200, False, "in_progress")
    assert repeat.headers["location"] == "/jobs/j"
    await api.post("/jobs/j/conclude", lease=token, outcome="succeeded")
    repeat = await api.post("/jobs/enqueue", payload=1, id="j", type="t")
    assert (repeat.status, repeat.json["created"], repeat.json["status"]) == (200, False, "concluded")
    assert len((await api.get("/jobs")).json["jobs"]) == 1


@pytest.mark.parametrize(("field", "value"), [("payload", 2), ("queue", "other"), ("type", "t"), ("priority", 1), ("max_attempts", 2)])
async def test_the_same_id_with_other_content_is_a_conflict(api: Api, field: str, value: object) -> None:
    """409, the field that differs, and the first job untouched."""
    await api.enqueue(id="j")
    before = api.state()
    reply = await api.post("/jobs/enqueue", {"payload": 1, "id": "j", field: value})
    assert_problem(reply, 409, "id_conflict", field)
    assert api.state() == before


TIMES: dict[str, tuple[object, object]] = {
    "delay": (5, 6),
    "run_at": ("2027-01-15T08:00:05Z", "2027-01-15T08:00:06Z"),
    "expires_in": (5, 6),
}


@pytest.mark.parametrize("field", sorted(TIMES))
async def test_another_time_is_a_conflict_of_that_field(api: Api, field: str) -> None:
    """Delay, start and expiry are compared as they were sent, each by itself; the same again is a repeat."""
    first, other = TIMES[field]
    await api.enqueue(id="j", **{field: first})
    api.clock.advance(1)
    assert (await api.enqueue(id="j", **{field: first}))["created"] is False
    for again in ({field: other}, {}):
        reply = await api.post("/jobs/enqueue", {"payload": 1, "id": "j", **again})
        assert assert_problem(reply, 409, "id_conflict", field).endswith(f" differs in {field}")


async def test_no_delay_and_a_delay_of_0_are_the_same(api: Api) -> None:
    """A repeat may say either, or null."""
    await api.enqueue(id="j")
    await api.enqueue(id="k", delay=0)
    for job_id in ("j", "k"):
        for again in ({}, {"delay": 0}, {"delay": None}):
            assert (await api.enqueue(id=job_id, **again))["created"] is False


@pytest.mark.parametrize(
    ("job_id", "place"),
    [
        ("a/b", "-?id=a%2Fb"),
        ("..", "-?id=.."),
        (".", "-?id=."),
        ("../x", "-?id=..%2Fx"),
        ("-", "-"),
        ("é ü", "%C3%A9%20%C3%BC"),
        ("100%", "-?id=100%25"),
        ("?a=b#c", "-?id=%3Fa%3Db%23c"),
        ("a+b;c", "-?id=a%2Bb%3Bc"),
        ("next", "next"),
        ("enqueue", "enqueue"),
        ("日本" * 64, None),
        ("x" * 128, None),
    ],
)
async def test_an_id_is_any_text_and_location_leads_to_it(api: Api, job_id: str, place: str | None) -> None:
    """Ids are percent-encoded in paths and are found again there, slashes and route names included."""
    reply = await api.post("/jobs/enqueue", payload=1, id=job_id)
    assert reply.status == 201
    location = reply.headers["location"]
    if place is not None:
        assert location == f"/jobs/{place}"
    assert location.isascii()
    found = await api.get(location)
    assert (found.status, found.json["id"]) == (200, job_id)
    path, mark, query = location.partition("?")
    cancelled = await api.post(f"{path}/cancel{mark}{query}")
    assert (cancelled.status, cancelled.json["id"]) == (200, job_id)


@pytest.mark.parametrize(
    "payload", [b"null", b'""', b"[1e999]", b'{"a":1,"a":2}', b" [ 1 ] ", b"123456789" * 900, '"é\U0001f600"'.encode()]
)
async def test_a_payload_is_kept_byte_for_byte(api: Api, payload: bytes) -> None:
    """Any JSON is a payload; it is never re-encoded, so numbers that no parser holds and repeated keys survive."""
    reply = await api.post("/jobs/enqueue", b'{"payload":' + payload + b',"id":"j"}')
    assert reply.status == 201
    taken = await api.post("/jobs/dequeue", wait=0)
    assert taken.body.endswith(b'"payload":' + payload.strip() + b',"max_attempts":5}')
    assert (await api.get("/jobs/j")).body.endswith(b'"payload":' + payload.strip() + b"}")


async def test_a_payload_over_its_bound_is_413(serve: Serve) -> None:
    """The bound counts the payload's bytes, of a string those of its text; one byte more is refused, naming both numbers."""
    api = await serve(payload_bytes_max=100)
    for fits in ("x" * 100, '"\n' * 50, "é" * 50, ["x" * 96]):
        assert (await api.post("/jobs/enqueue", payload=fits)).status == 201
    for too_long in ('"\n' * 50 + "x", "é" * 50 + "x", ["x" * 97]):
        assert_problem(await api.post("/jobs/enqueue", payload=too_long), 413, "too_large", "payload")
    assert (await api.post("/jobs/enqueue", payload="x" * 98)).status == 201
    before = api.state()
    detail = assert_problem(await api.post("/jobs/enqueue", payload="x" * 101), 413, "too_large", "payload")
    assert "101" in detail
    assert "100" in detail
    assert api.state() == before


async def test_a_full_server_is_429(serve: Serve) -> None:
    """jobs_max counts live jobs; a concluded one makes room again."""
    api = await serve(jobs_max=2)
    await api.enqueue(id="a")
    await api.enqueue(id="b")
    assert_problem(await api.post("/jobs/enqueue", payload=1), 429, "queue_full")
    assert (await api.enqueue(id="a"))["created"] is False
    await api.post("/jobs/a/cancel")
    await api.enqueue()


async def test_a_server_full_of_bytes_is_429(serve: Serve) -> None:
    """The bound on payload bytes in all."""
    api = await serve(payload_bytes_max=100, payload_total_bytes_max=150)
    await api.enqueue("x" * 90)
    assert_problem(await api.post("/jobs/enqueue", payload="x" * 90), 429, "queue_full")
    await api.enqueue("x" * 50)


async def test_a_full_queue_is_429_and_others_are_not(api: Api) -> None:
    """max_jobs of a queue's policy."""
    await api.put("/queues/small", max_jobs=1)
    await api.enqueue(queue="small")
    assert_problem(await api.post("/jobs/enqueue", payload=1, queue="small"), 429, "queue_full")
    await api.enqueue(queue="other")


async def test_one_queue_too_many_is_429(serve: Serve) -> None:
    """queues_max counts queues, whoever makes them."""
    api = await serve(queues_max=1)
    await api.enqueue(queue="a")
    assert_problem(await api.post("/jobs/enqueue", payload=1, queue="b"), 429, "too_many_queues")
    assert_problem(await api.put("/queues/b"), 429, "too_many_queues")
    assert [queue["name"] for queue in (await api.get("/queues")).json["queues"]] == ["a"]


async def test_a_waiter_is_served_before_the_enqueue_is_answered(api: Api) -> None:
    """Once an enqueue is answered, the oldest waiter has the job: nobody else can take or see it queued."""
    held = await api.hold("/jobs/dequeue", worker="w")
    summary = (await api.post("/jobs/enqueue", payload=1)).json
    assert summary["status"] == "queued"
    assert (await api.post("/jobs/dequeue", wait=0)).status == 204
    job = await api.job(summary["id"])
    assert (job["status"], job["worker"]) == ("in_progress", "w")
    assert (await answered(held)).json["id"] == summary["id"]


async def test_fifty_at_once_make_one_job(api: Api) -> None:
    """An enqueue repeated in parallel is created once."""
    body = json.dumps({"payload": 1, "id": "j"}).encode()
    replies = await asyncio.gather(*(api.post("/jobs/enqueue", body) for _ in range(50)))
    assert sorted(reply.status for reply in replies) == [200] * 49 + [201]
