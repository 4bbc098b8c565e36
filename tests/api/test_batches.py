"""POST /batch/enqueue, dequeue, conclude, extend and release."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .conftest import Serve
from .harness import NOW, Api, answered, assert_problem, at, check_problem

FORGED = "f" * 32
KINDS = ("enqueue", "conclude", "extend", "release")


async def taken(api: Api, *ids: str) -> dict[str, str]:
    """Jobs of these ids, enqueued and taken together: their tokens."""
    await api.post("/batch/enqueue", jobs=[{"id": job_id, "payload": 1} for job_id in ids])
    reply = await api.post("/batch/dequeue", wait=0, limit=len(ids))
    assert [job["id"] for job in reply.json["jobs"]] == list(ids)
    return {job["id"]: job["lease"]["token"] for job in reply.json["jobs"]}


async def test_results_come_in_the_order_of_the_items(api: Api) -> None:
    """Each enqueued item as its single twin answers it."""
    reply = await api.post("/batch/enqueue", jobs=[{"payload": n, "id": f"j{n}", "priority": n % 3} for n in range(10)])
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    results = reply.json["jobs"]
    assert list(reply.json) == ["jobs"]
    assert [result["id"] for result in results] == [f"j{n}" for n in range(10)]
    assert results[4] == {
        "id": "j4",
        "queue": "default",
        "type": None,
        "priority": 1,
        "status": "queued",
        "created_at": NOW,
        "run_at": None,
        "expires_at": None,
        "created": True,
    }


async def test_a_bad_enqueue_harms_no_other(api: Api) -> None:
    """Whatever is wrong with an item stands in its place, as the problem its single twin would be answered."""
    await api.put("/queues/full", max_jobs=1)
    await api.enqueue(queue="full", id="known")
    reply = await api.post(
        "/batch/enqueue",
        jobs=[
            {"payload": 1, "id": "first"},
            {"payload": 1, "priority": "high"},
            {"payload": 1, "nope": 1},
            {},
            5,
            {"payload": 1, "id": "known"},
            {"payload": 1, "queue": "full"},
            {"payload": "x" * 1_100_000},
            {"payload": 1, "id": "first"},
            {"payload": 1, "delay": -1},
            {"payload": 1, "id": "last"},
        ],
    )
    assert reply.status == 200
    results = reply.json["jobs"]
    assert [result.get("created") for result in results] == [True, *[None] * 7, False, None, True]
    expected: dict[int, tuple[int, str, str | None]] = {
        1: (400, "bad_request", "priority"),
        2: (400, "bad_request", "nope"),
        3: (400, "bad_request", "payload"),
        4: (400, "bad_request", None),
        5: (409, "id_conflict", "queue"),
        6: (429, "queue_full", None),
        7: (413, "too_large", "payload"),
        9: (400, "bad_request", "delay"),
    }
    for index, problem in expected.items():
        assert list(results[index]) == ["error"]
        check_problem(results[index]["error"], *problem)
    assert [job["id"] for job in (await api.get("/jobs")).json["jobs"]] == ["last", "first", "known"]


async def test_waiters_are_served_from_a_batch(api: Api) -> None:
    """One job each, in order, before the batch is answered."""
    held = [await api.hold("/jobs/dequeue", worker=f"w{n}") for n in range(2)]
    await api.post("/batch/enqueue", jobs=[{"payload": 1, "id": f"j{n}"} for n in range(3)])
    workers = [(await api.job(f"j{n}"))["worker"] for n in range(3)]
    assert workers == ["w0", "w1", None]
    assert [(await answered(task)).json["id"] for task in held] == ["j0", "j1"]


async def test_a_batch_dequeue_takes_at_most_its_limit(api: Api) -> None:
    """Each job as its single twin answers it; `limit` defaults to 1."""
    await api.post("/batch/enqueue", jobs=[{"payload": n, "id": f"j{n}"} for n in range(5)])
    reply = await api.post("/batch/dequeue", limit=3, wait=0, lease_seconds=9, worker="w")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    jobs = reply.json["jobs"]
    assert [job["id"] for job in jobs] == ["j0", "j1", "j2"]
    assert len({job["lease"].pop("token") for job in jobs}) == 3
    assert jobs[1] == {
        "id": "j1",
        "queue": "default",
        "number": 2,
        "type": None,
        "description": None,
        "priority": 5,
        "attempts": 1,
        "created_at": NOW,
        "lease": {"expires_at": at(9)},
        "error": None,
        "payload": 1,
        "max_attempts": 5,
    }
    assert [job["id"] for job in (await api.post("/batch/dequeue", wait=0)).json["jobs"]] == ["j3"]
    assert [job["id"] for job in (await api.post("/batch/dequeue?wait=0&limit=1000")).json["jobs"]] == ["j4"]


async def test_a_batch_dequeue_is_answered_as_soon_as_one_job_is_there(api: Api) -> None:
    """It does not wait for its limit."""
    held = await api.hold("/batch/dequeue", limit=10)
    await api.enqueue(id="j")
    assert [job["id"] for job in (await answered(held)).json["jobs"]] == ["j"]


async def test_a_batch_dequeue_is_an_empty_list_when_the_wait_passed(api: Api) -> None:
    """200, so that a client parses one shape; the default wait is 20 seconds."""
    held = await api.hold("/batch/dequeue")
    api.clock.advance(20)
    reply = await answered(held)
    assert (reply.status, reply.json) == (200, {"jobs": []})
    reply = await api.post("/batch/dequeue", wait=0)
    assert (reply.status, reply.json) == (200, {"jobs": []})


async def test_a_batch_dequeue_is_replayed_whole(api: Api) -> None:
    """The same attempt_id: the same jobs and leases."""
    await api.post("/batch/enqueue", jobs=[{"payload": n} for n in range(3)])
    first = await api.post("/batch/dequeue", wait=0, limit=2, attempt_id="x")
    assert len(first.json["jobs"]) == 2
    assert (await api.post("/batch/dequeue", wait=0, limit=2, attempt_id="x")).json == first.json


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_limit_out_of_range_is_400(api: Api, limit: int) -> None:
    """1 to 1,000."""
    assert "1 to 1000" in assert_problem(await api.post("/batch/dequeue", wait=0, limit=limit), 400, "bad_request", "limit")
    assert_problem(await api.post(f"/batch/dequeue?wait=0&limit={limit}"), 400, "bad_request", "limit")


async def test_limit_is_the_batchs_alone(api: Api) -> None:
    """A single dequeue has no limit to set."""
    assert_problem(await api.post("/jobs/dequeue", wait=0, limit=2), 400, "bad_request", "limit")
    assert_problem(await api.post("/jobs/dequeue?wait=0&limit=2"), 400, "bad_request", "limit")


async def test_a_wait_over_the_cap_is_400(api: Api) -> None:
    """As for single dequeues."""
    assert "0 to 55" in assert_problem(await api.post("/batch/dequeue", wait=56), 400, "bad_request", "wait")


async def test_a_batch_of_concludes_says_what_became_of_each(api: Api) -> None:
    """Status and outcome; a failure's next attempt; what is wrong with a bad item."""
    tokens = await taken(api, "a", "b", "c", "d")
    reply = await api.post(
        "/batch/conclude",
        jobs=[
            {"id": "c", "lease": tokens["c"], "outcome": "succeeded", "result": [1]},
            {"id": "none", "lease": FORGED, "outcome": "succeeded"},
            {"id": "a", "lease": FORGED, "outcome": "succeeded"},
            {"id": "a", "lease": tokens["a"], "outcome": "failed", "error": "x", "retry": False},
            {"id": "a", "lease": tokens["a"], "outcome": "succeeded"},
            {"id": "b", "lease": tokens["b"], "outcome": "failed", "error": "x"},
            {"id": "d", "lease": tokens["d"], "outcome": "failed", "result": 1},
            {"lease": tokens["d"], "outcome": "succeeded"},
            {"id": "", "lease": tokens["d"], "outcome": "succeeded"},
        ],
    )
    assert reply.status == 200
    results = reply.json["jobs"]
    assert results[0] == {"id": "c", "status": "concluded", "outcome": "succeeded", "attempts": 1, "run_at": None}
    assert results[3] == {"id": "a", "status": "concluded", "outcome": "failed", "attempts": 1, "run_at": None}
    run_at = results[5].pop("run_at")
    assert results[5] == {"id": "b", "status": "scheduled", "outcome": None, "attempts": 1}
    assert NOW <= run_at <= at(1)
    check_problem(results[1]["error"], 404, "unknown_job")
    check_problem(results[2]["error"], 409, "lease_lost")
    check_problem(results[4]["error"], 409, "not_in_progress")
    check_problem(results[6]["error"], 400, "bad_request", "result")
    check_problem(results[7]["error"], 400, "bad_request", "id")
    check_problem(results[8]["error"], 400, "bad_request", "id")
    assert (await api.job("c"))["result"] == [1]
    assert (await api.job("d"))["status"] == "in_progress"


