"""Who may do what, from where and how often: asked once for every request that is not public, before its body is looked at.

In order: the name it was sent to (403), the page it comes from (403), the token (401), the rate (429), the scope (403). A token that holds
for some queues only is served by the same handlers on a site whose backend is restricted to them (`Site.restricted`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container

from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import Grant, Scope
from jobqueue.api.access.holds import Hold
from jobqueue.api.access.origins import Hosts, check_origin
from jobqueue.api.access.ratelimit import Limiter, Rate
from jobqueue.api.routes import Handler, Route
from jobqueue.api.site import Site
from jobqueue.backend.restricted import RestrictedBackend
from jobqueue.errors import Forbidden, Unauthorized
from jobqueue.http.request import Request


class Access:
    """The rules of one server.

    keys: the tokens it knows, None when nobody is asked for one; rate: how often each token may ask, or each address that has none,
    None for as often as it likes; hosts: the names it answers to, None for any; origins: those whose pages may ask beside its own,
    in lower case; clock: seconds of a monotonic clock.
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
        # Two, so that a crowd of addresses pushes out no token's bucket.
        self._by_token = None if rate is None else Limiter(rate, clock)
        self._by_address = None if rate is None else Limiter(rate, clock)
        self._views: dict[Grant, Site] = {}

    def admit(self, site: Site, request: Request, route: Route) -> Site:
        """The site on which the request is to be served. Raises Forbidden, Unauthorized, RateLimited."""
        fields = request.head.fields
        if self._hosts is not None:
            self._hosts.check(fields.host)
        if route.changes and (fields.origin is not None or fields.site is not None):
            check_origin(fields, self._origins)
        if self.keys is None:
            if self._by_address is not None:
                _take(self._by_address, request, request.connection.address)
            return site
        try:
            grant = self.keys.grant(fields.authorization)
        except Unauthorized:
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
        """The handler of a route that may be held open. It ends with Unauthorized or Forbidden once the request's token is not enough."""
        grant = self.grant_of(request)
        if grant is None:
            return route.handler
        assert self.keys is not None
        hold, held = Hold(request, grant, route.scope), self.keys.held
        return lambda site, request, argument: hold.over(route.handler(site, request, argument), held)

    def grant_of(self, request: Request) -> Grant | None:
        """What the request's token may do, None where nobody is asked for one. Raises Unauthorized."""
        return None if self.keys is None else self.keys.grant(request.head.fields.authorization)

    def _view(self, site: Site, grant: Grant, route: Route) -> Site:
        if route.whole:
            raise Forbidden(f"the token {grant.name} may not use every queue, and {route.path} tells of all of them")
        view = self._views.get(grant)
        if view is None:
            if len(self._views) > len(self.keys or ()):
                # Those of tokens that are gone.
                self._views.clear()
            view = self._views[grant] = site.restricted(RestrictedBackend(site.backend, grant.name, grant.sees))
        return view


def _take(limiter: Limiter, request: Request, key: str) -> None:
    notes, error = limiter.take(key)
    request.notes += notes
    if error is not None:
        raise error
