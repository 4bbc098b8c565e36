"""What every dialect has: a name, routes behind a prefix, an error shape. And what their handlers share.

A dialect decodes, asks the backend, encodes. It has no queue logic and no state: all dialects and the native API see the same jobs.
Dialects are laxer than the native API where the systems they speak for are: parameters and fields they do not know are ignored, and a
body may be of any declared type, since clients such as `curl -d` and bare sockets send what they like.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """Parameters of a call that may be held open. Others are ignored."""

    wait: float = 0.0


class Ignored(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of a call that takes none: unlike the native API, a dialect ignores what it is given."""


class Dialect(NamedTuple):
    """One system's API.

    name: as in `--mount /=name`, and its usual prefix; routes: its routes behind a prefix; shape: how its errors look;
    error: the msgspec type of an error's body.
    """

    name: str
    routes: Callable[[str], list[Route]]
    shape: Shape
    error: Any

    def mounted(self, prefix: str) -> list[Route]:
        """Its routes behind a prefix, each knowing whose it is."""
        routes = self.routes(prefix)
        for route in routes:
            route.api, route.prefix, route.shape, route.error = self.name, prefix, self.shape, self.error
        return routes


async def read(site: Site, request: Request) -> bytes:
    """A request's body, b"" if it has none; whatever its declared type, unless a browser's page sends it.

    A page of another origin can send a body as text/plain or as a form without being asked first, not as application/json; browsers
    name that origin. Raises as `body.read_body` does.
    """
    any_type = request.head.fields.origin is None
    bytes_max = site.limits.body_bytes_max
    body = body_at_once(request, bytes_max, any_type)
    return await read_body(request, bytes_max, any_type) if body is None else body


def wait_of(site: Site, request: Request) -> float:
    """How long the request may be held, in seconds: its `wait`, 0 without one. Raises BadRequest, which names the cap."""
    if "?" not in request.head.path:
        return 0.0
    given = [pair for pair in wire.query_of(request.head.path) if pair[0] == "wait"]
    return longpoll.wait_seconds(site, wire.decode_query(given, HeldQuery).wait)


class Given(msgspec.Struct, gc=False):
    """What a body gives. A subclass names the fields that its dialect reads, undecoded, each UNSET where it is missing.

    All others are passed over as they are read, so a body full of them costs no more than its bytes.
    """


def text(field: str, raw: bytes) -> str | None:
    """The string that a field gives, None where it is none. Raises BadRequest that names the field."""
    if raw[:1] != b'"':
        return None
    found = _decode_text.tried(raw)
    if isinstance(found, BadRequest):
        raise BadRequest(field, found.reason)
    return str(found)


def renamed(error: BadRequest | TooLarge, names: Mapping[str, str]) -> BadRequest | TooLarge:
    """The error as this dialect's clients understand it: with their name of the field at fault. names: theirs by ours."""
    field = error.field
    if field is None or field not in names:
        return error
    return type(error)(names[field], error.detail.removeprefix(f"{field}: "))


_decode_text = wire.Decoder(str)
