"""The way of each post across Kafka, as a collector sees it: what ingest sent, and the batches it was scored in."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.ingest.live.feed import served
from tests.pipeline.collector import Collector, Otelcol, collecting, collecting_in_otelcol
from tests.pipeline.conftest import Pipeline, on_embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_batch_is_linked_to_every_post_in_it(pipeline: Pipeline, tmp_path: Path) -> None:
    check_links(pipeline, tmp_path, collecting())


@on_embedded
@pytest.mark.collector
def test_the_opentelemetry_collector_sees_the_same(pipeline: Pipeline, tmp_path: Path) -> None:
    check_links(pipeline, tmp_path, collecting_in_otelcol(tmp_path))


def check_links(pipeline: Pipeline, tmp_path: Path, collecting: AbstractContextManager[Collector | Otelcol]) -> None:
    with served("posts", 60) as feed, collecting as collector:
        environment = pipeline.environment() | {
            "MOODSTREAM_STATE": str(tmp_path),
            "MOODSTREAM_ENGINE": "null",
            "MOODSTREAM_TRACES": collector.url,
            "MOODSTREAM_TRACES_SHARE": "1",
        }
        stack, name = pipeline.stack, pipeline.namespace
        arguments = ("bluesky", "--host", feed.url, "--all")
        ingest = stack.run(f"{name}-ingest", "ingest", *arguments, environment=environment, keep_running=False)
        worker = stack.run(f"{name}-worker", "inference_worker", environment=environment, keep_running=False)
        pipeline.workers += [ingest, worker]
        pipeline.until(lambda: pipeline.settled() >= feed.posts, f"{feed.posts} posts are settled", 120)
        for service in (ingest, worker):
            assert asyncio.run(service.child.stop()) == 0, service.child.log_tail(30)
    sent, batches = collector.spans["moodstream-ingest"], collector.spans["moodstream-worker"]
    assert {span.kind for span in sent} == {Span.SPAN_KIND_PRODUCER}
    assert {span.kind for span in batches} == {Span.SPAN_KIND_CONSUMER}
    assert all(span.end_time_unix_nano > span.start_time_unix_nano for span in (*sent, *batches))
    began = {(span.trace_id, span.span_id): span.start_time_unix_nano for span in sent}
    links = [(link.trace_id, link.span_id) for span in batches for link in span.links]
    assert len(links) == feed.posts
    assert set(links) == began.keys()
    for span in batches:
        assert all(span.end_time_unix_nano > began[link.trace_id, link.span_id] for link in span.links)
