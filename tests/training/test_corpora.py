"""Every corpus in its owners' layout, made up in small: labels mapped, broken rows named, splits without twins."""

import csv
import os
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")

from tests.training.test_datasets import picture  # noqa: E402
from training.datasets.example import LABELS, Example  # noqa: E402
from training.datasets.hfm import read_hfm  # noqa: E402
from training.datasets.memotion import FIVE, read_memotion  # noqa: E402
from training.datasets.multi_zol import read_multi_zol  # noqa: E402
from training.datasets.mvsa import agreed, read_mvsa  # noqa: E402
from training.datasets.splitting import folds, stratified_split, twin_free_split  # noqa: E402
from training.datasets.twins import twin_groups, twins_in  # noqa: E402
from training.datasets.twitter_aspect import read_twitter_aspect  # noqa: E402

pytestmark = pytest.mark.train
DATA = Path(os.environ.get("MOODSTREAM_DATA", Path(__file__).parents[3] / "shared" / "data"))


def examples(count: int = 60) -> list[Example]:
    return [Example(str(n), f"post number {n}", None, n % 3) for n in range(count)]


def test_two_of_three_annotators_are_a_majority() -> None:
    assert agreed(["positive", "neutral", "positive"]) == "positive"
    assert agreed(["positive", "neutral", "negative"]) is None
    assert agreed(["neutral"]) == "neutral"


def test_mvsa_multiple_is_merged_per_modality_first(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    lines = [
        "ID\ttext,image\ttext,image\ttext,image",
        "1\tpositive,neutral\tpositive,neutral\tneutral,negative",
        "2\tpositive,neutral\tneutral,neutral\tnegative,neutral",
        "3\tpositive,negative\tpositive,negative\tneutral,negative",
        "4\tneutral,neutral\tneutral,neutral",
    ]
    (tmp_path / "labelResultAll.txt").write_text("\n".join(lines))
    for number in range(1, 5):
        (tmp_path / "data" / f"{number}.txt").write_text("x")
        (tmp_path / "data" / f"{number}.jpg").write_bytes(picture())
    corpus = read_mvsa(tmp_path)
    assert [(row.id, row.label) for rows in corpus.splits.values() for row in rows] == [("1", 0)]
    assert corpus.skipped == {
        "annotators disagree": ["2"],
        "labels contradict": ["3"],
        "bad label line": ["line 5"],
    }


def test_a_stratified_split_keeps_the_mix_of_classes_and_repeats() -> None:
    splits = stratified_split(examples(), seed=3)
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 48, "validation": 6, "test": 6}
    assert sorted(row.label for row in splits["test"]) == [0, 0, 1, 1, 2, 2]
    assert stratified_split(examples(), seed=3) == splits != stratified_split(examples(), seed=4)


def test_ten_folds_test_every_post_once() -> None:
    made = folds(examples(), seed=1)
    tested = [row.id for split in made for row in split["test"]]
    assert len(made) == 10
    assert sorted(tested) == sorted(row.id for row in examples())
    for split in made:
        ids = [{row.id for row in rows} for rows in split.values()]
        assert not ids[0] & ids[1] and not ids[0] & ids[2] and not ids[1] & ids[2]
        assert sum(map(len, ids)) == 60


def test_a_twin_free_split_keeps_twins_together() -> None:
    rows = [Example(str(n), f"RT @user{n}: the same words {n // 3}", None, n % 2) for n in range(90)]
    splits = twin_free_split(rows, seed=2)
    assert sum(map(len, splits.values())) == 90
    assert all(splits.values())
    assert not any(twins_in(splits["train"], [*splits["validation"], *splits["test"]]))


def test_twins_of_twins_are_one_group() -> None:
    rows = [
        Example("1", "so good", None, 0),
        Example("2", "RT @bob: So good!", picture(ramp=True), 0),
        Example("3", "something else", picture(ramp=True, quality=40), 0),
        Example("4", "alone", picture((0, 0, 0)), 0),
        Example("5", "@bob", None, 0),
        Example("6", "@ann", None, 0),
    ]
    groups = twin_groups(rows)
    assert groups[0] == groups[1] == groups[2]
    assert len({groups[0], *groups[3:]}) == 4  # nothing is left of texts 5 and 6: that does not make them alike


def test_memotion_is_read_from_the_owners_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    header = ["image_name", "text_ocr", "text_corrected", "overall_sentiment"]
    table = [[f"image_{n}.jpg", "OCR", f"words {n}" if n else "", FIVE[n % 5]] for n in range(40)]
    for name, *_ in table:
        (tmp_path / "images" / name).write_bytes(picture((int(name[6:-4]) * 6, 90, 30)))
    table += [["image_90.jpg", "a", "b", "funny"], ["image_91.png", "a", "b", "neutral"]]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *table])
    merged, five = read_memotion(tmp_path), read_memotion(tmp_path, classes=5)
    assert merged.classes == LABELS and five.classes == FIVE
    found = {row.id: (row.text, row.label) for rows in merged.splits.values() for row in rows}
    assert len(found) == 40
    assert found["image_0"] == ("OCR", 0)
    assert [found[f"image_{n}"][1] for n in range(5)] == [0, 0, 1, 2, 2]
    assert merged.skipped == {"unknown label": ["image_90.jpg"], "file missing": ["image_91.png"]}
    with pytest.raises(ValueError, match="not 4"):
        read_memotion(tmp_path, classes=4)
    with pytest.raises(ValueError, match=r"labels\.csv"):
        read_memotion(tmp_path / "images")


