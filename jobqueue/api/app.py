"""The application: routes, and what happens around every request. All mounting is done here.

There is no aiohttp Application and no middleware: one dispatcher over one route table serves everything, which is what brings a request
below the cost of a bare aiohttp handler, and leaves one place where errors become answers.
"""

from __future__ import annotations

import logging
import time

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import admin
from jobqueue.api.mounts import Mounts
from jobqueue.api.native import wire
from jobqueue.api.native.table import unmatched_route
from jobqueue.api.observe.observing import Observer, identify
from jobqueue.api.problems import InternalError, Shape, problem
from jobqueue.api.routes import IN_QUERY, Route, Router, named_in_query, path_of
from jobqueue.api.site import Site
from jobqueue.backend.base import Backend
from jobqueue.errors import BadRequest, Forbidden, QueueError, TooManyConnections
from jobqueue.http.answers import Answer
from jobqueue.http.connections import HttpVersionNotSupported
from jobqueue.http.fast import AUTO, parser_for
from jobqueue.http.heads import HOST, HTTP_11, Head
from jobqueue.http.request import ClientGone, Request
from jobqueue.http.server import Server
from jobqueue.limits import Limits

_logger = logging.getLogger("jobqueue.api")


class App:
    """Serves a site: finds the route of each request, asks who may, calls the handler, and answers for every error.

    access: who may do what; body_seconds: how long a request may take to arrive, from its first byte; mounts: which API stands where.
    observers: told of every request.
    """

    def __init__(
        self, backend: Backend, limits: Limits, *, access: Access | None = None, body_seconds: float = 30.0, mounts: Mounts | None = None
    ) -> None:
        self.mounts = mounts or Mounts()
        self.body_seconds = body_seconds
        self.access = access or Access()
        self.observers: tuple[Observer, ...] = ()
        self.site = Site(
            backend,
            limits,
            prefixes=self.mounts.prefixes,
            secured=self.access.keys is not None,
            grant_of=self.access.grant_of,
        )
        self.unmatched = unmatched_route()
        counted: list[Route] = []
        self.router = Router(self.mounts.routes(counted) + self.mounts.pages())
        counted += [*self.router.routes, self.unmatched]

    def server(
        self, *, http: str = AUTO, connections_max: int | None = None, idle_seconds: float = 75.0, write_seconds: float = 30.0
    ) -> Server:
        """The protocol factory that serves this app. Needs a running loop. http: by which way; raises CannotServeFast."""
        limits = self.site.limits
        return Server(
            self.handle,
            refused,
            parser=parser_for(http),
            connections_max=limits.connections_max if connections_max is None else connections_max,
            connections_per_address_max=limits.connections_per_address_max,
            idle_seconds=idle_seconds,
            write_seconds=write_seconds,
            request_seconds=self.body_seconds,
            at_once=self.site.backend.at_once,
            usual=[(route.method, route.path) for route in self.router.routes if "{" not in route.path],
        )

    def drain(self) -> None:
        """Answer every held request now and take no new work."""
        self.site.life.draining = True
        self.site.backend.drain()

    def _shape(self, route: Route, request: Request) -> Shape:
        """How an error of this request looks: as those of the API it was meant for."""
        return self.mounts.shape_at(path_of(request.head.path)) if route is self.unmatched else route.shape

    def _refused(self, error: QueueError, route: Route, request: Request) -> Answer:
        """The answer to a request that failed. One that the server failed always has an id, to be found by in the log."""
        answer = problem(error, self._shape(route, request))
        if answer.status_code >= 500 and not request.id:
            identify(request)
        if isinstance(error, Forbidden):
            fields = {"request_id": request.id} if request.id else {}
            said = (route.method, route.path, request.who, error.detail)
            _logger.info("forbidden: %s %s with the token %r: %s", *said, extra={"fields": fields})
        return answer

    async def handle(self, request: Request) -> Answer:
        """Answer one request. Every error becomes a problem here, and nothing else does."""
        started = time.perf_counter()
        route, site, message = self.unmatched, self.site, request.head
        if self.observers or message.fields.request_id is not None:
            identify(request)
        try:
            route, argument = self.router.find(message.method, message.path)
            if argument[-1:] == IN_QUERY and "?" in message.path:
                argument, request.head = named_in_query(route, message, argument)
                message = request.head
            if message.version is not HTTP_11:
                # For 1.1, the connection has seen to it that there is one Host.
                _check_protocol(message)
            if not route.public:
                if request.connection.over:
                    raise TooManyConnections(request.connection.over)
                site = self.access.admit(site, request, route)
                if route.query is None and "?" in message.path:
                    _check_no_query(message)
            serve = route.handler if not route.held else self.access.holding(request, route)
            answer = await serve(site, request, argument)
        except QueueError as error:
            answer = self._refused(error, route, request)
        except ClientGone:
            # It gets no answer, so any will do. A ConnectionError of anything else, a backend, say, is a defect like others.
            answer = problem(BadRequest(None, "the client has gone"), close=True)
        except Exception:
            answer = self._refused(InternalError("the server has a defect; its log says more"), route, request)
            answer.close = True
            _logger.exception("a defect: %s %s", message.method, path_of(message.path), extra={"fields": {"request_id": request.id}})
        if site.life.draining:
            answer.close = True
        status = answer.status_code
        route.counts[status] = route.counts.get(status, 0) + 1
        seconds = time.perf_counter() - started
        route.latency.observe(seconds)
        for observe in self.observers:
            observe(request, route, answer, seconds)
        return answer


def build_app(
    backend: Backend,
    limits: Limits | None = None,
    *,
    token: str | None = None,
    access: Access | None = None,
    body_seconds: float = 30.0,
    mounts: Mounts | None = None,
) -> App:
    """The application on a backend, everything mounted. token: short for an access that asks for this one, which may do everything."""
    if token is not None:
        access = Access(Keys([admin(token)]))
    return App(backend, limits or Limits(), access=access, body_seconds=body_seconds, mounts=mounts)


def _check_no_query(message: Head) -> None:
    """For operations that take no parameters. Public ones let them be: probes and load balancers add some. Raises BadRequest."""
    for name, _ in wire.query_of(message.path):
        raise BadRequest(name[:200] or None, "is unknown; this operation takes no query parameters")


def _check_protocol(message: Head) -> None:
    """What HTTP itself asks of a request and aiohttp's parser lets pass. Raises HttpVersionNotSupported, BadRequest."""
    if message.version[0] != 1:
        raise HttpVersionNotSupported("speak HTTP/1.1 or HTTP/1.0")
    if len(message.headers.getall(HOST, ())) > 1:
        raise BadRequest("Host", "is given more than once (RFC 9112, section 3.2)")


def refused(error: QueueError) -> Answer:
    """The answer to what cannot be read as HTTP. The connection ends: what follows cannot be trusted to be a request."""
    return problem(error, close=True)
