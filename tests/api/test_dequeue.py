"""POST /jobs/dequeue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobqueue.api.native import longpoll

from .conftest import Serve
from .harness import NOW, Api, answered, assert_problem, at, until


async def test_a_job_comes_with_its_payload_and_its_lease(api: Api) -> None:
    """Every field of the answer."""
    await api.enqueue({"to": "x"}, id="j", type="mail", description="d", priority=3)
    reply = await api.post("/jobs/dequeue", wait=0)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    job = reply.json
    token = job["lease"].pop("token")
    assert len(token) == 32
    assert job == {
        "id": "j",
        "queue": "default",
        "type": "mail",
        "number": 1,
        "description": "d",
        "priority": 3,
        "attempts": 1,
        "created_at": NOW,
        "lease": {"expires_at": at(300)},
        "error": None,
        "payload": {"to": "x"},
        "max_attempts": 5,
    }


async def test_the_number_of_attempts_comes_along(api: Api) -> None:
    """The job's own, else its queue's; not where there is no bound."""
    await api.put("/queues/endless", max_attempts=None)
    await api.put("/queues/few", max_attempts=2)
    await api.enqueue(queue="endless")
    await api.enqueue(queue="few")
    await api.enqueue(queue="few", max_attempts=7)
    found = [(await api.post("/jobs/dequeue", queue=queue, wait=0)).json.get("max_attempts") for queue in ("endless", "few", "few")]
    assert found == [None, 2, 7]


async def test_the_last_error_comes_along(api: Api) -> None:
    """A worker sees why the attempt before failed."""
    token = await api.working("j", backoff={"base": 0})
    await api.post("/jobs/j/conclude", lease=token, outcome="failed", error={"why": "smtp"})
    api.clock.advance(0.001)
    job = await api.take()
    assert (job["attempts"], job["error"]) == (2, {"why": "smtp"})


async def test_nothing_to_do_is_204_without_content(api: Api) -> None:
    """wait 0 answers at once; a 204 has neither length nor type."""
    reply = await api.post("/jobs/dequeue", wait=0)
    assert (reply.status, reply.body) == (204, b"")
    assert not {"content-length", "content-type", "transfer-encoding", "retry-after"} & set(reply.headers)


async def test_without_a_body_it_waits_the_default_on_the_default_queue(api: Api) -> None:
    """No body, no query: queue `default`, 20 seconds, then 204."""
    held = await api.hold("/jobs/dequeue")
    api.clock.advance(19.999)
    assert (await api.get("/queues")).json == {"queues": [], "cursor": None}
    assert not held.done()
    api.clock.advance(0.001)
    assert (await answered(held)).status == 204
    assert api.backend.totals().waiters == 0


async def test_an_empty_object_is_as_good_as_no_body(api: Api) -> None:
    """`{}` asks for the defaults too."""
    held = await api.hold("/jobs/dequeue", {})
    job = await api.enqueue()
    assert (await answered(held)).json["id"] == job["id"]


async def test_a_wait_ends_when_it_said(api: Api) -> None:
    """wait is in seconds, fractions included, up to the cap."""
    held = await api.hold("/jobs/dequeue", wait=55)
    short = await api.hold("/jobs/dequeue", wait=0.5)
    api.clock.advance(0.5)
    assert (await answered(short)).status == 204
    api.clock.advance(54)
    assert not held.done()
    api.clock.advance(0.5)
    assert (await answered(held)).status == 204


@pytest.mark.parametrize("wait", [55.001, 3600, -1, -0.001])
async def test_a_wait_out_of_range_is_400_and_names_the_cap(api: Api, wait: float) -> None:
    """A longer or a negative wait is refused at once, not shortened."""
    assert "0 to 55 seconds" in assert_problem(await api.post("/jobs/dequeue", wait=wait), 400, "bad_request", "wait")
    assert "0 to 55 seconds" in assert_problem(await api.post(f"/jobs/dequeue?wait={wait}"), 400, "bad_request", "wait")
    assert api.backend.totals().waiters == 0


async def test_the_cap_and_the_default_are_settings(serve: Serve) -> None:
    """The message names the cap that is set."""
    api = await serve(wait_seconds_max=3.0, wait_seconds_default=2.0)
    assert "0 to 3 seconds" in assert_problem(await api.post("/jobs/dequeue", wait=4), 400, "bad_request", "wait")
    held = await api.hold("/jobs/dequeue")
    api.clock.advance(2)
    assert (await answered(held)).status == 204


async def test_a_query_serves_as_well_as_a_body(api: Api) -> None:
    """curl -X POST '/jobs/dequeue?…' needs no JSON: every parameter, `queue` once or more."""
    await api.enqueue(id="low", queue="b")
    await api.enqueue(id="high", queue="a")
    path = "/jobs/dequeue?queue=a&queue=b&wait=0&lease_seconds=60&worker=w%20%C3%A9&attempt_id=null"
    first = await api.post(path)
    assert (first.status, first.json["id"], first.json["lease"]["expires_at"]) == (200, "high", at(60))
    assert (await api.job("high"))["worker"] == "w é"
    assert (await api.post(path)).json == first.json
    assert (await api.post("/jobs/dequeue?queue=b&wait=0")).json["id"] == "low"


async def test_a_body_and_a_query_together_are_400(api: Api) -> None:
    """Neither wins silently."""
    detail = assert_problem(await api.post("/jobs/dequeue?queue=a", wait=0), 400, "bad_request")
    assert "not in both" in detail


async def test_queues_are_served_in_order_of_preference(api: Api) -> None:
    """`queue` may be a list: the first that has a job."""
    for name in ("c", "b"):
        await api.enqueue(id=name, queue=name)
    taken = [(await api.take(queue=["a", "b", "c"]))["id"] for _ in range(2)]
    assert taken == ["b", "c"]


async def test_a_waiter_stands_in_all_its_queues(api: Api) -> None:
    """A job in any of them wakes it, once."""
    for name in ("a", "b"):
        await api.put(f"/queues/{name}")
    held = await api.hold("/jobs/dequeue", queue=["a", "b"])
    assert [queue["waiters"] for queue in (await api.get("/queues")).json["queues"]] == [1, 1]
    job = await api.enqueue(queue="b")
    assert (await answered(held)).json["id"] == job["id"]
    assert [queue["waiters"] for queue in (await api.get("/queues")).json["queues"]] == [0, 0]


@pytest.mark.parametrize(("queues", "found"), [([], "0"), ([f"q{n}" for n in range(33)], "33")])
async def test_how_many_queues_may_be_named_is_bounded(api: Api, queues: list[str], found: str) -> None:
    """1 to 32, a name twice counting once."""
    detail = assert_problem(await api.post("/jobs/dequeue", queue=queues, wait=0), 400, "bad_request", "queue")
    assert f"names {found} queues; 1 to 32" in detail
    assert (await api.post("/jobs/dequeue", queue=["q"] * 33, wait=0)).status == 204


@pytest.mark.parametrize(
    ("asked", "job", "policy", "seconds"),
    [
        ({"lease_seconds": 60}, {"lease_seconds": 50}, {"lease_seconds": 40}, 60),
        ({}, {"lease_seconds": 50}, {"lease_seconds": 40}, 50),
        ({}, {}, {"lease_seconds": 40}, 40),
        ({}, {}, {}, 300),
    ],
)
async def test_how_long_a_lease_holds(api: Api, asked: dict[str, Any], job: dict[str, Any], policy: dict[str, Any], seconds: int) -> None:
    """The dequeue's lease_seconds, else the job's, else the queue's, else the server's; then it is another worker's turn."""
    await api.put("/queues/default", **policy)
    await api.enqueue(id="j", **job)
    assert (await api.take(**asked))["lease"]["expires_at"] == at(seconds)
    api.clock.advance(seconds - 0.001)
    assert (await api.post("/jobs/dequeue", wait=0)).status == 204
    api.clock.advance(0.001)
    again = await api.take()
    assert (again["id"], again["attempts"], again["error"]) == ("j", 2, "lease_expired")


