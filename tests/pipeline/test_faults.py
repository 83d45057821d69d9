"""Workers killed and stopped, and garbage on the topic: nothing is lost, nothing counts twice, nothing stops."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from hashlib import sha256
from io import BytesIO

import msgspec
import pytest
from PIL import Image as PillowImage

from ingest.contract import SCHEMA_VERSION, Image, Post, encode
from tests.pipeline.conftest import Pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

TAKEN_OVER_WITHIN_S = 15.0
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def post(name: str, text: str = "what a lovely day", *images: bytes) -> Post:
    return Post(
        id=f"test:{name}",
        source="test",
        created_at=NOW,
        ingested_at=datetime.now(UTC),
        text=text,
        images=tuple(
            Image(jpeg=data, sha256=sha256(data).digest(), phash=bytes(32), width=64, height=64) for data in images
        ),
    )


def picture(width: int, height: int, kind: str) -> bytes:
    packed = BytesIO()
    PillowImage.new("RGB" if kind == "JPEG" else "L", (width, height), 200).save(packed, kind)
    return packed.getvalue()


def test_a_worker_killed_at_work_leaves_nothing_out(pipeline: Pipeline) -> None:
    posts = [post(f"{number}", f"post number {number} of many") for number in range(1200)]
    worker = pipeline.start_worker()
    pipeline.wait_for_worker()
    pipeline.send_fast(posts, run="killed")
    pipeline.until(lambda: pipeline.settled("killed") > 100, "some are settled", 60)
    worker.child.kill()
    pipeline.start_worker()
    counts = pipeline.wait_until_settled("killed", len(posts))
    assert counts["scored"] == len(posts)
    assert counts.get("duplicates", 0) == 0
    assert pipeline.results.total("all").posts == len(posts)


def test_a_killed_workers_partitions_are_taken_over_within_15_s(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOODSTREAM_ENGINE", "null")
    worker, _ = pipeline.start_worker(), pipeline.start_worker()
    pipeline.until(lambda: len(pipeline.results.workers()) == 2, "both have partitions", 90)
    posts = [post(f"{number}", f"post number {number} of many") for number in range(800)]
    pipeline.send_fast(posts[:400], run="taken-over")
    worker.child.kill()
    pipeline.send_fast(posts[400:], run="taken-over")
    counts = pipeline.wait_until_settled("taken-over", len(posts), TAKEN_OVER_WITHIN_S)
    assert counts["scored"] == pipeline.results.total("all").posts == len(posts)


def test_sigterm_drains_and_exits_with_zero(pipeline: Pipeline) -> None:
    posts = [post(f"{number}", f"post number {number} of many") for number in range(1200)]
    worker = pipeline.start_worker()
    pipeline.wait_for_worker()
    pipeline.send_fast(posts, run="drained")
    pipeline.until(lambda: pipeline.settled("drained") > 100, "some are settled", 60)
    assert pipeline.stop_worker(worker) == 0
    pipeline.start_worker()
    counts = pipeline.wait_until_settled("drained", len(posts))
    assert counts["scored"] == len(posts)
    assert counts.get("redelivered", 0) == 0  # what was in flight was finished and committed
    assert pipeline.results.total("all").posts == len(posts)


def test_garbage_on_the_topic_stops_nothing(pipeline: Pipeline) -> None:
    jpeg, huge = picture(320, 240, "JPEG"), picture(8000, 5000, "PNG")
    newer = msgspec.msgpack.encode({**msgspec.msgpack.decode(encode(post("newer"))), "schema": SCHEMA_VERSION + 1})
    dead = [
        random.Random(5).randbytes(500),
        b"",
        None,
        newer,
        post("empty", ""),
        post("only-truncated", "", jpeg[: len(jpeg) // 2]),
        post("only-huge", "", huge),
    ]
    scored = [
        post("truncated", "nice view", jpeg[: len(jpeg) // 2]),
        post("huge", "nice view", huge),
        post("long", "a very long story " * 1112),
        post("binary", "\x00\ud7ff\U0001f600\u202e mixed"),
    ]
    good = [post(f"good-{number}", "what a lovely day", jpeg) for number in range(20)]
    pipeline.start_worker()
    pipeline.wait_for_worker()
    mixed = [*good[:5], *dead, *scored, *good[5:]]
    pipeline.send(mixed, run="garbage")
    counts = pipeline.wait_until_settled("garbage", len(mixed), 60)
    assert (counts["scored"], counts["dead_letters"]) == (len(scored) + len(good), len(dead))
    by_id = {prediction.id: prediction for prediction in pipeline.predictions()}
    assert set(by_id) == {one.id for one in [*scored, *good]}
    for name in ("truncated", "huge", "long"):
        assert by_id[f"test:{name}"].warnings, name
    assert not any(by_id[one.id].warnings for one in good)
    letters = pipeline.results.dead_letters()
    assert len(letters) == len(dead)
    assert any("newer" in letter.error or "schema" in letter.error for letter in letters)
    assert all(letter.error for letter in letters)
