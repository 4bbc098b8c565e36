"""Who is asked for a token, what counts as one, and which scope opens which route."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from itertools import combinations

import pytest

from jobqueue.api.access import auth
from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import SCOPES, Grant, admin, digest_of, grant
from jobqueue.api.app import build_app
from jobqueue.api.routes import Route, Scope
from jobqueue.backend.local import LocalBackend
from jobqueue.errors import Unauthorized
from jobqueue.http.plain import FIELD_BYTES_MAX

from .conftest import Serve
from .harness import Api, assert_problem, request, until

TOKEN = "0123456789abcdef"

ROUTES = [route for route in build_app(LocalBackend()).router.routes if route.actions is None]
"""Every route there is: one that is added is tested by itself. Those that lead to several operations are tried in tests/api/sqs."""

GUARDED = [route for route in ROUTES if route.scope is not Scope.PUBLIC]
PUBLIC = [route for route in ROUTES if route.scope is Scope.PUBLIC]


def name(route: Route) -> str:
    """What a test of a route is called."""
    return f"{route.method} {route.path}"


FILES = {"/docs/{file}": "start.js", "/dashboard/{file}": "app.js", "/dashboard/uplot/{file}": "uPlot.esm.js"}
"""A file for each route that serves some."""


def target(route: Route) -> str:
    """A path that leads to the route; to a stream, which would not end, with a parameter that it does not know."""
    path = route.path.replace("{id}", "x").replace("{name}", "x").replace("{key}", "x").replace("{number}", "1")
    path = path.replace("{file}", FILES.get(route.path, ""))
    return path + "?nope=1" * ("text/event-stream" in route.media)


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
    assert guarded.backend.totals().waiters == 0


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
    """Health, readiness, the description of the API, and pages that hold no data and ask for the token themselves."""
    told = {
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/docs",
        "/docs/",
        "/",
        "/dashboard",
        "/dashboard/",
        "/simplequeue",
        "/simplequeue/",
        *FILES,
    }
    assert {route.path for route in PUBLIC} <= told
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


# Scopes.


def keys(*grants: Grant) -> Access:
    """A server that knows tokens of these rights; each is called and reads as its name."""
    return Access(Keys(grants))


def scoped(name: str, *scopes: Scope, queues: Iterable[str] = ()) -> Grant:
    """A token that reads as its name."""
    return grant(name, digest_of(name), scopes, queues)


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}


SETS = [scopes for size in range(1, len(SCOPES) + 1) for scopes in combinations(SCOPES, size)]
"""Every set of scopes that a token can have."""

EVERY = keys(*(scoped("+".join(scopes), *scopes) for scopes in SETS))


def complaint(body: bytes) -> str:
    """An error's words, whatever API it is of."""
    error = json.loads(body)
    (words,) = [error[field] for field in ("detail", "message", "error") if field in error]
    return str(words)


def test_every_route_has_a_scope() -> None:
    """Each is one that a token can have, or says that it asks for none; and a route that changes something is not for readers."""
    assert {route.scope for route in ROUTES} == set(Scope)
    for route in ROUTES:
        assert isinstance(route.scope, Scope)
        if route.method not in ("GET", "HEAD") and not route.own:
            assert route.scope in (Scope.ENQUEUE, Scope.DEQUEUE, Scope.ADMIN)
    with pytest.raises(TypeError):
        Route("GET", "/x", GUARDED[0].handler, summary="a route that says nothing of scopes")  # type: ignore[call-arg]


@pytest.mark.parametrize("route", ROUTES, ids=name)
async def test_a_route_opens_to_its_scope_alone(serve: Serve, route: Route) -> None:
    """Every set of scopes: served with the route's own or admin, else 403 in the shape of its API, naming the scope; nothing changes.

    A scope that no token can have asks for none of them.
    """
    api = await serve(access=EVERY)
    before = api.state()
    for scopes in SETS:
        token = "+".join(scopes)
        reply = await api.send(route.method, target(route), b"[]", bearer(token))
        if route.scope in scopes or Scope.ADMIN in scopes or route.scope not in SCOPES:
            # Its own answer to a body that no operation takes, or that it does not look at.
            assert reply.status in {200, 204, 308, 400, 404}, (scopes, reply)
            continue
        assert (reply.status, reply.headers["content-type"]) == (403, route.shape.content_type.decode()), (scopes, reply)
        assert complaint(reply.body) == f"the token {token} does not have the scope {route.scope}"
        if route.api == "native":
            assert_problem(reply, 403, "forbidden")
        assert api.state() == before


@pytest.mark.parametrize("path", ["/none", "/classic/none", "/simplequeue/none/none", "/workpool/none"])
async def test_what_is_no_route_is_404_whatever_the_scope(serve: Serve, path: str) -> None:
    """A path tells nothing of what a token may do."""
    api = await serve(access=EVERY)
    for scopes in SETS:
        assert (await api.send("GET", path, headers=bearer("+".join(scopes)))).status == 404


