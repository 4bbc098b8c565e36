"""The way from a method and a request target to a route."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from jobqueue.api.app import build_app
from jobqueue.api.problems import MethodNotAllowed, NotFound
from jobqueue.api.routes import Route, Router, Scope
from jobqueue.backend.local import LocalBackend
from jobqueue.errors import BadRequest
from jobqueue.http.answers import Answer

from .harness import Api, assert_problem, request


async def nobody(*_: object) -> Answer:
    """A handler that is never called."""
    raise AssertionError


def route(method: str, path: str) -> Route:
    """A route that is looked for and not served."""
    return Route(method, path, nobody, Scope.PUBLIC, "")


ROUTER = Router(
    [
        route("GET", "/jobs"),
        route("GET", "/jobs/{id}"),
        route("DELETE", "/jobs/{id}"),
        route("POST", "/jobs/enqueue"),
        route("POST", "/jobs/{id}/conclude"),
        route("POST", "/{name}/all/conclude"),
        route("PUT", "/{name}"),
    ]
)


@pytest.mark.parametrize(
    ("method", "target", "path", "argument"),
    [
        ("GET", "/jobs", "/jobs", ""),
        ("PUT", "/jobs", "/{name}", "jobs"),
        ("GET", "/jobs/j", "/jobs/{id}", "j"),
        ("POST", "/jobs/enqueue", "/jobs/enqueue", ""),
        ("GET", "/jobs/enqueue", "/jobs/{id}", "enqueue"),
        ("DELETE", "/jobs/enqueue", "/jobs/{id}", "enqueue"),
        ("POST", "/jobs/enqueue/conclude", "/jobs/{id}/conclude", "enqueue"),
        ("POST", "/jobs/all/conclude", "/jobs/{id}/conclude", "all"),
        ("POST", "/queues/all/conclude", "/{name}/all/conclude", "queues"),
    ],
)
def test_a_fixed_segment_is_preferred_to_a_variable_one(method: str, target: str, path: str, argument: str) -> None:
    """And where the narrower route lacks the method, the wider one serves: GET /jobs/enqueue is the job of that id."""
    found, value = ROUTER.find(method, target)
    assert (found.method, found.path, value) == (method, path, argument)


@pytest.mark.parametrize(
    ("segment", "argument"),
    [
        ("a%2Fb", "a/b"),
        ("a%2fconclude", "a/conclude"),
        ("%65nqueue", "enqueue"),
        ("%C3%A9%20%25", "é %"),
        ("a+b", "a+b"),
        ("a;v=1,2", "a;v=1,2"),
        ("%00", "\0"),
        ("..", ".."),
        ("%2e%2e", ".."),
        ("%", "%"),
        ("%zz%4", "%zz%4"),
        ("%F0%9F%98%80", "\U0001f600"),
    ],
)
def test_a_variable_segment_is_decoded_once_it_is_found(segment: str, argument: str) -> None:
    """An encoded slash stays inside its segment; a plus is a plus; what is no encoding is itself."""
    assert ROUTER.find("GET", f"/jobs/{segment}")[1] == argument
    assert ROUTER.find("POST", f"/jobs/{segment}/conclude")[1] == argument


@pytest.mark.parametrize("segment", ["%ff", "%C3", "%ED%A0%80", "a%80"])
def test_a_segment_that_is_not_utf8_is_a_bad_request(segment: str) -> None:
    """It names no id."""
    with pytest.raises(BadRequest, match="UTF-8") as raised:
        ROUTER.find("GET", f"/jobs/{segment}")
    assert raised.value.field == "path"


@pytest.mark.parametrize(
    "target",
    ["/jobs/", "/jobs/j/", "//jobs", "/jobs//conclude", "//", "/", "", "*", "jobs", "/JOBS/j", "/jobs/j/conclude/", "/jobs/a/b/conclude"],
)
def test_any_other_path_is_not_found(target: str) -> None:
    """Empty segments and trailing slashes count, for every method."""
    for method in ("GET", "POST"):
        with pytest.raises(NotFound):
            ROUTER.find(method, target)


@pytest.mark.parametrize(
    ("target", "allow"),
    [
        ("/jobs", ["GET", "HEAD", "PUT"]),
        ("/jobs/j", ["DELETE", "GET", "HEAD"]),
        ("/jobs/enqueue", ["DELETE", "GET", "HEAD", "POST"]),
        ("/jobs/j/conclude", ["POST"]),
        ("/jobs?x=1", ["GET", "HEAD", "PUT"]),
    ],
)
def test_a_method_that_no_route_of_the_path_has_is_not_allowed(target: str, allow: list[str]) -> None:
    """What is allowed gathers the methods of every route the path leads to."""
    with pytest.raises(MethodNotAllowed) as raised:
        ROUTER.find("PATCH", target)
    assert raised.value.allow == allow


def test_head_goes_where_get_goes() -> None:
    """Fixed or variable."""
    for target in ("/jobs", "/jobs/j"):
        assert ROUTER.find("HEAD", target) == ROUTER.find("GET", target)


@pytest.mark.parametrize(
    ("target", "argument"),
    [("/jobs/j?a=/b", "j"), ("/jobs/j?", "j"), ("/jobs/%3F?x", "?"), ("http://host/jobs/j", "j"), ("http://host:1/jobs/j?a=1", "j")],
)
def test_a_query_and_a_host_are_no_part_of_the_path(target: str, argument: str) -> None:
    """Origin-form and absolute-form (RFC 9112, section 3.2)."""
    assert ROUTER.find("GET", target)[1] == argument


@pytest.mark.parametrize("target", ["http://jobs", "http://host?/jobs/j", "http:/jobs/j", "jobs/j", "/x/y?/jobs/j"])
def test_a_path_is_not_looked_for_elsewhere(target: str) -> None:
    """Neither in the host nor in the query."""
    with pytest.raises(NotFound):
        ROUTER.find("GET", target)


@pytest.mark.parametrize("path", ["/jobs", "/jobs/{id}", "/jobs/{other}"])
def test_two_routes_for_one_request_are_refused(path: str) -> None:
    """Whatever the variable segment is called, and whether the other was given or is a GET's HEAD."""
    with pytest.raises(ValueError, match="two routes"):
        Router([route("GET", "/jobs"), route("GET", "/jobs/{id}"), route("GET", path)])


