"""LitServe with its dynamic batching: `python litserve_server.py PORT`, in the rivals' environment."""

from __future__ import annotations

import sys
from typing import Any

import litserve

from inference_worker.preprocess import Example
from tests.benchmarks.worker.rivals import scoring


class Sentiment(litserve.LitAPI):  # type: ignore[misc]  # not installed where types are checked
    def setup(self, device: str) -> None:
        self.predictor = scoring.load()

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe takes an annotation for the body's type
        (post,) = request["posts"]
        return scoring.prepare(self.predictor, post)

    def batch(self, inputs: list[Example]) -> list[Example]:
        return inputs

    def predict(self, x: list[Example]) -> list[dict[str, Any]]:
        return scoring.score(self.predictor, x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> list[dict[str, Any]]:
        return [output]


if __name__ == "__main__":
    api = Sentiment(max_batch_size=scoring.BATCH, batch_timeout=scoring.WAIT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=120)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