async def test_a_batch_of_extends_says_how_long_each_holds(api: Api) -> None:
    """And which is to be cancelled."""
    tokens = await taken(api, "a", "b")
    await api.post("/jobs/b/cancel")
    reply = await api.post(
        "/batch/extend",
        jobs=[
            {"id": "b", "lease": tokens["b"], "progress": 0.5},
            {"id": "a", "lease": FORGED},
            {"id": "a", "lease": tokens["a"], "lease_seconds": 0.5},
            {"id": "a", "lease": tokens["a"], "lease_seconds": 60, "message": "m"},
            {"id": "none", "lease": FORGED},
        ],
    )
    assert reply.status == 200
    results = reply.json["jobs"]
    assert results[0] == {"id": "b", "expires_at": at(300), "cancel_requested": True}
    assert results[3] == {"id": "a", "expires_at": at(60), "cancel_requested": False}
    check_problem(results[1]["error"], 409, "lease_lost")
    check_problem(results[2]["error"], 400, "bad_request", "lease_seconds")
    check_problem(results[4]["error"], 404, "unknown_job")
    assert ((await api.job("b"))["progress"], (await api.job("a"))["message"]) == (0.5, "m")


async def test_a_batch_of_releases_answers_each_job(api: Api) -> None:
    """As its single twin does, in its place."""
    tokens = await taken(api, "a", "b", "c")
    reply = await api.post(
        "/batch/release",
        jobs=[
            {"id": "b", "lease": tokens["b"], "delay": 9},
            {"id": "a", "lease": FORGED},
            {"id": "a", "lease": tokens["a"], "delay": -1},
            {"id": "a", "lease": tokens["a"], "outcome": "succeeded"},
            {"id": "none", "lease": FORGED},
            {"lease": FORGED},
            {"id": "a", "lease": tokens["a"]},
        ],
    )
    assert reply.status == 200
    results = reply.json["jobs"]
    check_problem(results[1]["error"], 409, "lease_lost")
    check_problem(results[2]["error"], 400, "bad_request", "delay")
    check_problem(results[3]["error"], 400, "bad_request", "outcome")
    check_problem(results[4]["error"], 404, "unknown_job")
    check_problem(results[5]["error"], 400, "bad_request", "id")
    assert (results[0]["status"], results[0]["run_at"], results[0]["attempts"]) == ("scheduled", at(9), 0)
    single = await api.post("/jobs/c/release", lease=tokens["c"])
    assert results[6] == {**single.json, "id": "a", "number": 1}
    assert [(await api.job(job_id))["status"] for job_id in "abc"] == ["queued", "scheduled", "queued"]


