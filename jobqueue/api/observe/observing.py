"""What is recorded of single requests, if configured: an id, a line in the access log, a span.

Off the hot path: without an observer and without an X-Request-ID, a request costs one look at its headers and an empty loop. Nothing here
sees a payload, a query or a token. Paths are reported by their route's template and, in the log, as they came: they contain ids of jobs and
names of queues, and nothing else.
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
"""An id from here combines a process number and a request number: unique enough for searching, and ten times faster than a random one."""

PATH_CHARS_MAX = 300
"""The most characters of a path that are logged."""

Observer = Callable[[Request, Route, Answer, float], None]
"""Called for every request once it is answered, with the route, the answer, and the seconds that it took, including held time."""

_logger = logging.getLogger("jobqueue.access")


def identify(request: Request) -> None:
    """Give a request its id (the client's, if that is valid) and put it in the answer. Call it before the request is held, since its
    headers are released then.
    """
    given = request.head.fields.request_id
    request.id = given if given is not None and _SANE.fullmatch(given) is not None else f"{_PROCESS}{next(_numbers):08x}"
    request.trace = request.head.fields.traceparent
    request.notes += b"X-Request-ID: %b\r\n" % request.id.encode()


class AccessLog:
    """An Observer that logs one request in `every`, and every request that failed with 500 or above."""

    def __init__(self, every: int = 1) -> None:
        self._every = every
        self._count = 0

    def __call__(self, request: Request, route: Route, answer: Answer, seconds: float) -> None:
        """See Observer."""
        self._count += 1
        status = answer.status
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
    """An Observer that makes a server span of each request, except those to public routes. provider: by default the process's own.

    The span is made when the request is over, with the time at which it began: a request begins outside a task and can end inside one
    (docs/decisions/0007), so no context could be kept current in between (0010). Raises ImportError without OpenTelemetry.
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
        trace, status, ended = self._trace, answer.status, time.time_ns()
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
