"""A real Prometheus with the shipped configuration watches a real ingest, worker and alert service."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from deploy.children import Child
from deploy.servers import free_port
from ingest.contract import Post
from tests.ingest.live.feed import served
from tests.pipeline.conftest import ROOT, Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHIPPED: Final = ROOT / "deploy" / "prometheus"
DASHBOARD: Final = json.loads((ROOT / "deploy" / "grafana" / "moodstream.json").read_text())
EXPRESSIONS: Final = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
SERVICES: Final = ("ingest", "worker", "alerts")
SUFFIX: Final = re.compile(r"_(total|bucket|sum|count)$")
"""OpenMetrics leaves them out of a family's name."""


class Prometheus:
    """A running one; `ports` are the services'."""

    def __init__(self, folder: Path, ports: dict[str, int]) -> None:
        if (program := shutil.which("prometheus")) is None:
            pytest.skip("no prometheus: install it (Debian: prometheus)")
        shutil.copy(SHIPPED / "rules.yml", folder)
        config = (SHIPPED / "prometheus.yml").read_text().replace("15s", "1s")
        for service, shipped in (("ingest", 9101), ("worker", 9102), ("alerts", 9111)):
            config = config.replace(f"127.0.0.1:{shipped}", f"127.0.0.1:{ports[service]}")
        (folder / "prometheus.yml").write_text(config.partition("  - job_name: moodstream-dashboard")[0])
        port = free_port()
        command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        command.append(f"--web.listen-address=127.0.0.1:{port}")
        self.child = Child("prometheus", command, log_path=folder / "prometheus.log")
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=10, trust_env=False)

    def ask(self, path: str, **parameters: str) -> Any:
        answer = self._client.get(path, params=parameters)
        assert answer.status_code == 200, f"{parameters}: {answer.text}"
        return answer.json()["data"]

    def values(self, query: str, label: str = "job") -> dict[str, float]:
        """By a label; empty while Prometheus starts."""
        try:
            found = self.ask("/query", query=query)["result"]
        except httpx.TransportError:
            return {}
        return {one["metric"].get(label, ""): float(one["value"][1]) for one in found}

    def close(self) -> None:
        self._client.close()
        self.child.kill()


@contextmanager
def watched(pipeline: Pipeline, folder: Path, upstream: str) -> Iterator[Prometheus]:
    """The three services on one source, and Prometheus."""
    ports = {service: free_port() for service in SERVICES}
    health = {f"MOODSTREAM_{service.upper()}_HEALTH": f"127.0.0.1:{port}" for service, port in ports.items()}
    environment = (
        pipeline.environment() | health | {"MOODSTREAM_STATE": str(folder / "state"), "MOODSTREAM_LOG": "json"}
    )
    stack, name = pipeline.stack, pipeline.namespace
    arguments = ("bluesky", "--host", upstream, "--all")
    started = [
        stack.run(f"{name}-ingest", "ingest", *arguments, environment=environment, keep_running=False),
        stack.run(f"{name}-worker", "inference_worker", environment=environment, keep_running=False),
        stack.run(f"{name}-alerts", "dashboard.alerts", environment=environment, keep_running=False),
    ]
    pipeline.workers += started
    prometheus = Prometheus(folder, ports)
    try:
        yield prometheus
    finally:
        prometheus.close()


def test_prometheus_sees_what_the_pipeline_does(pipeline: Pipeline, tmp_path: Path) -> None:
    with served("posts", 200) as feed, watched(pipeline, tmp_path, feed.url) as prometheus:
        pipeline.until(lambda: pipeline.settled() >= feed.posts, f"{feed.posts} posts are settled", 120)
        now = datetime.now(UTC)
        empty = Post(id="x:empty", source="x", created_at=now, ingested_at=now, text="")
        pipeline.send([b"no post", empty], run="garbage")

        def seen(query: str, expected: Mapping[str, float], label: str = "job") -> None:
            """Each service is scraped at a time of its own."""
            pipeline.until(lambda: prometheus.values(query, label) == expected, f"{query} is {expected}", 60)

        dead = "sum by (reason) (moodstream_worker_dead_letters_total)"
        seen(dead, {"MalformedRecord": 1, "Unscorable": 1}, "reason")
        scored = pipeline.results.counters()["scored"]
        seen("moodstream_worker_posts_scored_total", {"moodstream-worker": scored})
        seen("moodstream_ingest_records_sent_total", {"moodstream-ingest": feed.posts})
        seen('moodstream_worker_post_latency_seconds_count{since="ingested"}', {"moodstream-worker": scored})
        seen("sum(moodstream_worker_partition_lag_records)", {"": 0})
        seen("sum(moodstream_worker_records_done_total)", {"": feed.posts + 2})
        ready = '{__name__=~"moodstream_.*_ready"}'
        seen(f"min by (check) ({ready})", dict.fromkeys(("kafka", "partitions", "source", "store"), 1), "check")
        outcomes = 'moodstream_alerts_namespace_records_total{outcome=~"scored|dead_letters"}'
        seen(outcomes, {"scored": scored, "dead_letters": 2}, "outcome")
        assert_rules_and_dashboard_work(prometheus)
        logged = [json.loads(line) for one in pipeline.workers for line in one.child.log_path.read_text().splitlines()]
        assert [line["post"] for line in logged if "post" in line] == ["x:empty"]


def assert_rules_and_dashboard_work(prometheus: Prometheus) -> None:
    """Every expression is one, and names only what services tell; no alert that pages is on."""
    told = {SUFFIX.sub("", name) for name in prometheus.ask("/metadata")}
    groups = prometheus.ask("/rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    expressions = [*EXPRESSIONS, *(rule["query"] for rule in rules)]
    named = {
        SUFFIX.sub("", name) for one in expressions for name in re.findall(r"\b(?:moodstream|process)_[a-z_]+\b", one)
    }
    assert named - told == set()
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [rule["name"] for rule in rules if rule["labels"]["severity"] == "page" and rule["state"] == "firing"] == []
    for expression in EXPRESSIONS:
        prometheus.ask("/query", query=expression.replace("$__rate_interval", "1m").replace("$instance", ".*"))