def test_a_segment_in_the_middle_is_found_as_any_other() -> None:
    """A narrower route comes first, an empty segment is none, what is before the path is a part of it, and the method counts."""
    router = Router([route("GET", "/a/{x}/b"), route("GET", "/a/c/{y}"), route("POST", "/d/{x}/e"), route("GET", "/d/{x}/f")])
    found = [("GET", "/a/c/b"), ("GET", "/a/z/b"), ("POST", "/d/%20/e"), ("POST", "http://h/d/1/e?f=/"), ("HEAD", "/d/1/f")]
    assert [(each.path, argument) for each, argument in (router.find(*asked) for asked in found)] == [
        ("/a/c/{y}", "b"),
        ("/a/{x}/b", "z"),
        ("/d/{x}/e", " "),
        ("/d/{x}/e", "1"),
        ("/d/{x}/f", "1"),
    ]
    for target in ("/d//e", "x/d/1/e", "/d/1/e/", "/d/1/2/e", "//d/1/e", "/e/1/d"):
        with pytest.raises(NotFound):
            router.find("POST", target)
    with pytest.raises(MethodNotAllowed):
        router.find("GET", "/d/1/e")


def test_every_route_of_the_application_is_found() -> None:
    """No route is hidden behind another, and HEAD stands beside every GET."""
    router = build_app(LocalBackend()).router
    assert len(router.routes) > 20
    for each in router.routes:
        target = each.path.replace("{id}", "an-id").replace("{name}", "a-name")
        found, argument = router.find(each.method, target)
        assert found is each
        assert bool(argument) is ("{" in each.path)


async def test_an_absolute_request_target_is_served(api: Api) -> None:
    """As a proxy sends it; the Host header plays no part."""
    wire = await api.site.wire()
    assert (await wire.ask(request("GET", "http://elsewhere/healthz"))).status == 200
    assert (await wire.ask(request("GET", "http://elsewhere/jobs?limit=1"))).json == {"jobs": [], "cursor": None}
    assert_problem(await wire.ask(request("GET", "http://elsewhere/jobs/none")), 404, "unknown_job")
    assert b"<title>" in (await wire.ask(request("GET", "http://healthz"))).body, "the host of that name, and its root"
    assert_problem(await wire.ask(request("OPTIONS", "*")), 404, "not_found")


