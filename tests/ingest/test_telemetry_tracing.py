"""Spans and the header that joins them: a share of them, none where nothing is to be joined, none without the extra."""

from __future__ import annotations

import re
import sys
import time

import pytest

from deploy.servers import free_port
from ingest.errors import BadSettings
from ingest.producer import Producer
from ingest.settings import Settings
from ingest.telemetry.tracing import Traces
from tests.pipeline.collector import collecting


def test_a_record_is_sent_with_the_context_of_its_span() -> None:
    with collecting() as collector:
        traces = Traces("ingest", collector.url)
        sending = traces.send("live.posts", "bluesky:1")
        assert sending is not None
        assert re.fullmatch(b"00-[0-9a-f]{32}-[0-9a-f]{16}-01", sending.traceparent)
        sending.end()
        traces.close()
    (span,) = collector.spans["moodstream-ingest"]
    assert sending.traceparent == b"00-%s-%s-01" % (span.trace_id.hex().encode(), span.span_id.hex().encode())
    assert {one.key: one.value.string_value for one in span.attributes}["messaging.kafka.message.key"] == "bluesky:1"


def test_only_a_share_is_told() -> None:
    traces = Traces("ingest", f"http://127.0.0.1:{free_port()}/v1/traces", share=0.0)
    assert traces.send("live.posts", "bluesky:1") is None
    traces.close()


@pytest.mark.parametrize("headers", [[], [b"no context"], [b"\xff"], [b"00-%s-%s-01" % (b"0" * 32, b"0" * 16)]])
def test_a_batch_without_a_traced_record_has_no_span(headers: list[bytes]) -> None:
    with collecting() as collector:
        traces = Traces("worker", collector.url)
        traces.batch(headers, time.time_ns(), {})
        traces.close()
    assert collector.spans == {}


def test_without_the_extra_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    settings = Settings(traces="http://127.0.0.1:4318/v1/traces")
    with pytest.raises(
        BadSettings, match=r"MOODSTREAM_TRACES needs opentelemetry.*: pip install 'moodstream\[tracing\]'"
    ):
        Producer(settings, run="r")
