"""Late successes, leases that end at once, and purges of all, in the native API."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Scope, digest_of, grant

from .conftest import Serve
from .harness import Api, answered, assert_problem

LEASE_OF_NONE = "f" * 32


async def lapsed(api: Api, **fields: Any) -> str:
    """A job `j` whose lease has been ended; its token."""
    await api.enqueue(id="j", **fields)
    token: str = (await api.take(worker="w"))["lease"]["token"]
    reply = await api.post("/jobs/j/extend", lease=token, lease_seconds=0)
    assert reply.status == 200
    return token


async def test_extending_by_zero_gives_the_job_to_who_waits(api: Api) -> None:
    """In the same step; the answer says since when the lease is over, and the attempt counts."""
    await api.enqueue(id="j")
    token = (await api.take())["lease"]["token"]
    held = await api.hold("/jobs/dequeue")
    reply = await api.post("/jobs/j/extend", lease=token, lease_seconds=0, progress=0.5)
    assert (reply.status, reply.json["id"], reply.json["cancel_requested"]) == (200, "j", False)
    taken = (await answered(held)).json
    assert (taken["id"], taken["attempts"]) == ("j", 2)
    past = (await api.job("j"))["past"]
    assert [(one["attempt"], one["ended"], one["ended_at"]) for one in past] == [(1, "lease_expired", reply.json["expires_at"])]
    assert_problem(await api.post("/jobs/j/extend", lease=token), 409, "lease_lost")


async def test_extending_by_zero_tells_of_a_cancel(api: Api) -> None:
    """It was the job's end, and a batch says so as well."""
    await api.enqueue(id="a")
    await api.enqueue(id="b")
    tokens = {job["id"]: job["lease"]["token"] for job in (await api.post("/batch/dequeue", limit=2)).json["jobs"]}
    await api.post("/jobs/a/cancel")
    items = [{"id": job_id, "lease": token, "lease_seconds": 0} for job_id, token in tokens.items()]
    reply = await api.post("/batch/extend", jobs=items)
    assert [(one["id"], one["cancel_requested"]) for one in reply.json["jobs"]] == [("a", True), ("b", False)]
    assert ((await api.job("a"))["outcome"], (await api.job("b"))["status"]) == ("cancelled", "queued")


async def test_a_late_success_is_taken(api: Api) -> None:
    """Alone and in a batch, and again; without `late` the lease is lost as ever. The token is shown to nobody."""
    token = await lapsed(api)
    assert token not in (await api.get("/jobs/j")).body.decode()
    assert token not in (await api.get("/jobs")).body.decode()
    assert_problem(await api.post("/jobs/j/conclude", lease=token, outcome="succeeded", result=1), 409, "lease_lost")
    for _ in range(2):
        reply = await api.post("/jobs/j/conclude", lease=token, outcome="succeeded", result=1, late=True)
        assert (reply.status, reply.json["outcome"]) == (200, "succeeded")
    shown = await api.job("j")
    assert (shown["result"], shown["worker"], shown["attempts"]) == (1, "w", 1)
    assert_problem(await api.post("/jobs/j/conclude", lease=token, outcome="succeeded", result=2, late=True), 409, "not_in_progress")


async def test_a_late_success_in_a_batch(api: Api) -> None:
    """Each item by itself."""
    token = await lapsed(api)
    item = {"id": "j", "lease": token, "outcome": "succeeded"}
    reply = await api.post("/batch/conclude", jobs=[item, {**item, "late": True}, {**item, "lease": LEASE_OF_NONE, "late": True}])
    assert [one.get("outcome") or one["error"]["code"] for one in reply.json["jobs"]] == ["lease_lost", "succeeded", "lease_lost"]


