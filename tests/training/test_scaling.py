import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.metrics import softmax  # noqa: E402
from training.scaling import compare, scaled_out_of_fold, surprise  # noqa: E402

pytestmark = pytest.mark.train


def test_each_scaling_finds_what_was_done_to_the_logits_and_the_richer_ones_no_more_where_it_was_a_temperature() -> (
    None
):
    generator = np.random.default_rng(0)
    true = generator.normal(size=(400, 3)) * 2
    labels = (generator.random(400)[:, None] > softmax(true).cumsum(-1)).sum(-1).clip(max=2)
    best = surprise(labels, softmax(true)).mean()
    bias, weights = np.array([3.0, 0.0, -3.0]), np.array([1.0, 2.0, 0.5])
    found = {
        (done, name): surprise(labels, scaled_out_of_fold(labels, logits, name)).mean() - best
        for done, logits in {"temperature": true * 3, "bias": true * 3 + bias, "vector": true * weights + bias}.items()
        for name in ("temperature", "temperature and bias", "vector")
    }
    assert abs(found["temperature", "temperature"]) < 0.01
    assert found["temperature", "temperature"] < found["temperature", "vector"] < 0.03
    assert found["bias", "temperature"] > 0.03 > found["bias", "temperature and bias"]
    assert found["vector", "temperature and bias"] > 0.03 > found["vector", "vector"]


def test_the_comparison_tells_each_scaling_in_a_line() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(90, 3))
    lines = compare(logits.argmax(-1), logits)
    assert [line.split("NLL")[0].strip() for line in lines] == ["temperature", "temperature and bias", "vector"]
    assert "gain +0.0000 (+0.0000 to +0.0000)" in lines[0] and "accuracy 100.0" in lines[0]
