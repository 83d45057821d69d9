"""Which posts a report shows, and where their pictures come from."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis

from dashboard.predictions import PredictionsFile
from dashboard.report.examples import SHOWN, pick, pictures
from inference_worker.contract import Prediction, Results
from tests.dashboard.report.folders import LAST
from tests.dashboard.seeding import NOW, Seed, drawing, prediction


def written(folder: Path, predictions: list[Prediction]) -> Path:
    path = folder / "predictions.parquet"
    with PredictionsFile(path) as file:
        for one in predictions:
            file.write(one)
    return path


def post(number: int, sure: float, label: str | None, **chosen: object) -> Prediction:
    fused = (sure, (1 - sure) / 2, (1 - sure) / 2)
    return prediction(number, LAST + timedelta(minutes=number), fused=fused, label=label, **chosen)


def test_the_surest_come_first_and_abstained_ones_by_themselves(tmp_path: Path) -> None:
    found = pick(
        written(
            tmp_path,
            [
                post(1, 0.6, "positive"),
                post(2, 0.9, "positive"),
                post(3, 0.7, "negative"),
                post(4, 0.8, "neutral"),
                post(5, 0.45, "positive", abstained=True),
                post(6, 0.40, None, abstained=True),
                post(7, 0.99, None),
            ],
        )
    )
    assert [one.id for one in found.wrong] == ["sample:4", "sample:3"]
    assert [one.id for one in found.right] == ["sample:2", "sample:1"]
    assert [one.id for one in found.abstained] == ["sample:6", "sample:5"]


def test_a_text_repeated_is_shown_once(tmp_path: Path) -> None:
    again = [post(number, 0.9, "positive", text="RT the same words") for number in range(20)]
    found = pick(written(tmp_path, [*again, post(30, 0.6, "positive", text="others")]))
    assert [one.text for one in found.right] == ["RT the same words", "others"]


def test_posts_are_found_in_whichever_group_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboard.predictions.ROWS_PER_GROUP", 3)
    found = pick(written(tmp_path, [post(number, 0.5 + number / 100, "positive") for number in range(20)]))
    assert [one.id for one in found.right] == [f"sample:{number}" for number in range(19, 19 - SHOWN, -1)]


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    found = pick(written(tmp_path, [post(1, 0.9, "positive", text="long " * 4000)]))
    assert len(found.right[0].shortened) <= 600
    assert found.right[0].shortened.endswith("long…")


def test_pictures_come_from_the_store_unless_they_are_sensitive(seed: Seed, redis: Redis) -> None:
    seed(
        [
            prediction(1, NOW, images=1),
            prediction(2, NOW, images=1, sensitive=True),
            prediction(3, NOW),
        ],
        "airline",
        kind="replay",
    )
    picture_of = pictures(Results(redis, "airline"))
    assert picture_of("sample:1") == drawing("sample:1")
    assert picture_of("sample:2") is None
    assert picture_of("sample:3") is None
    assert picture_of("sample:4") is None
