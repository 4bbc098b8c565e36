"""Where the server's spans go: to the provider the process was given, else to an OTLP collector as the OTEL_ variables say."""

from __future__ import annotations

from jobqueue.api.observe.observing import Spans


class CannotTrace(Exception):
    """OpenTelemetry is not installed, or not all of it. str() is one line."""


def spans() -> Spans:
    """What makes the spans. Sets the process's provider if nothing has, `opentelemetry-instrument` say. Raises CannotTrace."""
    try:
        from opentelemetry import trace

        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor

            # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win over this.
            provider = TracerProvider(resource=Resource({"service.name": "jobqueue"}).merge(Resource.create()))
            provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
            trace.set_tracer_provider(provider)
        return Spans()
    except ImportError as error:
        raise CannotTrace(f"--trace needs the extra otel, pip install '.[otel]' in a clone of the repository: {error}") from None
