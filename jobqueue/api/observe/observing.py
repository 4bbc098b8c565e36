"""What is noted of single requests, where someone asked for it: an id, a line in the access log, a span.

Off the hot path: without an observer and without an X-Request-ID a request pays for one look at its headers and for an empty loop.
Nothing here sees a payload, a query or a token. Paths are told by their route's template and, in the log, as they came: they hold ids of
jobs and names of queues, never more.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import time
from collections.abc import Callable
from typing import Any

from jobqueue.api.routes import Route, path_of
from jobqueue.http.answers import Answer
from jobqueue.http.request import Request

_SANE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")

_PROCESS = os.urandom(4).hex()
_numbers = itertools.count(1)
"""An id of ours is the process's and the request's: unique enough to be found, and ten times quicker than a random one."""

PATH_CHARS_MAX = 300
"""How much of a path is logged."""

Observer = Callable[[Request, Route, Answer, float], None]
"""Told of every request once it is answered: what matched it, the answer, and how many seconds it took, held time included."""

_logger = logging.getLogger("jobqueue.access")


def identify(request: Request) -> None:
    """Give a request its id, its client's if that is sane, and have the answer tell it. Before it is held, when its headers go."""
    given = request.head.fields.request_id
    request.id = given if given is not None and _SANE.fullmatch(given) is not None else f"{_PROCESS}{next(_numbers):08x}"
    request.trace = request.head.fields.traceparent
    request.notes += b"X-Request-ID: %b\r\n" % request.id.encode()


class AccessLog:
    """An Observer that logs one request in `every`, and each that the server failed (500 and above)."""

    def __init__(self, every: int = 1) -> None:
        self._every = every
        self._count = 0

    def __call__(self, request: Request, route: Route, answer: Answer, seconds: float) -> None:
        """See Observer."""
        self._count += 1
        status = answer.status_code
        if self._count % self._every and status < 500:
            return
        method = request.head.method
        fields = {
            "request_id": request.id,
            "method": method,
            "route": route.path,
            "path": path_of(request.head.path)[:PATH_CHARS_MAX],
            "status": status,
            "milliseconds": round(seconds * 1_000, 3),
            "address": request.connection.address,
            "token": request.who,
        }
        _logger.info("%s %s %d in %.3f ms", method, route.path, status, seconds * 1_000, extra={"fields": fields})


class Spans:
    """An Observer that makes a server span of each request but those to public routes. provider: the process's own unless given.

    The span is made when the request is over, with the time at which it began: a request is begun outside a task and may be ended inside
    one (docs/decisions/0007), so no context could be kept current in between (0010). Raises ImportError without OpenTelemetry.
    """

    def __init__(self, provider: Any = None) -> None:
        from opentelemetry import trace
        from opentelemetry.trace.propagation import tracecontext

        self._trace = trace
        self._tracer = trace.get_tracer("jobqueue.process.server", tracer_provider=provider)
        self._propagator = tracecontext.TraceContextTextMapPropagator()

    def __call__(self, request: Request, route: Route, answer: Answer, seconds: float) -> None:
        """See Observer."""
        if route.public and route.method:
            return
        trace, status, ended = self._trace, answer.status_code, time.time_ns()
        span = self._tracer.start_span(
            f"{request.head.method} {route.path}",
            context=None if request.trace is None else self._propagator.extract({"traceparent": request.trace}),
            kind=trace.SpanKind.SERVER,
            attributes={
                "http.request.method": request.head.method,
                "http.route": route.path,
                "http.response.status_code": status,
                "url.path": path_of(request.head.path)[:PATH_CHARS_MAX],
                "url.scheme": "https" if request.connection.secure else "http",
                "client.address": request.connection.address,
                "network.protocol.version": f"{request.head.version[0]}.{request.head.version[1]}",
                "jobqueue.request_id": request.id,
            },
            start_time=ended - int(seconds * 1e9),
        )
        if status >= 500:
            span.set_status(trace.StatusCode.ERROR)
        span.end(ended)
