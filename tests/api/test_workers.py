"""Workers over HTTP: what a dequeue says of its worker, and what a quiet one is answered."""

from __future__ import annotations

from typing import Any

from .conftest import Serve
from .harness import Api, assert_problem
from .test_access import ask, fleet, refused

SAYS: dict[str, Any] = {"worker": "w/1", "host": "alpha", "concurrency": 8, "version": "1.4.2", "started": "2027-01-15T07:00:00Z"}


async def test_a_worker_is_listed_and_made_quiet(api: Api) -> None:
    """By either dequeue, as a body or a query; a quiet one is answered at once, and told so in a header that old clients pass over."""
    assert (await api.post("/jobs/dequeue", {"wait": 0, **SAYS})).status == 204
    reply = await api.send("POST", "/batch/dequeue?wait=0&worker=other&host=h&started=2027-01-15T07:00:00%2B00:00")
    assert (reply.status, reply.json) == (200, {"jobs": []})
    listed = (await api.get("/workers")).json
    assert [(each["name"], each["host"], each["state"]) for each in listed["workers"]] == [("other", "h", "idle"), ("w/1", "alpha", "idle")]
    assert (listed["cursor"], listed["workers"][1]["started"]) == (None, "2027-01-15T07:00:00.000Z")
    page = (await api.get("/workers?limit=1&queue=default")).json
    assert ([each["name"] for each in page["workers"]], page["cursor"]) == (["other"], "other")
    assert (await api.post("/workers/-/quiet?name=w%2F1")).json["quiet"] is True
    await api.enqueue(id="job")
    for path, status in (("/jobs/dequeue", 204), ("/batch/dequeue", 200)):
        reply = await api.post(path, {"wait": 20, **SAYS})
        assert (reply.status, reply.headers["jobqueue-quiet"], reply.headers["retry-after"]) == (status, "true", "5")
    assert (await api.post("/workers/w%2F1/resume")).json["quiet"] is False
    reply = await api.post("/jobs/dequeue", {"wait": 20, **SAYS})
    assert (reply.status, reply.json["id"], "jobqueue-quiet" in reply.headers) == (200, "job", False)
    (worker, *_) = (await api.get("/workers?cursor=other")).json["workers"]
    assert (worker["state"], worker["leases"]) == ("busy", 1)


async def test_what_is_refused(api: Api) -> None:
    """A worker that nobody knows, and queries and bodies that are none."""
    assert_problem(await api.post("/workers/none/quiet"), 404, "unknown_worker")
    assert_problem(await api.post("/workers/none/resume"), 404, "unknown_worker")
    assert_problem(await api.post("/workers/none/quiet", {"a": 1}), 400, "bad_request", "a")
    for query, field in (("limit=0", "limit"), ("limit=1001", "limit"), ("queue=a%20b", "queue"), ("nope=1", "nope")):
        assert_problem(await api.get(f"/workers?{query}"), 400, "bad_request", field)
    assert_problem(await api.post("/jobs/dequeue", {"wait": 0, "host": "h"}), 400, "bad_request", "worker")


async def test_a_token_for_some_queues(serve: Serve) -> None:
    """It sees the workers of its queues, and may make those quiet that ask for no other."""
    api = await serve(access=fleet())
    for name, queue in (("theirs", "bills"), ("both", ["bills", "secret"]), ("other", "secret")):
        await ask(api, "POST", "/jobs/dequeue", {"wait": 0, "worker": name, "host": "h", "queue": queue}, "root")
    listed = (await ask(api, "GET", "/workers")).json["workers"]
    assert [(each["name"], each["queues"]) for each in listed] == [("both", ["bills"]), ("theirs", ["bills"])]
    refused(await ask(api, "GET", "/workers?queue=secret"), "queue")
    assert (await ask(api, "POST", "/workers/theirs/quiet")).json["quiet"] is True
    assert_problem(await ask(api, "POST", "/workers/both/quiet"), 403, "forbidden")
    assert_problem(await ask(api, "POST", "/workers/other/quiet"), 404, "unknown_worker")
