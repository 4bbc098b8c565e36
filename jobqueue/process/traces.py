"""Where the server's spans go: to the provider that the process already has, otherwise to an OTLP collector set by the OTEL_ variables."""

from __future__ import annotations

from jobqueue.api.observe.observing import Spans


class CannotTrace(Exception):
    """OpenTelemetry is not installed, or is incomplete. str() is one line."""


def spans() -> Spans:
    """The observer that makes the spans. Sets the process's provider if none is set, for example by `opentelemetry-instrument`. Raises
    CannotTrace.
    """
    try:
        from opentelemetry import trace

        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence over this.
            provider = TracerProvider(resource=Resource({"service.name": "jobqueue"}).merge(Resource.create()))
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
            trace.set_tracer_provider(provider)
        return Spans()
    except ImportError as error:
        raise CannotTrace(f"--trace needs the extra otel, pip install '.[otel]' in a clone of the repository: {error}") from None
