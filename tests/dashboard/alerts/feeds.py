"""Feeds to alert on: the archived one of a real event, the bundled one, and some made up here; all as predictions."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import zstandard

import ingest
from inference_worker.artifact import load
from inference_worker.contract import Distribution, Prediction
from inference_worker.pipeline import prediction_of
from inference_worker.preprocess import Example
from inference_worker.settings import DEFAULT_MODEL
from ingest.contract import Post
from ingest.sources.sample import PASS, SPAN
from ingest.topics.definitions import compile_topics, load_topics
from ingest.topics.reading import Subject
from tests.dashboard.seeding import prediction

SNOWFLAKE_EPOCH_MS = 1_288_834_974_657
BOSTON = "boston"
BOSTON_QUERY = "boston OR marathon OR explosion OR bomb"
START = datetime(2026, 3, 2, tzinfo=UTC)


def boston(folder: Path) -> list[Prediction]:
    """The archived feed, event times from the tweets' ids, tagged by the query; what the model says is made up."""
    topics = compile_topics([(BOSTON, BOSTON_QUERY)])
    with (folder / "boston_2013.csv").open(encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.reader(file))[1:]
    dice = random.Random(2013)
    posts = []
    for number, (quoted, text, _) in enumerate(rows):
        milliseconds = (int(quoted.strip("'")) >> 22) + SNOWFLAKE_EPOCH_MS
        at = datetime.fromtimestamp(milliseconds / 1000, UTC)
        posts.append(made_up(number, at, dice, topics=topics.match(Subject(text=text))))
    return sorted(posts, key=lambda post: post.created_at)


def shuffled(posts: Sequence[Prediction], seed: int) -> list[Prediction]:
    """The same posts, their times dealt out anew: nothing happened, at the same hours of the day."""
    times = [post.created_at for post in posts]
    random.Random(seed).shuffle(times)
    moved = [msgspec.structs.replace(post, created_at=at) for post, at in zip(posts, times, strict=True)]
    return sorted(moved, key=lambda post: post.created_at)


def sample() -> list[Prediction]:
    """The bundled feed as the shipped model scores it."""
    package = Path(str(ingest.__file__ or ingest.__path__[0]))
    folder = package.parent if package.is_file() else package
    packed = (folder / "sample" / "posts.jsonl.zst").read_bytes()
    lines = zstandard.ZstdDecompressor().stream_reader(packed).read()
    posts = [msgspec.json.decode(line, type=Post) for line in lines.splitlines()]
    topics = load_topics(folder / "topics.toml")
    predictor = load(DEFAULT_MODEL)
    lanes: dict[str, list[tuple[Post, Example]]] = {}
    for post in posts:
        example = predictor.prepare(post)
        lanes.setdefault(example.lane, []).append((post, example))
    scored = []
    for members in lanes.values():
        for low in range(0, len(members), 16):
            chunk = members[low : low + 16]
            scores = predictor.predict([example for _, example in chunk])
            for (post, example), said in zip(chunk, scores, strict=True):
                text = "\n".join((post.text, *(image.alt for image in post.images)))
                topics_of_post = topics.match(Subject(text=text, lang=post.lang, has_images=bool(post.images)))
                tagged = msgspec.structs.replace(post, topics=topics_of_post)
                scored.append(prediction_of(tagged, example, said, post.created_at, predictor))
    return sorted(scored, key=lambda post: post.created_at)


def made_up(number: int, at: datetime, dice: random.Random, *, lean: float = 0.05, **chosen: object) -> Prediction:
    """A post whose mood is drawn around `lean`."""
    score = max(-0.95, min(0.95, dice.gauss(lean, 0.5)))
    neutral = round((1 - abs(score)) * 0.5, 3)
    positive = round((1 - neutral + score) / 2, 3)
    fused: Distribution = (positive, neutral, round(1 - neutral - positive, 3))
    return prediction(number, at, fused=fused, abstained=dice.random() < 0.3, **chosen)


def steady(
    minutes: int,
    per_minute: float,
    *,
    topic: str = "tram",
    start: datetime = START,
    seed: int = 1,
    burst: tuple[int, int, float] | None = None,
    swing: tuple[int, int, float] | None = None,
) -> list[Prediction]:
    """Poisson posts; `burst` = (first, last, times as many) minutes, `swing` = (first, last, lean) minutes."""
    dice = random.Random(seed)
    posts: list[Prediction] = []
    at = 0.0
    while True:
        in_burst = burst is not None and burst[0] <= at < burst[1]
        at += dice.expovariate(per_minute * (burst[2] if burst is not None and in_burst else 1.0))
        if at >= minutes:
            return posts
        lean = swing[2] if swing is not None and swing[0] <= at < swing[1] else 0.2
        posts.append(made_up(len(posts), start + timedelta(minutes=at), dice, lean=lean, topics=(topic,)))


def looped(posts: Sequence[Prediction], begin: datetime, passes: int) -> list[Prediction]:
    """The bundled feed as its source plays it: three hours in ten minutes, over and over, with new ids."""
    first = posts[0].created_at
    return [
        msgspec.structs.replace(
            post,
            id=f"sample:{number}-{post.id.removeprefix('sample:')}",
            created_at=begin + number * PASS + (post.created_at - first) * (PASS / SPAN),
        )
        for number in range(passes)
        for post in posts
    ]
