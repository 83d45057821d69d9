"""Figures of one post: what CLMLF's words look at, what MDSE keeps as private, and what its private branches change."""

import base64
import io
import json
from typing import Any, Final

import altair as alt
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from training.batches import center_crop
from training.config import BadConfig
from training.datasets.example import Example
from training.decoding import decode_image
from training.figures.drawing import BLUE, HEAT, INK, OCHRE, VIOLET, Figure, rows
from training.figures.trained import TrainedRun, side_of

WORDS_SHOWN: Final = 8
COLUMNS: Final = 4
PANEL: Final = 176
PICTURE: Final = 300
FloatArray = NDArray[np.float32]


def attention(run: TrainedRun, post: Example, head: int | None = None) -> Figure:
    """Where in the picture each word piece looks, in CLMLF's last fusion layer; head: the mean of all by default."""
    if run.config.system != "CLMLF":
        raise BadConfig(
            f"attention between words and cells is CLMLF's, and {run.name} is {run.config.system}: give a run of CLMLF"
        )
    pieces, (to_cells, shares) = run.pieces_of(post), word_attention(run, post, head)
    chosen = sorted(np.argsort(-shares, kind="stable")[:WORDS_SHOWN].tolist())
    shown = to_cells[chosen]
    panels = [
        over_picture(
            post,
            to_cells[row],
            f"{pieces[row]} ({shares[row]:.0f} %)",
            ["Of what the", "picture gets, %"],
            (float(shown.min()), float(shown.max())),
            side=PANEL,
        )
        for row in chosen
    ]
    lines = [alt.hconcat(*panels[start : start + COLUMNS]) for start in range(0, len(panels), COLUMNS)]
    heads = "mean of its heads" if head is None else f"head {head}"
    return Figure(
        "attention",
        "CLMLF: where in the picture its words look",
        (
            f"The {len(chosen)} word pieces that give the picture most of their attention (so much, in brackets; last "
            f"fusion layer, {heads}), and how each spreads that over the cells. Evenly spread, a cell would get "
            f"{100 / to_cells.shape[1]:.3g} %.",
            f"{run.told}. Post {post.id}, {_verdict(run, post)}.",
        ),
        alt.vconcat(*lines),
    )


def word_attention(run: TrainedRun, post: Example, head: int | None = None) -> tuple[FloatArray, FloatArray]:
    """How each word piece spreads what it gives the picture over its cells (T, M), and how much that is (T,), in
    percent. The cells' mean, a token of its own between words and cells, belongs to the picture but is no place in it.
    """
    heads = run.output([post]).attention_map[0]
    if head is not None and not 1 <= head <= len(heads):
        raise BadConfig(f"head is {head}, and {run.name} has {len(heads)}: give one of 1 to {len(heads)}")
    chosen = heads.mean(0) if head is None else heads[head - 1]
    tokens = run.bench.cache.length(post)
    to_picture = chosen[:tokens, tokens:].numpy()
    to_cells = to_picture[:, 1:]
    return 100 * to_cells / to_cells.sum(1, keepdims=True), 100 * to_picture.sum(1)


def private(run: TrainedRun, post: Example) -> Figure:
    """How much of each cell and each word piece MDSE keeps as private to its modality (1 - S of eq. 4)."""
    text_weights, image_weights = private_weights(run, post)
    pieces = run.pieces_of(post)
    words = [{"at": at, "weight": float(weight)} for at, weight in enumerate(text_weights)]
    axis = alt.Axis(labelExpr=f"{json.dumps(pieces)}[datum.value]", labelLimit=160, ticks=False)
    bars = (
        alt.Chart(rows(words), title=alt.TitleParams("Word pieces in reading order", fontSize=13))
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X("weight:Q", title="Weight of the private features (0 to 1)", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("at:O", title=None, axis=axis),
        )
        .properties(width=300, height=alt.Step(15))
    )
    picture = over_picture(
        post, image_weights, "Cells of the picture", "Weight (0 to 1)", (0.0, 1.0), side=PICTURE, told=".2f"
    )
    return Figure(
        "private",
        "MDSE: what is private to the picture and to the text",
        (
            "Weight 0: a cell or word piece says what both modalities share; 1: what its own modality alone says.",
            f"{run.told}. Post {post.id}, {_verdict(run, post)}.",
        ),
        alt.hconcat(picture, bars).resolve_scale(color="independent"),
    )


def private_weights(run: TrainedRun, post: Example) -> tuple[FloatArray, FloatArray]:
    """Weights of the word pieces (T,) and of the cells (M,), as the private blocks return them."""
    text_block, image_block = _private_blocks(run)
    seen: list[Tensor] = []
    hooks = [
        block.register_forward_hook(lambda _module, _given, returned: seen.append(returned[1]))
        for block in {image_block, text_block}  # one block for both, as released
    ]
    try:
        run.output([post])
    finally:
        for hook in hooks:
            hook.remove()
    image, text = (weights[0].numpy() for weights in seen)  # in the order of the model's calls
    return text, image


