"""What a collector of traces gets: an OTLP/HTTP endpoint of our own that keeps it, and the OpenTelemetry Collector."""

from __future__ import annotations

import asyncio
import gzip
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from deploy.children import Child
from deploy.servers import free_port, is_free, until_ready

VARIABLE: Final = "MOODSTREAM_OTELCOL"
OTELCOL: Final = os.environ.get(VARIABLE) or str(Path(__file__).parents[2] / ".moodstream/tools/otelcol")
"""Built with the file exporter, as the distribution `otelcol-contrib` is."""
CONFIG: Final = """\
receivers:
  otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{port}"}}}}}}
exporters:
  file: {{path: "{file}", format: proto}}
service:
  telemetry: {{metrics: {{level: none}}}}
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
"""


def keep(spans: dict[str, list[Span]], request: ExportTraceServiceRequest) -> None:
    for told in request.resource_spans:
        service = {one.key: one.value.string_value for one in told.resource.attributes}["service.name"]
        spans.setdefault(service, []).extend(span for scope in told.scope_spans for span in scope.spans)


class Collector(ThreadingHTTPServer):
    """spans: by the service that told them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: dict[str, list[Span]] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        keep(self.server.spans, ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.end_headers()
        self.wfile.write(ExportTraceServiceResponse().SerializeToString())

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


class Otelcol:
    """The OpenTelemetry Collector itself; spans: what its file exporter wrote, there once it has stopped."""

    def __init__(self, folder: Path) -> None:
        self.spans: dict[str, list[Span]] = {}
        self._port, self._file, config = free_port(), folder / "spans", folder / "otelcol.yaml"
        config.write_text(CONFIG.format(port=self._port, file=self._file))
        self.child = Child("otelcol", [OTELCOL, "--config", str(config)], log_path=folder / "otelcol.log")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1/traces"

    async def answers(self) -> bool:
        return not is_free(self._port)

    def read(self) -> None:
        """Every message follows its length."""
        data = self._file.read_bytes()
        while data:
            size = int.from_bytes(data[:4], "big")
            keep(self.spans, ExportTraceServiceRequest.FromString(data[4 : 4 + size]))
            data = data[4 + size :]


@contextmanager
def collecting_in_otelcol(folder: Path) -> Iterator[Otelcol]:
    if not Path(OTELCOL).is_file():
        pytest.skip(
            f"no OpenTelemetry Collector at {OTELCOL}: put otelcol-contrib there, or set {VARIABLE} to its path"
        )
    collector = Otelcol(folder)
    try:
        asyncio.run(until_ready(collector.child, collector.answers))
        yield collector
    finally:
        code = asyncio.run(collector.child.stop())
    assert code == 0, collector.child.log_tail()
    collector.read()
