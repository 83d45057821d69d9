import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.judgement import accuracy_interval, judged, macro_f1_interval, macro_recall_interval  # noqa: E402
from training.metrics import softmax  # noqa: E402

pytestmark = pytest.mark.train


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    labels = np.zeros(10, int)
    predicted = np.array([0] * 9 + [1])
    assert accuracy_interval(labels, predicted) == pytest.approx((0.5958, 0.9821), abs=1e-4)


def test_all_right_is_not_certain() -> None:
    labels = np.array([0, 1, 2] * 4)
    assert accuracy_interval(labels, labels) == (pytest.approx(0.7575, abs=1e-4), 1.0)


def test_the_intervals_of_f1_and_recall_are_as_wide_as_other_posts_would_make_it() -> None:
    generator = np.random.default_rng(0)

    def posts() -> tuple[np.ndarray, np.ndarray]:
        labels = generator.choice(3, 450, p=[0.6, 0.1, 0.3])
        return labels, np.where(generator.random(450) < 0.7, labels, generator.integers(0, 3, 450))

    for measure, interval in (("macro_f1", macro_f1_interval), ("macro_recall", macro_recall_interval)):
        told = [interval(*posts(), classes=3) for _ in range(20)]
        found = [judged(labels, np.eye(3)[predicted])[measure] for labels, predicted in (posts() for _ in range(60))]
        assert np.mean([high - low for low, high in told]) == pytest.approx(4 * np.std(found), rel=0.25)


def test_what_is_left_of_a_model_that_abstains() -> None:
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0.7, 0.3, 0], [0.4, 0.6, 0]])
    found = judged(labels, probabilities, abstain_below=0.65)
    assert found["answered"]["rows"] == 3 and found["answered"]["coverage"] == 0.75
    assert found["answered"]["accuracy"] == pytest.approx(2 / 3)
    assert (found["accuracy_at_half_coverage"], found["coverage_at_90_accuracy"]) == (1.0, 0.5)
    assert judged(labels, probabilities, abstain_below=0.95)["answered"]["accuracy"] is None


def test_intervals_hold_what_they_are_of() -> None:
    generator = np.random.default_rng(1)
    labels, probabilities = generator.integers(0, 3, 200), softmax(generator.normal(size=(200, 3)))
    found = judged(labels, probabilities)
    for measure in ("accuracy", "macro_f1"):
        low, high = found[f"{measure}_interval"]
        assert low < found[measure] < high
