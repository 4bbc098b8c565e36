"""Which API is at which prefix.

By default the native API is at the root and every dialect at its own name. A dialect that is mounted at the root leaves its prefix and
replaces the native API there, which moves to /native. What belongs to the server rather than to an API (/metrics, /healthz, /readyz,
/openapi.json) stays at the root, where probes and scrapers look for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jobqueue.api.dashboard.pages import page_routes
from jobqueue.api.describe.apidocs import apidocs_routes
from jobqueue.api.describe.openapi import Document
from jobqueue.api.dialects.base import Dialect
from jobqueue.api.dialects.classic import CLASSIC
from jobqueue.api.dialects.simplequeue import SIMPLEQUEUE
from jobqueue.api.dialects.sqs.mount import SQS
from jobqueue.api.dialects.workpool import WORKPOOL
from jobqueue.api.native import native
from jobqueue.api.native.table import native_routes
from jobqueue.api.observe.metrics import Metrics
from jobqueue.api.problems import NATIVE as NATIVE_SHAPE
from jobqueue.api.problems import Shape
from jobqueue.api.routes import Route, Scope

NATIVE = "native"
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (CLASSIC, SIMPLEQUEUE, SQS, WORKPOOL)}
APIS = (NATIVE, *DIALECTS)

_PREFIX = re.compile(r"/|(/[A-Za-z0-9._~-]+)+")
_TAKEN = frozenset(
    {"jobs", "batch", "queues", "schedules", "groups", "tasks", "workers", "job", "status", "result", "token", "events", "stats", "history"}
    | {"000000000000", "metrics", "openapi.json", "healthz", "readyz", "docs", "dashboard", "session"}
)
"""First path segments that an API or the server itself uses at the root."""


_BY_QUEUE = frozenset({"/events"})
"""The server's own paths that show queues separately, so that a token for some queues only can use them."""


class Mounts:
    """The prefix of every API. chosen: prefixes by API name, for those that are not at their default; "/" is the root.

    Raises ValueError with the reason.
    """

    def __init__(self, chosen: Mapping[str, str] | None = None) -> None:
        given = dict(chosen or {})
        for name, place in given.items():
            if name not in APIS:
                raise ValueError(f"{name!r} is not an API; use one of {', '.join(APIS)}")
            _check_prefix(place)
        self.prefixes: dict[str, str] = {name: given.get(name, f"/{name}").rstrip("/") for name in APIS}
        if NATIVE not in given and "" not in self.prefixes.values():
            self.prefixes[NATIVE] = ""
        _check_apart(self.prefixes)

    @property
    def native(self) -> str:
        """The native API's prefix, "" at the root."""
        return self.prefixes[NATIVE]

    def routes(self, counted: Sequence[Route] = ()) -> list[Route]:
        """Every route of the APIs and of the server. counted: the routes that /metrics reports; they can be added later."""
        found = native_routes(self.native)
        for route in found:
            route.prefix = self.native
        for name, dialect in DIALECTS.items():
            found += dialect.mounted(self.prefixes[name], root_is_free=self.native == "")
        server = server_routes(found, counted)
        for route in server:
            route.whole = route.path not in _BY_QUEUE
        found += server
        return found

    def pages(self) -> list[Route]:
        """The routes of the dashboard and of the API reference. They are not among the routes of the APIs, so the OpenAPI document omits
        them.
        """
        # A dialect's own page at the root takes precedence; the dashboard is still at /dashboard.
        return apidocs_routes() + page_routes(taken=any((route.method, route.path) == ("GET", "/") for route in self.routes()))

    def shape_at(self, path: str) -> Shape:
        """The format of errors at a path without a route: that of the API to which the path would belong."""
        names = sorted(self.prefixes, key=lambda name: -len(self.prefixes[name]))
        for name in names:
            prefix = self.prefixes[name]
            if path == prefix or path.startswith((f"{prefix}/", f"{prefix}?")):
                return DIALECTS[name].shape if name in DIALECTS else NATIVE_SHAPE
        return NATIVE_SHAPE


def _check_prefix(place: str) -> None:
    if _PREFIX.fullmatch(place) is None:
        raise ValueError(f"{place!r} is not a prefix; write / or /name, without a slash at its end")
    first, *rest = place.split("/")[1:]
    if {first, *rest} & {".", ".."}:
        raise ValueError(f"{place!r} cannot be a prefix, since clients resolve /./ and /../ before they send a request")
    if first in _TAKEN:
        raise ValueError(f"{place!r} cannot be a prefix, since paths below /{first} are used otherwise")


def _check_apart(prefixes: Mapping[str, str]) -> None:
    """Check that no two prefixes are equal, and that none is inside another except the root."""
    places: Iterable[tuple[str, str]] = sorted((prefix, name) for name, prefix in prefixes.items())
    known: dict[str, str] = {}
    for prefix, name in places:
        for other, owner in known.items():
            if prefix == other or (other and prefix.startswith(f"{other}/")):
                raise ValueError(f"{name} cannot stand at {prefix or '/'!r}, where {owner} stands at {other or '/'!r}")
        known[prefix] = name


def server_routes(described: Sequence[Route], counted: Sequence[Route]) -> list[Route]:
    """The routes that belong to the server rather than to an API: always at the root."""
    P = Scope.PUBLIC
    words = dict[str, str]
    not_ready = ("draining", "storage_unavailable")
    return [
        Route("GET", "/metrics", Metrics(counted).scrape, Scope.READ, "Read the server's counts, for Prometheus", answers={200: str}),
        Route("GET", "/openapi.json", Document(described).get, P, "Read this document", answers={200: dict[str, Any]}),
        Route("GET", "/healthz", native.healthz, P, "Is the process alive?", answers={200: words}),
        Route("GET", "/readyz", native.readyz, P, "Does it take new work?", answers={200: words}, errors=not_ready),
    ]
