"""Where each API stands: by default, with a dialect at the root, and where none may."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest
from openapi_spec_validator import validate

from jobqueue.api.describe.openapi import document
from jobqueue.api.mounts import APIS, DIALECTS, Mounts, server_routes
from jobqueue.api.native.events import MEDIA
from jobqueue.api.native.table import native_routes
from jobqueue.api.routes import Route, Scope
from jobqueue.limits import Limits

from .conftest import Serve
from .harness import Api, Reply, request

TOKEN = "0123456789abcdef"
ROOTS = sorted(DIALECTS)
SERVER = [route.path for route in server_routes((), ())]

SHAPES: dict[str, tuple[str, list[str]]] = {
    "native": ("application/problem+json", ["type", "title", "status", "code", "detail"]),
    "classic": ("application/json", ["Error", "message"]),
    "simplequeue": ("application/json", ["error"]),
    "workpool": ("application/json", ["message"]),
    "sqs": ("application/x-amz-json-1.0", ["__type", "message"]),
}
"""How an error looks that names no field: its type and its body's keys."""


def shape(reply: Reply) -> str:
    """Whose error this is. Of sqs, in its other protocol if that is what it was asked in."""
    if reply.headers["content-type"] == "text/xml":
        assert ElementTree.fromstring(reply.body).tag == "{http://queue.amazonaws.com/doc/2012-11-05/}ErrorResponse"
        return "sqs"
    found = (reply.headers["content-type"], [key for key in reply.json if key != "field"])
    return next(name for name, known in SHAPES.items() if known == found)


def routes_of(mounts: Mounts, api: str) -> list[Route]:
    """The routes of one API, those of the server itself apart."""
    return [route for route in mounts.routes() if route.api == api and route.path not in SERVER]


def target(route: Route) -> str:
    """A path that leads to the route."""
    path = route.path.replace("{id}", "x").replace("{name}", "x").replace("{key}", "x").replace("{number}", "1")
    return path.replace("{account}", "000000000000").replace("{queue}", "x")


at_the_root = pytest.mark.parametrize("root", ROOTS)


# Places.


def test_by_default_each_dialect_has_its_own_name() -> None:
    """And the native API the root."""
    usual = {"native": "", "classic": "/classic", "simplequeue": "/simplequeue", "sqs": "/sqs", "workpool": "/workpool"}
    assert Mounts().prefixes == usual
    assert Mounts().native == ""


@at_the_root
def test_a_dialect_at_the_root_sends_the_native_api_to_native(root: str) -> None:
    """The other dialects stay where they are."""
    usual = {name: f"/{name}" for name in APIS}
    assert Mounts({root: "/"}).prefixes == {**usual, root: ""}


def test_each_api_can_be_put_where_one_likes() -> None:
    """Under several segments too; the root may be nobody's, and prefixes may be exchanged."""
    chosen = {"native": "/api/v1", "classic": "/simplequeue", "simplequeue": "/classic", "sqs": "/a/b", "workpool": "/work-pool_2.0~"}
    assert Mounts(chosen).prefixes == chosen
    assert Mounts({"native": "/api", "classic": "/"}).prefixes["native"] == "/api"
    assert Mounts({"native": "/"}).prefixes == Mounts().prefixes