async def test_the_worker_is_who_holds_the_job(api: Api) -> None:
    """`worker` shows in GET while the job is worked on and stays in history."""
    await api.enqueue(id="j")
    token = (await api.take(worker="host-1:22"))["lease"]["token"]
    assert (await api.job("j"))["worker"] == "host-1:22"
    assert (await api.post("/jobs/j/conclude", lease=token, outcome="succeeded")).status == 200
    assert (await api.job("j"))["worker"] == "host-1:22"


async def test_a_lost_answer_can_be_asked_for_again(api: Api) -> None:
    """The same attempt_id: the same job under the same lease while it lives, and a new one afterwards."""
    await api.enqueue(id="a")
    await api.enqueue(id="b")
    first = await api.take(attempt_id="x", lease_seconds=10)
    api.clock.advance(5)
    assert await api.take(attempt_id="x", lease_seconds=10) == first
    assert (await api.post("/jobs/a/conclude", lease=first["lease"]["token"], outcome="succeeded")).status == 200
    assert (await api.take(attempt_id="x"))["id"] == "b"


@pytest.mark.parametrize("other", [{"worker": "w2"}, {}, {"worker": "w1", "queue": "b"}])
async def test_a_lost_answer_is_only_for_who_asked_for_it(api: Api, other: dict[str, str]) -> None:
    """Another worker that happens to choose the same attempt_id gets a job of its own; so does one that asks for another queue."""
    for job_id, queue in (("first", "default"), ("second", "default"), ("elsewhere", "b")):
        await api.enqueue(id=job_id, queue=queue)
    first = await api.take(attempt_id="x", worker="w1")
    second = await api.take(attempt_id="x", **other)
    assert (first["id"], second["id"]) == ("first", "elsewhere" if "queue" in other else "second")
    assert await api.take(attempt_id="x", worker="w1") == first
    assert await api.take(attempt_id="x", **other) == second


