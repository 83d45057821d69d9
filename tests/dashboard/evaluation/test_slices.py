from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from dashboard.evaluation.judgement import Slice
from dashboard.evaluation.slices import slices
from inference_worker.contract import Prediction
from tests.dashboard.evaluation.feeds import NOON, feed_of, prediction


def by_value(folder: Path, rows: list[Prediction], dimension: str) -> dict[str, Slice]:
    return {one.value: one for one in slices(feed_of(folder, rows)) if one.dimension == dimension}


def test_modality_tells_what_the_model_had_to_go_by(tmp_path: Path) -> None:
    rows = [
        prediction(1, "positive", "positive"),
        prediction(2, "positive", "negative", has_image=True),
        prediction(3, "positive", "positive", text="", has_image=True),
        prediction(4, text=""),
    ]
    found = by_value(tmp_path, rows, "modality")
    assert {value: (one.rows, one.labelled, one.accuracy.value) for value, one in found.items()} == {
        "text": (1, 1, 1.0),
        "both": (1, 1, 0.0),
        "image": (1, 1, 1.0),
        "none": (1, 0, None),
    }


def test_languages_are_told_apart_without_their_regions(tmp_path: Path) -> None:
    rows = [prediction(1, lang="en-GB"), prediction(2, lang="EN"), prediction(3, lang="fi"), prediction(4)]
    found = by_value(tmp_path, rows, "language")
    assert {value: one.rows for value, one in found.items()} == {"en": 2, "fi": 1, "unknown": 1}


def test_the_rarest_sources_are_taken_together(tmp_path: Path) -> None:
    rows = [prediction(number, source=f"s{number // 2:02d}") for number in range(28)]
    found = by_value(tmp_path, rows, "source")
    assert list(found) == [*(f"s{number:02d}" for number in range(12)), "others"]
    assert found["others"].rows == 4


def test_lengths_and_confidences_fall_into_bands(tmp_path: Path) -> None:
    rows = [
        prediction(1, text="", confidence=0.4),
        prediction(2, text="x" * 40, confidence=0.5),
        prediction(3, text="x" * 41, confidence=0.95),
        prediction(4, text="x" * 281, confidence=0.65),
    ]
    assert list(by_value(tmp_path, rows, "length")) == ["0", "1-40", "41-80", "281+"]
    assert list(by_value(tmp_path, rows, "confidence")) == ["< 50%", "50%-60%", "60%-70%", "90%+"]


def test_days_turn_into_months_where_there_are_too_many(tmp_path: Path) -> None:
    rows = [prediction(number, at=NOON + timedelta(days=number)) for number in range(31)]
    assert list(by_value(tmp_path, rows, "event day"))[0] == "2026-03-01"
    rows.append(prediction(31, at=NOON + timedelta(days=31)))
    assert list(by_value(tmp_path, rows, "event day")) == ["2026-03", "2026-04"]


def test_coverage_and_confidence_are_of_all_rows_of_a_slice(tmp_path: Path) -> None:
    rows = [prediction(1, confidence=0.8), prediction(2, confidence=0.4, abstained=True)]
    found = by_value(tmp_path, rows, "modality")["text"]
    assert (found.coverage, found.mean_confidence, found.labelled) == (0.5, pytest.approx(0.6), 0)


def test_the_worst_slice_is_marked_unless_it_is_too_small_or_merely_unsure(tmp_path: Path) -> None:
    rows = [prediction(number, "positive", "positive", confidence=0.9) for number in range(60)]
    rows += [prediction(100 + number, "positive", "negative", lang="fi") for number in range(50)]
    rows += [prediction(200 + number, "positive", "negative", lang="sv") for number in range(49)]
    found = [one for one in slices(feed_of(tmp_path, rows)) if one.is_worst]
    assert [(one.dimension, one.value, one.macro_f1) for one in found] == [("language", "fi", 0.0)]


def test_without_enough_labels_no_slice_is_the_worst(tmp_path: Path) -> None:
    assert not any(one.is_worst for one in slices(feed_of(tmp_path, [prediction(1, "positive", "negative")])))