@pytest.mark.parametrize("chosen", [{}, {"native": "/api"}, {"simplequeue": "/1", "classic": "/2"}, *({root: "/"} for root in ROOTS)])
def test_no_two_routes_collide(chosen: dict[str, str]) -> None:
    """Every API keeps all its routes wherever it stands, and each has a place of its own."""
    mounts = Mounts(chosen)
    places = [(route.method, re.sub(r"{\w+}", "{}", route.path)) for route in mounts.routes()]
    assert len(places) == len(set(places))
    for name, prefix in mounts.prefixes.items():
        told = native_routes("") if name == "native" else DIALECTS[name].routes("")
        found = {(route.method, route.template) for route in routes_of(mounts, name)}
        assert {(route.method, route.path) for route in told} <= found
        assert all(route.path.startswith(prefix) for route in routes_of(mounts, name) if not route.guest)


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ({"nope": "/nope"}, "'nope' is not an API; use one of native, classic, simplequeue, sqs, workpool"),
        ({"": "/"}, "'' is not an API"),
        ({"Classic": "/"}, "'Classic' is not an API"),
        *(
            ({"classic": place}, f"{place!r} is not a prefix; write / or /name, without a slash at its end")
            for place in ("", "x", "x/y", "/x/", "//", "/x//y", "/x y", "/é", "/x?y", "/x%20y", "/{id}", "/x\n", "http://x/y")
        ),
        *(
            ({"classic": place}, "since clients resolve /./ and /../ before they send a request")
            for place in ("/.", "/..", "/x/..", "/x/./y")
        ),
        *(
            ({"classic": f"/{first}"}, f"'/{first}' cannot be a prefix, since paths below /{first} are used otherwise")
            for first in (
                "jobs",
                "batch",
                "queues",
                "schedules",
                "groups",
                "tasks",
                "workers",
                "job",
                "status",
                "result",
                "metrics",
                "openapi.json",
                "healthz",
                "readyz",
            )
        ),
        ({"workpool": "/jobs/pool"}, "since paths below /jobs are used otherwise"),
        ({"native": "/queues"}, "since paths below /queues are used otherwise"),
        ({"classic": "/", "simplequeue": "/"}, "simplequeue cannot stand at '/', where classic stands at '/'"),
        ({"classic": "/", "native": "/"}, "native cannot stand at '/', where classic stands at '/'"),
        ({"classic": "/x", "workpool": "/x"}, "workpool cannot stand at '/x', where classic stands at '/x'"),
        ({"classic": "/simplequeue"}, "simplequeue cannot stand at '/simplequeue', where classic stands at '/simplequeue'"),
        ({"classic": "/native", "workpool": "/"}, "native cannot stand at '/native', where classic stands at '/native'"),
        ({"classic": "/x", "workpool": "/x/y"}, "workpool cannot stand at '/x/y', where classic stands at '/x'"),
        ({"classic": "/simplequeue/x"}, "classic cannot stand at '/simplequeue/x', where simplequeue stands at '/simplequeue'"),
    ],
)
def test_a_bad_placement_is_refused_with_its_reason(chosen: dict[str, str], reason: str) -> None:
    """A place that is none, that means something else, or where another API stands."""
    with pytest.raises(ValueError, match=re.escape(reason)):
        Mounts(chosen)


def test_prefixes_that_only_begin_alike_are_apart() -> None:
    """/x and /xy, or /x.y, are different places."""
    Mounts({"classic": "/x", "workpool": "/xy", "simplequeue": "/x.y"})


# A dialect at the root.


@at_the_root
async def test_the_native_api_works_at_native(serve: Serve, root: str) -> None:
    """A job's whole life there; Location leads to it."""
    api = await serve(mounts=Mounts({root: "/"}))
    made = await api.post("/native/jobs/enqueue", {"payload": 5}, id="a/b")
    assert (made.status, made.headers["location"]) == (201, "/native/jobs/-?id=a%2Fb")
    assert (await api.get(made.headers["location"])).json["payload"] == 5
    token = (await api.post("/native/jobs/dequeue", wait=0)).json["lease"]["token"]
    done = await api.post("/native/jobs/a%2Fb/conclude", lease=token, outcome="succeeded", result=6)
    assert (done.status, done.json["outcome"]) == (200, "succeeded")
    assert (await api.get("/native/queues/default")).json["totals"]["succeeded"] == 1


@at_the_root
async def test_every_native_route_is_found_at_native(serve: Serve, root: str) -> None:
    """Each request is answered, and counted, by the route it is for."""
    api = await serve(mounts=Mounts({root: "/"}))
    native = [route for route in api.app.router.routes if route.path.startswith("/native/")]
    assert {(route.method, route.template) for route in native} == {(route.method, route.path) for route in native_routes("")}
    for route in native:
        # A stream of events has no end, but for HEAD.
        await api.send("HEAD" if route.media == (MEDIA,) else route.method, target(route), b"[]")
        assert sum(route.counts.values()) == 1, route.path


@at_the_root
async def test_a_dialects_every_route_is_found_at_the_root(serve: Serve, root: str) -> None:
    """Each request is answered, and counted, by the route it is for; its usual prefix is nobody's."""
    api = await serve(mounts=Mounts({root: "/"}))
    routes = [route for route in api.app.router.routes if route.api == root]
    assert {(route.method, route.path) for route in routes} == {(route.method, route.path) for route in DIALECTS[root].routes("")}
    for route in routes:
        await api.send(route.method, target(route), b"[]")
        assert sum(route.counts.values()) == 1, route.path
        if route.path == "/" and route.actions is not None:
            # With its usual prefix before them its paths are those of a queue.
            continue
        gone = await api.send(route.method, f"/{root}{target(route)}".rstrip("/"), b"[]")
        assert (gone.status, shape(gone)) == (404, root)


