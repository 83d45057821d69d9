"""Figures of one post, against what the model itself returns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.config import BadConfig  # noqa: E402
from training.figures.drawing import Figure, write  # noqa: E402
from training.figures.post_maps import (  # noqa: E402
    attention,
    private,
    private_weights,
    probabilities_without,
    scores,
    word_attention,
)
from training.figures.trained import TrainedRun  # noqa: E402

pytestmark = pytest.mark.train
Train = Callable[..., TrainedRun]
RowsOf = Callable[[Figure], list[list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def clmlf(trained_run: Train) -> TrainedRun:
    return trained_run("clmlf")


@pytest.fixture(scope="module")
def mdse(trained_run: Train) -> TrainedRun:
    return trained_run("mdse")


def size_of(png: Path) -> tuple[int, int]:
    with Image.open(png) as picture:
        picture.load()
        return picture.size


def test_attention_of_words_to_cells_is_the_models_own(clmlf: TrainedRun) -> None:
    post = clmlf.post("75")
    to_cells, shares = word_attention(clmlf, post)
    tokens = 4  # [CLS] good day [SEP]
    states = clmlf.bench.cache.batch([post])
    with torch.inference_mode():
        maps = clmlf.model(states.text_states, states.attention_mask, states.image_states).attention_map[0]
    assert to_cells.shape == (tokens, 9) and shares.shape == (tokens,)
    for word in range(tokens):
        looks = [sum(float(head[word, tokens + 1 + cell]) for head in maps) for cell in range(9)]
        np.testing.assert_allclose(to_cells[word], [100 * look / sum(looks) for look in looks], rtol=1e-5)
        own = sum(float(head[word, other]) for head in maps for other in range(tokens)) / len(maps)
        assert shares[word] == pytest.approx(100 * (1 - own), rel=1e-4)
    first, _ = word_attention(clmlf, post, head=1)
    np.testing.assert_allclose(first[0], 100 * maps[0, 0, tokens + 1 :] / maps[0, 0, tokens + 1 :].sum(), rtol=1e-5)


def test_attention_is_drawn_over_the_picture(clmlf: TrainedRun, rows_of: RowsOf, tmp_path: Path) -> None:
    figure = attention(clmlf, clmlf.post("76"))
    to_cells, shares = word_attention(clmlf, clmlf.post("76"))
    maps = [rows for rows in rows_of(figure) if "left" in rows[0] and "x" not in rows[0]]
    assert len(maps) == 5
    np.testing.assert_allclose([row["weight"] for row in maps[2]], to_cells[2], rtol=1e-5)
    assert (maps[2][5]["left"], maps[2][5]["top"], maps[2][5]["right"], maps[2][5]["bottom"]) == (2, 1, 3, 2)
    png, svg = write(figure, tmp_path)
    told = svg.read_text()
    assert f">so ({shares[1]:.0f} %)<" in told and f">today ({shares[3]:.0f} %)<" in told
    assert "data:image/png;base64," in told and "Evenly spread, a cell would get 11.1 %." in " ".join(figure.caption)
    assert "seed 1, key " in figure.caption[1] and "Post 76, neutral, called " in figure.caption[1]
    assert min(size_of(png)) > 700 and png.stat().st_size > 20_000


@pytest.mark.parametrize("head", [0, 5])
def test_a_head_that_is_not_there_is_told(clmlf: TrainedRun, head: int) -> None:
    with pytest.raises(BadConfig, match=f"head is {head}, and clmlf has 4: give one of 1 to 4"):
        attention(clmlf, clmlf.post(None), head)


def test_private_weights_are_one_minus_the_nearness_to_what_is_shared(mdse: TrainedRun) -> None:
    """Equations 3 and 4 as the model's docstring has them, step by step."""
    post, model = mdse.post("77"), mdse.model
    text, image = private_weights(mdse, post)
    states = mdse.bench.cache.batch([post])
    with torch.inference_mode():
        z, v = model.text_projection(states.text_states), model.image_projection(states.image_states)
        shared = model.shared_to_image(v, z, states.attention_mask.float())[0]
        direction = torch.stack([row / row.norm() for row in shared]).mean(0)
        nearness = torch.stack([row @ direction / row.norm() for row in z[0]])
        temperature = max(float(model.text_private.log_temperature.exp()), 0.01)
        expected = 1 - ((nearness - nearness.max()) / temperature).exp()
    np.testing.assert_allclose(text, expected, atol=1e-5)
    assert image.shape == (9,) and image.min() == 0 and image.max() <= 1


