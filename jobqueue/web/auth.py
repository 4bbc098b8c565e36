"""Who may do what: one bearer token that may do everything, or nobody is asked.

Scopes stand in the route table already, so that a token of narrower scope needs no change there.
"""

from __future__ import annotations

import hmac

from aiohttp import hdrs

from jobqueue.errors import Unauthorized
from jobqueue.web.request import Request
from jobqueue.web.routes import Scope


class Auth:
    """Checks the Authorization header (RFC 6750) against one token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode("utf-8", "surrogateescape")

    def check(self, request: Request, scope: Scope) -> None:
        """Return if the request may do what needs `scope`. Raises Unauthorized. Constant time in the token."""
        if scope is Scope.PUBLIC:
            return
        value = request.headers.get(hdrs.AUTHORIZATION, "")
        if value[:7].lower() != "bearer ":
            raise Unauthorized("send the header Authorization: Bearer TOKEN")
        # Bytes, because compare_digest refuses a str that is not ASCII, and a header may be anything.
        if not hmac.compare_digest(value[7:].strip().encode("utf-8", "surrogateescape"), self._token):
            raise Unauthorized("the server does not know this token")
