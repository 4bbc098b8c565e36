"""Every error that the reference shows is what the running server answers, to the letter."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import admin, digest_of, grant
from jobqueue.api.access.origins import Hosts
from jobqueue.api.access.ratelimit import Rate
from jobqueue.api.describe.failures import FORM, GROUP, HOST, JOB, QUEUE, SCHEDULE, UNKNOWN, WAIT, target, waits
from jobqueue.api.describe.openapi import codes, document
from jobqueue.api.mounts import Mounts
from jobqueue.api.native.events import MEDIA
from jobqueue.api.problems import PROBLEMS, Problem
from jobqueue.api.routes import Route, Scope
from jobqueue.limits import Limits

from .conftest import Serve
from .harness import Api, Reply, request

ROUTES = [route for route in Mounts().routes() if route.actions is None]


def name(route: Route) -> str:
    """What a test of a route is called."""
    return f"{route.method} {route.path}"


def having(code: str, *, api: str = "") -> list[Route]:
    """Each operation that has a code."""
    found = [route for route in ROUTES if code in codes(route) and route.api.startswith(api)]
    assert found
    return found


def shown(api: Api, route: Route, code: str) -> Any:
    """The example of an operation's code in the document of a server."""
    found = document([route], api.app.site.limits, secured=True)["paths"][route.path][route.method.lower()]["responses"]
    response = found.get(str(PROBLEMS[code].status)) or found["default"]
    (content,) = response["content"].values()
    return content["examples"][code]["value"]


def check(api: Api, reply: Reply, path: str, code: str, method: str = "POST") -> None:
    """The answer is the example of the operation at that path, and has its status."""
    (route,) = [route for route in ROUTES if (route.method, route.path) == (method, path)]
    assert (reply.status, reply.json) == (PROBLEMS[code].status, shown(api, route, code))


async def ask(api: Api, route: Route, body: bytes | None = None, headers: dict[str, str] | None = None) -> Reply:
    """A request for an operation, on the names that the examples have."""
    return await api.send(route.method, target(route), body, headers)


def same(api: Api, route: Route, code: str, reply: Reply) -> bool:
    """Whether the answer is the example. Where it is not, pytest shows what was answered."""
    told = reply.status, reply.json
    example = PROBLEMS[code].status, shown(api, route, code)
    if told != example:
        print(name(route), code, told, example, sep="\n  ")
    return told == example


def contents(responses: Any) -> Iterator[tuple[str, str, Any]]:
    """Status, code and example of every failure of an operation."""
    for status, response in responses.items():
        if status == "default" or status >= "400":
            for content in response["content"].values():
                for code, example in content["examples"].items():
                    yield status, code, example["value"]


@pytest.mark.parametrize("secured", [True, False])
def test_every_failure_has_its_example(secured: bool) -> None:
    """One for each code that an operation has, with the status it stands under; none says 0, and each has a sentence."""
    paths = document(ROUTES, Limits(), secured=secured)["paths"]
    for route in ROUTES:
        examples = list(contents(paths[route.path][route.method.lower()]["responses"]))
        plain = {code for _, code, _ in examples if "," not in code}
        assert plain == {*codes(route, secured), "internal_error", "http_version"}, name(route)
        for status, code, value in examples:
            problem = PROBLEMS[code.partition(",")[0]]
            assert status in (str(problem.status), "default")
            if route.error is Problem:
                assert (value["status"], value["title"], value["code"]) == (problem.status, problem.title, code.partition(",")[0])
                assert value["detail"] != value["title"]
                assert value.get("unconfirmed", False) is ("unconfirmed" in code)


async def test_a_wrong_token(serve: Serve) -> None:
    """In the shape of the operation's API."""
    api = await serve(token="secret", send_token=False)
    wrong = {"Authorization": "Bearer wrong"}
    answered = [(route, await ask(api, route, headers=wrong)) for route in having("unauthorized")]
    assert all(same(api, route, "unauthorized", reply) for route, reply in answered)


