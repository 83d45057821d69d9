"""One engine in a process of its own, in whichever environment has it: what it takes, and what it says.

    python -m tests.benchmarks.engines.measure --engine NAME --model DIRECTORY --work FILE --seconds S [--threads N]

Prints JSON: milliseconds of a call, best of as many as fit into S seconds; of the mixed feed posts a second and
processor milliseconds a post, the better of two times through; each post's probabilities.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from inference_worker import artifact
from inference_worker.predictor import ImageCache, Predictor
from inference_worker.preprocess import Example
from ingest.contract import Post

TEXTS: Final = (1, 8, 32)
PICTURES: Final = (1, 8)
FUSED: Final = (1, 8)
PASSES: Final = 2


class Work(msgspec.Struct):
    """posts of the mixed feed; batches: places in it, as the worker's batcher would put them together."""

    posts: list[Post]
    batches: list[list[int]]


def predictor(engine: str, directory: Path, threads: int) -> Predictor:
    """Raises ModuleNotFoundError where the engine is not installed."""
    if engine.startswith("torch"):
        importlib.import_module("inference_worker.engines.torch")
    if not engine.startswith("openvino"):
        return artifact.load(directory, engine=engine, threads=threads)
    from tests.benchmarks.engines.openvino_engine import OpenVinoEngine

    loaded = artifact.load(directory, engine="null")
    precision: Any = engine.removeprefix("openvino-")
    loaded.engine = OpenVinoEngine(directory, threads=threads, precision=precision)
    return loaded


def best_ms(call: Callable[[], object], seconds: float) -> float:
    """After one to warm up."""
    call()
    found, ends_s = [], time.perf_counter() + seconds
    while not found or time.perf_counter() < ends_s:
        began_s = time.perf_counter()
        call()
        found.append(time.perf_counter() - began_s)
    return 1000 * min(found)


def calls_ms(ours: Predictor, examples: Sequence[Example], seconds: float) -> dict[str, float]:
    """Texts are of about the median length, as neighbours in a batch are."""
    texts = sorted((one for one in examples if one.lane == "text"), key=lambda one: one.tokens)
    middle = texts[len(texts) // 2 - max(TEXTS) // 2 :]
    both = [one for one in examples if one.lane == "both" and one.images[0].pixels is not None]
    pixels = [one.images[0].pixels for one in both[: max(PICTURES)]]
    pixel_values = ours.preprocessor.normalise([one for one in pixels if one is not None])
    found = {}
    for count in TEXTS:
        mask, ids = _padded(ours, middle[:count])
        found[f"text {count}"] = best_ms(lambda: ours.engine.encode_text(ids, mask), seconds)  # noqa: B023
    for count in PICTURES:
        some = pixel_values[:count]
        found[f"picture {count}"] = best_ms(lambda: ours.engine.encode_image(some), seconds)  # noqa: B023
    for count in FUSED:
        mask, ids = _padded(ours, both[:count])
        text_features, _ = ours.engine.encode_text(ids, mask)
        image_features, _ = ours.engine.encode_image(pixel_values[:count])
        found[f"fusion {count}"] = best_ms(
            lambda: ours.engine.fuse(text_features, mask, image_features),  # noqa: B023
            seconds,
        )
    return found


def _padded(ours: Predictor, examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
    """→ attention_mask, input_ids (B, T)."""
    longest = max(one.tokens for one in examples)
    ids = np.full((len(examples), longest), ours.preprocessor.text.pad_id, np.int64)
    mask = np.zeros_like(ids)
    for row, one in enumerate(examples):
        assert one.text is not None
        ids[row, : one.tokens], mask[row, : one.tokens] = one.text.input_ids, 1
    return mask, ids


def mixed_feed(ours: Predictor, examples: Sequence[Example], batches: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Examples are prepared, pictures not yet encoded."""
    rates, costs_ms, answers = [], [], [(0.0, 0.0, 0.0)] * len(examples)
    for _ in range(PASSES):
        ours.images = ImageCache(ours.images.capacity)
        began_s, cpu_s = time.perf_counter(), time.process_time()
        for batch in batches:
            for place, scores in zip(batch, ours.predict([examples[place] for place in batch]), strict=True):
                answers[place] = scores.fused
        rates.append(len(examples) / (time.perf_counter() - began_s))
        costs_ms.append(1000 * (time.process_time() - cpu_s) / len(examples))
    return {"posts_per_s": max(rates), "cpu_ms_per_post": min(costs_ms), "answers": answers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    work = msgspec.msgpack.decode(options.work.read_bytes(), type=Work)
    try:
        ours = predictor(options.engine, options.model, options.threads)
    except ModuleNotFoundError as error:
        print(json.dumps({"missing": str(error)}))
        return
    examples = [ours.preprocessor.prepare(post) for post in work.posts]
    calls = calls_ms(ours, examples, options.seconds)
    print(json.dumps({"calls_ms": calls, **mixed_feed(ours, examples, work.batches)}))


if __name__ == "__main__":
    main()
