"""POST /jobs/bulk, redrives, tasks and PATCH /jobs/{id}: what is answered, what is refused, and whose queues a token must hold for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from .conftest import Serve
from .harness import Api, assert_problem, at
from .test_access import ask, fleet


async def settle() -> None:
    """Let a task do what it can do without time."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_operation_on_many_jobs(api: Api) -> None:
    """Each action does what its single twin does; a dry run counts and changes nothing."""
    for each in ("a", "b"):
        await api.enqueue(id=each, tags=["x"])
    asked = {"filter": {"tag": "x"}}
    before = api.state()
    assert (await api.post("/jobs/bulk", action="cancel", dry_run=True, **asked)).json == {
        "matched": 2,
        "done": 0,
        "refused": {},
        "cursor": None,
    }
    assert api.state() == before
    edit = {"priority": 1, "payload": {"new": 1}, "run_at": at(60)}
    assert (await api.post("/jobs/bulk", action="edit", edit=edit, **asked)).json["done"] == 2
    job = (await api.get("/jobs/a")).json
    assert (job["priority"], job["payload"], job["run_at"], job["status"]) == (1, {"new": 1}, at(60), "scheduled")
    for action in ("cancel", "retry", "cancel", "forget"):
        assert (await api.post("/jobs/bulk", action=action, **asked)).json["done"] == 2
    assert_problem(await api.get("/jobs/a"), 404, "unknown_job")


async def test_parts_are_gone_on_with(serve: Serve) -> None:
    """By the cursor of the one before, and each part is bounded."""
    api = await serve(page_scan_max=2, page_jobs_max=2, page_jobs_default=2)
    for each in ("a", "b", "c"):
        await api.enqueue(id=each)
    asked = {"action": "cancel", "filter": {"status": "queued"}}
    first = (await api.post("/jobs/bulk", **asked)).json
    assert (first["done"], first["cursor"]) == (2, "2-4")
    assert (await api.post("/jobs/bulk", **asked, cursor=first["cursor"])).json == {"matched": 1, "done": 1, "refused": {}, "cursor": None}


async def test_a_filter_has_to_say_something(api: Api) -> None:
    """An empty one would be for every job of the server, and is refused."""
    await api.enqueue(id="a")
    before = api.state()
    detail = assert_problem(await api.post("/jobs/bulk", action="cancel", filter={}), 400, "bad_request", "filter")
    assert "matches every job" in detail
    assert_problem(await api.post("/jobs/bulk", action="cancel"), 400, "bad_request", "filter")
    assert_problem(await api.post("/jobs/bulk", action="edit", filter={"tag": "x"}, edit={"tags": [""]}), 400, "bad_request", "edit.tags")
    deep = [[]]
    for _ in range(100):
        deep = [deep]
    reply = await api.post("/jobs/bulk", action="edit", filter={"tag": "x"}, edit={"payload": deep})
    assert_problem(reply, 400, "bad_request", "edit.payload")
    assert api.state() == before


async def buried(api: Api, *ids: str) -> None:
    """Dead letters of bills, in mail.dead."""
    assert (await ask(api, "PUT", "/queues/bills", {"max_attempts": 1, "dead_letter": "mail.dead"}, "root")).status == 200
    for each in ids:
        assert (await ask(api, "POST", "/jobs/enqueue", {"payload": 1, "id": each, "queue": "bills"}, "root")).status == 201
        job = (await ask(api, "POST", "/jobs/dequeue", {"queue": "bills", "wait": 0}, "root")).json
        done = {"lease": job["lease"]["token"], "outcome": "failed", "error": "no"}
        assert (await ask(api, "POST", f"/jobs/{each}/conclude", done, "root")).status == 200


async def test_a_task_is_looked_at_and_cancelled(serve: Serve) -> None:
    """While it runs and after; one that is over is not begun again by it."""
    api = await serve(access=fleet())
    await buried(api, "a", "b", "c")
    reply = await ask(api, "POST", "/queues/mail.dead/redrive", {"rate": 0.5, "filter": {"error": "no"}}, "root")
    assert (reply.status, reply.json["total"], reply.json["state"]) == (202, 3, "running")
    await settle()
    place = f"/tasks/{reply.json['id']}"
    shown = (await ask(api, "GET", place, token="root")).json
    assert (shown["done"], shown["ended_at"], shown["rate"]) == (1, None, 0.5)
    assert (await ask(api, "GET", "/tasks", token="root")).json == {"tasks": [shown]}
    over = (await ask(api, "DELETE", place, token="root")).json
    assert (over["state"], over["done"]) == ("cancelled", 1)
    assert (await ask(api, "DELETE", place, token="root")).json == over
    for method in ("GET", "DELETE"):
        assert_problem(await ask(api, method, "/tasks/none", token="root"), 404, "unknown_task")


