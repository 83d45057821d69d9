from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.datasets.example import LABELS, Example  # noqa: E402
from training.evaluate import ExportedModel  # noqa: E402
from training.hard_texts import read_hard_texts, score_hard_texts  # noqa: E402

pytestmark = pytest.mark.train
SHIPPED = Path(__file__).parents[2] / "inference_worker" / "models" / "default"


def test_forty_texts_of_five_kinds_no_two_alike() -> None:
    texts = read_hard_texts()
    assert {kind: len(examples) for kind, examples in texts.items()} == dict.fromkeys(
        ("sarcasm", "negation", "domain words", "emoji only", "mixed feelings"), 8
    )
    everything = [example for examples in texts.values() for example in examples]
    assert max(Counter(example.text for example in everything).values()) == 1
    assert max(Counter(example.id for example in everything).values()) == 1
    assert {LABELS[example.label] for example in everything} == set(LABELS)


def test_a_label_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "texts.toml").write_text('[sarcasm]\nsarcastic = ["Great."]\n')
    with pytest.raises(ValueError, match="label 'sarcastic' is none of positive, neutral, negative"):
        read_hard_texts(tmp_path / "texts.toml")


def test_what_is_read_wrongly_is_told_with_the_surest_first() -> None:
    texts = ["I love it, wonderful", "It is awful, I hate it", "good"]
    meant = [Example(str(n), text, None, LABELS.index("negative")) for n, text in enumerate(texts)]
    found = score_hard_texts(ExportedModel(SHIPPED), 1.0, {"simple": meant})["simple"]
    assert (found["rows"], found["right"]) == (3, 1)
    assert [wrong["text"] for wrong in found["wrong"]] in ([texts[0], texts[2]], [texts[2], texts[0]])
    assert all(wrong["label"] == "negative" and wrong["predicted"] == "positive" for wrong in found["wrong"])
    assert np.diff([wrong["confidence"] for wrong in found["wrong"]]) <= 0
