"""Spans to an OpenTelemetry collector (OTLP over HTTP), and the W3C `traceparent` header that joins them across Kafka.

Ingest gives some of its records a span, from sending to Kafka's acknowledgement, and its context as a header. A worker
gives each micro-batch with such records one span with a link to each of theirs. Spans leave from a thread of their own,
and are dropped where the collector does not keep up. Off, this costs a comparison a record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

EXPORT_TIMEOUT_S = 5


class TracingMissing(Exception):
    """The extra is not installed; says how to."""


class Sending(NamedTuple):
    """traceparent: for the record's header; end: to be called when its fate is known."""

    traceparent: bytes
    end: Callable[[], None]


class Traces:
    """The spans of one service. share: of the traces begun here that are told. Raises TracingMissing."""

    def __init__(self, service: str, url: str, *, share: float = 1.0) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
        except ModuleNotFoundError as error:
            raise TracingMissing(
                f"MOODSTREAM_TRACES needs {error.name}: pip install 'moodstream[tracing]', or unset it"
            ) from error
        resource = Resource.create({"service.name": f"moodstream-{service}"})
        self._provider = TracerProvider(resource=resource, sampler=TraceIdRatioBased(share), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=url, timeout=EXPORT_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("moodstream")

    def send(self, topic: str, key: str) -> Sending | None:
        """Begins the span of a record on its way to Kafka; None where it is not among those told."""
        from opentelemetry.trace import SpanKind

        attributes = {"messaging.system": "kafka", "messaging.destination.name": topic}
        attributes |= {"messaging.operation.type": "send", "messaging.kafka.message.key": key}
        span = self._tracer.start_span(f"send {topic}", kind=SpanKind.PRODUCER, attributes=attributes)
        context = span.get_span_context()
        if not context.trace_flags.sampled:
            return None
        return Sending(b"00-%032x-%016x-01" % (context.trace_id, context.span_id), span.end)

    def batch(self, traceparents: Iterable[bytes], began_ns: int, attributes: Mapping[str, str | int]) -> None:
        """The span of a micro-batch that ends now, linked to those of its records; without links there is none."""
        from opentelemetry.trace import Link, SpanKind, get_current_span
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        read = TraceContextTextMapPropagator().extract
        carriers = ({"traceparent": header.decode("ascii", "replace")} for header in traceparents)
        contexts = [get_current_span(read(carrier)).get_span_context() for carrier in carriers]
        links = [Link(context) for context in contexts if context.is_valid]
        if links:
            told = {"messaging.system": "kafka", "messaging.operation.type": "process", **attributes}
            kind = SpanKind.CONSUMER
            self._tracer.start_span("score batch", kind=kind, links=links, start_time=began_ns, attributes=told).end()

    def close(self) -> None:
        """Sends what is left, for some seconds."""
        self._provider.shutdown()
