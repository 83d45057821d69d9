"""Figures of all test posts' features, against a slow computation."""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from sklearn.manifold import TSNE  # noqa: E402

from training.config import BadConfig  # noqa: E402
from training.figures.clouds import OTHER, SAME, distance_rows, distances, tsne  # noqa: E402
from training.figures.drawing import Figure, write  # noqa: E402
from training.figures.trained import TrainedRun  # noqa: E402

pytestmark = pytest.mark.train
Train = Callable[..., TrainedRun]
RowsOf = Callable[[Figure], list[list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def spp_scl(trained_run: Train) -> TrainedRun:
    return trained_run("spp_scl")


def test_distances_are_those_of_a_slow_double_loop() -> None:
    generator = np.random.default_rng(1)
    image, text = (generator.standard_normal((7, 5)).astype(np.float32) for _ in range(2))
    labels = np.array([0, 1, 0, 1, 2, 0, 0])
    found: dict[tuple[str, str], list[float]] = {}
    for row in distance_rows(image, text, labels):
        found.setdefault((row["pair"], row["relation"]), []).append(row["distance"])

    def between(one: Any, other: Any) -> float:
        return float(np.sqrt(((one / np.sqrt((one**2).sum()) - other / np.sqrt((other**2).sum())) ** 2).sum()))

    for pair, own, their in (("IID", image, image), ("TTD", text, text), ("ITD", image, text)):
        same, other = [], []
        for i in range(7):
            alike = [between(own[i], their[j]) for j in range(7) if j != i and labels[j] == labels[i]]
            unlike = [between(own[i], their[j]) for j in range(7) if labels[j] != labels[i]]
            same += [fmean(alike)] if alike else []  # the only post of class 2 has no other of its class
            other.append(fmean(unlike))
        np.testing.assert_allclose(found[pair, SAME], same, rtol=1e-5)
        np.testing.assert_allclose(found[pair, OTHER], other, rtol=1e-5)
        assert (len(same), len(other)) == (6, 7)


def test_distances_are_drawn_in_three_panels(spp_scl: TrainedRun, rows_of: RowsOf, tmp_path: Path) -> None:
    figure = distances(spp_scl)
    panels = rows_of(figure)
    assert [len(rows) for rows in panels] == [30, 30, 30]
    output = spp_scl.output(spp_scl.test)
    expected = distance_rows(
        output.image_features.numpy(), output.text_features.numpy(), np.array([post.label for post in spp_scl.test])
    )
    drawn = [row["distance"] for rows in panels for row in rows]
    np.testing.assert_allclose(drawn, [row["distance"] for row in expected], atol=1e-5)
    png, svg = write(figure, tmp_path)
    told = svg.read_text()
    words = (
        "IID: picture to picture",
        "TTD: text to text",
        "ITD: picture to text",
        "same class",
        "Mean distance (0 to 2)",
    )
    assert all(f">{word}<" in told for word in words)
    with Image.open(png) as picture:
        picture.load()
        assert picture.width > 1400


def test_tsne_is_of_the_fused_features_beside_the_texts(spp_scl: TrainedRun, rows_of: RowsOf, tmp_path: Path) -> None:
    figure = tsne(spp_scl)
    _, fused = rows_of(figure)
    features = spp_scl.outputs(spp_scl.test, "features")
    expected = TSNE(perplexity=14 / 3, init="pca", random_state=0).fit_transform(features)
    np.testing.assert_allclose([(row["x"], row["y"]) for row in fused], expected, rtol=1e-3, atol=1e-3)
    assert [row["class"] for row in fused[:3]] == ["positive", "neutral", "negative"]
    assert [row["id"] for row in fused] == [post.id for post in spp_scl.test]
    told = write(figure, tmp_path)[1].read_text()
    assert "#12938c" in told and "#97a3ae" in told and "#d9572b" in told and ">t-SNE 1 (no unit)<" in told
    assert "Fused features of SPP-SCL: silhouette " in told and "[CLS]" in told


def test_distances_of_another_system_are_told(trained_run: Train) -> None:
    with pytest.raises(BadConfig, match="distances are of SPP-SCL's features, and mdse is MDSE: give a run of SPP-SCL"):
        distances(trained_run("mdse"))
