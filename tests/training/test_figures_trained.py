"""A run's weights opened again, and the ways in which that can fail."""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from tests.training.test_datasets import picture  # noqa: E402
from training import bench as bench_module  # noqa: E402
from training.bench import run_table  # noqa: E402
from training.config import BadConfig  # noqa: E402
from training.figures import trained as trained_module  # noqa: E402
from training.figures.drawing import write  # noqa: E402
from training.figures.post_maps import attention  # noqa: E402
from training.figures.trained import TrainedRun, open_run  # noqa: E402
from training.one_run import Bench  # noqa: E402
from training.table import read_table  # noqa: E402

pytestmark = pytest.mark.train


@pytest.fixture
def kept(tmp_path: Path, picture_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `bench --checkpoints` leaves of one run of SPP-SCL, which reads four text layers."""
    for module in (bench_module, trained_module):
        monkeypatch.setattr(module, "open_bench", lambda *_: picture_bench)
    file = tmp_path / "one.toml"
    file.write_text(
        "title = 'One'\ncorpus = 'mvsa_single'\nseeds = 1\nsettings = { epochs = 2, views = 2, batch_size = 16 }\n"
        "row = [{ name = 'SPP-SCL', config = 'spp_scl' }]"
    )
    arguments = argparse.Namespace(
        results=tmp_path / "results.jsonl", only=[], seeds=None, checkpoints=tmp_path / "kept", logs=None
    )
    run_table(read_table(str(file)), arguments)
    return next((tmp_path / "kept").iterdir())


def test_a_run_opened_again_says_what_it_said(kept: Path) -> None:
    line = json.loads((kept / "line.json").read_text())
    run = open_run(kept, argparse.Namespace())
    called = run.outputs(run.test, "logits").argmax(-1)
    assert "".join(map(str, called)) == line["predicted"]
    assert run.told == f"SPP-SCL on small encoders, mvsa_single, published split, seed 1, key {line['key']}"
    assert run.name == f"spp-scl-seed-1-{line['key']}"
    assert run.pieces_of(run.post("76")) == ["[CLS]", "so", "so", "today", "[SEP]"]


@pytest.mark.timeout(120)
def test_a_run_on_the_papers_encoders_is_opened_with_its_own_states(
    tmp_path: Path, tiny_weights: Path, no_hub: Path
) -> None:
    texts = {"positive": "good", "neutral": "the tram", "negative": "very late"}
    posts = [
        {"id": str(n), "split": split, "text": f"{text} {n}", "label": label, "image": picture((18 * n, 90, 30))}
        for n, (split, (label, text)) in enumerate(product(("train", "train", "validation", "test"), texts.items()))
    ]
    pq.write_table(pa.Table.from_pylist(posts), tmp_path / "posts.parquet")
    (tmp_path / "one.toml").write_text(
        "title = 'One'\ncorpus = 'mvsa_single'\nseeds = 1\nsettings = { epochs = 1 }\n"
        "row = [{ name = 'CLMLF', config = 'clmlf_paper', model = { width = 24, heads = 4 } }]"
    )
    parser = argparse.ArgumentParser()
    bench_module.add_arguments(parser)
    arguments = parser.parse_args(
        ["--mvsa", str(tmp_path / "posts.parquet"), "--weights", str(tiny_weights), "--cache", str(tmp_path / "states")]
        + ["--results", str(tmp_path / "results.jsonl"), "--checkpoints", str(tmp_path / "kept")]
    )
    run_table(read_table(str(tmp_path / "one.toml")), arguments)
    run = open_run(next((tmp_path / "kept").iterdir()), arguments)
    assert run.told.startswith("CLMLF on bert-base-uncased ")
    figure = attention(run, run.post("10"))
    assert f"Post 10, {run.bench.corpus.classes[1]}, called " in figure.caption[1]
    told = write(figure, tmp_path)[1].read_text()
    assert all(f">{piece} (" in told for piece in ("[CLS]", "the", "tram", "[UNK]", "[SEP]"))


def test_outputs_of_many_batches_are_in_the_posts_own_order(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(kept, argparse.Namespace())
    whole = run.outputs(run.test, "features")
    monkeypatch.setattr(trained_module, "BATCH", 4)
    np.testing.assert_allclose(run.outputs(run.test, "features"), whole, atol=1e-5)


def test_a_run_that_is_not_given_or_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="a trained run is needed: give --run FOLDER, .* bench .* --checkpoints FOLDER"):
        open_run(None, argparse.Namespace())
    with pytest.raises(
        BadConfig, match=r"cannot read .*best.pt \(No such file or directory\): make it with moodstream"
    ):
        open_run(tmp_path, argparse.Namespace())


def test_what_is_no_checkpoint_of_a_bench_is_told(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"no checkpoint")
    with pytest.raises(BadConfig, match="best.pt is no checkpoint: make one with moodstream bench"):
        open_run(tmp_path, argparse.Namespace())
    torch.save({"model": {}, "config": {"seed": 1}}, tmp_path / "best.pt")
    with pytest.raises(BadConfig, match="best.pt is no checkpoint of a bench run: make one"):
        open_run(tmp_path, argparse.Namespace())


def test_a_run_of_another_version_is_told(tmp_path: Path) -> None:
    settings = {"system": "MDSE", "colour": "blue"}
    torch.save({"model": {}, "config": {"settings": settings}}, tmp_path / "best.pt")
    with pytest.raises(BadConfig, match="best.pt is of another version .*'colour'.*: make it with this one"):
        open_run(tmp_path, argparse.Namespace())


def test_a_post_is_found_in_any_split_and_is_the_first_of_test_by_default(
    trained_run: Callable[..., TrainedRun],
) -> None:
    run = trained_run("mdse")
    assert run.post(None).id == "75" and run.post("3").id == "3"
    with pytest.raises(BadConfig, match="post 'x' is not in mvsa_single: give the id of one, such as 75"):
        run.post("x")


def test_states_of_another_tokenizer_are_told(trained_run: Callable[..., TrainedRun]) -> None:
    run = replace(trained_run("mdse"), word_pieces=list)
    with pytest.raises(BadConfig, match="post 75 has 8 word pieces but 4 text states: give --cache"):
        run.pieces_of(run.post("75"))


@pytest.mark.parametrize("name", ["bert-base-uncased", "roberta-base"])
def test_word_pieces_of_the_papers_encoders_are_written_as_people_write(name: str, tiny_weights: Path) -> None:
    pieces = trained_module._word_pieces(name, argparse.Namespace(weights=tiny_weights))("the tram is late")
    assert "Ġ" not in "".join(pieces) and len(pieces) > 3
    assert "".join(pieces[1:-1]) == "thetramislate"
