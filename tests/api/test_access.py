"""Tokens that hold for some queues: what they reach, what they do not, and that nothing is changed when they do not."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Scope, digest_of, grant
from jobqueue.api.app import build_app
from jobqueue.api.routes import Route
from jobqueue.backend.base import Backend
from jobqueue.backend.local import LocalBackend
from jobqueue.backend.restricted import RestrictedBackend
from jobqueue.model import JobSpec
from jobqueue.reason import Reason

from .conftest import Serve
from .flow import settle
from .harness import Api, Reply, answered, assert_problem, check_problem


def fleet(queues: Iterable[str] = ("mail.*", "bills")) -> Access:
    """Two tokens that may do everything: root in every queue, some in these."""
    return Access(Keys([grant(name, digest_of(name), [Scope.ADMIN], held) for name, held in (("root", ()), ("some", tuple(queues)))]))


async def ask(api: Api, method: str, path: str, body: Any = None, token: str = "some") -> Reply:
    """A request with a token."""

    return await api.send(method, path, None if body is None else json.dumps(body).encode(), {"Authorization": f"Bearer {token}"})


@pytest.fixture
async def api(serve: Serve) -> Api:
    """A job in a queue of theirs and in one that is not: waiting, taken and failed in each."""
    api = await serve(access=fleet())
    for queue in ("mail.out", "secret"):
        for state in ("waiting", "taken", "failed"):
            job = {"payload": 1, "id": f"{state}@{queue}", "queue": f"{queue}.{state}" if queue == "mail.out" else f"{queue}-{state}"}
            assert (await ask(api, "POST", "/jobs/enqueue", job, "root")).status == 201
    return api


async def lease(api: Api, queue: str) -> str:
    """The token of a lease on the one job of a queue."""
    reply = await ask(api, "POST", "/jobs/dequeue", {"queue": queue, "wait": 0}, "root")
    return str(reply.json["lease"]["token"])


def refused(reply: Reply, field: str | None = None) -> None:
    """403, with the token's name and no word of where a job is."""
    detail = assert_problem(reply, 403, "forbidden", field)
    assert "token some" in detail
    assert field == "queue" or "secret-" not in detail


ON_QUEUES: list[tuple[str, str, Any]] = [
    ("POST", "/jobs/enqueue", {"payload": 1, "queue": "secret-waiting"}),
    ("POST", "/jobs/enqueue", {"payload": 1, "queue": "new"}),
    ("POST", "/jobs/enqueue", {"payload": 1}),
    ("POST", "/jobs/dequeue", {"queue": "secret-waiting", "wait": 0}),
    ("POST", "/jobs/dequeue", {"queue": ["bills", "secret-waiting"], "wait": 0}),
    ("POST", "/jobs/dequeue?queue=bills&queue=secret-waiting&wait=0", None),
    ("POST", "/jobs/dequeue", {"wait": 0}),
    ("POST", "/batch/dequeue", {"queue": "secret-waiting", "wait": 0}),
    ("GET", "/jobs?queue=secret-waiting", None),
    ("GET", "/events?queue=bills&queue=secret-waiting", None),
    ("GET", "/queues/secret-waiting", None),
    ("GET", "/queues/none", None),
    ("PUT", "/queues/secret-waiting", {"max_jobs": 1}),
    ("PUT", "/queues/new", {}),
    ("DELETE", "/queues/secret-waiting", None),
    ("POST", "/queues/secret-waiting/pause", None),
    ("POST", "/queues/secret-waiting/resume", None),
    ("POST", "/queues/secret-waiting/purge", None),
    ("POST", "/queues/secret-waiting/purge?all=true", None),
    ("DELETE", "/queues/secret-waiting?force=true", None),
    ("POST", "/queues/secret-waiting/retry", None),
    ("POST", "/queues/secret-waiting/redrive", None),
    ("PATCH", "/queues/secret-waiting", {"paused": True}),
    ("PATCH", "/queues/none", {"concurrency": 1}),
    ("GET", "/queues/secret-waiting/keys", None),
    ("GET", "/queues/none/keys", None),
    ("GET", "/queues/secret-waiting/history", None),
    ("GET", "/queues/none/history", None),
    ("GET", "/workers?queue=secret-waiting", None),
    ("POST", "/queues/secret-waiting/keys/k/pause", None),
    ("POST", "/queues/secret-waiting/keys/-/pause?key=k", None),
    ("POST", "/queues/secret-waiting/keys/k/resume", None),
    ("POST", "/queues/none/keys/k/resume", None),
]