async def test_a_token_without_the_scope(serve: Serve) -> None:
    """Where any token will do, a name that the server does not answer to."""
    none = grant("ci", digest_of("ci"), [])
    api = await serve(access=Access(Keys([none]), hosts=Hosts(lambda host: host != HOST)))
    answered = []
    for route in having("forbidden"):
        host = {"Host": HOST} if route.scope is Scope.KNOWN else {}
        answered.append((route, await ask(api, route, headers={"Authorization": "Bearer ci", **host})))
    assert all(same(api, route, "forbidden", reply) for route, reply in answered)


async def test_too_many_requests(serve: Serve) -> None:
    """Beyond what the server allows at once."""
    api = await serve(access=Access(rate=Rate(10, 1, 20), clock=lambda: 1.0))
    for _ in range(20):
        await api.send("GET", "/jobs")
    answered = [(route, await ask(api, route)) for route in having("rate_limited")]
    assert all(same(api, route, "rate_limited", reply) for route, reply in answered)


async def test_what_no_operation_has(api: Api) -> None:
    """A field or a parameter; where unknown ones are passed over, a wait that is no number, or a path that cannot be read."""
    field, value = UNKNOWN
    right = []
    for route in having("bad_request"):
        if route.body is not None:
            body = json.dumps({field: value}).encode() if route.api == "native" else b"{"
            reply = await ask(api, route, body)
        elif route.api == "native" and not route.public:
            reply = await api.send(route.method, f"{target(route)}?{field}={value}")
        elif route.public:
            # The parser refuses it, in the words of its version.
            continue
        elif waits(route):
            reply = await api.send(route.method, f"{target(route)}?wait={WAIT}")
        else:
            reply = await api.send(route.method, re.sub(r"{\w+}", "%ff", route.path))
        right.append(same(api, route, "bad_request", reply))
    assert all(right)


async def test_a_form(api: Api) -> None:
    """The type is said as it was sent."""
    form = {"Content-Type": FORM}
    answered = [(route, await ask(api, route, b"a=1", form)) for route in having("unsupported_media_type", api="native")]
    assert all(same(api, route, "unsupported_media_type", reply) for route, reply in answered)


async def test_a_body_beyond_the_bound(serve: Serve) -> None:
    """By one byte, with the server's own bound."""
    api = await serve(body_bytes_max=500, payload_bytes_max=500)
    answered = [(route, await ask(api, route, b" " * 501)) for route in having("too_large")]
    assert all(same(api, route, "too_large", reply) for route, reply in answered)


async def test_a_server_that_shuts_down(api: Api) -> None:
    """To a body that the operation takes."""
    api.app.drain()
    right = []
    for route in having("draining", api="native"):
        if not (route.public or MEDIA in route.media):
            found = document([route], Limits(), secured=True)["paths"][route.path][route.method.lower()].get("requestBody")
            examples = [] if found is None else list(found["content"]["application/json"]["examples"].values())
            body = json.dumps(examples[0]["value"]).encode() if examples else None
            right.append(same(api, route, "draining", await ask(api, route, body)))
    assert right
    assert all(right)


NEEDED: dict[str, Any] = {
    "/jobs/{id}/conclude": {"lease": "0" * 32, "outcome": "succeeded"},
    "/jobs/{id}/extend": {"lease": "0" * 32},
    "/jobs/{id}/release": {"lease": "0" * 32},
    "/jobs/{id}/log": {"lease": "0" * 32, "offset": 0, "lines": ["x"]},
    "/jobs/{id}": {"priority": 1},
    "/queues/{name}": {"max_attempts": 1},
    "/schedules/{name}": {"paused": True},
    "/schedules/{name}/backfill": {"from": "2027-01-01T00:00:00Z", "to": "2027-01-02T00:00:00Z"},
}


