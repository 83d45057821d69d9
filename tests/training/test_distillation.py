from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.datasets.example import Example  # noqa: E402
from training.distillation import KINDS, blended, read_teacher, save_opinions  # noqa: E402

if TYPE_CHECKING:
    from training.batches import Batch
    from training.models.mdse import MDSE

pytestmark = pytest.mark.train

LOGITS = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]], dtype=np.float32))


def example(id: str) -> Example:
    return Example(id=id, text="a", image=None, label=0)


def test_opinions_come_back_by_post_and_kind(tmp_path: Path) -> None:
    save_opinions(tmp_path / "one.npz", ["a", "b"], {"text": LOGITS}, encoder="e5-small-v2")
    taught = read_teacher([tmp_path / "one.npz"]).batch([example("b"), example("unknown")])
    assert taught[0, KINDS.index("text")].tolist() == pytest.approx([0.1, 0.2, 0.7])
    assert taught[0, KINDS.index("both")].isnan().all() and taught[1].isnan().all()


def test_several_teachers_are_one_of_their_mean(tmp_path: Path) -> None:
    save_opinions(tmp_path / "one.npz", ["a", "b"], {"text": LOGITS}, encoder="e5-small-v2")
    save_opinions(tmp_path / "two.npz", ["a", "b"], {"text": LOGITS[::-1].copy()}, encoder="all-MiniLM-L6-v2")
    teacher = read_teacher([tmp_path / "one.npz", tmp_path / "two.npz"])
    assert teacher.encoders == ["all-MiniLM-L6-v2", "e5-small-v2"]
    taught = teacher.batch([example("a")])
    assert taught[0, KINDS.index("text")].tolist() == pytest.approx([0.3, 0.225, 0.475])


def test_teachers_of_different_posts_are_refused(tmp_path: Path) -> None:
    save_opinions(tmp_path / "one.npz", ["a", "b"], {"text": LOGITS}, encoder="e5-small-v2")
    save_opinions(tmp_path / "two.npz", ["a", "c"], {"text": LOGITS}, encoder="e5-small-v2")
    with pytest.raises(ValueError, match=r"two\.npz holds other posts than .*one\.npz"):
        read_teacher([tmp_path / "one.npz", tmp_path / "two.npz"])


def test_target_is_the_label_until_a_teacher_is_trusted() -> None:
    labels = torch.tensor([2, 0])
    taught = torch.tensor([[0.1, 0.2, 0.7], [torch.nan] * 3])
    assert blended(labels, None, trust=0.5, classes=3).tolist() == [[0, 0, 1], [1, 0, 0]]
    targets = blended(labels, taught, trust=0.5, classes=3)
    assert targets[0].tolist() == pytest.approx([0.05, 0.1, 0.85])
    assert targets[1].tolist() == [1, 0, 0]


def test_model_learns_from_the_kind_of_answer_it_gives(
    build_tiny_model: "Callable[..., MDSE]", build_batch: "Callable[..., Batch]"
) -> None:
    model = build_tiny_model(macl_weight=0.0).eval()
    post, text_only = build_batch(), build_batch(image=False)

    def loss_taught(batch: "Batch", kind: str) -> float:
        taught = torch.full((len(batch.labels), len(KINDS), 3), torch.nan)
        taught[:, KINDS.index(kind)] = torch.tensor([0.0, 0.0, 1.0])
        return float(model.loss(batch._replace(taught=taught)))

    with torch.inference_mode():
        alone, whole = float(model.loss(text_only)), float(model.loss(post))
        assert loss_taught(text_only, "text") != pytest.approx(alone)
        assert loss_taught(text_only, "both") == pytest.approx(alone)
        for kind in ("both", "caption", "image"):
            assert loss_taught(post, kind) != pytest.approx(whole)
        assert loss_taught(post, "text") == pytest.approx(whole)
