from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training import seeds  # noqa: E402
from training.metrics import softmax  # noqa: E402

pytestmark = pytest.mark.train


def runs(number: int, rows: int = 300) -> tuple[np.ndarray, list[np.ndarray]]:
    """Each is right by chance of its own, so together they are right more often."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, rows)
    return labels, [softmax(np.eye(3)[labels] + generator.normal(size=(rows, 3))) for _ in range(number)]


def test_mean_and_deviation_are_of_the_runs_and_the_ensemble_is_of_their_mean() -> None:
    labels, five = runs(5)
    found = seeds.summary(labels, five)
    accuracies = [(one.argmax(-1) == labels).mean() for one in five]
    assert found["mean"]["accuracy"] == pytest.approx(np.mean(accuracies))
    assert found["deviation"]["accuracy"] == pytest.approx(np.std(accuracies, ddof=1))
    assert found["ensemble"]["accuracy"] == (np.mean(five, axis=0).argmax(-1) == labels).mean()
    assert found["ensemble"]["accuracy"] > max(accuracies)
    assert [run["accuracy"] for run in found["runs"]] == pytest.approx(accuracies)


def test_five_runs_that_are_one_tell_what_one_tells() -> None:
    labels, (one,) = runs(1)
    found = seeds.summary(labels, [one] * 5)
    alone = seeds.summary(labels, [one])
    assert found["mean"] == pytest.approx(alone["mean"]) and set(found["deviation"].values()) == {0.0}
    assert found["pooled"]["ece_debiased"] == pytest.approx(alone["pooled"]["ece_debiased"], abs=0.02)
    assert found["pooled"]["ece_if_perfect"] == pytest.approx(alone["pooled"]["ece_if_perfect"], abs=0.01)


def test_the_table_has_a_row_for_the_seeds_and_one_for_the_ensemble() -> None:
    labels, five = runs(5)
    found = {"mvsa_single test, both": seeds.summary(labels, five)}
    header, rule, mean, ensemble = seeds.markdown(found).splitlines()
    assert header.count("|") == rule.count("|") == mean.count("|") == ensemble.count("|")
    assert mean.startswith("| mvsa_single test, both (300) | 5 seeds | ") and "±" in mean
    assert ensemble.startswith(
        f"|  | ensemble | {100 * found['mvsa_single test, both']['ensemble']['accuracy']:.1f} | "
    )


def test_a_checkpoint_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "best.pt"
    with pytest.raises(seeds.BadConfig, match="best.pt .*give best.pt of a run of python -m training train"):
        seeds.answers(missing, [], [], {})
