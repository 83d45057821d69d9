from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.evaluation.conditions import BadCondition, Condition, failures, parse_condition
from dashboard.evaluation.judge import judge
from tests.dashboard.evaluation.feeds import prediction, write


def test_a_condition_names_a_figure_and_a_limit() -> None:
    assert parse_condition("macro_f1=0.70") == Condition("macro_f1", 0.7)
    assert parse_condition(" ece = .05 ") == Condition("ece", 0.05)


def test_an_unknown_figure_is_refused_with_the_known_ones() -> None:
    known = "accuracy, macro_f1, weighted_f1, coverage, accuracy_answered, ece"
    with pytest.raises(BadCondition, match=f"condition 'f1=0.7': no figure 'f1': use one of {known}"):
        parse_condition("f1=0.7")


@pytest.mark.parametrize("text", ["accuracy", "accuracy=", "accuracy=high", "accuracy=70", "accuracy=nan"])
def test_a_limit_that_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(BadCondition, match="is no number from 0 to 1: write accuracy=0.70"):
        parse_condition(text)


def test_only_what_is_not_met_fails_and_ece_is_an_upper_bound(tmp_path: Path) -> None:
    rows = [prediction(1, "positive", "positive"), prediction(2, "positive", "negative", abstained=True)]
    judged = judge(write(tmp_path, rows))
    asked = ["accuracy=0.5", "accuracy=0.51", "coverage=0.5", "accuracy_answered=1", "ece=0.05", "ece=0.2"]
    assert [str(one) for one in failures(judged, [parse_condition(text) for text in asked])] == [
        "accuracy is 0.5000: at least 0.51 was asked for",
        "ece is 0.1000: at most 0.05 was asked for",
    ]


def test_without_labels_no_condition_is_met(tmp_path: Path) -> None:
    judged = judge(write(tmp_path, [prediction(1)]))
    found = failures(judged, [parse_condition("macro_f1=0"), parse_condition("ece=1")])
    assert [str(one) for one in found] == [
        "macro_f1 is unknown, no post carries a label: at least 0 was asked for",
        "ece is unknown, no post carries a label: at most 1 was asked for",
    ]
