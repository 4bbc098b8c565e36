"""What every dialect has (a name, routes behind a prefix, an error format), and what their handlers share.

A dialect decodes, calls the backend, encodes. It has no queue logic and no state: all dialects and the native API see the same jobs.
Dialects are more lenient than the native API where the systems that they imitate are: unknown parameters and fields are ignored, and a body
can have any declared type, since clients such as `curl -d` and bare sockets do not set it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from jobqueue.api.native import longpoll, wire
from jobqueue.api.problems import Shape
from jobqueue.api.routes import Route
from jobqueue.api.site import Site
from jobqueue.errors import BadRequest, TooLarge
from jobqueue.http.body import body_at_once, read_body
from jobqueue.http.request import Request


class HeldQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of a request that can wait. Other parameters are ignored."""

    wait: float = 0.0


class Ignored(msgspec.Struct, frozen=True, kw_only=True):
    """A request without parameters. Unlike the native API, a dialect ignores any that are sent."""


class Dialect(NamedTuple):
    """One system's API.

    name: as in `--mount /=name`, and its default prefix; routes: its routes behind a prefix; shape: the format of its errors; error: the
    msgspec type of an error's body; at_root: additional routes at the root if no dialect is mounted there, made from the others.
    """

    name: str
    routes: Callable[[str], list[Route]]
    shape: Shape
    error: Any
    at_root: Callable[[Sequence[Route]], list[Route]] | None = None

    def mounted(self, prefix: str, root_is_free: bool = False) -> list[Route]:
        """Its routes behind a prefix, each marked as belonging to this dialect."""
        routes = self.routes(prefix)
        beneath = {action for route in routes for action in route.beneath}
        for route in [*routes, *beneath]:
            route.prefix = prefix
        if root_is_free and self.at_root is not None:
            routes += self.at_root(routes)
        for route in [*routes, *beneath]:
            route.api, route.shape, route.error = self.name, self.shape, self.error
        return routes


async def read(site: Site, request: Request) -> bytes:
    """A request's body, b"" if it has none, of any declared type, unless a browser's page sends it.

    A page of another origin can send a body as text/plain or as a form without a preflight request, but not as application/json; browsers
    send that page's origin. Raises as `body.read_body` does.
    """
    any_type = request.head.fields.origin is None
    bytes_max = site.limits.body_bytes_max
    body = body_at_once(request, bytes_max, any_type)
    return await read_body(request, bytes_max, any_type) if body is None else body


def wait_of(site: Site, request: Request) -> float:
    """How long the request can be held, in seconds: its `wait`, 0 without one. Raises BadRequest, which names the limit."""
    if "?" not in request.head.path:
        return 0.0
    given = [pair for pair in wire.query_of(request.head.path) if pair[0] == "wait"]
    return longpoll.wait_seconds(site, wire.decode_query(given, HeldQuery).wait)


class Given(msgspec.Struct, gc=False):
    """The fields of a body. A subclass names the fields that its dialect reads, undecoded, each UNSET if it is missing.

    All other fields are skipped, so a body full of them costs no more than its bytes.
    """


def text(field: str, raw: bytes) -> str | None:
    """The string in a field, None if the value is not a string. Raises BadRequest that names the field."""
    if raw[:1] != b'"':
        return None
    found = _decode_text.tried(raw)
    if isinstance(found, BadRequest):
        raise BadRequest(field, found.reason)
    return str(found)


def renamed(error: BadRequest | TooLarge, names: Mapping[str, str]) -> BadRequest | TooLarge:
    """The error in this dialect's terms: with its name for the field. names: theirs by ours."""
    field = error.field
    if field is None or field not in names:
        return error
    return type(error)(names[field], error.detail.removeprefix(f"{field}: "))


_decode_text = wire.Decoder(str)
