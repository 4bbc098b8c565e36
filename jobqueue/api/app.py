"""The application: the routes, and the steps that surround every request. Everything is mounted here.

There is no aiohttp Application and no middleware. One dispatcher over one route table serves everything. This makes a request cheaper than
a bare aiohttp handler, and errors become answers in one place only.
"""

from __future__ import annotations

import logging
import time

from jobqueue.api.access.access import Access
from jobqueue.api.access.auth import Keys
from jobqueue.api.access.grants import admin
from jobqueue.api.access.session import session_routes
from jobqueue.api.mounts import Mounts
from jobqueue.api.native import wire
from jobqueue.api.native.table import unmatched_route
from jobqueue.api.observe.metrics import Metrics
from jobqueue.api.observe.observing import Observer, identify
from jobqueue.api.problems import PROBLEMS, InternalError, Shape, problem
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
    """Serves a site: finds the route of each request, checks access, calls the handler, and turns every error into an answer.

    access: who may do what. body_seconds: the time allowed for a request to arrive, from its first byte. mounts: the prefix of each API.
    observers: notified of every request. metrics: the request metrics.
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
        self.metrics = Metrics(counted)
        self.router = Router(self.mounts.routes(counted) + session_routes() + self.mounts.pages())
        beneath = dict.fromkeys(action for route in self.router.routes for action in route.beneath)
        counted += [*self.router.routes, *beneath, self.unmatched]

    def server(
        self, *, http: str = AUTO, connections_max: int | None = None, idle_seconds: float = 75.0, write_seconds: float = 30.0
    ) -> Server:
        """The protocol factory that serves this app. Needs a running loop. http: the HTTP implementation to use. Raises CannotServeFast."""
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
        """Answer every held request now and accept no new work."""
        self.site.life.draining = True
        self.site.backend.drain()

    def _shape(self, route: Route, request: Request) -> Shape:
        """The format of this request's errors: that of the API it was sent to."""
        return self.mounts.shape_at(path_of(request.head.path)) if route is self.unmatched else route.shape

    def _refused(self, error: QueueError, route: Route, request: Request) -> Answer:
        """The answer to a failed request. An internal error always has an id, so that it can be found in the log."""
        if not request.id and error.code in PROBLEMS and PROBLEMS[error.code].status >= 500:
            identify(request)
        shape = self._shape(route, request)
        answer = problem(error, shape) if shape.writer is None else shape.writer(error, request)
        if isinstance(error, Forbidden):
            fields = {"request_id": request.id} if request.id else {}
            said = (route.method, route.path, request.who, error.detail)
            _logger.info("forbidden: %s %s with the token %r: %s", *said, extra={"fields": fields})
        return answer

    async def _action(self, route: Route, request: Request, argument: str) -> Route | None:
        """The operation that a request asks for, where its path has several; None if there is none."""
        if request.connection.over:
            raise TooManyConnections(request.connection.over)
        self.access.check_from(request)
        assert route.actions is not None
        return await route.actions(self.site, request, argument)

    def _find(self, head: Head) -> tuple[Route, str]:
        """The route of a request head, which is also stored in the head, and the variable segment. Raises as `Router.find` does."""
        place = head.place = self.router.find(head.method, head.path)
        return place

    async def handle(self, request: Request) -> Answer:
        """Answer one request. Every error becomes a problem here and nowhere else."""
        started = time.perf_counter()
        route, site, message = self.unmatched, self.site, request.head
        if self.observers or message.fields.request_id is not None:
            identify(request)
        try:
            route, argument = message.place or self._find(message)
            if argument[-1:] == IN_QUERY and "?" in message.path:
                argument, request.head = named_in_query(route, message, argument)
                message = request.head
            if message.version is not HTTP_11:
                # For HTTP/1.1, the connection has already checked that there is exactly one Host.
                _check_protocol(message)
            if route.actions is not None:
                route = await self._action(route, request, argument) or self.unmatched
                message = request.head
            if not route.public:
                if request.connection.over:
                    raise TooManyConnections(request.connection.over)
                site = self.access.admit(site, request, route)
                if route.query is None and "?" in message.path:
                    _check_no_query(message)
            serve = route.handler if not route.held or self.access.keys is None else self.access.holding(request, route)
            answer = await serve(site, request, argument)
        except QueueError as error:
            answer = self._refused(error, route, request)
        except ClientGone:
            # The client is gone, so any answer will do. A ConnectionError from elsewhere, such as a backend, is a defect like any other.
            answer = problem(BadRequest(None, "the client has gone"), close=True)
        except Exception:
            answer = self._refused(InternalError("internal error in the server; see its log"), route, request)
            answer.close = True
            _logger.exception("internal error: %s %s", message.method, path_of(message.path), extra={"fields": {"request_id": request.id}})
        if site.life.draining:
            answer.close = True
        status = answer.status
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
    """The application on a backend, with everything mounted. token: short for an access with this one token, which may do everything."""
    if token is not None:
        access = Access(Keys([admin(token)]))
    return App(backend, limits or Limits(), access=access, body_seconds=body_seconds, mounts=mounts)


def _check_no_query(message: Head) -> None:
    """For operations without parameters. Public operations ignore unknown ones: probes and load balancers add some. Raises BadRequest."""
    for name, _ in wire.query_of(message.path):
        raise BadRequest(name[:200] or None, "is unknown", f"unknown parameter '{name[:200]}'; this operation takes no query parameters")


def _check_protocol(message: Head) -> None:
    """What HTTP requires of a request but aiohttp's parser does not check. Raises HttpVersionNotSupported, BadRequest."""
    if message.version[0] != 1:
        raise HttpVersionNotSupported("speak HTTP/1.1 or HTTP/1.0")
    if len(message.headers.getall(HOST, ())) > 1:
        raise BadRequest("Host", "is given more than once (RFC 9112, section 3.2)")


def refused(error: QueueError) -> Answer:
    """The answer to bytes that are not valid HTTP. The connection is closed, since what follows may not be a request."""
    return problem(error, close=True)
