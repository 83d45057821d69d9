import numpy as np
import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from training.datasets.example import Example  # noqa: E402
from training.slices import slices, traits_of  # noqa: E402

pytestmark = pytest.mark.train


@pytest.mark.parametrize(
    ("text", "traits"),
    [
        ("RT @who: so #good 😀", ["up to 40 characters", "emoji", "hashtag", "retweet"]),
        ("rt is no retweet # here " + "x" * 30, ["41 to 80 characters", "no emoji", "no hashtag", "no retweet"]),
        ("art " * 25, ["81 to 120 characters", "no emoji", "no hashtag", "no retweet"]),
        ("", ["up to 40 characters", "no emoji", "no hashtag", "no retweet"]),
        ("☀" * 121, ["over 120 characters", "emoji", "no hashtag", "no retweet"]),
    ],
)
def test_traits_of_a_text(text: str, traits: list[str]) -> None:
    assert traits_of(text) == traits


def test_each_trait_divides_all_posts_and_empty_slices_are_left_out() -> None:
    examples = [Example(str(n), "#tag" if n < 4 else "plain", None, n % 3) for n in range(10)]
    logits = np.eye(3)[[0 if n < 4 else n % 3 for n in range(10)]]
    found = slices(examples, logits)
    assert list(found) == ["up to 40 characters", "no emoji", "hashtag", "no hashtag", "no retweet"]
    assert (found["hashtag"]["rows"], found["hashtag"]["accuracy"]) == (4, 0.5)
    assert (found["no hashtag"]["rows"], found["no hashtag"]["accuracy"]) == (6, 1.0)
    low, high = found["hashtag"]["accuracy_interval"]
    assert low < 0.2 and high > 0.8