ON_JOBS: list[tuple[str, str, Any]] = [
    ("GET", "/jobs/{id}", None),
    ("GET", "/jobs/{id}?wait=50", None),
    ("POST", "/jobs/{id}/conclude", {"lease": "{lease}", "outcome": "succeeded"}),
    ("POST", "/jobs/{id}/extend", {"lease": "{lease}"}),
    ("POST", "/jobs/{id}/log", {"lease": "{lease}", "lines": ["a"]}),
    ("GET", "/jobs/{id}/log", None),
    ("GET", "/jobs/{id}/log?wait=50", None),
    ("POST", "/jobs/{id}/release", {"lease": "{lease}"}),
    ("POST", "/jobs/{id}/cancel", None),
    ("PATCH", "/jobs/{id}", {"priority": 1}),
    ("POST", "/jobs/{id}/retry", None),
    ("POST", "/jobs/{id}/forget", None),
]

IN_BATCHES: Mapping[str, tuple[Any, Any, str]] = {
    "/batch/enqueue": (
        {"payload": 1, "queue": "secret-waiting"},
        {"payload": 1, "queue": "bills"},
        "created",
    ),
    "/batch/conclude": (
        {"id": "taken@secret", "lease": "{secret}", "outcome": "succeeded"},
        {"id": "taken@mail.out", "lease": "{own}", "outcome": "succeeded"},
        "outcome",
    ),
    "/batch/extend": (
        {"id": "taken@secret", "lease": "{secret}"},
        {"id": "taken@mail.out", "lease": "{own}"},
        "expires_at",
    ),
    "/batch/release": (
        {"id": "taken@secret", "lease": "{secret}"},
        {"id": "taken@mail.out", "lease": "{own}"},
        "status",
    ),
}

DIALECTS: list[tuple[str, str, Any]] = [
    ("POST", "/classic/jobs/enqueue", {"Type": "TIME_CRITICAL"}),
    ("GET", "/classic/jobs/dequeue", None),
    ("POST", "/simplequeue/jobs/submit", {"jobId": "new"}),
    ("GET", "/simplequeue/jobs/next", None),
    ("POST", "/workpool/job", {"name": "a", "body": 1}),
]

IN_DIALECTS: list[tuple[str, str, Any, str, str]] = [
    ("GET", "/classic/jobs/{id}", None, "4", "70"),
    ("POST", "/classic/jobs/{id}/conclude", None, "5", "70"),
    ("PATCH", "/classic/jobs/conclude/{id}", None, "5", "70"),
    ("GET", "/simplequeue/jobs/{id}", None, "waiting@secret", "nowhere"),
    ("POST", "/simplequeue/jobs/complete", {"jobId": "{id}", "status": "succeeded"}, "taken@secret", "nowhere"),
    ("GET", "/workpool/status/{id}", None, "waiting@secret", "nowhere"),
    ("GET", "/workpool/result/{id}?wait=50", None, "waiting@secret", "nowhere"),
]
"""What concerns one job, with the id of one of another queue and one of none."""

LISTS = ("GET /jobs", "GET /queues", "GET /classic/jobs/stats", "GET /simplequeue/jobs", "GET /metrics", "GET /stats", "GET /token")
LISTS += ("POST /jobs/bulk", "GET /tasks", "GET /tasks/{id}", "DELETE /tasks/{id}", "GET /history")
"""Routes that concern no queue by themselves; each has a test of its own below, the last in test_bulk.py and test_history.py."""

ELSEWHERE = ("/schedules", "/workers/", "/groups", "/errors", "/session")
"""Paths of which test_schedules.py, test_workers.py, test_groups.py, test_errors.py and test_session.py show what such a token reaches."""


def template(method: str, path: str, routes: Iterable[Route]) -> str:
    """The route that a case is of."""

    path = path.partition("?")[0].replace("{id}", "x")
    for route in sorted(routes, key=lambda route: route.path.count("{")):
        if route.method == method and re.fullmatch(re.sub(r"{\w+}", "[^/]+", route.path), path):
            return f"{route.method} {route.path}"
    raise AssertionError(path)


