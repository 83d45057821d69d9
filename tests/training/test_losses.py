import math

import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.losses import (  # noqa: E402
    LabelLoss,
    dbcl,
    inter_modal,
    intra_modal,
    lbcl,
    macl,
    pairs_are_consistent,
    reconstruction,
)

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


def unit(row: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def rows_and_labels() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(4)
    return torch.randn(5, 4).double(), torch.randn(5, 4).double(), torch.tensor([0, 1, 0, 0, 2])


def test_lbcl_is_macl_of_one_feature_type() -> None:
    a, _, labels = rows_and_labels()
    assert lbcl(a, labels, temperature=0.2).item() == pytest.approx(slow_macl([a.tolist()], labels.tolist(), 0.2))


def test_paper_lbcl_equals_its_slow_transcription() -> None:
    a, _, labels = rows_and_labels()
    rows = a.tolist()
    cells = []
    for i, anchor in enumerate(rows):
        total = sum(math.exp(dot(anchor, other)) for other in rows)
        cells += [(dot(anchor, rows[j]) - math.log(total)) / 0.07 for j in range(len(rows)) if labels[i] == labels[j]]
    assert lbcl(a, labels, behaviour="paper").item() == pytest.approx(-sum(cells) / len(cells))


@pytest.mark.parametrize("behaviour", ["fixed", "paper"])
def test_dbcl_equals_its_slow_transcription(behaviour: str) -> None:
    a, b, _ = rows_and_labels()
    own, views = a.tolist(), b.tolist()
    if behaviour == "fixed":
        own, views = [unit(row) for row in own], [unit(row) for row in views]
    expected = 0.0
    for i, row in enumerate(own):
        scores = [dot(row, view) / 0.5 for view in views]
        expected -= (scores[i] - math.log(sum(map(math.exp, scores)))) / len(own)
    assert dbcl(a, b, temperature=0.5, behaviour=behaviour).item() == pytest.approx(expected)


@pytest.mark.parametrize("behaviour", ["fixed", "paper"])
def test_intra_modal_equals_its_slow_transcription(behaviour: str) -> None:
    a, _, labels = rows_and_labels()
    rows = [unit(row) for row in a.tolist()]
    expected = 0.0
    for i in range(len(rows)):
        others = [j for j in range(len(rows)) if j != i]
        total = sum(math.exp(dot(rows[i], rows[j]) / 0.3) for j in others) + (1.0 if behaviour == "paper" else 0.0)
        positives = [j for j in others if labels[j] == labels[i]]
        inner = sum(dot(rows[i], rows[j]) / 0.3 - math.log(total) for j in positives)
        expected -= inner / max(1, len(positives)) / len(rows)
    assert intra_modal(a, labels, temperature=0.3, behaviour=behaviour).item() == pytest.approx(expected)


def test_inter_modal_equals_its_slow_transcription() -> None:
    a, b, labels = rows_and_labels()
    pictures, texts = [unit(row) for row in a.tolist()], [unit(row) for row in b.tolist()]
    expected = 0.0
    for i, picture in enumerate(pictures):
        total = sum(math.exp(dot(picture, text) / 0.3) for text in texts)
        positives = [j for j in range(len(texts)) if labels[j] == labels[i]]
        expected -= sum(dot(picture, texts[j]) / 0.3 - math.log(total) for j in positives) / len(positives) / 5
    assert inter_modal(a, b, labels, temperature=0.3).item() == pytest.approx(expected)


@pytest.mark.parametrize("threshold", [0.0, 2 / 3, 1.0, 2.0])
def test_the_condition_equals_its_slow_transcription(threshold: float) -> None:
    a, b, labels = (t.abs() for t in rows_and_labels())
    relation = [[1 / (1 + math.exp(-dot(t, i))) for i in a.tolist()] for t in b.tolist()]
    mean = sum(relation[i][i] for i in range(5)) / 5
    below = sum(cell < mean for row in relation for cell in row)
    same = sum(int(x == y) for x in labels.tolist() for y in labels.tolist())
    assert same == 11
    assert pairs_are_consistent(a, b, labels, threshold=threshold) == (below >= math.floor(threshold * same))


def test_reconstruction_weighs_modalities_and_averages_or_sums_features() -> None:
    inputs, outputs = [torch.zeros(2, 4), torch.zeros(2, 3)], [torch.ones(2, 4), torch.full((2, 3), 2.0)]
    assert reconstruction(inputs, outputs, (1.0, 0.5)).item() == pytest.approx(1 + 0.5 * 4)
    assert reconstruction(inputs, outputs, (1.0, 0.5), behaviour="paper").item() == pytest.approx(4 + 0.5 * 12)


def test_focal_loss_equals_its_slow_transcription() -> None:
    logits, labels, weights = rows_and_labels()[0][:, :3], [0, 1, 0, 0, 2], [1.0, 2.0, 4.0]
    total = 0.0
    for row, label in zip(logits.tolist(), labels, strict=True):
        p = math.exp(row[label]) / sum(map(math.exp, row))
        total -= weights[label] * (1 - p) ** 2 * math.log(p)
    loss = LabelLoss(class_weights=tuple(weights), focal_gamma=2.0)
    assert loss(logits, torch.tensor(labels)).item() == pytest.approx(total / sum(weights[label] for label in labels))


def test_cross_entropy_smooths_labels_as_its_slow_transcription() -> None:
    logits, labels = rows_and_labels()[0][:, :3], [0, 1, 0, 0, 2]
    total = 0.0
    for row, label in zip(logits.tolist(), labels, strict=True):
        logs = [x - math.log(sum(map(math.exp, row))) for x in row]
        total -= sum((0.9 * (c == label) + 0.1 / 3) * log for c, log in enumerate(logs)) / 5
    assert LabelLoss(label_smoothing=0.1)(logits, torch.tensor(labels)).item() == pytest.approx(total)


def test_label_losses_that_contradict_are_named() -> None:
    with pytest.raises(ValueError, match="focal_gamma must be at least 0, got -1"):
        LabelLoss(focal_gamma=-1)
    with pytest.raises(ValueError, match="exclude each other"):
        LabelLoss(focal_gamma=2, label_smoothing=0.1)