@at_the_root
async def test_what_belongs_to_the_server_stays_at_the_root(serve: Serve, root: str) -> None:
    """Probes and scrapers find it where they always do, and nowhere else."""
    api = await serve(mounts=Mounts({root: "/"}))
    for path in SERVER:
        assert (await api.get(path)).status == 200
        gone = await api.get(f"/native{path}")
        assert (gone.status, shape(gone)) == (404, "native")


@at_the_root
async def test_metrics_count_by_the_paths_as_they_are(serve: Serve, root: str) -> None:
    """Two APIs with a path /jobs/enqueue or /jobs/{id} are told apart by their prefixes."""
    api = await serve(mounts=Mounts({root: "/"}))
    await api.post("/native/jobs/enqueue", {"payload": 1})
    told = (await api.get("/metrics")).body.decode()
    counted = re.findall(r"^jobqueue_http_requests_total\{(.*)\} 1\.0$", told, re.MULTILINE)
    assert [sorted(re.findall(r'(?:method|route)="(.*?)"', labels)) for labels in counted] == [["/native/jobs/enqueue", "POST"]]


@pytest.mark.parametrize("chosen", [{}, {"simplequeue": "/"}, {"native": "/api", "simplequeue": "/1", "classic": "/2"}])
def test_the_openapi_document_is_valid_wherever_apis_stand(chosen: dict[str, str]) -> None:
    """It has the paths as they are."""
    mounts = Mounts(chosen)
    told = document(mounts.routes(), Limits(), secured=True)
    validate(told)
    assert set(told["paths"]) == {route.path for route in mounts.routes()}


@at_the_root
def test_an_operations_id_does_not_depend_on_its_prefix(root: str) -> None:
    """Clients generated from the document keep their names; native examples stand at native operations only."""
    operations: list[dict[tuple[str, str, str], Any]] = []
    for mounts in (Mounts(), Mounts({root: "/"})):
        paths = document(mounts.routes(), Limits(), secured=True)["paths"]
        routes = [route for route in mounts.routes() if not route.guest]
        operations.append({(route.api, route.method, route.template): paths[route.path][route.method.lower()] for route in routes})
    usual, moved = operations
    # The address of a page, and of sqs, without its slash is a route only behind a prefix; some of sqs stand beside what has the root.
    assert {api for api, *_ in set(usual) - set(moved)} <= {"simplequeue", "sqs"}
    assert {key: usual[key]["operationId"] for key in moved} == {key: told["operationId"] for key, told in moved.items()}
    for (api, _, template), told in moved.items():
        if api != "native":
            assert told["tags"] == [f"dialect: {api}"]
            assert "'examples'" not in str([answer for code, answer in told["responses"].items() if code < "400"])
        assert ("headers/Location" in str(told)) is (api == "native" and template in ("/jobs/enqueue", "/groups", "/schedules/{name}/run"))


# How errors look.


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/none", "native"),
        ("/classicx", "native"),
        ("/classic", "classic"),
        ("/classic/", "classic"),
        ("/classic/none?x=1", "classic"),
        ("/classic?x=1", "classic"),
        ("/simplequeue/none", "simplequeue"),
        ("/workpool/none/at/all", "workpool"),
    ],
)
async def test_an_unknown_path_answers_as_the_api_it_would_belong_to(api: Api, path: str, owner: str) -> None:
    """404 in that API's shape; in absolute-form too (RFC 9112, section 3.2.2)."""
    reply = await api.get(path)
    assert (reply.status, shape(reply)) == (404, owner)
    wire = await api.site.wire()
    absolute = await wire.ask(request("GET", f"http://test{path}"))
    assert (absolute.status, shape(absolute)) == (404, owner)


@pytest.mark.parametrize("owner", APIS)
async def test_a_method_that_is_none_answers_as_its_api(api: Api, owner: str) -> None:
    """405 with Allow, in that API's shape."""
    path = {
        "native": "/jobs/enqueue",
        "classic": "/classic/jobs/stats",
        "simplequeue": "/simplequeue/jobs/next",
        "workpool": "/workpool/job",
        "sqs": "/sqs",
    }
    reply = await api.send("DELETE", path[owner])
    assert (reply.status, shape(reply)) == (405, owner)
    assert reply.headers["allow"]


