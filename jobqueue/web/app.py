"""The application: routes, and what happens around every request. All mounting is done here.

There is no aiohttp Application and no middleware: one dispatcher over one route table serves everything, which is what brings a request
below the cost of a bare aiohttp handler (DESIGN section 7), and leaves one place where errors become answers.
"""

from __future__ import annotations

import logging
import time

from aiohttp import hdrs, web

from jobqueue.backend.base import Backend
from jobqueue.engine import checks
from jobqueue.errors import BadRequest, QueueError, TooManyConnections
from jobqueue.limits import Limits
from jobqueue.model import QueuePolicy
from jobqueue.web.answers import Answer
from jobqueue.web.auth import Auth
from jobqueue.web.body import read_body
from jobqueue.web.connections import Connection, Server
from jobqueue.web.problems import HttpVersionNotSupported, InternalError, problem
from jobqueue.web.routes import Route, Router, Scope
from jobqueue.web.table import native_routes

_logger = logging.getLogger("jobqueue.web")


class App:
    """A backend behind HTTP.

    token: the bearer token asked for, None for nobody; body_seconds: how long a request's body may take to arrive.
    """

    def __init__(self, backend: Backend, limits: Limits, *, token: str | None = None, body_seconds: float = 30.0) -> None:
        self.backend = backend
        self.limits = limits
        self.body_seconds = body_seconds
        self.draining = False
        self.native_prefix = ""
        self.default_policy = QueuePolicy(lease_seconds=limits.lease_seconds_default, max_attempts=limits.max_attempts_default)
        self.router = Router(native_routes(self.native_prefix))
        self._auth = None if token is None else Auth(token)

    def server(self, *, connections_max: int | None = None, idle_seconds: float = 75.0, write_seconds: float = 30.0) -> Server:
        """The protocol factory that serves this app. Needs a running loop."""
        return Server(
            self.handle,
            connections_max=self.limits.connections_max if connections_max is None else connections_max,
            idle_seconds=idle_seconds,
            write_seconds=write_seconds,
        )

    def drain(self) -> None:
        """Answer every held request now and take no new work."""
        self.draining = True
        self.backend.drain()

    async def read_body(self, request: web.BaseRequest) -> bytes:
        """A request's JSON body, b"" if it has none. Raises as `body.read_body` does."""
        return await read_body(request, self.limits.body_bytes_max, self.body_seconds)

    async def read_nothing(self, request: web.BaseRequest) -> None:
        """For operations without parameters: a body may only be an empty object. Raises BadRequest."""
        body = await self.read_body(request)
        if body.strip() not in (b"", b"{}"):
            raise BadRequest(None, "this operation takes no body")

    def job_id(self, job_id: str) -> str:
        """A job id from a path or a batch item, checked. Raises BadRequest."""
        checks.text("id", job_id, self.limits.id_chars_max, 1)
        return job_id

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Every error becomes a problem here, and nothing else does."""
        started = time.perf_counter()
        route: Route | None = None
        try:
            path = request.raw_path.partition("?")[0]
            if path[:1] != "/":
                path = request.rel_url.raw_path
            route, argument = self.router.find(request.method, path)
            self._check(request, route)
            answer = await route.handler(self, request, argument)
        except QueueError as error:
            answer = problem(error)
        except ConnectionError:
            # The client went away while its body was read. It gets no answer, so any will do.
            answer = problem(BadRequest(None, "the client has gone"), close=True)
        except Exception:
            _logger.exception("a defect: %s %s", request.method, path)
            answer = problem(InternalError("the server has a defect; its log says more"), close=True)
        if self.draining and isinstance(answer, Answer):
            answer.close = True
        if route is not None:
            status = answer.status
            route.counts[status] = route.counts.get(status, 0) + 1
            route.seconds += time.perf_counter() - started
        return answer

    def _check(self, request: web.BaseRequest, route: Route) -> None:
        """What every request must satisfy before its handler runs."""
        version = request.version
        if version[0] != 1:
            raise HttpVersionNotSupported("speak HTTP/1.1 or HTTP/1.0")
        hosts = request.headers.getall(hdrs.HOST, ())
        if len(hosts) != 1 and (hosts or version[1]):
            raise BadRequest("Host", "must be given exactly once (RFC 9112, section 3.2)")
        connection = request.protocol
        if route.scope is not Scope.PUBLIC:
            if isinstance(connection, Connection) and connection.over:
                raise TooManyConnections("the server has as many connections as it may")
            if self._auth is not None:
                self._auth.check(request, route.scope)


def build_app(backend: Backend, limits: Limits | None = None, *, token: str | None = None, body_seconds: float = 30.0) -> App:
    """The application on a backend, everything mounted."""
    return App(backend, limits or Limits(), token=token, body_seconds=body_seconds)
