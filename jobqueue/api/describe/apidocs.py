"""GET /docs: the OpenAPI document for people. swagger-ui-dist from npm, unmodified, in `pages/`, with our own page around it.

Everything comes from this server. The page itself contains no data; requests that a user tries out call the API like any other client, with
the dashboard's sign-in, or with a token that is typed in. Addresses are relative, so it also works behind a proxy's prefix.
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
    # Its icons are data: URLs; it needs no inline styles or scripts.
    b"Content-Security-Policy: default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"object-src 'none'\r\nReferrer-Policy: no-referrer\r\n"
)

_folder = resources.files("jobqueue.api.describe").joinpath("pages")
NAMES = ("page.css", "start.js", "swagger-ui-bundle.js", "swagger-ui-bundle.js.LICENSE.txt", "swagger-ui.css")


async def page(site: Site, request: Request, _: str) -> Answer:
    """GET /docs."""
    # A prefix contains no characters that are special in HTML (mounts.py).
    native = f"{site.native_prefix[1:]}/" if site.native_prefix else ""
    content = _folder.joinpath("index.html").read_bytes().replace(b"{{native}}", native.encode())
    return Answer(200, content.replace(b"{{token}}", b"needed" if site.secured else b"none"), HTML, HEADERS)


async def slashed(site: Site, request: Request, _: str) -> Answer:
    """GET /docs/: redirects, since relative addresses would be wrong from there."""
    return Answer(308, b"", HTML, b"Location: ../docs\r\n")


async def file(site: Site, request: Request, name: str) -> Answer:
    """GET /docs/{file}. Read from disk on request: 2 MB that few servers need in memory."""
    if name not in NAMES:
        raise NotFound(f"the API page has no file {name[:80]!r}")
    return Answer(200, _folder.joinpath(name).read_bytes(), TYPES[name.rpartition(".")[2]], HEADERS)


def apidocs_routes() -> list[Route]:
    """The page and its files."""
    P = Scope.PUBLIC
    return [
        Route("GET", "/docs", page, P, "The API's reference", answers={200: str}),
        Route("GET", "/docs/", slashed, P, "Redirect to the API's reference", answers={308: None}),
        Route("GET", "/docs/{file}", file, P, "A file of the API's reference", answers={200: str}, errors=("not_found",)),
    ]
