"""GET /token: the permissions of the request's token, so that a page can offer only what it permits."""

from __future__ import annotations

import msgspec

from jobqueue.api.access.grants import SCOPES, Scope
from jobqueue.api.native import views
from jobqueue.api.site import Site
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request


class TokenView(msgspec.Struct, frozen=True):
    """The permissions of a token. name is null if the server requires no token."""

    name: str | None
    scopes: list[Scope]
    queues: list[str]


async def token(site: Site, request: Request, _: str) -> Answer:
    """GET /token."""
    grant = site.grant_of(request)
    if grant is None:
        told = TokenView(None, list(SCOPES), ["*"])
    else:
        told = TokenView(grant.name, [scope for scope in SCOPES if scope in grant.scopes], list(grant.queues) or ["*"])
    return Answer(200, views.encode(told))
