"""Jobs that are after others, and groups, over HTTP: what is asked and answered, and what a token that holds for some queues reaches."""

from __future__ import annotations

import asyncio
from typing import Any

from .conftest import Serve
from .harness import Api, assert_problem
from .test_access import ask, fleet

CALLBACK = {"payload": {"n": 1}, "queue": "after"}


async def create(api: Api, **fields: Any) -> Any:
    """Make the group `g`."""
    reply = await api.post("/groups", **{"id": "g", **fields})
    assert reply.status == 201, reply
    assert reply.headers["location"] == "/groups/g"
    return reply.json


async def finish(api: Api, result: Any = None, queue: str = "default") -> Any:
    """Have the next job succeed; as it was handed out."""
    job = await api.take(queue=queue)
    reply = await api.post(f"/jobs/{job['id']}/conclude", lease=job["lease"]["token"], outcome="succeeded", result=result)
    assert reply.status == 200
    return job


async def test_a_job_says_what_it_is_after_and_is_handed_their_results(api: Api) -> None:
    """While it waits, when it is taken, and in lists; other jobs say nothing of the kind."""
    await api.enqueue(id="one")
    await api.enqueue(id="child", after=["one"], after_failure="hold")
    child = await api.job("child")
    assert (child["status"], child["run_at"], child["after"], child["after_failure"]) == ("scheduled", None, ["one"], "hold")
    assert child["waiting_for"] == [{"reason": "jobs", "jobs": ["one"]}]
    assert "parents" not in await finish(api, {"rows": 3})
    job = await api.take()
    assert (job["id"], job["parents"]) == ("child", [{"id": "one", "outcome": "succeeded", "result": {"rows": 3}}])
    assert "after" not in await api.job("one")
    assert [each["id"] for each in (await api.get("/jobs?parent=one")).json["jobs"]] == ["child"]


async def test_a_parent_that_nobody_knows_is_a_404_of_its_field(api: Api) -> None:
    """So is a group; a closed one is a 409."""
    assert_problem(await api.post("/jobs/enqueue", payload=1, after=["nobody"]), 404, "unknown_job", "after")
    assert_problem(await api.post("/jobs/enqueue", payload=1, group="nobody"), 404, "unknown_group", "group")
    await create(api)
    await api.post("/groups/g/close")
    assert_problem(await api.post("/jobs/enqueue", payload=1, group="g"), 409, "group_closed", "group")
    for method, path in (("GET", "/groups/h"), ("POST", "/groups/h/close"), ("POST", "/groups/h/cancel"), ("GET", "/groups/h?wait=5")):
        assert_problem(await api.send(method, path), 404, "unknown_group")


async def test_a_group_is_waited_for_by_whoever_asks(api: Api) -> None:
    """The answer comes with the last end, and says what was enqueued."""
    made = await create(api, on_concluded=CALLBACK, on_succeeded=CALLBACK)
    assert made["on_concluded"] == {"state": "waits", "queue": "after", "job": None, "problem": None}
    await api.enqueue(id="a", group="g")
    assert (await api.job("a"))["group"] == "g"
    waiting = asyncio.create_task(api.get("/groups/g?wait=50"))
    assert not (await api.post("/groups/g/close")).json["concluded"]
    assert (await finish(api))["group"] == "g"
    group = (await waiting).json
    assert (group["concluded"], group["members"], group["live"], group["succeeded"]) == (True, 1, 0, 1)
    assert [group[name]["job"] for name in ("on_concluded", "on_succeeded")] == ["g:concluded", "g:succeeded"]
    assert [each["id"] for each in (await api.get("/jobs?group=g")).json["jobs"]] == ["a"]
    assert (await api.get("/groups")).json == {"groups": [group], "cursor": None}


async def test_the_same_group_again_is_no_other(api: Api) -> None:
    """Without a body the server names it."""
    await create(api, on_concluded=CALLBACK)
    assert (await api.post("/groups", id="g", on_concluded=CALLBACK)).status == 200
    assert_problem(await api.post("/groups", id="g"), 409, "id_conflict", "on_concluded")
    assert len((await api.post("/groups")).json["id"]) == 36


async def test_a_token_for_some_queues_sees_the_groups_of_these(serve: Serve) -> None:
    """Others are not there for it; nor may it be after what it may not see, or have something enqueued elsewhere."""
    api = await serve(access=fleet(["mine"]))
    assert (await ask(api, "POST", "/groups", {"id": "a", "queue": "secret"}, "root")).status == 201
    assert (await ask(api, "POST", "/groups", {"id": "b", "queue": "mine"})).status == 201
    listed = (await ask(api, "GET", "/groups?limit=1")).json
    assert ([each["id"] for each in listed["groups"]], listed["cursor"]) == (["b"], None)
    for method, path in (("GET", ""), ("GET", "?wait=5"), ("POST", "/close"), ("POST", "/cancel")):
        assert_problem(await ask(api, method, f"/groups/a{path}", None), 404, "unknown_group")
    assert_problem(await ask(api, "POST", "/groups", {"queue": "secret"}), 403, "forbidden", "queue")
    elsewhere = {"queue": "mine", "on_concluded": {"payload": 1, "queue": "secret"}}
    assert_problem(await ask(api, "POST", "/groups", elsewhere), 403, "forbidden", "on_concluded.queue")
    assert (await ask(api, "POST", "/jobs/enqueue", {"id": "hidden", "queue": "secret", "payload": 1}, "root")).status == 201
    job = {"queue": "mine", "payload": 1}
    assert_problem(await ask(api, "POST", "/jobs/enqueue", {**job, "after": ["hidden"]}), 404, "unknown_job", "after")
    assert_problem(await ask(api, "POST", "/jobs/enqueue", {**job, "group": "a"}), 404, "unknown_group", "group")
    batch = [{**job, "id": "hidden"}, {**job, "after": ["hidden"]}, {**job, "id": "x"}, {**job, "after": ["x"], "group": "b"}]
    replies = (await ask(api, "POST", "/batch/enqueue", {"jobs": batch})).json["jobs"]
    assert [each.get("error", {}).get("code") for each in replies] == ["id_conflict", "unknown_job", None, None]
