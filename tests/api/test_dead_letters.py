"""Dead letters over HTTP: what a job says of itself, redrive, and whose queues a token must hold for."""

from __future__ import annotations

from typing import Any

from .conftest import Serve
from .harness import Api, assert_problem, at
from .test_access import ask, fleet
from .test_bulk import settle


async def bury(api: Api, job_id: str = "j", **policy: Any) -> None:
    """A job that failed for good in q, whose dead letters go to dead."""
    await api.put("/queues/q", max_attempts=1, dead_letter="dead", **policy)
    token = await api.working(job_id, queue="q")
    assert (await api.post(f"/jobs/{job_id}/conclude", lease=token, outcome="failed", error="no")).status == 200


async def test_a_dead_letter_says_where_it_comes_from(api: Api) -> None:
    """In whatever shows a job; of other jobs there is no such field. The answer to the conclude says that it is queued."""
    await api.put("/queues/q", dead_letter="dead")
    token = await api.working("j", queue="q")
    reply = await api.post("/jobs/j/conclude", lease=token, outcome="failed", error="no", retry=False)
    assert (reply.json["status"], reply.json["outcome"], reply.json["attempts"]) == ("queued", None, 0)
    await api.enqueue(id="other")
    found = (await api.get("/jobs/j")).json
    assert (found["queue"], found["origin"]) == ("dead", {"queue": "q", "at": at(0), "reason": "failed", "attempts": 1})
    assert (found["error"], [one["error"] for one in found["past"]]) == ("no", ["no"])
    listed = {job["id"]: job.get("origin") for job in (await api.get("/jobs")).json["jobs"]}
    assert listed == {"j": found["origin"], "other": None}
    totals = (await api.get("/queues/q")).json["totals"]
    assert (totals["failed"], totals["dead_lettered"]) == (1, 1)
    assert b"jobqueue_jobs_dead_lettered_total" in (await api.get("/metrics")).body


async def test_redrive_takes_a_body_or_none(api: Api) -> None:
    """With `to` they go there; a body that is wrong changes nothing."""
    await bury(api)
    assert_problem(await api.post("/queues/dead/redrive", to="dead"), 400, "bad_request", "to")
    assert_problem(await api.post("/queues/dead/redrive", to=5), 400, "bad_request", "to")
    assert_problem(await api.post("/queues/dead/redrive", rate=0), 400, "bad_request", "rate")
    assert_problem(await api.post("/queues/dead/redrive", filter={"queue": "q"}), 400, "bad_request", "filter.queue")
    reply = await api.post("/queues/dead/redrive")
    assert (reply.status, reply.json["total"]) == (202, 1)
    await settle()
    assert (await api.get(f"/tasks/{reply.json['id']}")).json == {**reply.json, "state": "done", "done": 1, "ended_at": at(0)}
    job = (await api.get("/jobs/j")).json
    assert (job["queue"], job["error"], job["past"], "origin" in job) == ("q", None, [], False)
    await api.take(queue="q")
    assert (await api.post("/queues/q/redrive", to="r")).json["total"] == 0
    assert_problem(await api.post("/queues/none/redrive"), 404, "unknown_queue")


async def test_a_circle_is_refused(api: Api) -> None:
    """400 that names the field, by PUT and PATCH."""
    await api.put("/queues/a", dead_letter="b")
    assert_problem(await api.put("/queues/b", dead_letter="a"), 400, "bad_request", "dead_letter")
    assert_problem(await api.put("/queues/c", dead_letter="no name"), 400, "bad_request", "dead_letter")


async def test_a_producer_may_read_its_job_wherever_it_is(serve: Serve) -> None:
    """Who may use the queue that it was enqueued in reads it, waits for it and repeats the enqueue, and may do nothing else with it."""
    api = await serve(access=fleet(["q"]))
    assert (await ask(api, "PUT", "/queues/q", {"max_attempts": 1, "dead_letter": "dead"}, "root")).status == 200
    asked = {"payload": 1, "id": "j", "queue": "q"}
    await ask(api, "POST", "/jobs/enqueue", asked)
    token = (await ask(api, "POST", "/jobs/dequeue", {"queue": "q", "wait": 0})).json["lease"]["token"]
    await ask(api, "POST", "/jobs/j/conclude", {"lease": token, "outcome": "failed"})
    found = await ask(api, "GET", "/jobs/j?wait=0")
    assert (found.status, found.json["queue"]) == (200, "dead")
    repeated = await ask(api, "POST", "/jobs/enqueue", asked)
    assert (repeated.status, repeated.json["created"]) == (200, False)
    for operation in ("cancel", "retry"):
        assert_problem(await ask(api, "POST", f"/jobs/j/{operation}"), 404, "unknown_job")
    assert (await ask(api, "GET", "/jobs")).json["jobs"] == []


async def test_a_token_must_hold_for_every_queue_that_it_moves_jobs_to(serve: Serve) -> None:
    """The dead-letter queue that it sets, and the queue that it redrives to, which it must name."""
    api = await serve(access=fleet(["q", "dead"]))
    for method, body in (("PUT", {"dead_letter": "secret"}), ("PATCH", {"dead_letter": "secret"})):
        assert_problem(await ask(api, method, "/queues/q", body), 403, "forbidden", "dead_letter")
    assert (await ask(api, "PUT", "/queues/q", {"dead_letter": "dead"})).status == 200
    assert (await ask(api, "PUT", "/queues/dead", {})).status == 200
    assert_problem(await ask(api, "POST", "/queues/dead/redrive"), 403, "forbidden", "to")
    assert_problem(await ask(api, "POST", "/queues/dead/redrive", {"to": "secret"}), 403, "forbidden", "to")
    assert (await ask(api, "POST", "/queues/dead/redrive", {"to": "q"})).json["state"] == "done"