@pytest.mark.parametrize("worker", [{}, {"worker": "w"}])
async def test_a_newer_request_of_the_same_attempt_takes_the_place_of_the_older(api: Api, worker: dict[str, str]) -> None:
    """A worker whose connection broke without a sign does not compete with itself: the older is answered 204."""
    older = await api.hold("/jobs/dequeue", attempt_id="x", **worker)
    newer = asyncio.create_task(api.post("/jobs/dequeue", attempt_id="x", **worker))
    assert (await answered(older)).status == 204
    await until(lambda: api.backend.totals().waiters == 1)
    job = await api.enqueue()
    assert (await answered(newer)).json["id"] == job["id"]


@pytest.mark.parametrize(("queue", "status"), [("full", 200), ("default", 204)])
async def test_a_newer_request_that_does_not_wait_ends_the_older_too(api: Api, queue: str, status: int) -> None:
    """Whether it finds a job at once or nothing: its answer is the attempt's answer."""
    await api.enqueue(queue="full")
    older = await api.hold("/jobs/dequeue", attempt_id="x", worker="w")
    assert (await api.post("/jobs/dequeue", attempt_id="x", worker="w", queue=queue, wait=0)).status == status
    assert (await answered(older)).status == 204
    assert api.backend.totals().waiters == 0


async def test_another_workers_request_leaves_the_older_in_its_place(api: Api) -> None:
    """The same attempt_id under another name, or under none, is another attempt."""
    held = [await api.hold("/jobs/dequeue", attempt_id="x", **worker) for worker in ({"worker": "w1"}, {"worker": "w2"}, {})]
    assert api.backend.totals().waiters == 3
    for n in range(3):
        await api.enqueue(id=f"j{n}")
    assert [(await answered(task)).json["id"] for task in held] == ["j0", "j1", "j2"]


async def test_waiters_are_served_in_the_order_they_came(api: Api) -> None:
    """First come, first served, one job each."""
    held = [await api.hold("/jobs/dequeue", worker=f"w{n}") for n in range(3)]
    for n in range(3):
        await api.enqueue(id=f"j{n}")
    assert [(await answered(task)).json["id"] for task in held] == ["j0", "j1", "j2"]


@pytest.mark.parametrize("cause", ["run_at", "lease_expired", "release", "retry", "resume"])
async def test_whatever_makes_a_job_available_answers_a_held_dequeue(api: Api, cause: str) -> None:
    """Not only a new job: a delay that ends, a lease that ends, a release, a retry, a resumed queue."""
    token = ""
    if cause == "run_at":
        await api.enqueue(id="j", delay=5)
    elif cause == "retry":
        await api.concluded("j", "failed")
    elif cause == "resume":
        await api.enqueue(id="j")
        await api.post("/queues/default/pause")
    else:
        token = await api.working("j", lease_seconds=5)
    held = await api.hold("/jobs/dequeue")
    if cause in ("run_at", "lease_expired"):
        api.clock.advance(5)
    elif cause == "release":
        await api.post("/jobs/j/release", lease=token)
    elif cause == "retry":
        await api.post("/jobs/j/retry")
    else:
        await api.post("/queues/default/resume")
    assert (await answered(held)).json["id"] == "j"


