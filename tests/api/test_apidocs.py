"""GET /docs: the API's reference, from this server alone."""

from __future__ import annotations

import hashlib
import re

import pytest

from jobqueue.api.mounts import Mounts

from .conftest import Serve
from .harness import Api, assert_problem

VENDORED = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}
"""SHA-256 of the files of swagger-ui-dist 5.35.0."""


async def test_the_page_is_served_with_its_files(api: Api) -> None:
    """Every address in it leads to this server and is found, by its own type; no script stands in the page itself."""
    page = await api.get("/docs")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    found = re.findall(r'(?:src|href)="([^"]*)"', page.body.decode())
    assert len(found) >= 8
    for address in set(found) - {"#reference"}:
        assert not re.match(r"\w+:|/", address), "it must be relative"
        reply = await api.get(f"/{address}")
        assert reply.status == 200
        kind = {
            "css": "text/css; charset=utf-8",
            "js": "text/javascript; charset=utf-8",
            "json": "application/json",
            "svg": "image/svg+xml",
        }
        assert reply.headers["content-type"] == kind.get(address.rpartition(".")[2], "text/html; charset=utf-8")
        assert reply.headers["x-content-type-options"] == "nosniff"
    assert re.search(rb"<script>|<style>|\son\w+=|\sstyle=", page.body) is None
    assert b'"openapi.json"' in (await api.get("/docs/start.js")).body


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/docs/swagger-ui.css"])
async def test_the_page_may_load_nothing_from_elsewhere(api: Api, path: str) -> None:
    """The policy names this server alone, and nobody may frame the page."""
    headers = (await api.get(path)).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy == {
        "default-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "object-src": "'none'",
    }
    assert headers["referrer-policy"] == "no-referrer"


async def test_what_is_vendored_is_as_it_was_published(api: Api) -> None:
    """Byte for byte, with its licences."""
    for name, digest in VENDORED.items():
        assert hashlib.sha256((await api.get(f"/docs/{name}")).body).hexdigest() == digest
    assert b"Copyright" in (await api.get("/docs/swagger-ui-bundle.js.LICENSE.txt")).body


@pytest.mark.parametrize("path", ["/docs/nothing.js", "/docs/index.html", "/docs/..%2Fapidocs_page.py", "/docs/%2e%2e"])
async def test_no_other_file_is_served(api: Api, path: str) -> None:
    """Only the files of the page have addresses."""
    assert_problem(await api.get(path), 404, "not_found")


async def test_a_slash_at_the_end_leads_to_the_page(api: Api) -> None:
    """Addresses in the page are relative to /docs."""
    wire = await api.site.wire()
    reply = await wire.ask(b"GET /docs/ HTTP/1.1\r\nHost: test\r\n\r\n")
    assert (reply.status, reply.headers["location"]) == (308, "../docs")


async def test_the_page_needs_no_token_and_stays_at_the_root(serve: Serve) -> None:
    """It holds no data, and is at /docs wherever the native API stands."""
    api = await serve(token="secret", send_token=False, mounts=Mounts({"classic": "/"}))
    assert (await api.get("/docs")).status == 200
    assert "/native/jobs/enqueue" in (await api.get("/openapi.json")).json["paths"]
    assert "/docs" not in (await api.get("/openapi.json")).json["paths"]
