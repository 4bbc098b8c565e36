"""From where a browser may ask: names, origins, and what pages are sent with."""

from __future__ import annotations

import logging
import re

import pytest

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import admin
from jobqueue.api.access.origins import SEEN_MAX, Hosts, is_loopback, name_of
from jobqueue.api.app import build_app
from jobqueue.api.routes import Route, Scope
from jobqueue.backend.local import LocalBackend
from jobqueue.errors import Forbidden

from .conftest import Serve
from .harness import Api, Reply, assert_problem
from .test_auth import ROUTES, complaint, name, target

CHANGING = [route for route in ROUTES if route.own or route.scope in (Scope.ENQUEUE, Scope.DEQUEUE, Scope.ADMIN)]
READING = [route for route in ROUTES if route not in CHANGING]

FOREIGN = {
    "another host": "Origin: https://elsewhere.example",
    "another port": "Origin: http://localhost:8081",
    "our name as a part": "Origin: http://localhost:8080.elsewhere.example",
    "our name behind an at": "Origin: http://localhost:8080@elsewhere.example",
    "a sandbox": "Origin: null",
    "nothing": "Origin: ",
    "no scheme": "Origin: localhost:8080",
    "two": "Origin: http://localhost:8080 https://elsewhere.example",
    "an image on another site": "Sec-Fetch-Site: cross-site",
    "an image on a neighbour": "Sec-Fetch-Site: same-site",
    "not ASCII": "Origin: http://\xff",
}

OWN = {
    "no browser": "X-Nothing: x",
    "our page": "Origin: http://localhost:8080",
    "our page behind TLS": "Origin: https://localhost:8080",
    "our page in capitals": "Origin: HTTP://LOCALHOST:8080",
    "our page's image": "Sec-Fetch-Site: same-origin",
    "typed in": "Sec-Fetch-Site: none",
    "our page, in all a browser says": "Origin: http://localhost:8080\r\nSec-Fetch-Site: same-origin",
}


