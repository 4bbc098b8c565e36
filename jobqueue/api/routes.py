"""The route table and the lookup in it.

Paths are matched raw, before percent-decoding. So an encoded slash stays inside its segment, and a job whose id equals the name of a route
can be reached by encoding any of its letters. Proxies may undo such an encoding, but nobody rewrites the query, so an id can also be there,
with IN_QUERY in its place in the path. A fixed segment takes precedence over a variable one; but if only a variable one has a route with
the request's method, that is used (GET /jobs/enqueue is the job with that id, POST /jobs/enqueue the operation).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from jobqueue.api.access.grants import Scope as Scope  # noqa: PLC0414 # tables of routes import it from here, with Route
from jobqueue.api.problems import NATIVE, MethodNotAllowed, NotFound, Problem
from jobqueue.api.site import Site
from jobqueue.errors import BadRequest
from jobqueue.histogram import REQUEST_SECONDS, Histogram
from jobqueue.http.answers import Answer
from jobqueue.http.heads import Head
from jobqueue.http.request import Request

IN_QUERY = "-"
"""Replaces an id in a path when the id is in the query: `/jobs/-?id=a%2Fb`."""

BETWEEN = "\0"
"""Separates two variable segments that are passed to a handler: neither a queue's name nor a key can contain it."""

_UNDONE = re.compile(r"[/\\%?#;]")
"""Characters that proxies decode in a path and then interpret as path syntax, or encode again."""

Handler = Callable[[Site, Request, str], Awaitable[Answer]]
"""A handler receives the variable segment of its path, decoded, or ""; if there are two, both with BETWEEN between them."""

Chooser = Callable[[Site, Request, str], Awaitable["Route | None"]]


class Route:
    """One operation: its path, its handler, and its reference documentation.

    path: a template with at most two variable segments, `{id}`, or `{name}` and `{key}`, after the prefix of the API that it belongs to;
    body and answer: the msgspec types of request and response; errors: its codes, in addition to those of every route; counts and latency:
    answers by status, and their times, read by /metrics; api: the API that it belongs to, which determines the format of its errors; held:
    it can be held open or stream; whole: its answer covers all queues, so a token for some queues only cannot use it; shortens: a batch
    that has a short answer; own: only pages of this server can use it.

    actions: for a path that leads to several operations: finds the operation of a request. It receives the site, the request and the
    variable segments. It returns a Route that is in no router: one of `beneath`, or this one if the request asks for none of them; or None
    if there is nothing at that path after all. about: what the reference documentation says in addition to its summary. guest: it is at the
    root, beside the API that is mounted there, and not after its own API's prefix.
    """

    api = "native"
    prefix = ""
    shape = NATIVE
    whole = False
    shortens = False
    own = False
    about = ""
    guest = False
    actions: Chooser | None = None
    beneath: tuple[Route, ...] = ()
    error: Any = Problem
    """The type of an error's body."""

    media: tuple[str, ...] = ("text/plain", "application/openmetrics-text")
    """The media types of an answer that is plain text."""

    def __init__(
        self,
        method: str,
        path: str,
        handler: Handler,
        scope: Scope,
        summary: str,
        *,
        body: Any = None,
        query: Any = None,
        answers: dict[int, Any] | None = None,
        errors: tuple[str, ...] = (),
    ) -> None:
        self.method = method
        self.path = path
        self.handler = handler
        self.scope = scope
        self.public = scope is Scope.PUBLIC
        self.changes = scope not in (Scope.PUBLIC, Scope.KNOWN, Scope.READ)
        self.summary = summary
        self.body = body
        self.query = query
        self.answers = answers or {}
        self.errors = errors
        self.held = "too_many_waiters" in errors or "too_many_listeners" in errors
        self.counts: dict[int, int] = {}
        self.latency = Histogram(REQUEST_SECONDS)

    @property
    def variable(self) -> str:
        """The name of the last variable segment, which can be given in the query; "" if there is none."""
        return self.path.rpartition("{")[2].partition("}")[0] if "{" in self.path else ""

    @property
    def template(self) -> str:
        """The path without its API's prefix."""
        return self.path[len(self.prefix) :]

    @property
    def takes(self) -> bool:
        """Whether a GET can change something: some dialects take jobs with GET, so HEAD must not be routed to it."""
        return self.scope is Scope.DEQUEUE or self.actions is not None


def _variable(segment: str) -> bool:
    return segment.startswith("{")


