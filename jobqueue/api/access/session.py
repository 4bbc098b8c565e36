"""Signing in from a browser, for the pages of this server: a token in two halves, each of which is worthless alone.

`POST /session` splits the token in its Authorization header with a random pad as long as the token. The pad is stored in a cookie that
scripts cannot read and that lasts as long as the browser's session. The token combined with the pad (XOR) is sent to the page, which stores
it where only scripts of its own origin can read it, and sends it as the header `Jobqueue-Session`. A request with both is served as if it
had sent the token. The server stores nothing, so any server and any process that knows the token accepts the session, and removing a token
ends its sessions.

A page of another origin can send neither half: the cookie is SameSite=Strict, and a browser does not let a page send the header to another
origin without asking the server first, which is refused. Requests that such a page makes a browser send are also refused by their Origin
and Sec-Fetch-Site (docs/decisions/0042-one-sign-in.md).

The cookie has no Path, so it applies to the folder in which the browser found `session`, also behind a proxy that adds a prefix.
"""

from __future__ import annotations

import binascii
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Container

import msgspec
from multidict import istr

from jobqueue.api.access.origins import check_origin
from jobqueue.api.routes import Route, Scope
from jobqueue.api.site import Site
from jobqueue.errors import BadRequest, Forbidden, Unauthorized
from jobqueue.http.answers import JSON, Answer
from jobqueue.http.heads import Fields
from jobqueue.http.request import Request

TOKEN_BYTES_MAX = 1_024
"""The longest token for signing in: browsers store cookies of up to 4,096 bytes."""

_HEADER = istr("Jobqueue-Session")
_COOKIE = istr("Cookie")
_NAME = "jobqueue-session-"
_GIVEN = re.compile(r"([0-9a-f]{16})\.([A-Za-z0-9_-]{1,1400})")


class SessionView(msgspec.Struct, frozen=True):
    """The value that the page stores and sends in the header `Jobqueue-Session`."""

    session: str


def token_of(fields: Fields, allowed: Container[str]) -> str | None:
    """The token of a request that has a session and no Authorization, None for any other request.

    allowed: other origins whose pages are accepted. Raises Unauthorized, and Forbidden if the browser reports that the page is of another
    origin.
    """
    given = fields.headers.get(_HEADER)
    if given is None:
        return None
    if fields.site not in (None, "same-origin"):
        error = Forbidden("a sign-in holds for the pages of this server only")
        error.field = "Sec-Fetch-Site"
        raise error
    check_origin(fields, allowed)
    match = _GIVEN.fullmatch(given)
    pad = _cookie(fields, match[1]) if match is not None else None
    if match is None or pad is None:
        raise Unauthorized("this sign-in has ended; sign in again")
    return _joined(match[2], pad)


def _cookie(fields: Fields, name: str) -> str | None:
    for line in fields.headers.getall(_COOKIE, ()):
        for pair in line.split(";"):
            found, _, value = pair.strip().partition("=")
            if found == _NAME + name:
                return value
    return None


def _joined(half: str, pad: str) -> str:
    """The token. Anything but two halves of the same token gives a token that is not known."""
    try:
        first, second = (urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (half, pad))
    except (ValueError, binascii.Error):
        raise Unauthorized("this sign-in has ended; sign in again") from None
    return _xor(first, second).decode("utf-8", "surrogateescape")


def _xor(first: bytes, second: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(first, second, strict=False))


def _text(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()


def _set(request: Request, name: str, value: str, more: str = "") -> bytes:
    """The header line that sets a cookie. If the browser connected with TLS, here or at a proxy, it must send the cookie only over TLS."""
    secure = "; Secure" if request.connection.secure or (request.head.fields.origin or "").startswith("https:") else ""
    return f"Set-Cookie: {_NAME}{name}={value}; HttpOnly; SameSite=Strict{secure}{more}\r\n".encode()


async def sign_in(site: Site, request: Request, _: str) -> Answer:
    """POST /session: the halves of the request's token. They replace a session that the request has."""
    given = request.head.fields.authorization
    if given is None or given[:7].lower() != "bearer ":
        raise BadRequest("Authorization", "is missing", "send the token to sign in with as the header Authorization: Bearer TOKEN")
    token = given[7:].strip().encode("utf-8", "surrogateescape")
    if len(token) > TOKEN_BYTES_MAX:
        raise BadRequest("Authorization", f"a token of more than {TOKEN_BYTES_MAX} bytes cannot sign in; a browser keeps no cookie for it")
    before = _GIVEN.fullmatch(request.head.headers.get(_HEADER, ""))
    name, pad = before[1] if before else secrets.token_hex(8), secrets.token_bytes(len(token))
    view = SessionView(f"{name}.{_text(_xor(token, pad))}")
    return Answer(200, msgspec.json.encode(view), JSON, _set(request, name, _text(pad)))


async def sign_out(site: Site, request: Request, _: str) -> Answer:
    """DELETE /session: makes the browser delete the cookie of the request's session."""
    given = _GIVEN.fullmatch(request.head.headers.get(_HEADER, ""))
    return Answer(204, b"", b"", b"" if given is None else _set(request, given[1], "", "; Max-Age=0"))


def session_routes() -> list[Route]:
    """Routes at the root, wherever the APIs are. They are not operations of an API, but serve this server's own pages."""
    found = [
        Route("POST", "/session", sign_in, Scope.KNOWN, "Sign a browser in", answers={200: SessionView}),
        Route("DELETE", "/session", sign_out, Scope.KNOWN, "Sign a browser out", answers={204: None}),
    ]
    for route in found:
        route.own = True
    return found
