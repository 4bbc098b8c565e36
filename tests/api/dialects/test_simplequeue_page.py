"""simplequeue's page: where it is served, what it may do, and that text from jobs is never markup."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from jobqueue.api.dialects.page import PAGE
from tests.api.harness import Api, request

from .conftest import Serve
from .dialogue import Speaker


async def test_the_page_is_html_that_is_never_stored(api: Api) -> None:
    """At the dialect's root, whatever the query."""
    reply = await api.get("/simplequeue/?from=bookmark")
    assert (reply.status, reply.headers["content-type"], reply.headers["cache-control"]) == (200, "text/html; charset=utf-8", "no-store")
    assert reply.body == PAGE
    assert b"<!doctype html>" in reply.body


async def test_the_bare_prefix_leads_to_the_page(api: Api) -> None:
    """Its own requests are relative, so the address must end with a slash."""
    wire = await api.site.wire()
    reply = await wire.ask(request("GET", "/simplequeue"))
    assert (reply.status, reply.headers["location"], reply.body) == (308, "/simplequeue/", b"")


def directives(reply_headers: str) -> dict[str, list[str]]:
    return {name: sources for name, *sources in (part.split() for part in reply_headers.split(";"))}


@pytest.mark.parametrize(("tag", "directive"), [("script", "script-src"), ("style", "style-src")])
async def test_only_the_pages_own_script_and_style_run(api: Api, tag: str, directive: str) -> None:
    """The Content-Security-Policy allows the one inline element by the hash of what was served, and nothing from elsewhere."""
    reply = await api.get("/simplequeue/")
    policy = directives(reply.headers["content-security-policy"])
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", reply.body.decode(), re.DOTALL)
    assert policy[directive] == [f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"]
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == ["'none'"]
    assert policy["connect-src"] == ["'self'"]


async def test_the_page_brings_everything_with_it(api: Api) -> None:
    """No address of elsewhere, and no element or attribute that the policy would block."""
    page = (await api.get("/simplequeue/")).body.decode()
    assert "//" not in re.sub(r"^\s*//.*$", "", page, flags=re.MULTILINE)
    assert re.search(r"<[^>]+\s(on\w+|style|src|href|action)\s*=", page) is None


async def test_text_from_jobs_is_never_markup(api: Api) -> None:
    """The page writes text as text, with nothing in it that would parse a job's words as HTML, code or an address."""
    page = (await api.get("/simplequeue/")).body.decode()
    for way in ("innerHTML", "outerHTML", "AdjacentHTML", "setHTML", "document.write", "DOMParser", "ContextualFragment"):
        assert way not in page
    for way in ("eval", "Function(", "srcdoc", ".href", "setAttribute"):
        assert way not in page
    for field in ("id", "state", "description", "data"):
        assert f"{field}.textContent = " in page


async def test_a_jobs_markup_reaches_the_page_as_json(simplequeue: Speaker) -> None:
    """What the page reads is declared as JSON that no browser sniffs for HTML."""
    await simplequeue.talk("""
        > POST /jobs/submit {"jobId": "<script>alert(1)</script>", "description": "</td><img src=x onerror=alert(1)>"}
        < 201 {"jobId": "<script>alert(1)</script>", "state": "submitted", "description": "</td><img src=x onerror=alert(1)>"}
          Content-Type: application/json
          X-Content-Type-Options: nosniff
        > GET /jobs
        < 200 [{"jobId": "<script>alert(1)</script>", "state": "submitted", "description": "</td><img src=x onerror=alert(1)>"}]
          Content-Type: application/json
          X-Content-Type-Options: nosniff
    """)


async def test_the_page_asks_at_least_once_a_second(api: Api) -> None:
    """The pause between two looks is under a second, less what the look took, and it asks the list that shows every job."""
    page = (await api.get("/simplequeue/")).body.decode()
    (pause,) = re.findall(r"setTimeout\(live, Math\.max\(0, (\d+) - \(performance\.now\(\) - started\)\)\)", page)
    assert 0 < int(pause) < 1_000
    assert 'fetch("jobs", {' in page


async def test_the_page_needs_no_token_and_the_list_it_reads_does(serve: Serve) -> None:
    """It holds nothing of the queue, and sends the token that is typed into it."""
    api = await serve(token="secret", send_token=False)
    assert (await api.get("/simplequeue/")).status == 200
    assert (await api.get("/simplequeue")).status == 200
    assert (await api.get("/simplequeue/jobs")).status == 401
    allowed = await api.send("GET", "/simplequeue/jobs", headers={"Authorization": "Bearer secret"})
    assert (allowed.status, allowed.json) == (200, [])
