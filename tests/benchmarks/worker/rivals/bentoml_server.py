"""BentoML with its adaptive batching: `bentoml serve tests.benchmarks.worker.rivals.bentoml_server:Sentiment`."""

from __future__ import annotations

from typing import Any

import bentoml

from tests.benchmarks.worker.rivals import scoring

MAX_LATENCY_MS = 60_000
"""It turns requests away that it thinks will take longer; here none is to be lost."""


@bentoml.service(workers=1, traffic={"timeout": 120}, logging={"access": {"enabled": False}})
class Sentiment:
    def __init__(self) -> None:
        self.predictor = scoring.load()

    @bentoml.api(route="/predict", batchable=True, max_batch_size=scoring.BATCH, max_latency_ms=MAX_LATENCY_MS)
    def predict(self, posts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return scoring.score(self.predictor, [scoring.prepare(self.predictor, post) for post in posts])
