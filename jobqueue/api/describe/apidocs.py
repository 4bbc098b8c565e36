"""GET /docs: the OpenAPI document for people. swagger-ui-dist as npm has it, unbuilt and unmodified, in `apidocs/`, with a page of ours.

Everything comes from this server. The page itself holds no data; what is tried out on it asks the API like any other client, with the token
that is typed in. Addresses are relative, so it also works behind a proxy's prefix.
"""

from __future__ import annotations

from importlib import resources

from jobqueue.api.problems import NotFound
from jobqueue.api.routes import Route, Scope
from jobqueue.api.site import Site
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request

HTML = b"text/html; charset=utf-8"
TYPES = {"css": b"text/css; charset=utf-8", "js": b"text/javascript; charset=utf-8", "txt": b"text/plain; charset=utf-8"}

HEADERS = (
    # Its icons are data: addresses; it does without inline styles and scripts.
    b"Content-Security-Policy: default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"object-src 'none'\r\nReferrer-Policy: no-referrer\r\n"
)

_folder = resources.files("jobqueue.api.describe").joinpath("pages")
NAMES = ("start.js", "swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css")


async def page(site: Site, request: Request, _: str) -> Answer:
    """GET /docs."""
    return Answer(200, _folder.joinpath("index.html").read_bytes(), HTML, HEADERS)


async def slashed(site: Site, request: Request, _: str) -> Answer:
    """GET /docs/: relative addresses would lead astray from there."""
    return Answer(308, b"", HTML, b"Location: ../docs\r\n")


async def file(site: Site, request: Request, name: str) -> Answer:
    """GET /docs/{file}. Read when asked for: 2 MB that few servers need in memory."""
    if name not in NAMES:
        raise NotFound(f"the API page has no file {name[:80]!r}")
    return Answer(200, _folder.joinpath(name).read_bytes(), TYPES[name.rpartition(".")[2]], HEADERS)


def apidocs_routes() -> list[Route]:
    """The page and its files."""
    P = Scope.PUBLIC
    return [
        Route("GET", "/docs", page, P, "The API's reference", answers={200: str}),
        Route("GET", "/docs/", slashed, P, "The API's reference, elsewhere", answers={308: None}),
        Route("GET", "/docs/{file}", file, P, "A file of it", answers={200: str}, errors=("not_found",)),
    ]