class Router:
    """Finds the route for a method and a raw path."""

    def __init__(self, routes: list[Route]) -> None:
        self.routes = routes
        self._exact: dict[str, dict[str, Route]] = {}
        self._patterns: dict[int, list[tuple[int, dict[str, dict[str, Route]]]]] = {}
        self._pairs: dict[tuple[int, int], dict[str, dict[str, Route]]] = {}
        self._middle: dict[tuple[str, str], dict[str, Route]] = {}
        """Routes like /jobs/{id}/conclude, by the parts before and after the variable segment, where no more specific route exists."""
        for route in routes:
            segments = route.path.split("/")
            variables = [index for index, segment in enumerate(segments) if _variable(segment)]
            if not variables:
                self._add(self._exact.setdefault(route.path, {}), route)
                continue
            at = variables[0]
            if len(variables) > 1:
                first, second = variables
                segments[first] = segments[second] = "*"
                self._add(self._pairs.setdefault((first, second), {}).setdefault("/".join(segments), {}), route)
                continue
            patterns = self._patterns.setdefault(len(segments), [])
            table = next((table for index, table in patterns if index == at), None)
            if table is None:
                table = {}
                # Later variable segments first: a path that begins with more fixed segments is the more specific route.
                patterns.append((at, table))
                patterns.sort(key=lambda pattern: -pattern[0])
            segments[at] = "*"
            self._add(table.setdefault("/".join(segments), {}), route)
        self._find_middle()

    def _find_middle(self) -> None:
        patterns = self._patterns.get(4, [])
        narrower = {path.split("/")[1] for at, table in patterns if at > 2 for path in table}
        for path, methods in next((table for at, table in patterns if at == 2), {}).items():
            _, before, _, behind = path.split("/")
            if before not in narrower:
                self._middle[before, behind] = methods

    def _add(self, methods: dict[str, Route], route: Route) -> None:
        if route.method in methods:
            raise ValueError(f"two routes for {route.method} {route.path}")
        methods[route.method] = route
        if route.method == "GET" and not route.takes:
            methods.setdefault("HEAD", route)

    def find(self, method: str, target: str) -> tuple[Route, str]:
        """The route of a request target (RFC 9112, section 3.2) and its variable segment, decoded.

        Raises NotFound, MethodNotAllowed, BadRequest (a path that is not UTF-8).
        """
        path = target
        methods = self._exact.get(path)
        if methods is None and ("?" in target or target[:1] != "/"):
            path = path_of(target)
            methods = self._exact.get(path)
        if methods is not None:
            route = methods.get(method)
            if route is not None:
                return route, ""
        segments = path.split("/")
        if methods is None and len(segments) == 4 and segments[2] and not segments[0]:
            found = self._middle.get((segments[1], segments[3]))
            if found is not None and method in found:
                variable = segments[2]
                return found[method], _decode(variable) if "%" in variable else variable
        allowed = set(methods or ())
        for at, table in self._patterns.get(len(segments), ()):
            variable, segments[at] = segments[at], "*"
            found = table.get("/".join(segments))
            segments[at] = variable
            if found is None or not variable:
                continue
            route = found.get(method)
            if route is not None:
                return route, _decode(variable) if "%" in variable else variable
            allowed.update(found)
        for (first, second), table in self._pairs.items():
            methods, names = _pair(segments, first, second, table)
            if method in methods:
                return methods[method], names
            allowed.update(methods)
        if allowed:
            raise MethodNotAllowed(method, sorted(allowed))
        raise NotFound(f"no such path: {path[:200]!r}")


def _pair(segments: list[str], first: int, second: int, table: dict[str, dict[str, Route]]) -> tuple[dict[str, Route], str]:
    """The routes of a path that has two variable segments, by method, and both segments, decoded."""
    if second >= len(segments) or not segments[first] or not segments[second]:
        return {}, ""
    fixed = [*segments]
    fixed[first] = fixed[second] = "*"
    return table.get("/".join(fixed), {}), f"{_decode(segments[first])}{BETWEEN}{_decode(segments[second])}"


def named_in_query(route: Route, head: Head, argument: str) -> tuple[str, Head]:
    """The value that a query gives for the path's last variable segment, if that is IN_QUERY, and the head without that parameter; the
    argument itself if the query gives none.

    Raises BadRequest.
    """
    before, between, last = argument.rpartition(BETWEEN)
    if last != IN_QUERY:
        return argument, head
    path, _, query = head.path.partition("?")
    given: list[str] = []
    rest: list[str] = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name == route.variable:
            given.append(value)
        else:
            rest.append(pair)
    if not given:
        return argument, head
    if len(given) > 1:
        raise BadRequest(route.variable, "is given more than once")
    target = f"{path}?{'&'.join(rest)}" if rest else path
    return before + between + _decode(given[0].replace("+", " ")), msgspec.structs.replace(head, path=target, place=None, asked=None)


def place_of(job_id: str) -> str:
    """The path of a job below /jobs/, written so that no proxy on the way misinterprets it."""
    quoted = quote(job_id, safe="")
    return f"{IN_QUERY}?id={quoted}" if _UNDONE.search(job_id) or job_id in (".", "..") else quoted


def path_of(target: str) -> str:
    """The path of a request target in origin-form or absolute-form."""
    target = target.partition("?")[0]
    if target[:1] == "/":
        return target
    _, found, rest = target.partition("://")
    slash = rest.find("/")
    return rest[slash:] if found and slash >= 0 else "/" if found else target


def _decode(segment: str) -> str:
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise BadRequest("path", "is not UTF-8 once its percent-encoding is undone") from None
