"""Who is asked for a token, and what counts as one."""

from __future__ import annotations

import pytest

from jobqueue.backend.local import LocalBackend
from jobqueue.web.app import build_app
from jobqueue.web.connections import FIELD_BYTES_MAX
from jobqueue.web.routes import Route, Scope

from .conftest import Serve
from .harness import Api, assert_problem, request

TOKEN = "0123456789abcdef"

ROUTES = build_app(LocalBackend()).router.routes
"""Every route there is: one that is added is tested by itself."""

GUARDED = [route for route in ROUTES if route.scope is not Scope.PUBLIC]
PUBLIC = [route for route in ROUTES if route.scope is Scope.PUBLIC]


def name(route: Route) -> str:
    """What a test of a route is called."""
    return f"{route.method} {route.path}"


def target(route: Route) -> str:
    """A path that leads to the route."""
    return route.path.replace("{id}", "x").replace("{name}", "x").replace("{number}", "1")


@pytest.fixture
async def guarded(serve: Serve) -> Api:
    """A server that asks for TOKEN, and a client that has none."""
    return await serve(token=TOKEN, send_token=False)


@pytest.mark.parametrize("route", GUARDED, ids=name)
async def test_without_the_token_a_route_is_401(guarded: Api, route: Route) -> None:
    """No token and a wrong one alike, before the body is looked at, and nothing happens."""
    before = guarded.state()
    for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}):
        for body in (None, b'{"payload":1}', b"\xff"):
            reply = await guarded.send(route.method, target(route), body, headers)
            assert (reply.status, reply.headers["content-type"]) == (401, route.shape.content_type.decode())
            if route.api == "native":
                assert_problem(reply, 401, "unauthorized")
            assert reply.headers["www-authenticate"] == 'Bearer realm="jobqueue"'
            assert TOKEN.encode() not in reply.body
    assert guarded.state() == before
    assert guarded.backend.stats().waiters == 0


@pytest.mark.parametrize("route", GUARDED, ids=name)
async def test_with_the_token_a_route_is_served(guarded: Api, route: Route) -> None:
    """Its own answer, whatever it is, to a body that no operation takes."""
    reply = await guarded.send(route.method, target(route), b"[]", {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"})
    assert reply.status in (200, 204, 400, 404)


@pytest.mark.parametrize("route", PUBLIC, ids=name)
async def test_a_public_route_asks_for_no_token(guarded: Api, route: Route) -> None:
    """Orchestrators have none; a wrong one does not matter either."""
    for headers in ({}, {"Authorization": "Bearer wrong"}):
        wire = await guarded.site.wire()
        reply = await wire.ask(request(route.method, target(route), None, *(f"{name}: {value}" for name, value in headers.items())))
        assert reply.status in route.answers


def test_only_what_tells_nothing_of_jobs_is_public() -> None:
    """Health, readiness, the description of the API, and a page that asks for the token itself."""
    assert {route.path for route in PUBLIC} <= {"/healthz", "/readyz", "/openapi.json", "/simplequeue", "/simplequeue/"}
    assert {"/healthz", "/readyz"} <= {route.path for route in PUBLIC}


async def test_without_a_token_set_nobody_is_asked(api: Api) -> None:
    """And one that is sent does not matter."""
    assert (await api.send("GET", "/jobs", headers={"Authorization": "Bearer any"})).status == 200
    assert (await api.send("GET", "/jobs", headers={"Authorization": "Basic eA=="})).status == 200


WRONG = {
    "none": b"",
    "empty": b"Bearer ",
    "only the scheme": b"Bearer",
    "another scheme": b"Basic " + TOKEN.encode(),
    "no scheme": TOKEN.encode(),
    "a part of it": b"Bearer " + TOKEN[:-1].encode(),
    "more than it": b"Bearer " + TOKEN.encode() + b"0",
    "another case": b"Bearer " + TOKEN.upper().encode(),
    "twice": b"Bearer " + TOKEN.encode() + b", Bearer " + TOKEN.encode(),
    "not ASCII": b"Bearer \xe9\xff\x80",
    "UTF-8": "Bearer tökén".encode(),
    "8 KB": b"Bearer " + b"x" * 8_192,
    "8 KB of bytes above ASCII": b"Bearer " + b"\xff" * 8_192,
    "nearly the longest line": b"Bearer " + b"x" * (FIELD_BYTES_MAX - 100),
}


@pytest.mark.parametrize("case", sorted(WRONG))
async def test_an_odd_token_is_401(guarded: Api, case: str, caplog: pytest.LogCaptureFixture) -> None:
    """Never a defect, whatever bytes it has."""
    wire = await guarded.site.wire()
    reply = await wire.ask(b"GET /jobs HTTP/1.1\r\nHost: test\r\nAuthorization: " + WRONG[case] + b"\r\n\r\n")
    assert_problem(reply, 401, "unauthorized")
    assert not caplog.records


@pytest.mark.parametrize("value", [f"bearer {TOKEN}", f"BEARER {TOKEN}", f"Bearer  {TOKEN} "])
async def test_the_scheme_is_read_whatever_its_case(guarded: Api, value: str) -> None:
    """RFC 9110, section 11.1; spaces around the token do not matter."""
    assert (await guarded.send("GET", "/jobs", headers={"Authorization": value})).status == 200


async def test_a_token_need_not_be_ascii(serve: Serve) -> None:
    """Its UTF-8 bytes are what is compared."""
    api = await serve(token="tökén-\U0001f511", send_token=False)
    wire = await api.site.wire()
    assert (await wire.ask(request("GET", "/jobs", None, "Authorization: Bearer tökén-\U0001f511"))).status == 200
    assert_problem(await wire.ask(request("GET", "/jobs", None, "Authorization: Bearer token")), 401, "unauthorized")


async def test_the_token_is_asked_for_before_the_query_is_read(guarded: Api) -> None:
    """Who has none hears 401, whatever else is wrong; with it, the parameter is refused."""
    assert_problem(await guarded.get("/queues?nope=1"), 401, "unauthorized")
    reply = await guarded.send("GET", "/queues?nope=1", headers={"Authorization": f"Bearer {TOKEN}"})
    assert_problem(reply, 400, "bad_request", "nope")


async def test_a_path_or_a_method_that_is_none_needs_no_token(guarded: Api) -> None:
    """404 and 405 tell nothing that the documentation does not."""
    assert_problem(await guarded.get("/none"), 404, "not_found")
    assert_problem(await guarded.send("PATCH", "/jobs"), 405, "method_not_allowed")


async def test_a_body_that_was_refused_unread_does_not_become_a_request(guarded: Api) -> None:
    """A 401 before the body has come closes the connection."""
    wire = await guarded.site.wire()
    wire.send(request("POST", "/jobs/enqueue", None, "Content-Type: application/json", "Content-Length: 50") + b"{")
    reply = await wire.reply()
    assert_problem(reply, 401, "unauthorized")
    assert reply.headers["connection"] == "close"
