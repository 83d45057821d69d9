import io
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from PIL import Image  # noqa: E402

from training.datasets.example import Example  # noqa: E402
from training.datasets.mvsa import merge_labels, read_mvsa  # noqa: E402
from training.datasets.tweet_sentiment import read_tweet_sentiment, unescape  # noqa: E402
from training.datasets.twins import normalised_text, twins_in  # noqa: E402

pytestmark = pytest.mark.train


def picture(colour: tuple[int, int, int] = (200, 30, 30), *, ramp: bool = False, quality: int = 90) -> bytes:
    image = Image.linear_gradient("L").convert("RGB") if ramp else Image.new("RGB", (60, 40), colour)
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=quality)
    return encoded.getvalue()


@pytest.mark.parametrize(
    ("text", "image", "merged"),
    [
        ("positive", "positive", "positive"),
        ("neutral", "negative", "negative"),
        ("positive", "neutral", "positive"),
        ("neutral", "neutral", "neutral"),
        ("positive", "negative", None),
    ],
)
def test_labels_merge_by_the_rule_of_xu_and_mao(text: str, image: str, merged: str | None) -> None:
    assert merge_labels(text, image) == merged


@pytest.fixture
def owners_folder(tmp_path: Path) -> Path:
    """Twenty good posts of each class, and one of each kind of broken one."""
    lines = ["ID\ttext,image"]
    (tmp_path / "data").mkdir()
    pairs = {"positive": "positive,neutral", "neutral": "neutral,neutral", "negative": "negative,negative"}
    for number, pair in enumerate(pair for pair in pairs.values() for _ in range(20)):
        lines.append(f"{number}\t{pair}")
        (tmp_path / "data" / f"{number}.txt").write_bytes(f"post caf\xe9 {number}\n".encode("latin-1"))
        (tmp_path / "data" / f"{number}.jpg").write_bytes(picture())
    lines += ["100\tpositive,negative", "101\tpositive,happy", "102\tneutral,neutral", "103\tneutral,neutral", ""]
    for number in (100, 103):
        (tmp_path / "data" / f"{number}.txt").write_text("x")
        (tmp_path / "data" / f"{number}.jpg").write_bytes(b"")
    (tmp_path / "labelResultAll.txt").write_text("\n".join(lines))
    return tmp_path


def test_owners_folder_is_read_split_and_its_broken_rows_counted(owners_folder: Path) -> None:
    mvsa = read_mvsa(owners_folder, seed=1)
    assert {name: len(rows) for name, rows in mvsa.splits.items()} == {"train": 48, "validation": 6, "test": 6}
    assert sorted(row.label for row in mvsa.splits["test"]) == [0, 0, 1, 1, 2, 2]
    assert mvsa.skipped == {
        "bad label line": ["line 63"],
        "labels contradict": ["100"],
        "file missing": ["102"],
        "image empty": ["103"],
    }
    first = next(row for rows in mvsa.splits.values() for row in rows if row.id == "0")
    assert (first.text, first.label) == ("post café 0", 0)
    assert read_mvsa(owners_folder, seed=1).splits == mvsa.splits


def test_parquet_keeps_its_published_split(tmp_path: Path) -> None:
    rows = [
        {"id": "7", "split": "train", "text": "good", "label": "positive", "image": b"a"},
        {"id": "8", "split": "test", "text": "bad", "label": "negative", "image": b"b"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "mvsa.parquet")
    splits = read_mvsa(tmp_path / "mvsa.parquet").splits
    assert splits == {
        "train": [Example("7", "good", b"a", 0)],
        "validation": [],
        "test": [Example("8", "bad", b"b", 2)],
    }


def test_a_path_that_is_no_mvsa_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labelResultAll.txt"):
        read_mvsa(tmp_path)


def test_tweets_lose_the_escapes_of_their_corpus(tmp_path: Path) -> None:
    rows = [{"id": 1, "split": "train", "text": r"Plus\u002c it\u2019s fine", "label": "neutral"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "tweets.parquet")
    assert read_tweet_sentiment(tmp_path / "tweets.parquet") == {"train": [Example("1", "Plus, it’s fine", None, 1)]}


def test_half_of_the_tweet_validation_split_is_kept_to_report_on(tmp_path: Path) -> None:
    rows = [{"id": f"t{n}", "split": "validation", "text": "so", "label": "neutral"} for n in range(200)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "tweets.parquet")
    splits = read_tweet_sentiment(tmp_path / "tweets.parquet")
    ids = [{example.id for example in splits[name]} for name in ("validation", "report")]
    assert not ids[0] & ids[1] and len(ids[0] | ids[1]) == 200
    assert 80 < len(ids[0]) < 120
    assert unescape('say \\""hi\\"" C:\\users') == 'say "hi" C:\\users'


def test_text_twins_ignore_handles_links_and_case() -> None:
    assert normalised_text("RT @bob: So GOOD!! http://t.co/x #yay") == normalised_text("so good #yay")
    train = [Example("1", "RT @bob: So GOOD!! http://t.co/x", None, 0)]
    assert twins_in(train, [Example("2", "so good", None, 0), Example("3", "so bad", None, 0)]) == [True, False]


def test_texts_of_which_nothing_is_left_are_no_twins() -> None:
    train = [Example("1", "@ann https://a.example/1", None, 0)]
    assert twins_in(train, [Example("2", "https://b.example/2", None, 0), Example("3", None, None, 0)]) == [False] * 2


def test_picture_twins_survive_another_compression() -> None:
    train = [Example("1", "one", picture(ramp=True), 0)]
    others = [Example("2", "two", picture(ramp=True, quality=40), 0), Example("3", "three", picture((0, 0, 0)), 0)]
    assert twins_in(train, others) == [True, False]