def test_every_route_is_among_the_cases() -> None:
    """A route that is added must say what a token for some queues may do with it. Aliases share a handler, which is enough."""
    routes = [route for route in build_app(LocalBackend()).router.routes if not route.public and route.actions is None]
    told = {template(method, path, routes) for method, path, *_ in (*ON_QUEUES, *ON_JOBS, *DIALECTS, *IN_DIALECTS)}
    told |= {f"POST {path}" for path in IN_BATCHES} | set(LISTS)
    handlers = {route.handler for route in routes if f"{route.method} {route.path}" in told}
    assert [
        f"{route.method} {route.path}" for route in routes if route.handler not in handlers and not route.path.startswith(ELSEWHERE)
    ] == []


@pytest.mark.parametrize(("method", "path", "body"), ON_QUEUES)
async def test_another_queue_is_403(api: Api, method: str, path: str, body: Any) -> None:
    """By whatever way it is named, or is meant when none is; and whether it exists or not."""
    before = api.state()
    refused(await ask(api, method, path, body), "queue")
    assert api.state() == before
    assert api.backend.totals().waiters == 0


def filled(body: Any, **tokens: str) -> Any:
    """A body with its leases."""
    return body and {field: value.format(**tokens) if isinstance(value, str) else value for field, value in body.items()}


def alike(one: Reply, other: Reply, ids: Iterable[tuple[str, str]]) -> None:
    """Two answers that are the same byte for byte, but for their dates and the ids that were asked for."""
    assert one.status == other.status, (one, other)
    body = one.body
    for theirs, nowhere in ids:
        body = body.replace(theirs.encode(), nowhere.encode())
    assert body == other.body
    drop = ("date", "content-length")
    assert [pair for pair in one.headers.items() if pair[0] not in drop] == [pair for pair in other.headers.items() if pair[0] not in drop]


@pytest.mark.parametrize(("method", "path", "body"), ON_JOBS)
@pytest.mark.parametrize("state", ["waiting", "taken", "failed"])
async def test_a_job_of_another_queue_is_not_there(api: Api, method: str, path: str, body: Any, state: str) -> None:
    """Also with its right lease: the answer is that for a job that is nowhere. One of their own is reached with the same request."""
    queues = {} if state == "waiting" else {"mail.out": f"mail.out.{state}", "secret": f"secret-{state}"}
    tokens = {place: await lease(api, queue) for place, queue in queues.items()}
    if state == "failed":
        for queue, token in tokens.items():
            done = {"lease": token, "outcome": "failed", "retry": False}
            assert (await ask(api, "POST", f"/jobs/{state}@{queue}/conclude", done, "root")).status == 200
    before = api.state()
    for draining in (False, True):
        if draining:
            api.backend.drain()
        secret = await ask(api, method, path.format(id=f"{state}@secret"), filled(body, lease=tokens.get("secret", "x")))
        nowhere = await ask(api, method, path.format(id="nowhere"), filled(body, lease=tokens.get("secret", "x")))
        alike(secret, nowhere, [(f"{state}@secret", "nowhere")])
        assert_problem(secret, 404, "unknown_job")
        assert api.state() == before
    if "wait" not in path:
        own = await ask(api, method, path.format(id=f"{state}@mail.out"), filled(body, lease=tokens.get("mail.out", "x")))
        assert own.status in (200, 409, 503), own


@pytest.mark.parametrize("path", ["/batch/conclude", "/batch/extend", "/batch/release"])
async def test_a_job_of_another_queue_is_not_there_in_a_batch(api: Api, path: str) -> None:
    """Whatever else is wrong with its item, and with its right lease."""
    token = await lease(api, "secret-taken")
    for more in ({}, {"lease_seconds": -1}, {"retry_delay": 5}, {"outcome": "failed", "retry_delay": -1}, {"delay": -1}):
        item = {"lease": token, **({"outcome": "succeeded"} if "conclude" in path else {}), **more}
        theirs, nowhere = [await ask(api, "POST", path, {"jobs": [{"id": name, **item}]}) for name in ("taken@secret", "nowhere")]
        alike(theirs, nowhere, [("taken@secret", "nowhere")])