def test_private_features_are_drawn_over_picture_and_words(mdse: TrainedRun, rows_of: RowsOf, tmp_path: Path) -> None:
    figure = private(mdse, mdse.post("76"))
    text, image = private_weights(mdse, mdse.post("76"))
    drawn = rows_of(figure)
    cells = next(rows for rows in drawn if "left" in rows[0])
    words = next(rows for rows in drawn if "at" in rows[0])
    np.testing.assert_allclose([row["weight"] for row in cells], image, rtol=1e-6)
    np.testing.assert_allclose([row["weight"] for row in words], text, rtol=1e-6)
    png, svg = write(figure, tmp_path)
    told = svg.read_text()
    assert all(
        f">{word}<" in told for word in ("[CLS]", "so", "today", "[SEP]", "Weight of the private features (0 to 1)")
    )
    assert f">{image[4]:.2f}<" in told and min(size_of(png)) > 500


def test_released_mdse_has_one_block_for_both_modalities(trained_run: Train) -> None:
    released = trained_run("mdse", behaviour="paper")
    text, image = private_weights(released, released.post("76"))
    assert text.shape == (5,) and image.shape == (9,)
    assert text.sum() == pytest.approx(4, abs=1e-4) and image.sum() == pytest.approx(8, abs=1e-4)


def test_scores_without_a_branch_are_those_of_a_model_that_never_had_it(mdse: TrainedRun, tmp_path: Path) -> None:
    from training.systems import build_model

    post = mdse.post("76")
    judged = probabilities_without(mdse, post)
    states = mdse.bench.cache.batch([post])
    for part, name in (("text", "text"), ("picture", "image")):
        config = type(mdse.config)(**{**vars(mdse.config), "model": mdse.config.model | {f"use_{name}_private": False}})
        without = build_model(config, text_width=24, image_width=16, classes=3, shares=np.ones(3) / 3).eval()
        weights = {key: one for key, one in mdse.model.state_dict().items() if not key.startswith(f"{name}_private")}
        without.load_state_dict(weights)
        with torch.inference_mode():
            logits = without(states.text_states, states.attention_mask, states.image_states).logits[0]
        np.testing.assert_allclose(judged[f"without the {part}'s private features"], logits.softmax(-1), atol=1e-6)
    assert mdse.model.text_private is not None and mdse.model.image_private is not None
    figure = scores(mdse, post)
    png, svg = write(figure, tmp_path)
    told = svg.read_text()
    assert f">{100 * judged['whole'][1]:.0f}<" in told and ">without the picture's private features<" in told
    assert ">Probability, %<" in told and min(size_of(png)) > 500


@pytest.mark.parametrize(
    ("system", "changes", "draw", "problem"),
    [
        ("spp_scl", {}, attention, "between words and cells is CLMLF's, and spp_scl is SPP-SCL: give a run of CLMLF"),
        ("spp_scl", {}, private, "private features are MDSE's, and spp_scl is SPP-SCL: give a run of MDSE"),
        ("mdse", {"use_text_private": False}, private, "mdse was trained without the text's private features: give"),
        ("mdse", {"use_image_private": False}, scores, "mdse was trained without the picture's private features: give"),
    ],
)  # fmt: skip
def test_a_run_without_what_a_figure_shows_is_told(
    trained_run: Train, system: str, changes: dict[str, bool], draw: Callable[..., Figure], problem: str
) -> None:
    run = trained_run(system, **changes)
    with pytest.raises(BadConfig, match=problem):
        draw(run, run.post(None))