async def test_as_many_tasks_run_as_may(serve: Serve) -> None:
    """One more is 429."""
    api = await serve(access=fleet())
    await buried(api, *(f"a{number}" for number in range(22)))
    for _ in range(20):
        reply = await ask(api, "POST", "/queues/mail.dead/redrive", {"rate": 0.001}, "root")
        assert reply.status == 202
        await settle()
    assert_problem(await ask(api, "POST", "/queues/mail.dead/redrive", token="root"), 429, "too_many_tasks")
    for task in (await ask(api, "GET", "/tasks", token="root")).json["tasks"]:
        await ask(api, "DELETE", f"/tasks/{task['id']}", token="root")


BULK: list[tuple[dict[str, Any], str]] = [
    ({"action": "cancel", "filter": {"status": "queued"}}, "filter.queue"),
    ({"action": "cancel", "filter": {"queue": "secret"}}, "filter.queue"),
    ({"action": "cancel", "filter": {"queue": "secret"}, "dry_run": True}, "filter.queue"),
    ({"action": "edit", "filter": {"queue": "bills"}, "edit": {"queue": "secret"}}, "edit.queue"),
]


@pytest.mark.parametrize(("body", "field"), BULK)
async def test_a_token_for_some_queues_must_name_one(serve: Serve, body: dict[str, Any], field: str) -> None:
    """One of its own, and move jobs to no other; it learns nothing of what is elsewhere."""
    api = await serve(access=fleet())
    for queue in ("secret", "bills"):
        await ask(api, "POST", "/jobs/enqueue", {"payload": 1, "queue": queue}, "root")
    before = api.state()
    assert_problem(await ask(api, "POST", "/jobs/bulk", body), 403, "forbidden", field)
    assert api.state() == before
    done = await ask(api, "POST", "/jobs/bulk", {"action": "cancel", "filter": {"queue": "bills"}})
    assert (done.json["matched"], done.json["done"]) == (1, 1)


async def test_a_task_about_other_queues_is_not_there(serve: Serve) -> None:
    """For a token that may not use the queue, or the one that jobs are moved to."""
    api = await serve(access=fleet())
    await buried(api, "a", "b", "c", "d")
    hidden = (await ask(api, "POST", "/queues/mail.dead/redrive", {"to": "secret", "rate": 0.001}, "root")).json["id"]
    await settle()
    own = (await ask(api, "POST", "/queues/mail.dead/redrive", {"to": "bills", "rate": 0.001})).json["id"]
    await settle()
    assert [task["id"] for task in (await ask(api, "GET", "/tasks")).json["tasks"]] == [own]
    for method in ("GET", "DELETE"):
        assert_problem(await ask(api, method, f"/tasks/{hidden}"), 404, "unknown_task")
        assert (await ask(api, method, f"/tasks/{own}")).status == 200
    await ask(api, "DELETE", f"/tasks/{hidden}", token="root")


async def test_what_is_edited_and_what_cannot_be(api: Api) -> None:
    """The answer is the job as it is; one in progress is 409 in_progress, one that is concluded not_in_progress, and neither changes."""
    token = await api.working("busy")
    await api.enqueue(id="j", queue="q", tags=["x"])
    job = (await api.send("PATCH", "/jobs/j", b'{"payload": {"b" : 2}, "priority": 2, "tags": [], "expires_in": 60}')).json
    assert (job["priority"], job["tags"], job["expires_at"], job["status"]) == (2, [], at(60), "queued")
    assert b'"payload":{"b" : 2}' in (await api.get("/jobs/j")).body
    before = api.state()
    assert_problem(await api.send("PATCH", "/jobs/busy", b'{"priority":1}'), 409, "in_progress")
    assert_problem(await api.send("PATCH", "/jobs/none", b'{"priority":1}'), 404, "unknown_job")
    assert_problem(await api.send("PATCH", "/jobs/j", b'{"delay":1,"run_at":"2027-01-15T09:00:00Z"}'), 400, "bad_request", "run_at")
    assert_problem(await api.send("PATCH", "/jobs/j", b'{"payload":"' + b"x" * 1_100_000 + b'"}'), 413, "too_large", "payload")
    assert api.state() == before
    await api.post("/jobs/busy/conclude", lease=token, outcome="succeeded")
    assert_problem(await api.send("PATCH", "/jobs/busy", b'{"priority":1}'), 409, "not_in_progress")


async def test_a_job_is_edited_only_between_own_queues(serve: Serve) -> None:
    """A token for some queues edits no job of another, and moves none of its own there."""
    api = await serve(access=fleet())
    for queue in ("secret", "bills"):
        await ask(api, "POST", "/jobs/enqueue", {"payload": 1, "id": f"in-{queue}", "queue": queue}, "root")
    before = api.state()
    assert_problem(await ask(api, "PATCH", "/jobs/in-bills", {"queue": "secret"}), 403, "forbidden", "queue")
    assert_problem(await ask(api, "PATCH", "/jobs/in-secret", {"queue": "bills"}), 404, "unknown_job")
    assert api.state() == before
    assert (await ask(api, "PATCH", "/jobs/in-bills", {"queue": "mail.out"})).json["queue"] == "mail.out"