GUESSES: list[dict[str, Any]] = [
    {"payload": 1},
    {"payload": 2},
    {"payload": 1, "type": "a"},
    {"payload": 1, "key": "k"},
    {"payload": 1, "priority": 0, "delay": 5},
    {"payload": 2, "description": "d", "max_attempts": 9},
]


async def test_an_enqueue_tells_nothing_of_a_job_of_another_queue(serve: Serve) -> None:
    """With its id, a right guess at what is in it is answered as a wrong one, alone and in a batch: which conflicts, and says no more."""
    api = await serve(access=fleet(["mail.*", "bills", "default"]))
    for queue in ("secret", "bills"):
        assert (await ask(api, "POST", "/jobs/enqueue", {"payload": 1, "id": f"in-{queue}", "queue": queue}, "root")).status == 201
    before = api.state()
    answers = []
    for guess in GUESSES:
        spec = {"queue": "mail.x", "id": "in-secret", **guess}
        answers.append(await ask(api, "POST", "/jobs/enqueue", spec))
        (item,) = (await ask(api, "POST", "/batch/enqueue", {"jobs": [spec]})).json["jobs"]
        assert item["error"] == answers[0].json
    for answer in answers:
        alike(answer, answers[0], [])
    detail = assert_problem(answers[0], 409, "id_conflict")
    assert "secret" not in detail.replace("in-secret", "")
    submits = [await ask(api, "POST", "/simplequeue/jobs/submit", {"jobId": "in-secret", **more}) for more in ({}, {"data": {"a": 1}})]
    alike(submits[0], submits[1], [])
    assert submits[0].status == 409
    assert api.state() == before
    # In a queue that they may use, they are told: the queue before all else, which is looked at first.
    for queue, field in (("mail.x", "queue"), ("bills", "payload")):
        known = await ask(api, "POST", "/jobs/enqueue", {"payload": 2, "id": "in-bills", "queue": queue})
        assert_problem(known, 409, "id_conflict", field)


@pytest.mark.parametrize("path", sorted(IN_BATCHES))
async def test_an_item_of_a_batch_fails_by_itself(api: Api, path: str) -> None:
    """The others are done; an item that is nowhere, or is wrong by itself, says that."""
    own, secret = await lease(api, "mail.out.taken"), await lease(api, "secret-taken")
    theirs, ours, field = (filled(part, own=own, secret=secret) if isinstance(part, dict) else part for part in IN_BATCHES[path])
    reply = await ask(api, "POST", path, {"jobs": [theirs, ours, {**ours, "id": "nowhere", "queue": 5}, {**ours, "id": "nowhere"}]})
    first, second, third, fourth = reply.json["jobs"]
    check_problem(first["error"], *((403, "forbidden", "queue") if "enqueue" in path else (404, "unknown_job")))
    assert field in second
    assert third["error"]["code"] == "bad_request"
    assert "enqueue" in path or fourth["error"]["code"] == "unknown_job"
    assert (await ask(api, "GET", "/jobs/taken@secret", token="root")).json["status"] == "in_progress"
    assert (await ask(api, "GET", "/queues/secret-waiting", token="root")).json["queued"] == 1


@pytest.mark.parametrize(("method", "path", "body"), DIALECTS)
async def test_dialects_are_held_to_it_too(api: Api, method: str, path: str, body: Any) -> None:
    """In their own shape: they use the queue default."""
    before = api.state()
    reply = await ask(api, method, path, body)
    assert (reply.status, reply.headers["content-type"]) == (403, "application/json"), reply
    assert b"the token some gives no access to the queue" in reply.body
    assert api.state() == before
    assert api.backend.totals().waiters == 0


@pytest.mark.parametrize(("method", "path", "body", "theirs", "nowhere"), IN_DIALECTS)
async def test_a_job_of_another_queue_is_not_there_in_dialects(
    api: Api, method: str, path: str, body: Any, theirs: str, nowhere: str
) -> None:
    """Neither by its id nor by its number: the answer is that for a job which never was."""
    await lease(api, "secret-taken")
    before = api.state()
    one, other = [await ask(api, method, path.format(id=name), filled(body, id=name)) for name in (theirs, nowhere)]
    alike(one, other, [(theirs, nowhere)])
    assert one.status == 404
    assert api.state() == before
    assert api.backend.totals().waiters == 0


