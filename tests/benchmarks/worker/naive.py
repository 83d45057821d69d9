"""The consumer one writes first: one post, one forward, one write to Redis. No batch, no cache, no overlap.

python -m tests.benchmarks.worker.naive --kafka A --topic T --redis URL --stream KEY --model DIRECTORY
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from aiokafka import AIOKafkaConsumer
from redis.asyncio import Redis
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from inference_worker.artifact import read_manifest
from inference_worker.engines.onnx import GRAPHS, float32
from inference_worker.preprocess import Preprocessor
from ingest.contract import Post, decode


class Model:
    """The artifact's graphs, called for one post at a time, with ONNX Runtime as it comes."""

    def __init__(self, directory: Path) -> None:
        manifest = read_manifest(directory)
        tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.preprocessor = Preprocessor(tokenizer, manifest.text, manifest.image)
        self.temperature = {kind: one.temperature for kind, one in manifest.calibration.items()}
        self.labels = manifest.labels
        weights = load_file(directory / "weights.safetensors")
        self.sessions = {graph: session(directory, graph, weights) for graph in GRAPHS}

    def score(self, post: Post) -> dict[str, Any]:
        example = self.preprocessor.prepare(post)
        if example.text is not None:
            input_ids = example.text.input_ids[None, :]
            mask = np.ones_like(input_ids)
            text_features, text_logits = self.run("text_encoder", input_ids=input_ids, attention_mask=mask)
        if example.images:
            pixels = self.preprocessor.normalise([image.pixels for image in example.images if image.pixels is not None])
            image_features, image_logits = self.run("image_encoder", pixel_values=pixels)
        if example.lane == "both":
            features = image_features.mean(axis=0, keepdims=True)
            logits = self.run("fusion", text_features=text_features, attention_mask=mask, image_features=features)[0]
        else:
            logits = text_logits if example.lane == "text" else image_logits.mean(axis=0, keepdims=True)
        scaled = logits[0] / self.temperature[example.lane]
        probabilities = np.exp(scaled - scaled.max())
        probabilities /= probabilities.sum()
        return {"label": self.labels[int(probabilities.argmax())], "probabilities": probabilities.tolist()}

    def run(self, graph: str, **inputs: np.ndarray) -> list[np.ndarray]:
        outputs: list[np.ndarray] = self.sessions[graph].run(None, inputs)
        return outputs


def session(directory: Path, graph: str, weights: dict[str, np.ndarray]) -> ort.InferenceSession:
    """As ONNX Runtime makes it, without options but for where the weights are."""
    keys = [key for key in weights if key.startswith(f"{graph}/") and not key.endswith(".scale")]
    tensors = [ort.OrtValue.ortvalue_from_numpy(float32(weights, key)) for key in keys]
    options = ort.SessionOptions()
    options.add_external_initializers([key.removeprefix(f"{graph}/") for key in keys], tensors)
    return ort.InferenceSession(directory / f"{graph}.onnx", options, providers=["CPUExecutionProvider"])


async def consume(options: argparse.Namespace, model: Model) -> None:
    async with (
        AIOKafkaConsumer(
            options.topic, bootstrap_servers=options.kafka, group_id="naive", auto_offset_reset="earliest"
        ) as consumer,
        Redis.from_url(options.redis) as redis,
    ):
        async for record in consumer:
            post = decode(record.value)
            if isinstance(post, Post):
                await redis.xadd(options.stream, {"id": post.id, "answer": json.dumps(model.score(post))})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--kafka", "--topic", "--redis", "--stream"):
        parser.add_argument(name, required=True)
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args()
    ort.set_default_logger_severity(3)
    asyncio.run(consume(options, Model(options.model)))


if __name__ == "__main__":
    main()
