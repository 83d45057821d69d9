"""Figures of all test posts' features: t-SNE of the fused ones, and distances within and between modalities."""

from typing import Any, Final

import altair as alt
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from training.config import BadConfig
from training.datasets.example import labels_of
from training.figures.drawing import BLUE, CLASS_COLORS, CLASS_SHAPES, OCHRE, Figure, rows
from training.figures.trained import TrainedRun

FloatArray = NDArray[np.float32]
PERPLEXITY: Final = 30
DISTANCES: Final = {"IID": "picture to picture", "TTD": "text to text", "ITD": "picture to text"}
BIN: Final = 0.05
SAME, OTHER = "same class", "other classes"


def tsne(run: TrainedRun) -> Figure:
    """Test posts in two dimensions, before and after the model: the text encoder's [CLS] state, the fused features."""
    text = run.states(run.test).text_states
    if text is None:
        raise BadConfig(f"{run.bench.name} has no texts: give a run on posts with text and picture")
    last = text if text.ndim == 3 else text[:, -1]
    fused = run.outputs(run.test, "features")
    charts = [
        _scatter(run, last[:, 0].numpy(), "The text encoder's [CLS] state"),
        _scatter(run, fused, f"Fused features of {run.config.system}"),
    ]
    return Figure(
        "tsne",
        f"{run.config.system}: t-SNE of its fused features, beside the text's alone",
        (
            "A mark is a test post. Positions mean nothing but who is near whom. Silhouette, of the features "
            "themselves (-1 to 1): how much nearer a post is to its own class than to the next one.",
            f"{run.told}. TSNE(perplexity={_perplexity(len(fused)):g}, init='pca', random_state=0).",
        ),
        alt.hconcat(*charts),
    )


def embedded(features: FloatArray) -> FloatArray:
    """(N, D) to (N, 2)."""
    reducer = TSNE(perplexity=_perplexity(len(features)), init="pca", random_state=0)
    return np.asarray(reducer.fit_transform(features), dtype=np.float32)


def _perplexity(posts: int) -> float:
    return min(PERPLEXITY, (posts - 1) / 3)


def _scatter(run: TrainedRun, features: FloatArray, title: str) -> alt.Chart:
    classes, labels = run.bench.corpus.classes, labels_of(run.test)
    points = [
        {"x": float(x), "y": float(y), "class": classes[label], "id": post.id}
        for (x, y), label, post in zip(embedded(features), labels, run.test, strict=True)
    ]
    silhouette = float(silhouette_score(features, labels))
    color, shape = alt.Color("class:N", title="True class"), alt.Shape("class:N", title="True class")
    if set(classes) <= set(CLASS_COLORS):
        domain = list(classes)
        color = color.scale(domain=domain, range=[CLASS_COLORS[name] for name in domain])
        shape = shape.scale(domain=domain, range=[CLASS_SHAPES[name] for name in domain])
    axis = alt.Axis(labels=False, ticks=False, grid=False)
    chart: alt.Chart = (
        alt.Chart(rows(points), title=alt.TitleParams(f"{title}: silhouette {silhouette:+.2f}", fontSize=13))
        .mark_point(filled=True, size=34, opacity=0.75)
        .encode(
            x=alt.X("x:Q", title="t-SNE 1 (no unit)", axis=axis),
            y=alt.Y("y:Q", title="t-SNE 2 (no unit)", axis=axis),
            color=color,
            shape=shape,
        )
        .properties(width=360, height=340)
    )
    return chart


def distances(run: TrainedRun) -> Figure:
    """SPP-SCL's IID, TTD and ITD: how far a post's features lie from those of its class, and of the others."""
    if run.config.system != "SPP-SCL":
        raise BadConfig(
            f"distances are of SPP-SCL's features, and {run.name} is {run.config.system}: give a run of SPP-SCL"
        )
    image, text = (run.outputs(run.test, name) for name in ("image_features", "text_features"))
    measured = distance_rows(image, text, labels_of(run.test))
    classes = alt.Color(
        "relation:N",
        title="Other posts are of",
        scale=alt.Scale(domain=[SAME, OTHER], range=[BLUE, OCHRE]),
        legend=alt.Legend(orient="top"),
    )
    panels = []
    for pair, words in DISTANCES.items():
        base = alt.Chart(rows([row for row in measured if row["pair"] == pair]))
        x = alt.X(
            "distance:Q",
            title="Mean distance (0 to 2)",
            bin=alt.Bin(step=BIN),
            scale=alt.Scale(zero=False),
            axis=alt.Axis(format=".2f", tickCount=6),
        )
        bars = base.mark_bar(opacity=0.55).encode(
            x=x, y=alt.Y("count()", title="Test posts", stack=None), color=classes
        )
        medians = base.mark_rule(strokeWidth=2.5, strokeDash=[5, 3]).encode(x="median(distance):Q", color=classes)
        title = alt.TitleParams(f"{pair}: {words}", fontSize=13)
        panels.append(alt.layer(bars, medians).properties(width=240, height=220, title=title))
    return Figure(
        "distances",
        "SPP-SCL: distances within and between the modalities",
        (
            "For every test post, the mean Euclidean distance of its feature to those of the other posts; features are "
            "brought to length 1, as the losses do. Dashed: the medians.",
            f"{run.told}.",
        ),
        alt.hconcat(*panels).resolve_scale(x="shared", y="shared"),
    )


def distance_rows(image: FloatArray, text: FloatArray, labels: NDArray[np.int64]) -> list[dict[str, Any]]:
    """For every pair of modalities and post: its mean distance to the other posts of its class, and to the others."""
    image, text = (
        vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12) for vectors in (image, text)
    )
    others = ~np.eye(len(labels), dtype=bool)
    same = labels[:, None] == labels[None]
    found = []
    for pair, (own, their) in {"IID": (image, image), "TTD": (text, text), "ITD": (image, text)}.items():
        between = cdist(own, their)
        for relation, chosen in ((SAME, same & others), (OTHER, ~same)):
            found += [
                {"pair": pair, "relation": relation, "distance": float(between[row][chosen[row]].mean())}
                for row in range(len(labels))
                if chosen[row].any()
            ]
    return found