async def test_dialects_serve_a_token_that_holds_for_their_queue(serve: Serve) -> None:
    """With `default` among its queues it is a token like any other."""
    api = await serve(access=fleet(["default"]))
    assert (await ask(api, "POST", "/classic/jobs/enqueue", {"Type": "TIME_CRITICAL"})).json == {"ID": 1}
    assert (await ask(api, "GET", "/simplequeue/jobs/next")).json["state"] == "running"
    assert (await ask(api, "POST", "/classic/jobs/1/conclude")).json["Status"] == "CONCLUDED"


async def test_lists_show_what_the_token_sees(api: Api) -> None:
    """Jobs, queues, the dialects' lists and counts; page by page, with a cursor that goes on where a page is short."""
    assert [queue["name"] for queue in (await ask(api, "GET", "/queues")).json["queues"]] == [
        "mail.out.failed",
        "mail.out.taken",
        "mail.out.waiting",
    ]
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await ask(api, "GET", f"/jobs?limit=2{cursor}")).json
        seen += [job["id"] for job in page["jobs"]]
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert seen == ["failed@mail.out", "taken@mail.out", "waiting@mail.out"]
    assert len((await ask(api, "GET", "/jobs", token="root")).json["jobs"]) == 6
    assert [job["id"] for job in (await ask(api, "GET", "/jobs?queue=mail.out.taken")).json["jobs"]] == ["taken@mail.out"]
    assert len((await ask(api, "GET", "/simplequeue/jobs")).json) == 3
    assert (await ask(api, "GET", "/classic/jobs/stats")).json["Queued"] == 3


async def test_what_tells_of_every_queue_is_403(api: Api) -> None:
    """The metrics, and what a server tells of itself and others; public paths are open to every token as to nobody."""
    for path in ("/metrics", "/stats"):
        refused(await ask(api, "GET", path))
        assert (await ask(api, "GET", path, token="root")).status == 200
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert (await ask(api, "GET", path)).status == 200


async def test_a_held_dequeue_is_handed_a_job_of_its_queue(api: Api) -> None:
    """Restricted tokens wait, are woken and are answered when the server drains, like others."""
    headers = {"Authorization": "Bearer some"}
    api._session.headers.update(headers)
    held = await api.hold("/jobs/dequeue", queue="bills")
    assert (await ask(api, "POST", "/jobs/enqueue", {"payload": 1, "queue": "bills", "id": "b"})).status == 201
    reply = await answered(held)
    assert reply.json["id"] == "b"
    waiting = await api.hold("/jobs/dequeue", queue="bills")
    result = await api.hold("/jobs/b?wait=50", method="GET")
    api.app.drain()
    for held in (waiting, result):
        reply = await answered(held)
        assert reply.status in (200, 204)
        assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")


async def test_a_key_of_another_queue_is_another_key(api: Api) -> None:
    """Of one name in two queues: what a job of theirs waits for, the list of keys and a pause concern their queue alone."""
    for queue in ("bills", "secret"):
        policy = {"per_key": {"order": "fifo"}}
        assert (await ask(api, "PUT", f"/queues/{queue}", policy, "root")).status == 200
        for job in ("first", "second"):
            spec = {"payload": 1, "id": f"{job}@{queue}", "queue": queue, "key": "k"}
            assert (await ask(api, "POST", "/jobs/enqueue", spec, "root")).status == 201
    settle(api)
    await lease(api, "secret")
    (reason,) = (await ask(api, "GET", "/jobs/second@bills")).json["waiting_for"]
    assert reason == {"reason": "key", "key": "k", "block": "order", "job": "first@bills"}
    listed = (await ask(api, "GET", "/jobs?key=k&waiting_for=true")).json["jobs"]
    assert [job["id"] for job in listed] == ["second@bills", "first@bills"]
    assert "secret" not in str(listed)
    (key,) = (await ask(api, "GET", "/queues/bills/keys")).json["keys"]
    assert (key["queued"], key["in_progress"]) == (2, 0)
    assert (await ask(api, "PATCH", "/queues/bills", {"concurrency": 1})).status == 200
    assert (await ask(api, "POST", "/queues/bills/keys/k/pause")).json["paused"] is True
    (theirs,) = (await ask(api, "GET", "/queues/secret/keys", token="root")).json["keys"]
    assert (theirs["paused"], theirs["in_progress"]) == (False, 1)


