"""The bare engine in a process of its own: what there is to be had without Kafka, Redis and an event loop.

`engine`: predictor.predict on batches made beforehand by the worker's own batcher, posts prepared (decoded, tokenised,
pictures unpacked) before the clock starts: padding, graphs, softmax and explanation maps, the cache of pictures. It is
given as many batches at a time as it takes; their limits are those of MOODSTREAM_BATCH_*.
`whole`: from MessagePack on; the next PREPARED posts are prepared in a second thread while the engine works.
`single`: milliseconds of each post alone, from MessagePack on.

    python -m tests.benchmarks.worker.ceiling --model DIRECTORY --feed FILE --first N --count N [--single]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from inference_worker import artifact
from inference_worker.batcher import Batch, Batcher, Item
from inference_worker.predictor import ImageCache, Predictor
from inference_worker.preprocess import Example
from inference_worker.settings import Settings
from ingest.contract import Post, decode, encode
from tests.benchmarks.worker import feed
from tests.benchmarks.worker.gpu_usage import GpuUsage

PREPARED: Final = 256
REPEATS: Final = 3
"""Of a single post; the median counts."""


def prepare(predictor: Predictor, records: Sequence[bytes]) -> list[Example]:
    posts = [post for record in records if isinstance(post := decode(record), Post)]
    encodings = predictor.encode(posts)
    return [predictor.prepare(post, encoding) for post, encoding in zip(posts, encodings, strict=True)]


async def cut(examples: Sequence[Example], max_padding: float) -> list[Batch[Example]]:
    """All of them in the worker's batches."""
    settings = Settings.from_env()
    batcher: Batcher[Example] = Batcher(
        max_items=settings.batch_items,
        max_tokens=settings.batch_tokens,
        max_images=settings.batch_images,
        max_padding=max_padding,
    )
    for number, example in enumerate(examples):
        batcher.put(Item(example, b"%d" % number, example.lane, example.tokens, len(example.images), float(number)))
    batches = []
    while len(batcher):
        batches.append(batch := await batcher.take())
        batcher.scored(batch)
        batcher.finish(batch.items)
    return batches


def score(predictor: Predictor, batches: Sequence[Batch[Example]]) -> None:
    with ThreadPoolExecutor(predictor.concurrency) as threads:
        for _ in threads.map(predictor.predict, [[item.payload for item in batch.items] for batch in batches]):
            pass


def forget_pictures(predictor: Predictor) -> None:
    predictor.images = ImageCache(predictor.images.capacity)


def bare_engine(predictor: Predictor, records: Sequence[bytes]) -> dict[str, Any]:
    forget_pictures(predictor)
    batches = asyncio.run(cut(prepare(predictor, records), predictor.max_padding))
    with GpuUsage() as gpu:
        began_s, cpu_s = time.perf_counter(), time.process_time()
        score(predictor, batches)
        wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    return {
        "throughput_posts_per_s": len(records) / wall_s,
        "cpu_ms_per_post": 1000 * cpu_s / len(records),
        "batch_size_mean": len(records) / len(batches),
        "pad_waste": 1 - sum(batch.tokens for batch in batches) / sum(batch.padded_tokens for batch in batches),
        **gpu.found,
    }


def with_preparation(predictor: Predictor, records: Sequence[bytes]) -> dict[str, float]:
    forget_pictures(predictor)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(1) as thread:
        for examples in thread.map(lambda chunk: prepare(predictor, chunk), _chunks(records)):
            score(predictor, asyncio.run(cut(examples, predictor.max_padding)))
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    return {"throughput_posts_per_s": len(records) / wall_s, "cpu_ms_per_post": 1000 * cpu_s / len(records)}


def _chunks(records: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [records[start : start + PREPARED] for start in range(0, len(records), PREPARED)]


def one_by_one(predictor: Predictor, records: Sequence[bytes]) -> list[float]:
    """Milliseconds of each, alone."""
    found = []
    for record in records:
        taken = []
        for _ in range(REPEATS):
            forget_pictures(predictor)
            began_s = time.perf_counter()
            predictor.predict(prepare(predictor, [record]))
            taken.append(time.perf_counter() - began_s)
        found.append(1000 * statistics.median(taken))
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    predictor = artifact.load(options.model, engine=options.engine)
    records = [encode(post) for post in feed.read(options.feed, options.first, options.count)]
    one_by_one(predictor, records[:8])
    return {
        "engine": bare_engine(predictor, records),
        "whole": with_preparation(predictor, records),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--engine", default=Settings.engine)
    parser.add_argument("--feed", type=Path, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--single", action="store_true", help="post by post alone")
    options = parser.parse_args()
    if options.single:
        predictor = artifact.load(options.model, engine=options.engine)
        posts = feed.read(options.feed, options.first, options.count)
        print(json.dumps(one_by_one(predictor, [encode(post) for post in posts])))
    else:
        print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