@at_the_root
async def test_the_dialect_at_the_root_has_every_other_path(serve: Serve, root: str) -> None:
    """Unknown paths below no other prefix answer in its shape, those below one in that API's."""
    api = await serve(mounts=Mounts({root: "/"}))
    for path, owner in {"/none": root, "/metrics/none": root, f"/{root}/none": root, "/native/none": "native", "/native": "native"}.items():
        reply = await api.get(path)
        assert (reply.status, shape(reply)) == (404, owner), path
    for other in set(ROOTS) - {root}:
        assert shape(await api.get(f"/{other}/none")) == other


async def test_a_root_that_is_nobodys_answers_natively(serve: Serve) -> None:
    """With the native API elsewhere and no dialect in its place."""
    api = await serve(mounts=Mounts({"native": "/api"}))
    for path in ("/none", "/jobs", "/api/none"):
        reply = await api.get(path)
        assert (reply.status, shape(reply)) == (404, "native")
    assert (await api.get("/api/jobs")).status == 200


@pytest.mark.parametrize("owner", APIS)
async def test_a_defect_answers_as_its_api(api: Api, owner: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """500 in the API's own shape, which tells nothing of our insides; the log does."""

    async def broken(*_: object) -> None:
        raise RuntimeError("of the insides")

    for operation in ("job", "numbered"):
        monkeypatch.setattr(api.backend, operation, broken)
    monkeypatch.setattr(api.backend, "ask", broken)
    path = {"native": "/jobs/1", "classic": "/classic/jobs/1", "simplequeue": "/simplequeue/jobs/1", "workpool": "/workpool/status/1"}
    path["sqs"] = "/sqs/000000000000/x?Action=SendMessage&MessageBody=x"
    reply = await api.send("GET", path[owner], headers={"Authorization": "Bearer x"})
    assert (reply.status, shape(reply)) == (500, owner)
    assert b"insides" not in reply.body
    assert "of the insides" in caplog.text


async def test_what_is_no_request_has_no_api(serve: Serve) -> None:
    """A head that cannot be parsed leads nowhere, so its error is the server's own: a problem."""
    api = await serve(mounts=Mounts({"classic": "/"}))
    reply = await (await api.site.wire()).ask(b"GET /jobs/1 HTTP/1.1\r\nHost test\r\n\r\n")
    assert (reply.status, shape(reply)) == (400, "native")


# Who may do what.


@pytest.mark.parametrize("chosen", [{}, *({root: "/"} for root in ROOTS)])
async def test_the_token_is_asked_for_wherever_an_api_stands(serve: Serve, chosen: dict[str, str]) -> None:
    """401 in the API's own shape on every route that is not public, before anything is looked at; nothing happens."""
    api = await serve(mounts=Mounts(chosen), token=TOKEN, send_token=False)
    before = api.state()
    for route in api.app.router.routes:
        if route.scope is Scope.PUBLIC or route.actions is not None:
            continue
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            reply = await api.send(route.method, f"{target(route)}?wait=x", b"\xff", headers)
            assert (reply.status, shape(reply)) == (401, route.api), route.path
            assert reply.headers["www-authenticate"] == 'Bearer realm="jobqueue"'
    assert api.state() == before


def test_every_route_of_a_dialect_asks_for_the_scope_of_what_it_does() -> None:
    """A token that may only read will be able to take, submit or finish nothing, in no dialect."""
    scopes = {f"{route.method} {route.path}": route.scope for route in Mounts().routes() if route.api not in ("native", "sqs")}
    for operation, scope in scopes.items():
        _, _, rest = operation.partition(" /")[2].partition("/")
        words = set(rest.split("/"))
        if words & {"enqueue", "submit", "job"}:
            assert scope is Scope.ENQUEUE, operation
        elif words & {"dequeue", "next", "conclude", "complete"}:
            assert scope is Scope.DEQUEUE, operation
        elif words == {""}:
            assert scope is Scope.PUBLIC, operation
        else:
            assert scope is Scope.READ, operation
    assert set(scopes.values()) == {Scope.ENQUEUE, Scope.DEQUEUE, Scope.READ, Scope.PUBLIC}