@pytest.mark.parametrize("path", ["/jobs/j", "/jobs?waiting_for=true"])
async def test_an_id_given_anew_says_nothing_of_the_other_job(serve: Serve, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """A job is shown, and before its reasons are looked up history forgets it and its id goes to a job of another queue."""
    api = await serve(access=fleet(), history_jobs_max=0)
    assert (await ask(api, "PUT", "/queues/secret", {"concurrency": 1}, "root")).status == 200
    for queue, job_id in (("secret", "before"), ("bills", "j")):
        assert (await ask(api, "POST", "/jobs/enqueue", {"payload": 1, "id": job_id, "queue": queue}, "root")).status == 201
    await lease(api, "secret")
    look_up = LocalBackend.waiting_for

    async def later(backend: LocalBackend, *arguments: Any) -> list[list[Reason]]:
        backend.engine.cancel(api.clock.now(), "j")
        backend.engine.enqueue(api.clock.now(), JobSpec(payload=b"1", id="j", queue="secret"))
        return await look_up(backend, *arguments)

    monkeypatch.setattr(LocalBackend, "waiting_for", later)
    shown = (await ask(api, "GET", path)).json
    (job,) = shown.get("jobs", [shown])
    assert (job["queue"], job["waiting_for"]) == ("bills", [])


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("mail", "mail", "mail2"),
        ("mail.*", "mail.", "mail"),
        ("*.out", "mail.out", "mail.outer"),
        ("m?il", "mail", "mil"),
        ("q[1-3]", "q2", "q4"),
        ("q[!1-3]", "q4", "q2"),
        ("MAIL", "MAIL", "mail"),
        ("a.b", "a.b", "axb"),
    ],
)
async def test_a_pattern_is_a_shells(serve: Serve, pattern: str, fits: str, fits_not: str) -> None:
    """The whole name has to fit, in the same case; a dot is a dot."""
    api = await serve(access=fleet([pattern]))
    assert (await ask(api, "POST", "/jobs/enqueue", {"payload": 1, "queue": fits})).status == 201
    refused(await ask(api, "POST", "/jobs/enqueue", {"payload": 1, "queue": fits_not}), "queue")


async def test_an_odd_queue_name_is_refused_like_any_other(api: Api) -> None:
    """What is no name at all is not theirs either; its words are cut and cannot harm a log."""
    for queue in ("\n" * 500, "x" * 5_000, "é\x00"):
        detail = assert_problem(await ask(api, "POST", "/jobs/enqueue", {"payload": 1, "queue": queue}), 403, "forbidden", "queue")
        assert detail.isprintable()
        assert len(detail) < 400


def test_the_restriction_covers_the_whole_contract() -> None:
    """Every method of Backend is there with the same parameters, so that none is served by accident, and none is missing."""
    names = [name for name in vars(Backend) if not name.startswith("_")]
    assert len(names) > 20
    for name in names:
        if isinstance(vars(Backend)[name], property):
            assert isinstance(vars(RestrictedBackend)[name], property)
            continue
        assert inspect.signature(getattr(RestrictedBackend, name)) == inspect.signature(getattr(Backend, name))


async def test_who_may_not_read_learns_nothing_by_submitting_an_id(serve: Serve) -> None:
    """simplequeue answers a known id with the job; without the scope read, with its state and not with what it holds."""
    keys = Keys([grant(name, digest_of(name), [Scope(word) for word in name.split("+")]) for name in ("admin", "enqueue", "enqueue+read")])
    api = await serve(access=Access(keys))
    known = {"id": "a", "payload": {"pin": 4711}, "description": "hidden"}
    assert (await ask(api, "POST", "/jobs/enqueue", known, "admin")).status == 201
    guess = {"jobId": "a", "data": {}}
    reply = await ask(api, "POST", "/simplequeue/jobs/submit", guess, "enqueue")
    assert (reply.status, reply.json) == (200, {"jobId": "a", "state": "submitted"})
    reply = await ask(api, "POST", "/simplequeue/jobs/submit", guess, "enqueue+read")
    assert (reply.status, reply.json["data"]) == (200, {"pin": 4711})
