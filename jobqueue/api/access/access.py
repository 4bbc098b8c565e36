"""Access control, checked once for every request that is not public, before its body is read.

In order: the host name that it was sent to (403), the page it comes from (403), the token (401), the rate (429), the scope (403). A token
for some queues only is served by the same handlers, on a site whose backend is restricted to them (`Site.restricted`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container

from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Grant, Scope
from jobqueue.api.access.holds import Hold
from jobqueue.api.access.origins import Hosts, check_origin
from jobqueue.api.access.ratelimit import Limiter, Rate
from jobqueue.api.access.session import token_of
from jobqueue.api.access.unknown import Unknown
from jobqueue.api.routes import Handler, Route
from jobqueue.api.site import Site
from jobqueue.backend.restricted import RestrictedBackend
from jobqueue.errors import Forbidden, Unauthorized
from jobqueue.http.heads import Fields
from jobqueue.http.request import Request


class Access:
    """The access rules of one server.

    keys: the known tokens, None if the server has no tokens; rate: the rate limit for each token, or for each address without a token, None
    for no limit; hosts: the accepted host names, None for any; origins: additional origins whose pages can send requests, in lower case;
    clock: seconds of a monotonic clock.
    """

    def __init__(
        self,
        keys: Keys | None = None,
        *,
        rate: Rate | None = None,
        hosts: Hosts | None = None,
        origins: Container[str] = frozenset(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keys = keys
        self._hosts = hosts
        self._origins = origins
        # Two limiters, so that a large number of addresses does not displace any token's bucket.
        self._by_token = None if rate is None else Limiter(rate, clock)
        self._by_address = None if rate is None else Limiter(rate, clock)
        self._views: dict[Grant, Site] = {}
        self.unknown = Unknown(clock)

    def check_from(self, request: Request) -> None:
        """Refuse a request because of its host name or the page it comes from, before it is known which operation it asks for. Raises
        Forbidden.
        """
        fields = request.head.fields
        if self._hosts is not None:
            self._hosts.check(fields.host)
        if fields.origin is not None or fields.site is not None:
            check_origin(fields, self._origins)

    def admit(self, site: Site, request: Request, route: Route) -> Site:
        """The site on which to serve the request. Raises Forbidden, Unauthorized, RateLimited."""
        fields = request.head.fields
        if self._hosts is not None:
            self._hosts.check(fields.host)
        if (route.changes or route.own) and (fields.origin is not None or fields.site is not None):
            check_origin(fields, self._origins)
        if self.keys is None:
            if self._by_address is not None:
                _take(self._by_address, request, request.connection.address)
            return site
        try:
            grant = self._grant(self.keys, fields)
        except Unauthorized as error:
            self.unknown.note(request.connection.address, error)
            if self._by_address is not None:
                _take(self._by_address, request, request.connection.address)
            raise
        request.who = grant.name
        if self._by_token is not None:
            _take(self._by_token, request, grant.name)
        if route.scope not in grant.scopes and route.scope is not Scope.KNOWN:
            raise Forbidden(f"the token {grant.name} does not have the scope {route.scope}")
        return site if not grant.queues else self._view(site, grant, route)

    def holding(self, request: Request, route: Route) -> Handler:
        """The handler of a route that can be held open. It ends with Unauthorized or Forbidden once the request's token is no longer
        sufficient.
        """
        grant = self.grant_of(request)
        if grant is None:
            return route.handler
        assert self.keys is not None
        hold, held = Hold(request, grant, route.scope), self.keys.held
        return lambda site, request, argument: hold.over(route.handler(site, request, argument), held)

    def grant_of(self, request: Request) -> Grant | None:
        """The permissions of the request's token, None if the server has no tokens. Raises Unauthorized."""
        return None if self.keys is None else self._grant(self.keys, request.head.fields)

    def _grant(self, keys: Keys, fields: Fields) -> Grant:
        """The permissions of the token in a request, sent whole or as the two halves of a session. Raises Unauthorized, Forbidden."""
        header = fields.authorization
        if header is None:
            token = token_of(fields, self._origins)
            header = None if token is None else f"Bearer {token}"
        return keys.grant(header)

    def _view(self, site: Site, grant: Grant, route: Route) -> Site:
        if route.whole:
            raise Forbidden(f"the token {grant.name} does not give access to every queue, and {route.path} covers all of them")
        view = self._views.get(grant)
        if view is None:
            if len(self._views) > len(self.keys or ()):
                # Some belong to tokens that no longer exist.
                self._views.clear()
            view = self._views[grant] = site.restricted(RestrictedBackend(site.backend, grant.name, grant.sees))
        return view


def _take(limiter: Limiter, request: Request, key: str) -> None:
    notes, error = limiter.take(key)
    request.notes += notes
    if error is not None:
        raise error