def scores(run: TrainedRun, post: Example) -> Figure:
    """What MDSE says of a post with either private branch switched off, as in its paper's figure."""
    judged = probabilities_without(run, post)
    classes = run.bench.corpus.classes
    bars = [
        {"part": part, "class": name, "probability": 100 * float(value)}
        for part, values in judged.items()
        for name, value in zip(classes, values, strict=True)
    ]
    order = list(judged)
    part = alt.Color(
        "part:N",
        title=None,
        sort=order,
        scale=alt.Scale(domain=order, range=[BLUE, OCHRE, VIOLET]),
        legend=alt.Legend(orient="top", labelLimit=300),
    )
    base = alt.Chart(rows(bars)).encode(
        x=alt.X("class:N", sort=list(classes), title="Class", axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("part:N", sort=order),
        y=alt.Y("probability:Q", title="Probability, %", scale=alt.Scale(domain=[0, 100])),
    )
    chart = alt.layer(
        base.mark_bar().encode(color=part),
        base.mark_text(dy=-7, color=INK).encode(text=alt.Text("probability:Q", format=".0f")),
    ).properties(width=alt.Step(44), height=260)
    return Figure(
        "scores",
        "MDSE: a post's scores with each private branch removed",
        (
            "A branch removed gives a vector of zeros, in a model trained with both.",
            f"{run.told}. Post {post.id}, {_verdict(run, post)}.",
        ),
        alt.hconcat(_bare_picture(post, 260), chart).resolve_legend(color="independent"),
    )


def probabilities_without(run: TrainedRun, post: Example) -> dict[str, FloatArray]:
    """Probabilities (C,) of the whole model and without each private branch."""
    blocks = {
        "text_private": "without the text's private features",
        "image_private": "without the picture's private features",
    }
    _private_blocks(run)
    judged = {"whole": _probabilities(run, post)}
    for name, words in blocks.items():
        block = getattr(run.fusion, name)
        setattr(run.fusion, name, None)
        try:
            judged[words] = _probabilities(run, post)
        finally:
            setattr(run.fusion, name, block)
    return judged


def _private_blocks(run: TrainedRun) -> tuple[nn.Module, nn.Module]:
    if run.config.system != "MDSE":
        raise BadConfig(f"private features are MDSE's, and {run.name} is {run.config.system}: give a run of MDSE")
    text, image = getattr(run.fusion, "text_private", None), getattr(run.fusion, "image_private", None)
    if text is None or image is None:
        lacking = "text" if text is None else "picture"
        raise BadConfig(f"{run.name} was trained without the {lacking}'s private features: give a run with both")
    return text, image


def _probabilities(run: TrainedRun, post: Example) -> FloatArray:
    return np.asarray(torch.softmax(run.output([post]).logits[0].float(), -1).numpy())


def _verdict(run: TrainedRun, post: Example) -> str:
    probabilities = _probabilities(run, post)
    called = int(probabilities.argmax())
    classes = run.bench.corpus.classes
    return f"{classes[post.label]}, called {classes[called]} ({100 * probabilities[called]:.0f} %)"


def over_picture(
    post: Example,
    weights: FloatArray,
    title: str,
    unit: str | list[str],
    ends: tuple[float, float],
    *,
    side: int,
    told: str = ".1f",
) -> alt.LayerChart:
    """The crop of the picture that the model saw, in grey, under its cells' weights; ends: of the colours."""
    count = side_of(len(weights))
    cells = [
        {
            "left": at % count,
            "right": at % count + 1,
            "top": at // count,
            "bottom": at // count + 1,
            "weight": float(one),
        }
        for at, one in enumerate(weights)
    ]
    x, y = alt.Scale(domain=[0, count], nice=False), alt.Scale(domain=[count, 0], nice=False)
    base = alt.Chart(rows(cells)).encode(x=alt.X("left:Q", axis=None, scale=x), y=alt.Y("top:Q", axis=None, scale=y))
    color = alt.Color("weight:Q", title=unit, scale=alt.Scale(scheme=HEAT, domain=list(ends)))
    figures = (
        alt.Chart(rows([cell | _middle(cell) for cell in cells]))
        .mark_text(fontSize=10, fontWeight="bold", strokeJoin="round")
        .encode(
            x=alt.X("x:Q", axis=None, scale=x),
            y=alt.Y("y:Q", axis=None, scale=y),
            text=alt.Text("weight:Q", format=told),
        )
    )
    return alt.layer(
        _picture(post, side, count, grey=True),
        base.mark_rect(opacity=0.55).encode(x2="right:Q", y2="bottom:Q", color=color),
        figures.encode(stroke=alt.value("#1d2730"), strokeWidth=alt.value(2.5)),
        figures.encode(color=alt.value("white")),
    ).properties(width=side, height=side, title=alt.TitleParams(title, fontSize=13))


def _middle(cell: dict[str, Any]) -> dict[str, float]:
    return {"x": cell["left"] + 0.5, "y": cell["top"] + 0.5}


def _bare_picture(post: Example, side: int) -> alt.Chart:
    return _picture(post, side, 1, grey=False).properties(width=side, height=side)


def _picture(post: Example, side: int, count: int, *, grey: bool) -> alt.Chart:
    """Over a map of count x count cells."""
    crop = Image.fromarray(center_crop(decode_image(post.image or b"")))
    encoded = io.BytesIO()
    (crop.convert("L") if grey else crop).save(encoded, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"
    return (
        alt.Chart(rows([{"x": count / 2, "y": count / 2, "url": url}]))
        .mark_image(width=side, height=side)
        .encode(
            x=alt.X("x:Q", axis=None, scale=alt.Scale(domain=[0, count], nice=False)),
            y=alt.Y("y:Q", axis=None, scale=alt.Scale(domain=[count, 0], nice=False)),
            url="url:N",
        )
    )