async def test_a_dead_letter_says_how_often_it_was_tried(api: Api) -> None:
    """In all queues; a late success of its last attempt finds it."""
    await api.put("/queues/default", max_attempts=1, dead_letter="dead")
    token = await lapsed(api)
    assert (await api.job("j"))["origin"]["attempts"] == 1
    reply = await api.post("/jobs/j/conclude", lease=token, outcome="succeeded", late=True)
    assert reply.json["outcome"] == "succeeded"


async def test_who_may_not_use_the_dead_letters_may_still_say_that_it_succeeded(serve: Serve) -> None:
    """The lease was theirs. Whoever has another queue finds no such job, whatever token they send."""
    keys = [grant(name, digest_of(name), [Scope.ADMIN], held) for name, held in (("root", ()), ("some", ("default",)), ("none", ("o",)))]
    api = await serve(access=Access(Keys(keys)))

    async def ask(token: str, path: str, **body: Any) -> Any:
        return await api.send("POST", path, json.dumps(body).encode(), {"Authorization": f"Bearer {token}"})

    await ask("root", "/jobs/enqueue", payload=1, id="j", max_attempts=1)
    await api.send("PUT", "/queues/default", b'{"dead_letter":"dead"}', {"Authorization": "Bearer root"})
    lease = (await ask("some", "/jobs/dequeue", wait=0)).json["lease"]["token"]
    await ask("some", "/jobs/j/extend", lease=lease, lease_seconds=0)
    said = {"lease": lease, "outcome": "succeeded", "late": True}
    for path, body in (("/jobs/j/conclude", said), ("/batch/conclude", {"jobs": [{"id": "j", **said}]})):
        assert "unknown_job" in (await ask("none", path, **body)).body.decode()
    assert_problem(await ask("some", "/jobs/j/conclude", **{**said, "late": False}), 404, "unknown_job")
    assert (await ask("some", "/jobs/j/conclude", **said)).json["outcome"] == "succeeded"


async def test_purging_all_that_lives(api: Api) -> None:
    """What is in progress too; the worker is told at its next word."""
    await api.working("working", queue="q")
    await api.enqueue(id="queued", queue="q")
    await api.enqueue(id="scheduled", queue="q", delay=5)
    reply = await api.post("/queues/q/purge?all=true")
    assert (reply.status, reply.json) == (200, {"queue": "q", "purged": 3})
    assert {job["outcome"] for job in (await api.get("/jobs")).json["jobs"]} == {"cancelled"}
    assert (await api.post("/queues/q/purge?all=false")).json["purged"] == 0


async def test_deleting_a_queue_with_its_jobs(api: Api) -> None:
    """It says how many ended; who waits for it alone is answered at once, with nothing."""
    await api.working("working", queue="q")
    held = await api.hold("/jobs/dequeue", queue="q")
    reply = await api.send("DELETE", "/queues/q?force=true")
    assert (reply.status, reply.json) == (200, {"queue": "q", "purged": 1})
    assert (await answered(held)).status == 204
    assert_problem(await api.get("/queues/q"), 404, "unknown_queue")
    assert_problem(await api.send("DELETE", "/queues/q?force=true"), 404, "unknown_queue")


@pytest.mark.parametrize(
    ("method", "path", "field"),
    [
        ("POST", "/queues/q/purge?all=yes", "all"),
        ("POST", "/queues/q/purge?all", "all"),
        ("POST", "/queues/q/purge?all=true&all=true", "all"),
        ("POST", "/queues/q/purge?force=true", "force"),
        ("DELETE", "/queues/q?force=2", "force"),
        ("DELETE", "/queues/q?all=true", "all"),
    ],
)
async def test_a_wrong_word_changes_nothing(api: Api, method: str, path: str, field: str) -> None:
    """A parameter that means nothing is refused by its name."""
    await api.working("working", queue="q")
    before = api.state()
    assert_problem(await api.send(method, path), 400, "bad_request", field)
    assert_problem(await api.send("POST", "/queues/q/purge?all=true", b'{"all":true}'), 400, "bad_request", "all")
    assert api.state() == before
