"""The bench on a small made-up corpus: runs noted once, gone on with, and told in a table."""

import argparse
import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from tests.training.test_datasets import picture  # noqa: E402
from training import bench as bench_module  # noqa: E402
from training.bench import read_corpus, read_results, run_table  # noqa: E402
from training.config import CLIP, SMALL, BadConfig, RunConfig, read_config, varied  # noqa: E402
from training.datasets.example import Corpus, Example  # noqa: E402
from training.feature_cache import FeatureCache  # noqa: E402
from training.one_run import Bench, over_sampled, run_once, score  # noqa: E402
from training.results import render  # noqa: E402
from training.systems import build_model, label_loss  # noqa: E402
from training.table import SHIPPED, TABLES, read_table  # noqa: E402
from training.weights import MissingWeights  # noqa: E402

pytestmark = pytest.mark.train
VIEWS = 2
WIDTHS = {SMALL[0]: 384, SMALL[1]: 1280, "resnet50": 2048, CLIP: 512}
WIDTHS |= dict.fromkeys(("bert-base-uncased", "roberta-base", "vit_base_patch16_224"), 768)


@pytest.fixture(scope="module")
def bench() -> Bench:
    """Texts say the class; pictures say it, too, a little."""
    generator = np.random.default_rng(0)
    examples = [Example(str(n), ("good", "so so", "bad")[n % 3], b"x", n % 3) for n in range(90)]
    offsets = np.cumsum([0, *(3 + generator.integers(4) for _ in range(90 * VIEWS))])
    text = generator.standard_normal((4, int(offsets[-1]), 24)) * 0.5
    image = generator.standard_normal((90, VIEWS, 9, 16))
    for row, example in enumerate(examples):
        text[:, offsets[row * VIEWS] : offsets[(row + 1) * VIEWS], example.label] += 2
        image[row, ..., example.label] += 1
    cache = FeatureCache(
        examples, text=text.astype(np.float16), offsets=offsets, image=image.astype(np.float16), seconds=1.0
    )
    corpus = Corpus({"train": examples[:60], "validation": examples[60:75], "test": examples[75:]})
    return Bench(
        name="mvsa_single", split="published", corpus=corpus, cache=cache, is_twin=np.array([True] + [False] * 14)
    )


def small(name: str, **changes: object) -> RunConfig:
    """A shipped configuration, made small."""
    sizes = {"mdse": {"width": 16, "heads": 4}, "clmlf": {"width": 24, "heads": 4}, "visualbert": {"width": 16}}.get(
        name, {}
    )
    return varied(read_config(name), {"epochs": 4, "views": VIEWS, "model": sizes, **changes}, "a test")


@pytest.mark.parametrize(
    "name",
    [
        "uni_text",
        "uni_image",
        "resnet",
        "concatenation",
        "mdse",
        "clmlf",
        "spp_scl",
        "autoencoder",
        "attention",
        "visualbert",
    ],
)
def test_every_system_learns_what_the_states_say(bench: Bench, name: str) -> None:
    line = run_once(small(name, epochs=20, patience=20, batch_size=16, learning_rate=5e-3), bench, seed=1)
    assert line["test"]["accuracy"] > 0.5
    assert line["test"]["rows"] == 15 and line["test_without_twins"]["rows"] == 14
    assert line["parameters"] > 0 and line["epochs"] >= 1
    assert len(line["predicted"]) == len(line["right"]) == 15
    assert line["test"]["accuracy"] == line["right"].count("1") / 15
    low, high = line["test"]["intervals"]["accuracy"]
    assert low <= line["test"]["accuracy"] <= high
    assert json.loads(json.dumps(line))["key"] == line["key"]


@pytest.mark.parametrize(("name", "accuracy"), [("majority", 1 / 3), ("bag_of_words", 1.0)])
def test_the_floors_read_texts_alone(bench: Bench, name: str, accuracy: float) -> None:
    line = run_once(read_config(name), bench, seed=1)
    assert line["test"]["accuracy"] == pytest.approx(accuracy)
    assert line["test"]["predicted_classes"] == (1 if name == "majority" else 3)


