"""The dashboard's page and its files: HTML, CSS and JavaScript from `dashboard/`, served from memory.

The page contains no data. It uses the public native API like any other client, with a token that the user enters, so the page itself needs
no scope. Its addresses are relative: it works behind a proxy that adds a prefix, as long as the page itself is one segment below that
prefix or at its root.
"""

from __future__ import annotations

from importlib import resources

from jobqueue.api.problems import NotFound
from jobqueue.api.routes import Route, Scope
from jobqueue.api.site import Site
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request

TYPES = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
}

HEADERS = (
    b"Content-Security-Policy: default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'; "
    # Any attempt to parse a text as markup throws, so no text from a job can become markup (W3C Trusted Types).
    b"require-trusted-types-for 'script'; trusted-types 'none'\r\nReferrer-Policy: no-referrer\r\n"
)


def _files(*folder: str) -> dict[str, tuple[bytes, bytes]]:
    """Content and type of every file of a folder that a browser can request, by name."""
    found = resources.files("jobqueue.api.dashboard").joinpath("files", *folder).iterdir()
    named = {file.name: file for file in found if file.is_file() and file.name.rpartition(".")[2] in TYPES}
    return {name: (file.read_bytes(), TYPES[name.rpartition(".")[2]]) for name, file in sorted(named.items())}


OWN = _files()
UPLOT = _files("uplot")
PAGE = OWN.pop("index.html")[0]


async def page(site: Site, request: Request, _: str) -> Answer:
    """GET / and /dashboard."""
    # A prefix contains no characters that are special in HTML (mounts.py).
    native = f"{site.native_prefix[1:]}/" if site.native_prefix else ""
    content = PAGE.replace(b"{{native}}", native.encode()).replace(b"{{token}}", b"needed" if site.secured else b"none")
    return Answer(200, content, TYPES["html"], HEADERS)


async def slashed(site: Site, request: Request, _: str) -> Answer:
    """GET /dashboard/: redirects, since relative addresses would be wrong from there."""
    return Answer(308, b"", TYPES["html"], b"Location: ../dashboard\r\n")


def _sent(files: dict[str, tuple[bytes, bytes]], name: str) -> Answer:
    content, kind = files.get(name) or (None, b"")
    if content is None:
        raise NotFound(f"the dashboard has no file {name[:80]!r}")
    return Answer(200, content, kind, HEADERS)


async def own_file(site: Site, request: Request, name: str) -> Answer:
    """GET /dashboard/{file}."""
    return _sent(OWN, name)


async def uplot_file(site: Site, request: Request, name: str) -> Answer:
    """GET /dashboard/uplot/{file}."""
    return _sent(UPLOT, name)


def page_routes(taken: bool) -> list[Route]:
    """The page and its files. taken: another page is already at /."""
    P = Scope.PUBLIC
    found = [
        Route("GET", "/dashboard", page, P, "The dashboard", answers={200: str}),
        Route("GET", "/dashboard/", slashed, P, "The dashboard, elsewhere", answers={308: None}),
        Route("GET", "/dashboard/{file}", own_file, P, "A file of the dashboard", answers={200: str}, errors=("not_found",)),
        Route("GET", "/dashboard/uplot/{file}", uplot_file, P, "A file of its charts", answers={200: str}, errors=("not_found",)),
    ]
    if not taken:
        found.append(Route("GET", "/", page, P, "The dashboard", answers={200: str}))
    return found