@pytest.mark.parametrize("what", ["job", "queue", "worker", "schedule", "task", "group"])
async def test_what_is_not_there(api: Api, what: str) -> None:
    """On an empty server, wherever the path names it."""
    code = f"unknown_{what}"
    right = []
    for route in having(code):
        if "{" in route.path:
            body = None if route.body is None else json.dumps(NEEDED.get(route.template, {})).encode()
            right.append(same(api, route, code, await ask(api, route, body)))
    assert right
    assert all(right)


# What it takes a story to get.


async def test_conflicts_of_an_enqueue(api: Api) -> None:
    """Each field that an enqueue may conflict in."""
    await api.enqueue(id=JOB, queue=QUEUE, payload=1)
    await api.enqueue(id="report-6", queue=QUEUE, unique={"key": "invoice-7"})
    await api.post("/groups", id=GROUP)
    await api.post(f"/groups/{GROUP}/close")
    path = "/jobs/enqueue"
    check(api, await api.post(path, id=JOB, queue=QUEUE, payload=2), path, "id_conflict")
    check(api, await api.post(path, queue=QUEUE, payload=1, unique={"key": "invoice-7", "on_conflict": "refuse"}), path, "duplicate")
    check(api, await api.post(path, payload=1, group=GROUP), path, "group_closed")
    assert (await api.post(f"/jobs/{JOB}/cancel")).status == 200


async def test_what_an_enqueue_names_and_nobody_knows(api: Api) -> None:
    """The job that it is after, and its group."""
    path = "/jobs/enqueue"
    check(api, await api.post(path, payload=1, after=[JOB]), path, "unknown_job")
    check(api, await api.post(path, payload=1, group=GROUP), path, "unknown_group")


async def test_a_group_of_the_same_id(api: Api) -> None:
    """It differs in its queue."""
    await api.post("/groups", id=GROUP, queue="a")
    check(api, await api.post("/groups", id=GROUP, queue="b"), "/groups", "id_conflict")


async def test_a_job_that_is_not_what_an_operation_needs(api: Api) -> None:
    """Leases that are over, jobs that are concluded or in progress."""
    await api.working(JOB, queue=QUEUE)
    wrong = {"lease": "0" * 32}
    for path, more in {"conclude": {"outcome": "succeeded"}, "extend": {}, "release": {}, "log": {"offset": 0, "lines": ["x"]}}.items():
        check(api, await api.post(f"/jobs/{JOB}/{path}", **wrong, **more), f"/jobs/{{id}}/{path}", "lease_lost")
    check(api, await api.send("PATCH", f"/jobs/{JOB}", b'{"priority":1}'), "/jobs/{id}", "in_progress", "PATCH")


async def test_a_job_that_is_concluded(api: Api) -> None:
    """It succeeded, so it can be neither ended, cancelled, edited nor retried."""
    lease = await api.concluded(JOB, queue=QUEUE)
    asked: dict[str, Any] = {
        "conclude": {"lease": lease, "outcome": "failed"},
        "extend": {"lease": lease},
        "release": {"lease": lease},
        "log": {"lease": lease, "offset": 0, "lines": ["x"]},
    }
    for path, body in asked.items():
        check(api, await api.post(f"/jobs/{JOB}/{path}", body), f"/jobs/{{id}}/{path}", "not_in_progress")
    check(api, await api.post(f"/jobs/{JOB}/cancel"), "/jobs/{id}/cancel", "not_in_progress")
    check(api, await api.send("PATCH", f"/jobs/{JOB}", b'{"priority":1}'), "/jobs/{id}", "not_in_progress", "PATCH")
    check(api, await api.post(f"/jobs/{JOB}/retry"), "/jobs/{id}/retry", "not_retryable")


async def test_a_job_that_is_still_needed(api: Api) -> None:
    """One that is queued cannot be forgotten."""
    await api.enqueue(id=JOB, queue=QUEUE)
    check(api, await api.post(f"/jobs/{JOB}/forget"), "/jobs/{id}/forget", "not_forgettable")


