from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import f1_score

from dashboard.evaluation.comparison import NothingShared, compare, mcnemar
from inference_worker.contract import LABELS
from ingest.contract import Label
from tests.dashboard.evaluation.feeds import prediction, random_predictions, write


def test_mcnemar_equals_a_direct_sum_over_the_binomial() -> None:
    first = np.array([True] * 12 + [False] * 5 + [True] * 30)
    second = np.array([False] * 12 + [True] * 5 + [True] * 30)
    found = mcnemar(first, second)
    direct = 2 * sum(binom.pmf(count, 17, 0.5) for count in range(6))
    assert (found.only_first_right, found.only_second_right) == (12, 5)
    assert found.p_value == pytest.approx(direct)


def test_runs_that_never_differ_in_rightness_are_told_apart_by_nothing() -> None:
    assert mcnemar(np.array([True, False]), np.array([True, False])).p_value == 1.0


def test_a_comparison_equals_a_direct_computation(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    truth: list[Label] = [LABELS[at] for at in generator.integers(0, 3, 300)]
    calls: list[list[Label]] = [
        [label if generator.random() < skill else LABELS[generator.integers(3)] for label in truth]
        for skill in (0.5, 0.65)
    ]
    paths = [
        write(
            tmp_path,
            [prediction(number, called[number], truth[number]) for number in generator.permutation(300).tolist()],
            f"{name}.parquet",
        )
        for name, called in zip(("first", "second"), calls, strict=True)
    ]
    found = compare(*paths)
    labels, one, two = (np.array(words) for words in (truth, *calls))
    only_one, only_two = int(((one == labels) & (two != labels)).sum()), int(((two == labels) & (one != labels)).sum())
    macro = f1_score(labels, two, average="macro") - f1_score(labels, one, average="macro")
    assert found.shared == 300
    assert (found.mcnemar.only_first_right, found.mcnemar.only_second_right) == (only_one, only_two)
    assert found.accuracy_difference.value == pytest.approx((only_two - only_one) / 300)
    assert found.macro_f1_difference.value == pytest.approx(macro)
    assert found.disagreeing == int((one != two).sum())
    assert found.both_right + found.both_wrong + only_one + only_two == 300
    rows = np.random.default_rng(9).integers(0, 300, (4000, 300))
    gained = (two == labels).astype(int) - (one == labels).astype(int)
    low, high = np.percentile(gained[rows].mean(axis=1), [2.5, 97.5])
    assert (found.accuracy_difference.low, found.accuracy_difference.high) == pytest.approx((low, high), abs=0.01)


def test_disagreements_say_who_was_right_surest_first(tmp_path: Path) -> None:
    first = [
        prediction(1, "positive", "positive"),
        prediction(2, "positive", "negative", confidence=0.9),
        prediction(3, "positive", "neutral", confidence=0.5),
        prediction(4, "neutral", "neutral"),
    ]
    second = [
        prediction(1, "negative", "positive"),
        prediction(2, "negative", "negative", confidence=0.8),
        prediction(3, "negative", "neutral", confidence=0.5),
        prediction(4, "neutral", "neutral"),
    ]
    found = compare(write(tmp_path, first, "first.parquet"), write(tmp_path, second, "second.parquet"))
    assert [(one.id, one.right, one.text) for one in found.disagreements] == [
        ("csv:2", "second", "post 2"),
        ("csv:1", "first", "post 1"),
        ("csv:3", "neither", "post 3"),
    ]
    both = {(one.dimension, one.value): (one.rows, one.first, one.second) for one in found.slices}
    assert both["modality", "text"] == (4, 0.5, 0.5)


def test_only_posts_labelled_alike_in_both_runs_are_compared(tmp_path: Path) -> None:
    first = [prediction(1, label="positive"), prediction(2, label="neutral"), prediction(3, label="positive")]
    second = [prediction(1, label="positive"), prediction(2, label="negative"), prediction(3), prediction(4)]
    found = compare(write(tmp_path, first, "first.parquet"), write(tmp_path, second, "second.parquet"))
    assert (found.shared, found.relabelled, found.only_first, found.only_second) == (1, 1, 1, 0)


def test_a_comparison_is_the_same_every_time(tmp_path: Path) -> None:
    paths = [write(tmp_path, random_predictions(200, seed=seed), f"{seed}.parquet") for seed in (1, 1)]
    assert compare(*paths) == compare(*paths)


def test_runs_that_share_no_labelled_post_are_refused(tmp_path: Path) -> None:
    first, second = write(tmp_path, [prediction(1, label="positive")], "a.parquet"), write(tmp_path, [], "b.parquet")
    with pytest.raises(NothingShared, match=r"a.parquet and .*b.parquet share no labelled post: compare two replays"):
        compare(first, second)
