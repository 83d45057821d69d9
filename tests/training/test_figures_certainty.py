import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.config import BadConfig  # noqa: E402
from training.figures.certainty import (  # noqa: E402
    Answers,
    artifact_answers,
    bins_of,
    coverage,
    curve_of,
    reliability,
)
from training.figures.drawing import Figure, write  # noqa: E402

pytestmark = pytest.mark.train


@pytest.fixture
def answers() -> Answers:
    """A hundred posts, surer and surer; the least sure forty are wrong."""
    confidence = np.linspace(0.4, 0.9, 100)
    probabilities = np.stack([confidence, (1 - confidence) / 2, (1 - confidence) / 2], axis=1)
    return Answers("made up", np.where(np.arange(100) < 40, 1, 0), probabilities)


def test_bins_hold_as_many_posts_each(answers: Answers) -> None:
    found = bins_of(answers.labels, answers.probabilities)
    assert [one["rows"] for one in found] == [10] * 10
    assert [one["accuracy"] for one in found] == [0.0] * 4 + [1.0] * 6
    assert found[0]["low"] == 0.0 and found[0]["high"] == pytest.approx(0.2775, abs=1e-3)
    assert found[9]["confidence"] == pytest.approx(np.linspace(0.4, 0.9, 100)[90:].mean())


def test_the_curve_goes_from_the_surest_to_all(answers: Answers) -> None:
    found = curve_of(answers.labels, answers.probabilities)
    assert found[0] == (0.05, 1.0) and found[-1] == (1.0, pytest.approx(0.6))
    assert dict(found)[0.6] == 1.0


@pytest.mark.parametrize("draw", [reliability, coverage])
def test_every_input_kind_is_drawn_and_told(
    draw: Callable[[dict[str, Answers]], Figure],
    answers: Answers,
    rows_of: Callable[[Figure], list[list[dict[str, Any]]]],
    tmp_path: Path,
) -> None:
    figure = draw({"both": answers, "text": answers._replace(told="tweets", labels=1 - answers.labels)})
    assert figure.caption[-1] == "both: made up, 100 posts; text: tweets, 100 posts."
    assert sum(len(rows) for rows in rows_of(figure)) > 20
    png, svg = write(figure, tmp_path)
    assert png.stat().st_size > 10_000 and "made up" in svg.read_text()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"artifact": None, "mvsa": Path("x"), "tweets": None}, "give --artifact DIR and --mvsa, --tweets or both"),
        ({"artifact": Path("x"), "mvsa": None, "tweets": None}, "give --artifact DIR and --mvsa, --tweets or both"),
        ({"artifact": Path("nowhere"), "mvsa": Path("x"), "tweets": None}, "nowhere/artifact.json.*an export wrote"),
    ],
)
def test_what_is_lacking_is_named(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadConfig, match=problem):
        artifact_answers(argparse.Namespace(**given, split="validation"))
