"""Continues a producer's trace: a span around a handler, if OpenTelemetry is installed and the job has a traceparent.

Everything else (providers, exporters, sampling) is up to the program that runs the worker, through `opentelemetry-instrument` or its own
code.
"""

from __future__ import annotations

import contextlib
import functools
from contextlib import AbstractContextManager
from typing import Any

from jobqueue.worker.running import Leased

_NOTHING: AbstractContextManager[Any] = contextlib.nullcontext()


@functools.cache
def _tracing() -> Any:
    try:
        from opentelemetry import trace
        from opentelemetry.trace.propagation import tracecontext
    except ImportError:
        return None
    return trace, trace.get_tracer("jobqueue.worker"), tracecontext.TraceContextTextMapPropagator()


def span(leased: Leased) -> AbstractContextManager[Any]:
    """The context manager in which to run the job's handler. An exception that passes through marks the span as failed."""
    if leased.traceparent is None or (tracing := _tracing()) is None:
        return _NOTHING
    trace, tracer, propagator = tracing
    made: AbstractContextManager[Any] = tracer.start_as_current_span(
        f"process {leased.type or leased.queue}",
        context=propagator.extract({"traceparent": leased.traceparent}),
        kind=trace.SpanKind.CONSUMER,
        attributes={
            "messaging.system": "jobqueue",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": leased.queue,
            "messaging.message.id": leased.id,
            "jobqueue.attempt": leased.attempts,
        },
    )
    return made
