"""Pages with far more than they can show: 40 topics, 400,000 posts in the rollups, 3,000 retained, long histories.

Now, Trends and Posts have such tests of their own.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import pytest
from redis import Redis
from streamlit.testing.v1 import AppTest

from dashboard.alerts.history import Alert, Check, active_alerts, latest_alerts
from dashboard.alerts.history import Keys as AlertKeys
from dashboard.alerts.rules import SHIPPED, load_rules
from inference_worker.contract import ALL, BUCKET_S, SPAN_S, Counters, Keys, Level
from tests.benchmarks.dashboard import counters_of
from tests.dashboard.opening import open_page, run
from tests.dashboard.report.folders import BEGAN, judged, posts, write_folder
from tests.dashboard.seeding import Seed, Server, prediction, worker_state

TOPICS: Final = tuple(f"topic {number:02d}" for number in range(40))
POSTS, RETAINED = 400_000, 3_000
PATIENCE_S: Final = 10.0
"""A page drawn for the first time, on a machine busy with other tests."""


def fill(redis: Redis, until: datetime) -> None:
    """A day of hours and minutes of 40 topics, in the packed format of the store."""
    dice, pack = random.Random(7), msgspec.msgpack.encode
    keys, pipeline = Keys("live", 0), redis.pipeline(transaction=False)
    sums: dict[tuple[Level, int, str, int], Counters] = {}
    for ago in range(1, 25 * 6):
        at = int(until.timestamp()) // 60 * 60 - 600 * ago
        for topic in (*TOPICS, ALL):
            share = counters_of(POSTS // 149 // (1 if topic == ALL else len(TOPICS)), dice)
            for level in ("minute", "hour", "day"):
                place = (level, at // SPAN_S[level], topic, at % SPAN_S[level] // BUCKET_S[level])
                known = sums.get(place)
                sums[place] = share.plus(known) if known else share
    for (level, span, topic, field), counters in sums.items():
        pipeline.hset(keys.rollup(level, span, topic), str(field), pack(list(counters)))
    pipeline.sadd(keys.topics, *TOPICS, ALL)
    pipeline.execute()


@pytest.fixture
def crowded(redis: Redis, seed: Seed) -> None:
    now, dice = datetime.now(UTC), random.Random(3)
    fill(redis, now)
    words = [f"word{number}" for number in range(2_000)]
    retained = [
        prediction(
            number,
            now - timedelta(seconds=2.3 * (RETAINED - number)),
            text=" ".join([*dice.choices(words, k=20), f"#tag{number % 300}"]),
            topics=(TOPICS[number % len(TOPICS)],),
            author=f"{number % 900:04x}",
            fused=(0.1, 0.1, 0.8) if number % 3 else (0.8, 0.1, 0.1),
        )
        for number in range(RETAINED)
    ]
    seed(retained, shards=1, dead_letters=500, worker=worker_state())


def opened(name: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> tuple[AppTest, str, float]:
    page = open_page(name, server.url, monkeypatch)
    began = time.perf_counter()
    return page, run(page), time.perf_counter() - began


@pytest.mark.usefixtures("crowded")
def test_why_reads_thousands_of_posts_and_shows_the_strongest(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    page = open_page("why", server.url, monkeypatch)
    page.query_params["window"] = "1h"
    began = time.perf_counter()
    html = run(page)
    assert time.perf_counter() - began < PATIENCE_S
    assert "posts read" in html
    assert len(html) < 300_000


@pytest.mark.usefixtures("crowded")
def test_topics_lists_all_of_forty_and_tries_a_query_on_thousands(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = open_page("topics", server.url, monkeypatch)
    path = tmp_path / "topics.toml"
    path.write_text("\n".join(f'[[topic]]\nname = "{name}"\nquery = "word{n}"\n' for n, name in enumerate(TOPICS)))
    monkeypatch.setenv("MOODSTREAM_TOPICS", str(path))
    page.query_params["topic"] = TOPICS[7]
    began = time.perf_counter()
    html = run(page)
    assert time.perf_counter() - began < PATIENCE_S
    assert html.count('class="ms-topic-row') == len(TOPICS)
    assert "retained posts match" in html


def alert(number: int, opened_at: datetime, *, is_active: bool) -> Alert:
    return Alert(
        id=f"alert-{number}",
        namespace="live",
        rule="Volume spike",
        kind="volume",
        topic=TOPICS[number % len(TOPICS)],
        opened_at=opened_at,
        updated_at=opened_at,
        peak_at=opened_at,
        window_min=5,
        observed=90.0,
        expected=12.0,
        strength=9.0,
        p=1e-9,
        direction="up",
        sample=90,
        sentence=f"alert number {number}",
        link=f"trends?namespace=live&topics={TOPICS[number % len(TOPICS)].replace(' ', '+')}",
        closed_at=None if is_active else opened_at + timedelta(minutes=9),
    )


def seen(rule: str, topic: str, at: datetime) -> Check:
    return Check(
        rule=rule, topic=topic, at=at, window_min=5, observed=9.0, expected=8.0, strength=0.4, threshold=4.0, sample=9
    )


@pytest.mark.usefixtures("crowded")
def test_alerts_of_a_long_history_are_readable(server: Server, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    keys, now = AlertKeys("live"), datetime.now(UTC)
    pipeline = redis.pipeline(transaction=False)
    for number in range(3_000):
        one = alert(number, now - timedelta(minutes=10 * number), is_active=number < 30)
        pipeline.hset(keys.alerts, one.id, msgspec.msgpack.encode(one))
        pipeline.zadd(keys.by_time, {one.id: one.opened_at.timestamp()})
        if one.is_active:
            pipeline.sadd(keys.active, one.id)
    for rule in load_rules(SHIPPED):
        for topic in TOPICS:
            pipeline.hset(keys.checks, f"{rule.name}-{topic}", msgspec.msgpack.encode(seen(rule.name, topic, now)))
    pipeline.execute()
    assert len(active_alerts(redis, "live")) == 30 and len(latest_alerts(redis, "live", 200)) == 200
    _, html, took_s = opened("alerts", server, monkeypatch)
    assert took_s < PATIENCE_S
    assert html.count("ms-alert ms-active") == 30
    assert len(html) < 400_000


def test_runs_lists_two_hundred_and_shows_one(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    predictions = posts(60)
    judgement = judged(predictions)
    for number in range(200):
        began = BEGAN + timedelta(hours=number)
        write_folder(tmp_path / f"run-{number:03d}", predictions, judgement, started_at=began)
    monkeypatch.setenv("MOODSTREAM_RUNS", str(tmp_path))
    _, html, took_s = opened("runs", server, monkeypatch)
    assert took_s < PATIENCE_S
    assert html.count("<tr") >= 201
    assert "run-199" in html


@pytest.mark.usefixtures("crowded")
def test_health_shows_the_newest_of_many_dead_letters(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    page, html, took_s = opened("health", server, monkeypatch)
    assert took_s < PATIENCE_S
    assert "worker-1" in html
    assert len(page.dataframe[0].value) == 100
