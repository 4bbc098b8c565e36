"""GET /token: what the token that comes with a request may do, so that a page can offer that and nothing else."""

from __future__ import annotations

import msgspec

from jobqueue.api.access.grants import SCOPES, Scope
from jobqueue.api.native import views
from jobqueue.api.site import Site
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request


class TokenView(msgspec.Struct, frozen=True):
    """What a token may do. name is null where the server asks nobody for one."""

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
