"""Errors in groups: what they answer, and jobs chosen by them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Scope, digest_of, grant

from .conftest import Serve
from .harness import Api, at, check_problem


async def fail(api: Api, job_id: str, message: str, queue: str = "q", **fields: Any) -> None:
    """A job whose attempt fails so; for good unless there is more to say."""
    await api.enqueue(id=job_id, queue=queue)
    job = await api.take(queue=queue)
    assert job["id"] == job_id
    error = {"type": "Timeout", "message": message}
    reply = await api.post(
        f"/jobs/{job_id}/conclude", lease=job["lease"]["token"], outcome="failed", error=error, **(fields or {"retry": False})
    )
    assert reply.status == 200


async def errors(api: Api, query: str = "") -> list[dict[str, Any]]:
    reply = await api.get(f"/errors{query}")
    assert reply.status == 200, reply
    found: list[dict[str, Any]] = reply.json["errors"]
    return found


async def test_failures_are_counted_by_error(api: Api) -> None:
    """Numbers do not matter; attempts that will be tried again count, and jobs that failed for good by themselves."""
    await fail(api, "a", "after 31 s for user 17", retry_delay=60)
    api.clock.advance(5)
    await fail(api, "b", "after 32 s for user 18")
    await fail(api, "c", "no such host", queue="r")
    other, group = await errors(api)
    assert (other["queue"], other["line"]) == ("r", "no such host")
    assert {name: group[name] for name in group if name != "id"} == {
        "queue": "q",
        "type": "Timeout",
        "line": "after <n> s for user <n>",
        "attempts": 2,
        "jobs": 1,
        "first_at": at(0),
        "last_at": at(5),
        "last_job": "b",
    }
    assert await errors(api, "?queue=q") == [group]
    assert await errors(api, "?limit=1") == [other]


async def test_jobs_of_a_group_are_listed_and_retried(api: Api) -> None:
    """Those whose last error is in it, and no others; a dry run counts them."""
    await fail(api, "a", "after 31 s")
    await fail(api, "b", "after 32 s")
    await fail(api, "other", "no such host")
    await fail(api, "elsewhere", "after 33 s", queue="r")
    group = (await errors(api, "?queue=q"))[1]["id"]
    assert {job["id"] for job in (await api.get(f"/jobs?error_group={group}")).json["jobs"]} == {"a", "b", "elsewhere"}
    chosen = {"queue": "q", "outcome": "failed", "error_group": group}
    assert (await api.post("/jobs/bulk", action="retry", filter=chosen, dry_run=True)).json["matched"] == 2
    assert (await api.post("/jobs/bulk", action="retry", filter=chosen)).json["done"] == 2
    assert [(await api.get(f"/jobs/{name}")).json["status"] for name in ("a", "b", "other", "elsewhere")] == [
        "queued",
        "queued",
        "concluded",
        "concluded",
    ]
    assert (await api.get(f"/jobs?error_group={group}&queue=q")).json["jobs"] == []


async def test_dead_letters_of_a_group_are_moved_back(api: Api) -> None:
    """They are counted where they failed, and chosen where they are."""
    await api.put("/queues/q", max_attempts=1, dead_letter="dead")
    await fail(api, "a", "after 31 s", retry_delay=0)
    await fail(api, "b", "no such host", retry_delay=0)
    first, second = await errors(api)
    assert [(each["queue"], each["jobs"]) for each in (first, second)] == [("q", 1), ("q", 1)]
    reply = await api.post("/queues/dead/redrive", filter={"error_group": second["id"]}, dry_run=True)
    assert reply.json["total"] == 1


async def test_failures_are_listed_by_when_they_failed(api: Api) -> None:
    """An old job that fails now comes first, before newer jobs that failed earlier, a page at a time."""
    for name in ("old", "new"):
        await api.enqueue(id=name, queue=name)
    for name in ("new", "old"):
        api.clock.advance(1)
        job = await api.take(queue=name)
        await api.post(f"/jobs/{name}/conclude", lease=job["lease"]["token"], outcome="failed", retry=False)
    assert [job["id"] for job in (await api.get("/jobs?outcome=failed")).json["jobs"]] == ["new", "old"]
    page = (await api.get("/jobs?outcome=failed&order=concluded&limit=1")).json
    assert [job["id"] for job in page["jobs"]] == ["old"]
    rest = (await api.get(f"/jobs?outcome=failed&order=concluded&cursor={page['cursor']}")).json
    assert ([job["id"] for job in rest["jobs"]], rest["cursor"]) == (["new"], None)


@pytest.mark.parametrize(
    ("path", "status", "code", "field"),
    [
        ("/errors?queue=nobody's", 400, "bad_request", "queue"),
        ("/errors?queue=none", 404, "unknown_queue", None),
        ("/errors?limit=0", 400, "bad_request", "limit"),
        ("/errors?limit=1001", 400, "bad_request", "limit"),
        ("/errors?nonsense=1", 400, "bad_request", "nonsense"),
        ("/jobs?order=ended", 400, "bad_request", "order"),
        ("/jobs?order=concluded&status=queued", 400, "bad_request", "order"),
    ],
)
async def test_what_cannot_be_asked_is_refused(api: Api, path: str, status: int, code: str, field: str | None) -> None:
    """Each error names its field."""
    check_problem((await api.get(path)).json, status, code, field)


async def test_a_group_that_is_not_there_has_no_jobs(api: Api) -> None:
    """Its id may be any text."""
    await fail(api, "a", "x")
    assert (await api.get("/jobs?error_group=%00%F0%9F%98%80")).json["jobs"] == []


async def test_hostile_errors_are_counted(api: Api) -> None:
    """Whatever JSON a worker sends, it is one line of bounded length, and no error of the server."""
    deep = "[" * 100 + "]" * 100
    texts = [
        '"\\u0000\\u001b[31m"',
        deep,
        "1e400",
        '{"type":"' + "T" * 5_000 + '","message":"\\n\\n"}',
        '"' + "9a" * 50_000 + '"',
        "{}",
        "null",
    ]
    for number, text in enumerate(texts):
        await api.enqueue(id=f"j{number}", queue="q")
        job = await api.take(queue="q")
        body = json.dumps({"lease": job["lease"]["token"], "outcome": "failed", "retry": False})[:-1] + f', "error": {text}}}'
        assert (await api.send("POST", f"/jobs/j{number}/conclude", body.encode())).status == 200
    found = await errors(api)
    assert len(found) == len(texts)
    assert all(len(group["line"] or "") <= 200 and len(group["type"] or "") <= 100 for group in found)


async def test_a_token_sees_the_errors_of_its_queues(serve: Serve) -> None:
    """No other queue's, whatever the limit; one that it names and may not use is refused."""
    grants = [grant(name, digest_of(name), [Scope.ADMIN], queues) for name, queues in {"all": ("*",), "mail": ("mail.*",)}.items()]
    api = await serve(access=Access(Keys(grants)))
    api._session.headers.update({"Authorization": "Bearer all"})
    await fail(api, "a", "secret of mail", queue="mail.x")
    for number in range(5):
        await fail(api, f"b{number}", f"secret of sms{'abcde'[number]}", queue="sms.x")
    api._session.headers.update({"Authorization": "Bearer mail"})
    assert [group["queue"] for group in await errors(api, "?limit=1")] == ["mail.x"]
    assert (await api.get("/errors?queue=sms.x")).status == 403
