"""Labelled sets in their owners' layouts and as Parquet: texts, labels, splits, pictures."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest.errors import BadSource
from ingest.sources.items import Skipped
from tests.ingest.test_formats import drafts, open_it, read, told

NO_TIME = "no time in the data set: posts stand one second apart"


@pytest.fixture
def memotion_folder(tmp_path: Path, jpeg: bytes) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "image_1.jpg").write_bytes(jpeg)
    (tmp_path / "images" / "image_2.png").write_bytes(b"no picture at all")
    (tmp_path / "secret.jpg").write_bytes(jpeg)
    (tmp_path / "labels.csv").write_text(
        ",image_name,text_ocr,text_corrected,humour,sarcasm,offensive,motivational,overall_sentiment\n"
        '0,image_1.jpg,READ OFF,"put, right",funny,general,slight,motivational,very_positive\n'
        "1,image_2.png,READ OFF,,funny,general,slight,motivational,very_negative\n"
        "2,image_3.jpg,no picture,no picture,funny,general,slight,motivational,neutral\n"
        "3,../secret.jpg,outside,outside,funny,general,slight,motivational,negative\n"
        "4,image_5.jpg\n"
        "5,image_6.jpg,odd,odd,funny,general,slight,motivational,meh\n"
    )
    return tmp_path


def test_the_memotion_folder_merges_five_classes_and_keeps_texts_of_broken_pictures(
    memotion_folder: Path, jpeg: bytes
) -> None:
    assert open_it(memotion_folder).format == "Memotion, the owners' folder"  # type: ignore[attr-defined]
    items = read(memotion_folder)
    assert [(draft.post.id, draft.post.text, draft.post.label) for draft in drafts(items)] == [
        ("memotion:image_1", "put, right", "positive"),
        ("memotion:image_2", "READ OFF", "negative"),
        ("memotion:image_3", "no picture", "neutral"),
        ("memotion:../secret", "outside", "negative"),
        ("memotion:image_6", "odd", None),
    ]
    pictures = [[picture.data for picture in draft.pictures] for draft in drafts(items)]
    assert pictures == [[jpeg], [b"no picture at all"], [], [], []]
    assert drafts(items)[2].warnings == (NO_TIME, "picture missing")
    assert drafts(items)[4].warnings == (NO_TIME, "picture missing", "unknown label")
    assert [item.reason for item in items if isinstance(item, Skipped)] == ["row with too few columns"]


def test_the_memotion_folder_has_no_splits(memotion_folder: Path) -> None:
    with pytest.raises(BadSource, match="--split test: the folder .* has no splits; leave it out, or use the Parquet"):
        open_it(memotion_folder, split="test")


def test_labels_of_another_layout_are_explained(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels.csv").write_text("image_name,mood\n")
    with pytest.raises(BadSource, match="lacks the column overall_sentiment, text_corrected, text_ocr of Memotion's"):
        open_it(tmp_path)


@pytest.fixture
def memotion_parquet(tmp_path: Path, jpeg: bytes) -> Path:
    rows = {
        "id": ["image_1", "image_2", "image_3"],
        "split": ["train", "validation", "test"],
        "text": ["one", None, "three"],
        "text_ocr": ["ONE", "TWO", "THREE"],
        "label": ["very_positive", "very_negative", "neutral"],
        "image": [jpeg, b"", jpeg],
    }
    pq.write_table(pa.table(rows), tmp_path / "memes.parquet")
    return tmp_path / "memes.parquet"


def test_memotion_as_parquet(memotion_parquet: Path) -> None:
    found = drafts(read(memotion_parquet))
    assert [(draft.post.id, draft.post.text, draft.post.label) for draft in found] == [
        ("memotion:image_1", "one", "positive"),
        ("memotion:image_2", "TWO", "negative"),
        ("memotion:image_3", "three", "neutral"),
    ]
    assert [len(draft.pictures) for draft in found] == [1, 0, 1]


@pytest.mark.parametrize("split", ["val", "validation", "dev", "VAL"])
def test_a_split_goes_by_all_its_names_and_keeps_its_times(memotion_parquet: Path, split: str) -> None:
    [draft] = drafts(read(memotion_parquet, split=split))
    assert draft.post.id == "memotion:image_2"
    assert draft.post.created_at == datetime(2016, 1, 1, 0, 0, 2, tzinfo=UTC)


def test_tweet_sentiment_is_timed_by_its_ids_and_unescaped(tmp_path: Path) -> None:
    rows = {
        "id": ["570306133677760513", "v1"],
        "split": ["train", "validation"],
        "text": [r'won\u002c \""at last\"" \ud83d\ude80 \ud83d', "plain"],
        "label": ["positive", "negative"],
        "created_at_ms": pa.array([1424777752000, None], pa.int64()),
    }
    pq.write_table(pa.table(rows), tmp_path / "feed")
    first, second = drafts(read(tmp_path / "feed"))
    assert first.post.text == 'won, "at last" 🚀 \ufffd'
    assert first.post.created_at == datetime(2015, 2, 24, 19, 35, 52, 701000, UTC)
    assert second.post.created_at == datetime(2016, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert second.warnings == ("no time in the row: such posts stand one second apart",)
    assert [draft.post.label for draft in drafts(read(tmp_path / "feed", split="dev"))] == ["negative"]


def test_a_parquet_file_of_an_unknown_layout_is_explained(tmp_path: Path) -> None:
    pq.write_table(pa.table({"words": ["a"]}), tmp_path / "feed")
    with pytest.raises(BadSource, match="Parquet file of an unknown layout, with the columns words: write it as CSV"):
        open_it(tmp_path / "feed")


@pytest.fixture
def twitter_folder(tmp_path: Path, jpeg: bytes) -> Path:
    folder, images = tmp_path / "twitter2015", tmp_path / "twitter2015_images"
    folder.mkdir()
    images.mkdir()
    (images / "1.jpg").write_bytes(jpeg)
    head = "index\t#1 Label\t#2 ImageID\t#3 String\t#3 String\n"
    (folder / "train.tsv").write_text(head + "1\t0\t1.jpg\t$T$ was late\tThe tram\n2\t2\t1.jpg\ton $T$ !\tlife\n")
    (folder / "dev.tsv").write_text(head + "1\t1\t../train.tsv\t$T$ is\tIt\n2\t9\t1.jpg\t$T$\tx\n3\t1\n")
    (folder / "test.tsv").write_text(head + "1\t2\t1.jpg\tgood $T$\tcoffee\n")
    return folder


def test_twitter_15_fills_the_target_in_and_counts_labels_from_negative(twitter_folder: Path) -> None:
    assert open_it(twitter_folder).format == "Twitter15, the owners' folder"  # type: ignore[attr-defined]
    items = read(twitter_folder)
    assert [(draft.post.id, draft.post.text, draft.post.label, len(draft.pictures)) for draft in drafts(items)] == [
        ("twitter15:train-1", "The tram was late", "negative", 1),
        ("twitter15:train-2", "on life !", "positive", 1),
        ("twitter15:dev-1", "It is", "neutral", 0),
        ("twitter15:test-1", "good coffee", "positive", 1),
    ]
    assert [(item.reason, item.item) for item in items if isinstance(item, Skipped)] == [
        ("row whose label is not 0, 1 or 2", "dev.tsv, line 3"),
        ("row that has not 5 columns", "dev.tsv, line 4"),
    ]


@pytest.mark.parametrize(("split", "ids"), [("test", ["twitter15:test-1"]), ("val", ["twitter15:dev-1"])])
def test_twitter_15_has_splits(twitter_folder: Path, split: str, ids: list[str]) -> None:
    assert [draft.post.id for draft in drafts(read(twitter_folder, split=split))] == ids


def test_an_unknown_split_of_twitter_15_is_answered_with_the_known_ones(twitter_folder: Path) -> None:
    with pytest.raises(BadSource, match="--split dress: .* has the splits dev, test, train"):
        open_it(twitter_folder, split="dress")


@pytest.fixture
def hfm_folder(tmp_path: Path, jpeg: bytes) -> Path:
    (tmp_path / "text").mkdir()
    (tmp_path / "dataset_image").mkdir()
    (tmp_path / "dataset_image" / "11.jpg").write_bytes(jpeg)
    (tmp_path / "text" / "train.txt").write_text("['11', 'oh great <user>', 1]\n['12', \"it's #sarcasm\", 0]\n")
    (tmp_path / "text" / "valid2.txt").write_text(
        "['13', 'fine', 0, 1]\n__import__('os').getcwd()\n['14']\n" + "[" * 5000 + "\n"
    )
    (tmp_path / "text" / "test2.txt").write_text("['../x', 'out', 1, 1]\n")
    return tmp_path


def test_hfm_gives_texts_without_labels_and_says_so(hfm_folder: Path) -> None:
    items = read(hfm_folder)
    assert [(draft.post.id, draft.post.text, draft.post.label, len(draft.pictures)) for draft in drafts(items)] == [
        ("hfm:11", "oh great <user>", None, 1),
        ("hfm:12", "it's #sarcasm", None, 0),
        ("hfm:13", "fine", None, 0),
        ("hfm:../x", "out", None, 0),
    ]
    assert {draft.warnings[1] for draft in drafts(items)} == {"label left out: it tells sarcasm, not sentiment"}
    assert [item.item for item in items if isinstance(item, Skipped)] == [
        "valid2.txt, line 2",
        "valid2.txt, line 3",
        "valid2.txt, line 4",
    ]


def test_hfm_has_splits(hfm_folder: Path) -> None:
    assert told(read(hfm_folder, split="train")) == ["hfm:11", "hfm:12"]
    assert told(read(hfm_folder, split="dev"))[0] == "hfm:13"


@pytest.mark.parametrize("folder", ["hfm_folder", "memotion_folder", "mvsa_folder"])
def test_a_map_for_a_data_set_is_refused(folder: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(BadSource, match="--map: only CSV, TSV and JSON Lines have columns to map"):
        open_it(request.getfixturevalue(folder), column_map={"text": "text"})


@pytest.mark.data
@pytest.mark.parametrize(
    ("split", "labels"),
    [
        (None, {"positive": 4160, "neutral": 2201, "negative": 631}),
        ("test", {"positive": 833, "neutral": 439, "negative": 125}),
    ],
)
def test_the_real_memotion(data: Path, split: str | None, labels: dict[str, int]) -> None:
    found = drafts(read(data / "memotion7k.parquet", split=split))
    assert Counter(draft.post.label for draft in found) == labels


@pytest.mark.data
def test_the_real_tweets(data: Path) -> None:
    found = drafts(read(data / "tweet_sentiment.parquet"))
    assert len(found) == 47_462 + 2_000
    assert len({draft.post.id for draft in found}) == 49_452, "ten ids repeat in the file"
    assert sum(bool(draft.warnings) for draft in found) == 2_000
    assert not any("\\u" in draft.post.text for draft in found)
    assert len(drafts(read(data / "tweet_sentiment.parquet", split="val"))) == 2_000
