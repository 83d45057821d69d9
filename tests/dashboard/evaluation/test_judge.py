from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from dashboard.evaluation import judge as judging
from dashboard.evaluation.judge import judge
from dashboard.evaluation.judgement import BadJudgement, Judgement, read_judgement, write_judgement
from tests.dashboard.evaluation.feeds import NOON, prediction, random_predictions, write


def without_timings(judged: Judgement) -> Judgement:
    return msgspec.structs.replace(judged, performance=None)


def test_a_feed_is_judged_as_a_whole(tmp_path: Path) -> None:
    judged = judge(write(tmp_path, [*random_predictions(600), prediction(600, "neutral", lang="fi")]))
    assert (judged.rows, judged.labelled) == (601, 600)
    assert (judged.first_at, judged.last_at) == (NOON, NOON + timedelta(minutes=600))
    assert judged.models == ["mdse-small 2026-11-22.1"]
    assert sum(judged.predicted.values()) == 601
    assert list(judged.calibration_by_kind) == ["text"]
    assert [curve.name for curve in judged.curves] == ["model", "majority", "bag of words"]
    assert [baseline.name for baseline in judged.baselines] == ["majority", "bag of words"]
    assert [baseline.scores.rows for baseline in judged.baselines] == [600, 600]
    assert judged.baselines[0].model == judged.scores
    assert judged.baselines[1].scores.accuracy.value > judged.baselines[0].scores.accuracy.value


def test_the_same_posts_in_another_order_and_at_another_pace_give_the_same_judgement(tmp_path: Path) -> None:
    rows = random_predictions(700)
    once = judge(write(tmp_path, rows))
    random.Random(3).shuffle(rows)
    again = judge(write(tmp_path, [msgspec.structs.replace(one, scored_at=NOON + timedelta(hours=1)) for one in rows]))
    assert without_timings(once) == without_timings(again)
    assert once.performance != again.performance


def test_late_labels_hold_the_baselines_back(tmp_path: Path) -> None:
    path = write(tmp_path, random_predictions(300))
    at_once, late = judge(path), judge(path, label_delay=timedelta(days=1))
    assert late.label_delay_s == 86_400
    assert late.scores == at_once.scores
    assert late.baselines[1].scores.accuracy.value < at_once.baselines[1].scores.accuracy.value
    assert late.baselines[1].scores.per_class["positive"].precision is None  # neutral is all it says
    assert late.curves[0].points[0].at == at_once.curves[0].points[0].at + timedelta(days=1)


def test_labels_cannot_arrive_before_their_posts(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label delay -1 s: labels cannot arrive before their posts"):
        judge(write(tmp_path, []), label_delay=timedelta(seconds=-1))


def test_a_slow_baseline_says_that_it_saw_only_the_first_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "BAG_OF_WORDS_ROWS", 50)
    majority, words = judge(write(tmp_path, random_predictions(80))).baselines
    assert (majority.is_limited, majority.scores.rows) == (False, 80)
    assert (words.is_limited, words.scores.rows, words.model.rows) == (True, 50, 50)


def test_an_empty_file_is_judged_unknown(tmp_path: Path) -> None:
    judged = judge(write(tmp_path, []))
    assert (judged.rows, judged.first_at, judged.scores.accuracy.value, judged.slices) == (0, None, None, [])
    assert (judged.answered.coverage, judged.calibration.ece, judged.drift.flags) == (None, None, [])


def test_posts_without_labels_are_still_watched(tmp_path: Path) -> None:
    judged = judge(write(tmp_path, [prediction(number) for number in range(600)]))
    assert (judged.labelled, judged.scores.macro_f1.value, judged.calibration_by_kind) == (0, None, {})
    assert [signal.name for signal in judged.drift.signals if signal.points] == [
        *("confidence", "abstained", "positive", "neutral", "negative")
    ]
    assert all(curve.points == [] for curve in judged.curves)


def test_a_judgement_survives_its_file(tmp_path: Path) -> None:
    judged = judge(write(tmp_path, random_predictions(150)))
    write_judgement(tmp_path / "judgement.json", judged)
    assert read_judgement(tmp_path / "judgement.json") == judged
    assert not list(tmp_path.glob("*.part"))


def test_a_newer_judgement_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "judgement.json"
    path.write_bytes(b'{"schema": 2}')
    with pytest.raises(BadJudgement, match="has schema 2, this reads up to 1: upgrade"):
        read_judgement(path)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"schema": 1}', b"\xff"])
def test_a_file_that_is_no_judgement_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "judgement.json"
    path.write_bytes(content)
    with pytest.raises(BadJudgement, match="is no judgement: .*: judge the replay again"):
        read_judgement(path)


def test_a_missing_judgement_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadJudgement, match="No such file or directory: name the judgement.json of a replay"):
        read_judgement(tmp_path / "judgement.json")