def test_a_run_repeats_to_the_bit(bench: Bench) -> None:
    one, two = (run_once(small("mdse"), bench, seed=3) for _ in range(2))
    assert one["test"] == two["test"] and one["validation"] == two["validation"]


def test_order_and_batches_of_an_evaluation_change_nothing(bench: Bench) -> None:
    torch.manual_seed(0)
    model = build_model(small("mdse"), text_width=24, image_width=16, classes=3, shares=np.ones(3) / 3).eval()
    examples = bench.corpus.splits["test"]
    sorted_by_label = sorted(examples, key=lambda example: example.label)
    found = dict(zip((e.id for e in examples), score(model, bench.cache, examples), strict=True))
    for example, row in zip(sorted_by_label, score(model, bench.cache, sorted_by_label), strict=True):
        np.testing.assert_allclose(row, found[example.id], atol=1e-5)
    for example in examples[:4]:
        np.testing.assert_allclose(score(model, bench.cache, [example])[0], found[example.id], atol=1e-5)


def test_rare_classes_are_drawn_as_often_as_frequent_ones() -> None:
    examples = [Example(str(n), "x", None, int(n >= 8)) for n in range(10)]
    drawn = over_sampled(examples, 3, np.random.default_rng(1))
    assert [sum(example.label == label for example in drawn) for label in range(3)] == [8, 8, 0]
    assert drawn[:10] == examples