def test_twitter_labels_count_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "7.jpg").write_bytes(picture())
    header = "index\t#1 Label\t#2 ImageID\t#3 String\t#3 String\n"
    rows = '1\t0\t7.jpg\t$T$ is "late\t tram \n2\t1\t7.jpg\tseen $T$\tBob\n3\t2\t7.jpg\tgo $T$ go\tAnn\n'
    broken = "4\t3\t7.jpg\tx\ty\n5\t1\t8.jpg\tx\ty\n6\t1\n"
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        (tmp_path / name).write_text(header + rows + (broken if name == "dev.tsv" else ""))
    corpus = read_twitter_aspect(tmp_path)
    assert [LABELS[row.label] for row in corpus.splits["train"]] == ["negative", "neutral", "positive"]
    assert [row.text for row in corpus.splits["test"]] == [' tram  is "late', "seen Bob", "go Ann go"]
    assert corpus.splits["train"][1].aspect == "Bob"
    assert corpus.splits["validation"][0].id == "validation-1"
    assert corpus.skipped == {
        "bad row": ["dev.tsv line 5", "dev.tsv line 7"],
        "file missing": ["dev.tsv line 6: 8.jpg"],
    }
    (tmp_path / "dev.tsv").unlink()
    with pytest.raises(ValueError, match=r"lacks dev\.tsv"):
        read_twitter_aspect(tmp_path)


def test_hfm_takes_the_last_label_and_drops_what_gives_the_answer_away(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "dataset_image").mkdir()
    for number in (1, 2, 3):
        (tmp_path / "dataset_image" / f"{number}.jpg").write_bytes(picture())
    (tmp_path / "text" / "train.txt").write_text("['1', 'what a day', 1]\n['2', 'such irony here', 1]\n")
    (tmp_path / "text" / "valid2.txt").write_text("['3', 'hm', 1, 0]\n__import__('os')\n['9', 'x', 0, 0]\n['3']\n")
    (tmp_path / "text" / "test2.txt").write_text("")
    corpus = read_hfm(tmp_path)
    assert [(row.text, row.label) for row in corpus.splits["train"]] == [("what a day", 1)]
    assert [(row.id, row.label) for row in corpus.splits["validation"]] == [("3", 0)]
    assert corpus.skipped == {
        "gives the answer away": ["train.txt line 2: 2"],
        "bad row": ["valid2.txt line 2", "valid2.txt line 4"],
        "file missing": ["valid2.txt line 3: 9"],
    }
    (tmp_path / "text" / "test2.txt").unlink()
    with pytest.raises(ValueError, match=r"lacks text/test2\.txt"):
        read_hfm(tmp_path)


def test_multi_zol_draws_one_picture_and_can_keep_reviews_together(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images" / name).write_bytes(picture())

    def record(review: int, rating: str, pictures: str = "['x/a.jpg', 'b.jpg', 'gone.jpg']") -> str:
        return f"手机 {review}\n{pictures}\n性价比\n{rating}\n"

    (tmp_path / "train.txt").write_text("".join(record(n, "10") for n in range(40)), encoding="utf-8")
    (tmp_path / "dev.txt").write_text("".join(record(n, "2") for n in range(5)), encoding="utf-8")
    broken = record(50, "7") + record(51, "8", "['gone.jpg']") + "cut\n[]\n"
    (tmp_path / "test.txt").write_text("".join(record(n, "1") for n in range(5)) + broken, encoding="utf-8")
    corpus = read_multi_zol(tmp_path)
    assert {name: len(rows) for name, rows in corpus.splits.items()} == {"train": 40, "validation": 5, "test": 5}
    first = corpus.splits["train"][0]
    assert (first.text, first.aspect, corpus.classes[first.label]) == ("手机0", "性价比", "10")
    assert corpus.skipped == {
        "bad record": ["test.txt line 21", "test.txt line 29"],
        "file missing": ["test.txt line 25"],
    }
    grouped = read_multi_zol(tmp_path, grouped=True).splits
    reviews = [{row.text for row in rows} for rows in grouped.values()]
    assert all(reviews) and not reviews[0] & reviews[1] and not reviews[0] & reviews[2]
    (tmp_path / "dev.txt").unlink()
    with pytest.raises(ValueError, match=r"lacks dev\.txt"):
        read_multi_zol(tmp_path)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no data sets in {DATA} (set MOODSTREAM_DATA)")
def test_the_real_memotion_has_the_counts_its_owners_tell() -> None:
    corpus = read_memotion(DATA / "memotion7k.parquet", classes=5)
    rows = [row for split in corpus.splits.values() for row in split]
    assert len(rows) == 6992 and corpus.skipped == {}
    counts = [sum(row.label == label for row in rows) for label in range(5)]
    assert dict(zip(FIVE, counts, strict=True)) == {
        "very_positive": 1033, "positive": 3127, "neutral": 2201, "negative": 480, "very_negative": 151
    }  # fmt: skip
