import math

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.losses import macl  # noqa: E402

pytestmark = pytest.mark.train


def slow_macl(features: list[list[list[float]]], labels: list[int], temperature: float) -> float:
    """The docstring of `macl` with plain loops."""
    rows = [(row, label) for feature in features for row, label in zip(feature, labels, strict=True)]

    def cosine(a: list[float], b: list[float]) -> float:
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    per_anchor = []
    for i, (anchor, label) in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        total = sum(math.exp(cosine(anchor, rows[j][0]) / temperature) for j in others)
        positives = [j for j in others if rows[j][1] == label]
        if positives:
            logs = [math.log(math.exp(cosine(anchor, rows[j][0]) / temperature) / total) for j in positives]
            per_anchor.append(-sum(logs) / len(logs))
    return sum(per_anchor) / len(per_anchor) if per_anchor else 0.0


@pytest.mark.parametrize("labels", [[0, 1, 2, 0, 1], [0, 0, 0, 0, 0], [2, 0, 0, 0, 0]])
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_macl_equals_its_slow_transcription(labels: list[int], temperature: float) -> None:
    torch.manual_seed(3)
    features = [torch.randn(5, 4, dtype=torch.float64) for _ in range(3)]
    fast = macl(features, torch.tensor(labels), temperature=temperature)
    assert fast.item() == pytest.approx(slow_macl([f.tolist() for f in features], labels, temperature), abs=1e-9)


def test_macl_without_any_positive_is_zero() -> None:
    assert macl([torch.randn(3, 4)], torch.tensor([0, 1, 2])).item() == 0


def test_macl_falls_when_equal_labels_point_the_same_way() -> None:
    directions = torch.eye(3)[[0, 1, 2, 0, 1, 2]]
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    assert macl([directions] * 3, labels) < macl([directions[[0, 0, 0, 1, 1, 1]]] * 3, labels)


def test_macl_refuses_features_of_different_shapes() -> None:
    with pytest.raises(ValueError, match="share one shape"):
        macl([torch.randn(3, 4), torch.randn(2, 4)], torch.tensor([0, 1, 2]))
