"""The dashboard's page and files as the server sends them, and what a token may ask of itself. What the page does is in tests/dashboard."""

from __future__ import annotations

import re

import pytest

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import SCOPES, Scope, digest_of, grant
from jobqueue.api.dashboard.pages import OWN, UPLOT
from jobqueue.api.mounts import Mounts

from .conftest import Serve
from .harness import Api

BEARER = {"Authorization": "Bearer secret"}


@pytest.mark.parametrize("path", ["/", "/dashboard"])
async def test_the_page_is_served(api: Api, path: str) -> None:
    """At both addresses, as HTML that may load what this server has and nothing else."""
    reply = await api.get(path)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; ")
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "frame-ancestors 'none'" in policy


async def test_the_page_names_only_files_that_exist(api: Api) -> None:
    """Every file that the page and its modules load is there, with a type that browsers accept under nosniff."""
    page = (await api.get("/")).body.decode()
    wanted = set(re.findall(r'(?:href|src)="(dashboard/[^"]+)"', page))
    for name, (content, _) in OWN.items():
        folder = "dashboard/"
        wanted |= {folder + found for found in re.findall(r'from "\./([^"]+)"', content.decode())} if name.endswith(".js") else set()
    assert len(wanted) > 10
    for file in wanted:
        reply = await api.get(f"/{file}")
        kind = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}[file.rpartition(".")[2]]
        assert (file, reply.status) == (file, 200)
        assert reply.headers["content-type"].startswith(kind)
        assert reply.headers["x-content-type-options"] == "nosniff"


async def test_nothing_is_loaded_from_elsewhere() -> None:
    """No file of the dashboard's own has an address of another server in it, but for names of XML."""
    for name, (content, _) in OWN.items():
        addresses = re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]{2,}[^\s\"']*", content.decode())
        assert [found for found in addresses if found != "http://www.w3.org/2000/svg"] == [], name


async def test_text_never_becomes_markup() -> None:
    """No module of the dashboard's own has a way from text to markup, code or an address."""
    for name, (content, _) in OWN.items():
        if name.endswith(".js"):
            for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "Function(", ".src ="):
                assert way not in content.decode(), (name, way)


async def test_what_is_vendored_comes_unmodified_and_with_its_licence() -> None:
    """The charts' library says whose it is; its licence lies beside it."""
    assert b"Leon Sorokin" in UPLOT["uPlot.esm.js"][0][:200]
    assert set(UPLOT) == {"uPlot.esm.js", "uPlot.min.css"}


@pytest.mark.parametrize("path", ["/dashboard/none.js", "/dashboard/index.html", "/dashboard/uplot/LICENSE", "/dashboard/..%2fapp.py"])
async def test_other_files_are_not_served(api: Api, path: str) -> None:
    """What is no file of the page is a 404, whatever its name tries."""
    assert (await api.get(path)).status == 404


async def test_the_page_is_public_and_knows_that_a_token_is_needed(serve: Serve) -> None:
    """It holds no data, so it is shown to everybody, and asks for the token itself."""
    secured, free = await serve(token="secret"), await serve()
    page = (await secured.get("/dashboard")).body
    assert b'name="jobqueue-token" content="needed"' in page
    assert (await secured.get("/dashboard/app.js")).status == 200
    assert b'name="jobqueue-token" content="none"' in (await free.get("/dashboard")).body


async def test_the_page_finds_the_native_api_where_it_stands(serve: Serve) -> None:
    """A dialect at the root keeps its own page there; the dashboard is at /dashboard and told of /native, or of any other prefix."""
    moved = await serve(mounts=Mounts({"simplequeue": "/"}))
    assert b'name="jobqueue-native" content="native/"' in (await moved.get("/dashboard")).body
    assert b"jobqueue-native" not in (await moved.get("/")).body
    other = await serve(mounts=Mounts({"classic": "/", "native": "/api/v1"}))
    assert b'name="jobqueue-native" content="api/v1/"' in (await other.get("/")).body


async def test_an_address_with_a_slash_too_many_leads_to_the_page(api: Api) -> None:
    """Relative addresses would be wrong there, so it is a redirect."""
    reply = await api.get("/dashboard")
    slashed = await api.get("/dashboard/")
    assert slashed.body == reply.body


async def test_the_openapi_document_does_not_tell_of_the_page(api: Api) -> None:
    """It tells of APIs."""
    assert not [path for path in (await api.get("/openapi.json")).json["paths"] if "dashboard" in path]


# What a token may ask of itself.


async def test_any_known_token_may_ask_what_it_may_do(serve: Serve) -> None:
    """Whatever its scopes; what admin includes is listed; an unknown one is refused."""
    for scopes, told in [((Scope.ENQUEUE,), ["enqueue"]), ((Scope.READ, Scope.DEQUEUE), ["dequeue", "read"]), ((Scope.ADMIN,), [*SCOPES])]:
        api = await serve(access=Access(Keys([grant("ci", digest_of("secret"), scopes)])))
        reply = await api.send("GET", "/token", headers=BEARER)
        assert (reply.status, reply.json) == (200, {"name": "ci", "scopes": told, "queues": ["*"]})
        assert (await api.get("/token")).status == 401
        assert (await api.send("GET", "/token", headers={"Authorization": "Bearer other"})).status == 401


async def test_a_token_for_some_queues_is_told_which(serve: Serve) -> None:
    """The patterns as they were given."""
    api = await serve(access=Access(Keys([grant("ci", digest_of("secret"), [Scope.READ], ["mail.*", "bills"])])))
    assert (await api.send("GET", "/token", headers=BEARER)).json == {"name": "ci", "scopes": ["read"], "queues": ["mail.*", "bills"]}


async def test_without_tokens_everything_is_allowed(api: Api) -> None:
    """Nobody has a name then."""
    assert (await api.get("/token")).json == {"name": None, "scopes": [*SCOPES], "queues": ["*"]}