async def test_head_needs_the_scope_of_get(serve: Serve) -> None:
    """It is served by the same route."""
    api = await serve(access=EVERY)
    assert (await api.send("HEAD", "/jobs", headers=bearer("enqueue"))).status == 403
    assert (await api.send("HEAD", "/jobs", headers=bearer("read"))).status == 200


async def test_the_scope_is_looked_at_before_the_body(serve: Serve) -> None:
    """A body that never comes is not waited for."""
    api = await serve(access=EVERY)
    wire = await api.site.wire()
    wire.send(request("POST", "/jobs/enqueue", None, "Authorization: Bearer read", "Content-Type: application/json", "Content-Length: 50"))
    reply = await wire.reply()
    assert_problem(reply, 403, "forbidden")
    assert reply.headers["connection"] == "close"


# The tokens a server knows.


async def test_tokens_are_replaced_while_requests_are_held(serve: Serve) -> None:
    """A held request whose token is gone is 401 at once, as one that comes with it is; one with a new token is served."""
    known = Keys([scoped("old", Scope.DEQUEUE), scoped("keeper", Scope.ADMIN)])
    api = await serve(access=Access(known))
    wire = await api.site.wire()
    wire.send(request("POST", "/jobs/dequeue", b'{"wait":50}', "Authorization: Bearer old"))
    await until(lambda: api.backend.totals().waiters == 1)
    known.replace([scoped("new", Scope.DEQUEUE), scoped("keeper", Scope.ADMIN)])
    assert len(known) == 2
    assert (await api.send("POST", "/jobs/dequeue", b'{"wait":0}', bearer("old"))).status == 401
    assert (await api.send("POST", "/jobs/dequeue", b'{"wait":0}', bearer("new"))).status == 204
    assert (await wire.reply()).status == 401
    assert api.backend.totals().waiters == 0
    assert (await api.send("POST", "/jobs/enqueue", b'{"payload":1}', bearer("keeper"))).status == 201
    assert (await api.send("POST", "/jobs/dequeue", b'{"wait":0}', bearer("new"))).status == 200


async def test_a_token_takes_the_rights_of_its_new_line(serve: Serve) -> None:
    """Also when it was seen before, and for queues too."""
    known = Keys([scoped("ci", Scope.READ)])
    api = await serve(access=Access(known))
    for scopes, queues, status in (
        ([Scope.READ], [], 403),
        ([Scope.ENQUEUE], [], 201),
        ([Scope.ENQUEUE], ["mail"], 403),
        ([Scope.ENQUEUE], ["default"], 201),
        ([Scope.ENQUEUE], ["d*"], 201),
        ([Scope.ENQUEUE], ["e*"], 403),
    ):
        known.replace([scoped("ci", *scopes, queues=queues)])
        for _ in range(2):
            assert (await api.send("POST", "/jobs/enqueue", b'{"payload":1}', bearer("ci"))).status == status


async def test_what_strangers_send_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only headers that were accepted are, and never more than the bound."""
    monkeypatch.setattr(auth, "SEEN_MAX", 3)
    known = Keys([admin(TOKEN)])
    for number in range(100):
        with pytest.raises(Unauthorized):
            known.grant(f"Bearer {number}")
    assert known._seen == {}
    for spaces in range(100):
        assert known.grant(f"Bearer {' ' * spaces}{TOKEN}").name == "--token"
        assert len(known._seen) <= 3


async def test_who_is_not_known_is_in_the_log_but_seldom(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The address and why; those that follow within ten seconds are counted in the next line. The token is not shown."""
    caplog.set_level(logging.INFO, "jobqueue")
    now = 100.0
    access = Access(Keys([admin("right")]), clock=lambda: now)
    api = await serve(access=access)
    for _ in range(3):
        assert_problem(await api.send("GET", "/jobs", None, bearer("wrong")), 401, "unauthorized")
    assert caplog.messages == ["refused a request from 127.0.0.1: the server does not know this token"]
    now += 10.0
    assert_problem(await api.send("GET", "/jobs"), 401, "unauthorized")
    assert caplog.messages[1:] == [
        "refused a request from 127.0.0.1: send the header Authorization: Bearer TOKEN; 2 more were refused since the last line"
    ]
    assert "wrong" not in caplog.text


async def test_logs_name_a_token_and_never_show_it(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """A refusal is one line with the token's name, in the log as in the answer."""
    caplog.set_level(logging.DEBUG, "jobqueue")
    secret = "jq_very-secret"
    api = await serve(access=keys(grant("ci", digest_of(secret), [Scope.READ])))
    reply = await api.send("POST", "/jobs/enqueue", b'{"payload":1}', bearer(secret))
    assert "the token ci " in assert_problem(reply, 403, "forbidden")
    (line,) = caplog.messages
    assert line == "forbidden: POST /jobs/enqueue with the token 'ci': the token ci does not have the scope enqueue"
    for part in (secret, digest_of(secret).hex()):
        assert part not in caplog.text + reply.body.decode() + str(reply.headers)