async def test_a_job_named_like_a_route_is_reached_by_encoding_a_letter(api: Api) -> None:
    """POST /jobs/enqueue is the operation; the job `enqueue` has every operation of its own."""
    await api.enqueue(id="enqueue")
    assert (await api.get("/jobs/enqueue")).json["id"] == "enqueue"
    assert (await api.post("/jobs/enqueue/cancel")).json["id"] == "enqueue"
    assert (await api.get("/jobs/%65nqueue")).json["status"] == "concluded"


async def test_dots_in_a_path_are_not_resolved(api: Api) -> None:
    """`..` is an id like any other, encoded or not."""
    await api.enqueue(id="..")
    await api.enqueue(id="../healthz")
    wire = await api.site.wire()
    for target, job_id in (("/jobs/..", ".."), ("/jobs/%2e%2e", ".."), ("/jobs/..%2fhealthz", "../healthz")):
        assert (await wire.ask(request("GET", target))).json["id"] == job_id


IDS = ["a/b", ".", "..", "-", "a b", "a+b", "100%", "%2F", "?id=x&y#z", "a;b", "\\", "é", "~a", "next"]


@pytest.mark.parametrize("job_id", IDS)
async def test_an_id_may_stand_in_the_query(api: Api, job_id: str) -> None:
    """With `-` in its place in the path, every operation on a job finds it, in every API, beside its other parameters."""
    at = f"id={quote(job_id, safe='')}"
    made = await api.post("/jobs/enqueue", payload=1, id=job_id)
    assert (await api.get(made.headers["location"])).json["id"] == job_id
    assert (await api.get(f"/jobs/-?wait=0&{at}")).json["id"] == job_id
    assert (await api.get(f"/simplequeue/jobs/-?{at}&x=1")).json["jobId"] == job_id
    assert (await api.get(f"/workpool/status/-?{at}")).json["id"] == job_id
    assert (await api.get(f"/workpool/result/-?wait=0&{at}")).json["id"] == job_id
    lease = {"lease": (await api.take())["lease"]["token"]}
    assert (await api.post(f"/jobs/-/extend?{at}", **lease)).json["id"] == job_id
    assert (await api.post(f"/jobs/-/release?{at}", **lease)).json["id"] == job_id
    lease = {"lease": (await api.take())["lease"]["token"]}
    assert (await api.post(f"/jobs/-/conclude?{at}", outcome="failed", retry=False, **lease)).json["id"] == job_id
    assert (await api.post(f"/jobs/-/retry?{at}")).json["id"] == job_id
    assert (await api.post(f"/jobs/-/cancel?{at}")).json["outcome"] == "cancelled"


async def test_a_name_may_stand_in_the_query(api: Api) -> None:
    """Of a queue as `name`; names of one or two points are reached in no other way by most clients."""
    for name in ("..", ".", "-", "a"):
        assert (await api.put(f"/queues/-?name={name}")).json["name"] == name
        assert (await api.post(f"/queues/-/pause?name={name}")).json["policy"]["paused"] is True
        assert (await api.get(f"/queues/-?name={name}")).json["name"] == name
        assert (await api.send("DELETE", f"/queues/-?name={name}")).status == 204


async def test_what_stands_in_the_query_is_read_strictly(api: Api) -> None:
    """Once, in UTF-8, and only with `-` in the path, which by itself is an id like any other."""
    await api.enqueue(id="-")
    await api.enqueue(id="a")
    assert (await api.get("/jobs/-")).json["id"] == "-"
    assert_problem(await api.get("/jobs/-?id=a&id=a"), 400, "bad_request", "id")
    assert_problem(await api.get("/jobs/-?id=%FF"), 400, "bad_request", "path")
    assert_problem(await api.get("/jobs/-?id="), 400, "bad_request", "id")
    assert_problem(await api.get("/jobs/a?id=a"), 400, "bad_request", "id")
    assert_problem(await api.get("/jobs/-?id=a&x=1"), 400, "bad_request", "x")
    assert_problem(await api.post("/jobs/-/cancel?id=a&x=1"), 400, "bad_request", "x")
    assert_problem(await api.get("/jobs/-?id=none"), 404, "unknown_job")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json", "/docs/", "/dashboard/", "/simplequeue/"])
async def test_public_routes_let_queries_be(api: Api, path: str) -> None:
    """Probes and load balancers add some of their own, in any form."""
    for query in ("x=1", "x=1&x=2", "%FF", "&" * 100, ""):
        assert (await api.get(f"{path}?{query}")).status == 200