async def test_a_queue_that_is_not_empty(api: Api) -> None:
    """With how many jobs are in the way."""
    for _ in range(2):
        await api.enqueue(queue=QUEUE)
    check(api, await api.send("DELETE", f"/queues/{QUEUE}"), "/queues/{name}", "queue_not_empty", "DELETE")


async def test_a_server_that_is_full(serve: Serve) -> None:
    """Of jobs, queues, groups and schedules, each with its bound."""
    api = await serve(jobs_max=1, queues_max=1, groups_max=1, schedules_max=1)
    await api.enqueue(queue=QUEUE)
    path = "/jobs/enqueue"
    check(api, await api.post(path, payload=1, queue=QUEUE), path, "queue_full")
    check(api, await api.post("/workpool/job", {"name": "x", "body": "x"}), "/workpool/job", "queue_full")
    check(api, await api.send("PUT", "/queues/another", b"{}"), "/queues/{name}", "too_many_queues", "PUT")
    other = await serve(queues_max=1, groups_max=1, schedules_max=1)
    await other.enqueue(queue=QUEUE)
    check(other, await other.post(path, payload=1, queue="another"), path, "too_many_queues")
    assert (await other.post("/groups", id=GROUP)).status == 201
    check(other, await other.post("/groups", id="april"), "/groups", "too_many_groups")
    schedule = b'{"every":60,"job":{"queue":"reports","payload":1}}'
    assert (await other.send("PUT", f"/schedules/{SCHEDULE}", schedule)).status in (200, 201)
    check(other, await other.send("PUT", "/schedules/daily", schedule), "/schedules/{name}", "too_many_schedules", "PUT")


async def test_too_many_held_requests(serve: Serve) -> None:
    """One may be held, and one is."""
    api = await serve(waiters_max=1)
    await api.enqueue(id=JOB, queue=QUEUE)
    await api.post("/groups", id=GROUP)
    await api.hold("/jobs/dequeue", queue="none", wait=50)
    right = []
    for route in having("too_many_waiters", api="native"):
        if route.method == "POST":
            reply = await ask(api, route, b'{"queue":"none","wait":50}')
        else:
            reply = await api.send("GET", f"{target(route)}?wait=50")
        right.append(same(api, route, "too_many_waiters", reply))
    assert all(right)


async def test_a_defect_and_another_version_of_http(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """What any operation may answer."""
    api = await serve(access=Access(Keys([admin("secret")])))

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect, for this test")

    monkeypatch.setattr(type(api.app.site.backend), "jobs", broken, raising=False)
    reply = await api.send("GET", "/jobs", None, {"Authorization": "Bearer secret"})
    check(api, reply, "/jobs", "internal_error", "GET")
    wire = await api.site.wire()
    wire.send(request("GET", "/jobs", None, "Authorization: Bearer secret", version="2.0"))
    check(api, await wire.reply(), "/jobs", "http_version", "GET")


async def test_a_path_of_many_actions(api: Api) -> None:
    """The dialect sqs has an example for each of its protocols; the XML differs in its RequestId alone."""
    (route,) = [route for route in Mounts().routes() if (route.method, route.path) == ("POST", "/sqs")]
    content = document([route], Limits(), secured=True)["paths"]["/sqs"]["post"]["responses"]["default"]["content"]
    asked = {
        "application/x-amz-json-1.0": (b'{"QueueName":"reports"}', {"X-Amz-Target": "AmazonSQS.GetQueueUrl"}),
        FORM: (b"Action=GetQueueUrl&QueueName=reports", {}),
    }
    for kind, (body, more) in asked.items():
        reply = await api.send("POST", "/sqs", body, {"Content-Type": kind, **more})
        example = content[reply.headers["content-type"]]["examples"]["no such queue"]["value"]
        if isinstance(example, str):
            request_id = re.compile("<RequestId>[^<]+<")
            assert request_id.sub("", reply.body.decode()) == request_id.sub("", example)
        else:
            assert reply.json == example