async def ask(api: Api, route: Route | tuple[str, str], *lines: str, host: str = "localhost:8080", whole: bool = True) -> Reply:
    """A request without a body, with a Host of its own; whole: read the answer's body too, which a stream has no end of."""
    method, path = (route.method, target(route)) if isinstance(route, Route) else route
    wire = await api.site.wire()
    head = [f"{method} {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]
    wire.send("\r\n".join(head).encode("latin-1"))
    reply = await wire.reply(head=not whole)
    await wire.close()
    return reply


# Origin.


@pytest.mark.parametrize("route", CHANGING, ids=name)
async def test_a_page_of_another_origin_changes_nothing(api: Api, route: Route) -> None:
    """403 in the shape of the API, on every route that changes something, be its method GET; other pages' requests never get that far."""
    await api.enqueue(id="x")
    before = api.state()
    for case, line in FOREIGN.items():
        reply = await ask(api, route, line)
        assert (reply.status, reply.headers["content-type"]) == (403, route.shape.content_type.decode()), (case, reply)
        assert "allowed-origins" in complaint(reply.body)
        if route.api == "native":
            assert_problem(reply, 403, "forbidden", "Origin")
    assert api.state() == before
    assert api.backend.totals().waiters == 0


@pytest.mark.parametrize("route", CHANGING, ids=name)
@pytest.mark.parametrize("case", sorted(OWN))
async def test_our_own_page_and_who_is_no_browser_may(api: Api, route: Route, case: str) -> None:
    """Whatever the route answers to a request without a body, it is not 403."""
    api.app.drain()
    assert (await ask(api, route, *OWN[case].split("\r\n"))).status != 403


@pytest.mark.parametrize("route", READING, ids=name)
async def test_what_only_reads_is_answered_and_not_shown(api: Api, route: Route) -> None:
    """A browser does not hand an answer to a page of another origin, since no answer allows that: there are no CORS headers."""
    for line in (*FOREIGN.values(), *OWN.values()):
        reply = await ask(api, route, *line.split("\r\n"), whole=False)
        assert reply.status != 403
        assert not [header for header in reply.headers if header.startswith("access-control")]


@pytest.mark.parametrize("path", ["/jobs/enqueue", "/classic/jobs/dequeue", "/none"])
async def test_a_browser_that_asks_first_is_not_encouraged(api: Api, path: str) -> None:
    """A preflight is answered like any method that is none, without CORS headers."""
    reply = await ask(api, ("OPTIONS", path), "Origin: https://elsewhere.example", "Access-Control-Request-Method: POST")
    assert reply.status in (404, 405)
    assert not [header for header in reply.headers if header.startswith("access-control")]


async def test_an_origin_that_is_allowed_may(serve: Serve) -> None:
    """As it was set, in any case; others still may not."""
    api = await serve(access=Access(origins=frozenset({"https://queue.example.org"})))
    for origin, status in (
        ("https://queue.example.org", 204),
        ("HTTPS://Queue.Example.ORG", 204),
        ("http://queue.example.org", 403),
        ("https://queue.example.org:444", 403),
        ("https://elsewhere.example", 403),
        ("null", 403),
    ):
        assert (await ask(api, ("POST", "/jobs/dequeue?wait=0"), f"Origin: {origin}")).status == status, origin


async def test_a_token_does_not_excuse_the_origin(serve: Serve) -> None:
    """Nor does its lack come first: what a page asks is refused before it is looked at."""
    api = await serve(access=Access(Keys([admin("secret")])))
    for lines in ([], ["Authorization: Bearer secret"]):
        assert (await ask(api, ("POST", "/jobs/enqueue"), "Origin: https://elsewhere.example", *lines)).status == 403


# Host.

LOOPBACK = Access(hosts=Hosts(is_loopback))


OURS = ("localhost", "localhost:8080", "LocalHost:1", "localhost.", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "[::1]")
OUTSIDE = (
    *("elsewhere.example", "elsewhere.example:8080", "localhost.elsewhere.example", "127.0.0.1.elsewhere.example", "0.0.0.0:8080"),
    *("[::]", "10.0.0.1", "", "localhost:80:80", "localhost:8080@elsewhere.example", "\xff", "x" * 5_000),
)


@pytest.mark.parametrize("host", OURS)
async def test_on_this_machine_its_own_names_are_answered_to(serve: Serve, host: str) -> None:
    """With any port: what matters is that no page of the outside has such a name."""
    api = await serve(access=LOOPBACK)
    for _ in range(2):
        assert (await ask(api, ("GET", "/jobs"), host=host)).status == 200
        assert (await ask(api, ("POST", "/jobs/dequeue?wait=0"), f"Origin: http://{host}", host=host)).status == 204


@pytest.mark.parametrize("host", OUTSIDE, ids=lambda host: host[:30])
async def test_a_name_of_the_outside_is_not_answered_to(serve: Serve, host: str, caplog: pytest.LogCaptureFixture) -> None:
    """A name that was made to point to this machine (DNS rebinding): 403 on all but public routes, reading included."""
    # What a test of the command line set up in this process would have it log each refusal.
    caplog.set_level(logging.WARNING, logger="jobqueue")
    api = await serve(access=LOOPBACK)
    before = api.state()
    for route in (("GET", "/jobs"), ("POST", "/jobs/enqueue"), ("GET", "/metrics")):
        detail = assert_problem(await ask(api, route, f"Origin: http://{host}", host=host), 403, "forbidden", "Host")
        assert len(detail) < 400
    assert (await ask(api, ("GET", "/classic/jobs/dequeue"), host=host)).status == 403
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert (await ask(api, ("GET", path), host=host)).status == 200
    assert api.state() == before
    assert not caplog.records


@pytest.mark.parametrize("route", [route for route in ROUTES if not route.public], ids=name)
async def test_no_route_forgets_to_look_at_the_host(serve: Serve, route: Route) -> None:
    """Whatever is not public."""
    api = await serve(access=LOOPBACK)
    reply = await ask(api, route, host="elsewhere.example")
    assert (reply.status, reply.headers["content-type"]) == (403, route.shape.content_type.decode())


async def test_http_1_0_without_a_host_is_no_browser(serve: Serve) -> None:
    """Browsers have sent one since HTTP/1.0; who sends none is not what this is about."""
    api = await serve(access=LOOPBACK)
    wire = await api.site.wire()
    wire.send(b"GET /jobs HTTP/1.0\r\n\r\n")
    assert (await wire.reply()).status == 200


async def test_without_a_rule_any_name_will_do(api: Api) -> None:
    """Behind a proxy or beyond this machine a server cannot know its names by itself."""
    assert (await ask(api, ("GET", "/jobs"), host="elsewhere.example")).status == 200


def test_the_names_remembered_are_bounded() -> None:
    """Ports make endless names out of one."""
    asked: list[str] = []

    def accepts(host: str) -> bool:
        asked.append(host)
        return host == "localhost"

    hosts = Hosts(accepts)
    for _ in range(2):
        for port in range(SEEN_MAX + 10):
            hosts.check(f"localhost:{port}")
    assert len(asked) == SEEN_MAX + 10 + 10
    with pytest.raises(Forbidden):
        hosts.check("elsewhere")


BARE = {"A.b:80": "a.b", "a.b": "a.b", "a.b.": "a.b", "[::1]:80": "::1", "[::1]": "::1", " a ": "a", "a:": "a:", "": ""}


@pytest.mark.parametrize("host", sorted(BARE))
def test_a_host_without_its_port(host: str) -> None:
    """What is compared with the names that are allowed."""
    assert name_of(host) == BARE[host]


# Pages.

PAGES = [route for route in ROUTES if "text/html" in route.media]


@pytest.mark.parametrize("route", PAGES, ids=name)
async def test_a_page_runs_nothing_but_its_own(api: Api, route: Route) -> None:
    """Every page's Content-Security-Policy lets it load only from here, no script of others, no inline one but by its hash."""
    reply = await api.get(target(route))
    assert (reply.status, reply.headers["x-content-type-options"]) == (200, "nosniff")
    policy = dict(part.split(" ", 1) for part in reply.headers["content-security-policy"].split("; "))
    assert policy["default-src"] in ("'self'", "'none'")
    for sources in policy.values():
        assert re.fullmatch(r"'none'|('self'|'sha256-[\w+/]+=*'|data:)( ('self'|'sha256-[\w+/]+=*'|data:))*", sources), sources
    for closed in ("script-src", "object-src"):
        assert "data:" not in policy.get(closed, policy["default-src"])
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"


def test_there_are_pages() -> None:
    """The test above tests something."""
    assert PAGES
    assert build_app(LocalBackend()).router.find("GET", "/simplequeue/")[0].path in {route.path for route in PAGES}
