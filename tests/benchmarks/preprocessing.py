"""What it costs to bring a post to the model's door: processor milliseconds a post, on one core, without fetching.

`ingest`: the picture made safe, topics matched, the record encoded. `worker`: the record decoded, its text tokenised,
its picture unpacked. Pictures are made up, with the spectrum of photographs. Medians over rounds; texts are taken
BATCH at a time, as the worker does.

    python -m tests.benchmarks.preprocessing --json [--quick] [--texts FILE.parquet]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from inference_worker.artifact import load
from inference_worker.predictor import Predictor
from inference_worker.settings import DEFAULT_MODEL
from ingest.contract import Post, decode, encode
from ingest.media.sanitize import make_safe
from ingest.settings import SHIPPED_LIVE_TOPICS
from ingest.topics.definitions import Subject, Topics, TopicsFile
from tests.benchmarks.media import cpu_ms, pictures
from tests.benchmarks.worker.feed import made_up_text, tweets

BATCH: Final = 64
PICTURES: Final = ("JPEG 1200x900", "JPEG 4000x3000")


def through_ingest(topics: Topics, posts: Sequence[Post], picture: bytes | None) -> list[bytes]:
    """Posts as a source gives them → records."""
    records = []
    for post in posts:
        images = (make_safe(picture),) if picture is not None else ()
        matched = topics.match(Subject(post.text, post.lang, None, bool(images)))
        records.append(encode(msgspec.structs.replace(post, images=images, topics=matched)))
    return records


def through_worker(predictor: Predictor, records: Sequence[bytes]) -> None:
    """Records → examples."""
    posts = [post for record in records if isinstance(post := decode(record), Post)]
    for post, encoding in zip(posts, predictor.encode(posts), strict=True):
        predictor.prepare(post, encoding)


def measure(texts: Sequence[str], seconds: float) -> list[dict[str, Any]]:
    predictor, topics = load(DEFAULT_MODEL, engine="null"), TopicsFile(SHIPPED_LIVE_TOPICS).topics
    now = datetime.now(UTC)
    posts = [
        Post(id=f"bench:{number}", source="bench", created_at=now, ingested_at=now, lang="en", text=text)
        for number, text in enumerate(texts)
    ]
    found: list[dict[str, Any]] = []
    made = pictures()
    for kind, picture in (("text", None), *((name, made[name]) for name in PICTURES)):
        batch = posts if picture is None else posts[:1]
        records = through_ingest(topics, batch, picture)
        ingest_ms = cpu_ms(lambda: through_ingest(topics, batch, picture), seconds=seconds) / len(batch)  # noqa: B023
        worker_ms = cpu_ms(lambda: through_worker(predictor, records), seconds=seconds) / len(batch)  # noqa: B023
        found.append({"post": kind, "ingest_ms": ingest_ms, "worker_ms": worker_ms, "both_ms": ingest_ms + worker_ms})
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'cpu ms a post':16} {'ingest':>8} {'worker':>8} {'both':>8}"]
    lines += [f"{row['post']:16} {row['ingest_ms']:8.3f} {row['worker_ms']:8.3f} {row['both_ms']:8.3f}" for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    parser.add_argument("--quick", action="store_true", help="under ten seconds")
    parser.add_argument("--texts", type=Path, help="Parquet file with a column text; made-up texts by default")
    options = parser.parse_args()
    chance = random.Random(7)
    texts = chance.choices(tweets(options.texts), k=BATCH) if options.texts else None
    rows = measure(texts or [made_up_text(chance) for _ in range(BATCH)], 0.5 if options.quick else 4.0)
    print(table(rows), file=sys.stderr)
    if options.json:
        print(json.dumps({"posts": rows}))


if __name__ == "__main__":
    main()