@pytest.mark.parametrize("kind", KINDS)
async def test_an_empty_batch_is_an_empty_answer(api: Api, kind: str) -> None:
    """Nothing asked, nothing done."""
    reply = await api.post(f"/batch/{kind}", jobs=[])
    assert (reply.status, reply.json) == (200, {"jobs": []})


def items(kind: str, count: int) -> list[dict[str, Any]]:
    """That many items, each well formed."""
    more: dict[str, Any] = {"enqueue": {"payload": 1}, "conclude": {"lease": "t", "outcome": "succeeded"}}.get(kind, {"lease": "t"})
    return [{"id": f"j{n}", **more} for n in range(count)]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_thousand_items_are_a_batch_and_one_more_is_400(api: Api, kind: str) -> None:
    """The cap counts items; over it nothing at all is done."""
    assert "more than 1000 items" in assert_problem(await api.post(f"/batch/{kind}", jobs=items(kind, 1001)), 400, "bad_request", "jobs")
    assert (await api.get("/queues")).json["queues"] == []
    reply = await api.post(f"/batch/{kind}", jobs=items(kind, 1000))
    assert (reply.status, len(reply.json["jobs"])) == (200, 1000)
    assert (await api.get("/queues")).json["queues"] == [] or kind == "enqueue"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("body", "field"),
    [(b"[]", None), (b"{}", "jobs"), (b'{"jobs":{}}', "jobs"), (b'{"jobs":[],"more":1}', "more"), (b'{"jobs":[NaN]}', None), (b"", None)],
)
async def test_a_body_that_is_no_batch_is_400(api: Api, kind: str, body: bytes, field: str | None) -> None:
    """Only items fail one by one; what is wrong with the whole refuses the whole."""
    assert_problem(await api.post(f"/batch/{kind}", body), 400, "bad_request", field)


async def test_an_item_takes_its_single_twins_body(api: Api) -> None:
    """Every field of a single enqueue works in a batch."""
    item = {
        "payload": {"a": 1},
        "id": "j",
        "queue": "q",
        "type": "t",
        "description": "d",
        "priority": 0,
        "delay": 1,
        "expires_in": 9,
        "max_attempts": 1,
        "backoff": {"base": 1},
        "lease_seconds": 5,
    }
    (result,) = (await api.post("/batch/enqueue", jobs=[item])).json["jobs"]
    assert (result["status"], result["run_at"], result["expires_at"]) == ("scheduled", at(1), at(9))
    assert await api.enqueue(**{"payload": None, **item}) == {**result, "created": False}


async def test_payloads_of_a_batch_are_kept_byte_for_byte(api: Api) -> None:
    """Both ways."""
    payloads = [b"1e999", b'{"a":1,"a":2}', b'" \\u00e9 "']
    await api.post("/batch/enqueue", b'{"jobs":[' + b",".join(b'{"payload":%b}' % payload for payload in payloads) + b"]}")
    body = (await api.post("/batch/dequeue", wait=0, limit=3)).body
    assert [payload for payload in payloads if b'"payload":' + payload + b"," in body] == payloads
    json.loads(body)


async def test_a_full_batch_dequeue_over_the_waiters_bound_is_429(serve: Serve) -> None:
    """What is held is bounded, batch or not."""
    api = await serve(waiters_max=1)
    await api.hold("/batch/dequeue", limit=2)
    assert_problem(await api.post("/batch/dequeue", limit=2), 429, "too_many_waiters")