def test_class_weights_are_inverse_shares_of_mean_one() -> None:
    shares = np.array([0.5, 0.25, 0.25])
    weights = np.array(
        label_loss(varied(read_config("mdse"), {"imbalance": "class weights"}, ""), shares).class_weights
    )
    assert weights[1] == pytest.approx(2 * weights[0])
    assert (weights * shares).sum() == pytest.approx(1)
    assert label_loss(varied(read_config("mdse"), {"imbalance": "focal"}, ""), shares).focal_gamma == 2


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"system": "BERT"}, "system 'BERT' is none of"),
        ({"model": {"widht": 3}}, "MDSE does not take.*widht"),
        ({"system": "CLIP", "text_encoder": CLIP}, f"CLIP reads vectors of one space.*set both encoders to {CLIP}"),
        ({"system": "SPP-SCL", "text_encoder": CLIP}, "SPP-SCL reads word pieces.*set another text_encoder"),
    ],
)
def test_what_cannot_be_built_is_told(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(BadConfig, match=problem):
        build_model(small("mdse", **changes), text_width=4, image_width=4, classes=3, shares=np.ones(3) / 3)


@pytest.mark.parametrize("path", sorted(TABLES.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_tables_name_runs_that_can_be_built(path: Path) -> None:
    table = read_table(path.stem)
    assert table.seeds >= 3 and len({row.name for row in table.rows}) == len(table.rows)
    for row in table.rows:
        if row.config is not None and row.config.system not in ("Majority", "Bag of words"):
            text, image = (WIDTHS[name] for name in row.config.encoders)
            build_model(row.config, text_width=text, image_width=image, classes=3, shares=np.ones(3) / 3)
    assert next(table.runs())[2] == 1


def test_every_table_of_the_folder_is_in_the_report() -> None:
    assert sorted(SHIPPED) == sorted(file.stem for file in TABLES.glob("*.toml"))


def test_a_table_goes_on_where_it_stopped_and_is_told(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "small.toml"
    file.write_text(
        """
title = "A small table"
corpus = "mvsa_single"
seeds = 2
reference = "Uni-Text"
per_class = true
settings = { epochs = 2, views = 2 }
row = [
    { name = "Majority", config = "majority", published = { any = "59.6 / –" } },
    { name = "Uni-Text", config = "uni_text" },
    { name = "Uni-Image", config = "uni_image" },
    { name = "Both", config = "concatenation", model = { hidden = 8 } },
    { name = "CLIP", published = { any = "63.99" } },
]
"""
    )
    table = read_table(str(file))
    monkeypatch.setattr(bench_module, "open_bench", lambda *_: bench)
    arguments = argparse.Namespace(
        results=tmp_path / "results.jsonl", only=["Majority"], seeds=None, checkpoints=None, logs=None
    )
    run_table(table, arguments)
    assert len(read_results(arguments.results)) == 2
    arguments.only = []
    run_table(table, arguments)
    lines = read_results(arguments.results)
    assert len(lines) == 8
    assert [(line["config"]["system"], line["seed"]) for line in lines[2:5]] == [
        ("Uni-Text", 1), ("Uni-Image", 1), ("Concatenation", 1)
    ]  # fmt: skip
    run_table(table, arguments)
    assert len(read_results(arguments.results)) == 8
    told = render([table], lines)
    assert "| Majority | 2 | 33.3 ± 0.0 |" in told
    assert "| CLIP | 0 | not measured |" in told and "| 63.99 |" in told
    assert "Collapsed to one class: Majority (seed 1), Majority (seed 2)" in told
    assert "moodstream bench small --mvsa mvsa_single.parquet" in told
    assert "Acc against Uni-Text" in told
    assert "| recall / F1 | class 0: " in told and "| Majority | 100.0 ± 0.0 / " in told
    assert "| A small table | Both |" in told.split("How much of the union")[1]


@pytest.mark.parametrize(
    "text",
    [
        "title = 1",
        "row = []",
        "title = 'x'\ncorpus = 'y'\nseeds = 1\nrow = [{}]",
        "= 3",
    ],
)
def test_what_is_no_table_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(BadConfig, match="no table of runs"):
        read_table(str(tmp_path / "t.toml"))
    with pytest.raises(BadConfig, match="one of .*mvsa_single"):
        read_table("nobody")


def test_a_reference_that_is_no_row_is_told(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text("title = 'x'\ncorpus = 'y'\nseeds = 1\nreference = 'z'\nrow = []")
    with pytest.raises(BadConfig, match="reference 'z' is no row of the table"):
        read_table(str(tmp_path / "t.toml"))


@pytest.fixture
def arguments(tmp_path: Path, tiny_weights: Path, no_hub: Path) -> argparse.Namespace:
    """Of a bench on 12 posts, with the weights of all encoders but RoBERTa and VGG-19."""
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in ("bert-base-uncased", "resnet50", CLIP):
        (weights / name).symlink_to(tiny_weights / name)
    texts = {"positive": "good", "neutral": "the tram", "negative": "very late"}
    rows = [
        {"id": str(n), "split": split, "text": f"{text} {n}", "label": label, "image": picture((18 * n, 90, 30))}
        for n, (split, (label, text)) in enumerate(product(("train", "train", "validation", "test"), texts.items()))
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "mvsa.parquet")
    parser = argparse.ArgumentParser()
    bench_module.add_arguments(parser)
    (tmp_path / "mixed.toml").write_text(MIXED)
    return parser.parse_args(
        [str(tmp_path / "mixed.toml"), "--mvsa", str(tmp_path / "mvsa.parquet"), "--weights", str(weights)]
        + ["--results", str(tmp_path / "results.jsonl"), "--report", str(tmp_path / "report.md")]
        + ["--cache", str(tmp_path / "states"), "--threads", "1"]
    )


MIXED = """
title = "Encoders of several sets"
corpus = "mvsa_single"
seeds = 2
settings = { epochs = 1, views = 1 }
row = [
    { name = "Small", config = "uni_text" },
    { name = "BERT", config = "concatenation", text_encoder = "bert-base-uncased", image_encoder = "resnet50" },
    { name = "RoBERTa", config = "concatenation", text_encoder = "roberta-base", image_encoder = "vgg19" },
    { name = "RoBERTa again", config = "concatenation", text_encoder = "roberta-base", image_encoder = "vgg19" },
    { name = "CLIP", config = "clip_paper" },
]
"""


@pytest.mark.timeout(120)
def test_rows_of_several_encoders_have_a_cache_each_and_those_without_weights_are_left_out(
    arguments: argparse.Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    bench_module.run(arguments)
    lines = read_results(arguments.results)
    assert [(line["config"]["text_encoder"], line["seed"]) for line in lines] == [
        (SMALL[0], 1), ("bert-base-uncased", 1), (CLIP, 1), (SMALL[0], 2), ("bert-base-uncased", 2), (CLIP, 2)
    ]  # fmt: skip
    assert lines[0]["encoders"] == "small"
    assert re.fullmatch("bert-base-uncased [0-9a-f]{12} and resnet50 [0-9a-f]{12}", lines[1]["encoders"])
    assert len(list(arguments.cache.iterdir())) == 3
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert told[0].startswith("mixed: left out “RoBERTa” and “RoBERTa again”: weights of roberta-base are missing (")
    assert "; weights of vgg19 are missing (" in told[0]
    assert "| RoBERTa | 0 | not measured |" in render([read_table(arguments.tables[0])], lines)


def test_a_row_asked_for_by_name_is_not_left_out_silently(arguments: argparse.Namespace) -> None:
    arguments.only = ["RoBERTa"]
    with pytest.raises(MissingWeights, match="weights of roberta-base are missing"):
        bench_module.run(arguments)


def test_the_folder_of_weights_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOODSTREAM_WEIGHTS", "/weights")
    parser = argparse.ArgumentParser()
    bench_module.add_arguments(parser)
    assert parser.parse_args([]).weights == Path("/weights")
    assert parser.parse_args(["--weights", "other"]).weights == Path("other")


@pytest.fixture
def two_rows(tmp_path: Path, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """A table of a model and a floor, and where its runs go."""
    (tmp_path / "two.toml").write_text(
        """
title = "Two rows"
corpus = "mvsa_single"
seeds = 1
settings = { epochs = 2, views = 2 }
row = [{ name = "Uni-Text, 1/2", config = "uni_text" }, { name = "Majority", config = "majority" }]
"""
    )
    monkeypatch.setattr(bench_module, "open_bench", lambda *_: bench)
    return argparse.Namespace(
        table=read_table(str(tmp_path / "two.toml")),
        results=tmp_path / "results.jsonl", only=[], seeds=None, checkpoints=tmp_path / "kept", logs=tmp_path / "logs",
    )  # fmt: skip


def test_weights_are_kept_with_what_they_are_of(two_rows: argparse.Namespace) -> None:
    run_table(two_rows.table, two_rows)
    line = next(line for line in read_results(two_rows.results) if line["config"]["system"] == "Uni-Text")
    (folder,) = two_rows.checkpoints.iterdir()
    assert folder.name == f"uni-text-1-2-seed-1-{line['key']}"
    assert json.loads((folder / "line.json").read_text()) == line
    told = torch.load(folder / "best.pt", weights_only=True)["config"]
    assert told == {"settings": line["config"], "corpus": "mvsa_single", "split": "published", "seed": 1}


def test_a_noted_run_is_made_again_for_its_weights_alone(two_rows: argparse.Namespace) -> None:
    kept, two_rows.checkpoints = two_rows.checkpoints, None
    run_table(two_rows.table, two_rows)
    noted = two_rows.results.read_text()
    assert len(noted.splitlines()) == 2 and not kept.exists()
    two_rows.checkpoints = kept
    run_table(two_rows.table, two_rows)
    (weights,) = kept.glob("*/best.pt")
    made_at = weights.stat().st_mtime_ns
    run_table(two_rows.table, two_rows)
    assert weights.stat().st_mtime_ns == made_at and two_rows.results.read_text() == noted


def test_a_run_is_logged_as_csv_epoch_by_epoch(two_rows: argparse.Namespace) -> None:
    run_table(two_rows.table, two_rows)
    (log_file,) = two_rows.logs.glob("uni-text-1-2-seed-1-*.csv")
    header, *epochs = log_file.read_text().splitlines()
    assert header.startswith("epoch,train_loss,seconds,rows,accuracy,weighted_f1,macro_f1")
    history = [json.loads(line) for line in next(two_rows.checkpoints.glob("*/history.jsonl")).read_text().splitlines()]
    assert [row.split(",")[:2] for row in epochs] == [[str(row["epoch"]), str(row["train_loss"])] for row in history]
    assert [row["epoch"] for row in history] == [0, 1]


def test_a_corpus_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadConfig, match="cannot read --mvsa .*empty: .*neither a Parquet file nor a folder"):
        read_corpus("mvsa_single", argparse.Namespace(mvsa=tmp_path / "empty", memotion=None))
    with pytest.raises(BadConfig, match="mvsa_single is needed: give --mvsa"):
        read_corpus("mvsa_single", argparse.Namespace(mvsa=None, memotion=None))
