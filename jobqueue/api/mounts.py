"""Which API stands behind which prefix.

By default the native API stands at the root and every dialect at its own name. A dialect put at the root leaves its prefix and takes the
native API's place, which then is found at /native. What belongs to the server rather than to an API (/metrics, /healthz, /readyz,
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
from jobqueue.api.dialects.workpool import WORKPOOL
from jobqueue.api.native import native
from jobqueue.api.native.table import native_routes
from jobqueue.api.observe.metrics import Metrics
from jobqueue.api.problems import NATIVE as NATIVE_SHAPE
from jobqueue.api.problems import Shape
from jobqueue.api.routes import Route, Scope

NATIVE = "native"
DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (CLASSIC, SIMPLEQUEUE, WORKPOOL)}
APIS = (NATIVE, *DIALECTS)

_PREFIX = re.compile(r"/|(/[A-Za-z0-9._~-]+)+")
_TAKEN = frozenset(
    {"jobs", "batch", "queues", "job", "status", "result", "token", "events", "stats"}
    | {"metrics", "openapi.json", "healthz", "readyz", "docs", "dashboard"}
)
"""First segments of paths that some API or the server itself has at the root."""


_BY_QUEUE = frozenset({"/events"})
"""Paths of the server's own that tell of queues one by one, so that a token which holds for some may use them."""


class Mounts:
    """A placement of every API. chosen: prefixes by API for those that do not stand where they do by default; "/" is the root.

    Raises ValueError with the reason.
    """

    def __init__(self, chosen: Mapping[str, str] | None = None) -> None:
        given = dict(chosen or {})
        for name, place in given.items():
            if name not in APIS:
                raise ValueError(f"{name!r} is no API; {', '.join(APIS)} are")
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
        """Every route of the APIs and of the server. counted: those that /metrics is to tell of; they may be put in later."""
        found = native_routes(self.native)
        for route in found:
            route.prefix = self.native
        for name, dialect in DIALECTS.items():
            found += dialect.mounted(self.prefixes[name])
        server = server_routes(found, counted)
        for route in server:
            route.whole = route.path not in _BY_QUEUE
        found += server
        return found

    def pages(self) -> list[Route]:
        """The dashboard's and the API reference's. Not among the routes of the APIs: the OpenAPI document does not tell of them."""
        # A dialect's own page at the root comes first; the dashboard is at /dashboard all the same.
        return apidocs_routes() + page_routes(taken=any((route.method, route.path) == ("GET", "/") for route in self.routes()))

    def shape_at(self, path: str) -> Shape:
        """How errors look at a path that no route has: as those of the API it would belong to."""
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
        raise ValueError(f"{place!r} cannot be a prefix, since clients resolve /./ and /../ before they ask")
    if first in _TAKEN:
        raise ValueError(f"{place!r} cannot be a prefix, since paths below /{first} have a meaning of their own")


def _check_apart(prefixes: Mapping[str, str]) -> None:
    """No two at one place, and none inside another but the root's."""
    places: Iterable[tuple[str, str]] = sorted((prefix, name) for name, prefix in prefixes.items())
    known: dict[str, str] = {}
    for prefix, name in places:
        for other, owner in known.items():
            if prefix == other or (other and prefix.startswith(f"{other}/")):
                raise ValueError(f"{name} cannot stand at {prefix or '/'!r}, where {owner} stands at {other or '/'!r}")
        known[prefix] = name


def server_routes(described: Sequence[Route], counted: Sequence[Route]) -> list[Route]:
    """What belongs to the server rather than to an API: always at the root."""
    P = Scope.PUBLIC
    words = dict[str, str]
    not_ready = ("draining", "storage_unavailable")
    return [
        Route("GET", "/metrics", Metrics(counted).scrape, Scope.READ, "Read the server's counts, for Prometheus", answers={200: str}),
        Route("GET", "/openapi.json", Document(described).get, P, "Read this document", answers={200: dict[str, Any]}),
        Route("GET", "/healthz", native.healthz, P, "Is the process alive?", answers={200: words}),
        Route("GET", "/readyz", native.readyz, P, "Does it take new work?", answers={200: words}, errors=not_ready),
    ]