async def test_one_waiter_too_many_is_429(serve: Serve) -> None:
    """waiters_max bounds what is held open, dequeues and waits for results together; who does not wait is served."""
    api = await serve(waiters_max=2)
    await api.enqueue(id="j", queue="other")
    await api.hold("/jobs/dequeue")
    await api.hold("/jobs/j?wait=5", method="GET")
    assert_problem(await api.post("/jobs/dequeue"), 429, "too_many_waiters")
    assert_problem(await api.post("/batch/dequeue"), 429, "too_many_waiters")
    assert_problem(await api.get("/jobs/j?wait=5"), 429, "too_many_waiters")
    assert (await api.post("/jobs/dequeue", wait=0)).status == 204
    assert (await api.take(queue="other"))["id"] == "j"


async def test_a_client_that_hangs_up_leaves_its_place(api: Api) -> None:
    """The next in line is handed the job at once."""
    gone = await api.hold("/jobs/dequeue", worker="gone")
    stays = await api.hold("/jobs/dequeue", worker="stays")
    gone.cancel()
    await until(lambda: api.backend.totals().waiters == 1)
    await api.enqueue(id="j")
    assert (await answered(stays)).json["attempts"] == 1
    assert (await api.job("j"))["worker"] == "stays"


async def test_a_paused_queue_hands_out_nothing(api: Api) -> None:
    """Pausing keeps jobs in, other queues of the same request serve on."""
    await api.enqueue(id="kept", queue="a")
    await api.enqueue(id="given", queue="b")
    await api.post("/queues/a/pause")
    assert (await api.take(queue=["a", "b"]))["id"] == "given"
    assert (await api.post("/jobs/dequeue", queue=["a", "b"], wait=0)).status == 204


@pytest.mark.parametrize("in_query", [True, False])
async def test_dequeues_that_come_again_byte_for_byte_are_each_their_own(api: Api, in_query: bool) -> None:
    """Each takes from the queues that it names and for as long as it says, the fourth time as the first; what is refused stays refused."""
    for number in range(8):
        await api.enqueue(number, queue="a" if number % 2 else "b")

    async def take(queue: str, lease: str) -> Any:
        if in_query:
            return await api.post(f"/jobs/dequeue?queue={queue}&lease_seconds={lease}&wait=0")
        return await api.post("/jobs/dequeue", b'{"queue":"%b","lease_seconds":%b,"wait":0}' % (queue.encode(), lease.encode()))

    for number in range(4):
        for queue, lease in (("b", "10"), ("a", "20")):
            job = (await take(queue, lease)).json
            assert (job["payload"], job["queue"], job["lease"]["expires_at"]) == (2 * number + (queue == "a"), queue, at(float(lease)))
        assert (await take("a!", "10")).json["field"] == "queue"
        assert (await take("a", "1e9")).json["field"] == "lease_seconds"


async def test_a_body_that_came_before_is_still_checked_for_its_type_and_place(api: Api) -> None:
    """What is known is the content of a proper request, not that any request with it is one."""
    body = b'{"queue":"a","wait":0}'
    for _ in range(2):
        assert (await api.post("/jobs/dequeue", body)).status == 204
        assert_problem(await api.send("POST", "/jobs/dequeue", body, {"content-type": "text/plain"}), 415, "unsupported_media_type")
        assert_problem(await api.post("/jobs/dequeue?queue=a", body), 400, "bad_request")
        # A batch has a field more, and an answer of its own.
        assert (await api.post("/batch/dequeue", body)).json == {"jobs": []}


async def test_bodies_that_are_known_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither many nor long ones pile up, nor those that never come again."""
    monkeypatch.setattr(longpoll, "_KNOWN_MAX", 3)
    for number in range(10):
        for more in ({}, {"attempt_id": "x"}, {"queue": ["q" * 40] * 20}):
            assert (await api.post("/jobs/dequeue", wait=0, worker=f"w{number}", **more)).status == 204
        assert 0 < len(api.app.site.wants) <= 3
    assert max(map(len, api.app.site.wants)) < 100
