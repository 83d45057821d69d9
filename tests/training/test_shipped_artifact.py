"""The artifact in the repository against the real posts it claims to be measured on."""

import json
import os
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.datasets.mvsa import read_mvsa  # noqa: E402
from training.evaluate import KINDS, Confidence, ExportedModel, labels_of, reports  # noqa: E402

ROOT = Path(__file__).parents[2]
ARTIFACT = ROOT / "inference_worker" / "models" / "default"
MVSA = Path(os.environ.get("MOODSTREAM_DATA", ROOT.parent / "shared" / "data")) / "mvsa_single.parquet"

pytestmark = [pytest.mark.train, pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.skipif(not MVSA.exists(), reason=f"{MVSA} is missing (set MOODSTREAM_DATA)")
def test_test_split_scores_as_the_card_says_and_above_the_frozen_encoders() -> None:
    description = json.loads((ARTIFACT / "artifact.json").read_text())
    temperatures = {kind: description["calibration"][kind]["temperature"] for kind in KINDS}
    test = read_mvsa(MVSA).splits["test"]
    confidence = Confidence(temperatures, description["abstain_below"])
    found = reports(labels_of(test), ExportedModel(ARTIFACT).logits(test), confidence)
    claimed = description["metrics"]["mvsa_single"]["test"]
    for kind in KINDS:
        assert found[kind]["accuracy"] == pytest.approx(claimed[kind]["accuracy"], abs=0.5 / 450)
    assert found["both"]["accuracy"] > 0.695  # frozen image encoder with a tweet-tuned text encoder
    assert found["both"]["predicted_classes"] == 3
