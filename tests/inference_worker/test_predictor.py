"""The shipped model on posts the project wrote: one post's prediction never depends on its batch-mates."""

from __future__ import annotations

import hashlib
import io
import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageDraw

from inference_worker.artifact import load
from inference_worker.contract import EMBEDDING_SIZE, most_likely
from inference_worker.engines.whole_numbers import are_exact
from inference_worker.errors import Unscorable, WorkerError
from inference_worker.predictor import Engine, Fusion, ImageCache, Predictor, Scores
from inference_worker.preprocess import Example
from inference_worker.settings import DEFAULT_MODEL
from ingest.contract import Image, Post
from ingest.media.sanitize import make_safe
from ingest.sources.items import Draft
from ingest.sources.sample import SampleFeed

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)


@pytest.fixture(scope="module", params=["onnx-float32", pytest.param("onnx-int8", marks=pytest.mark.vnni)])
def predictor(request: pytest.FixtureRequest) -> Predictor:
    if request.param == "onnx-int8" and not are_exact():
        pytest.skip("this processor saturates products of bytes")
    return load(DEFAULT_MODEL, engine=request.param)


def post(text: str = "", *images: Image) -> Post:
    return Post(id="x:1", source="x", created_at=NOW, ingested_at=NOW, text=text, images=images)


def drawing(colour: str = "orange") -> Image:
    picture = PillowImage.new("RGB", (300, 260), "white")
    ImageDraw.Draw(picture).ellipse((40, 40, 220, 220), fill=colour)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")
    return make_safe(buffer.getvalue())


@pytest.fixture(scope="module")
def sample() -> list[Post]:
    """The posts of the bundled feed, safe pictures and all."""
    drafts: Sequence[Draft] = SampleFeed()._load()
    return [post(draft.post.text, *(make_safe(picture.data) for picture in draft.pictures)) for draft in drafts]


def by_lane(examples: Sequence[Example]) -> dict[str, list[Example]]:
    lanes: dict[str, list[Example]] = {}
    for example in examples:
        lanes.setdefault(example.lane, []).append(example)
    return lanes


def assert_same(one: Scores, other: Scores) -> None:
    assert most_likely(one.fused) == most_likely(other.fused)
    for mine, theirs in ((one.fused, other.fused), (one.text, other.text), (one.image, other.image)):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            np.testing.assert_allclose(mine, theirs, atol=1e-4)
    assert np.abs(embedding(one) - embedding(other)).max() <= 1  # rounded, so one step at most


def embedding(scores: Scores) -> np.ndarray:
    assert len(scores.embedding) == EMBEDDING_SIZE
    return np.frombuffer(scores.embedding, np.int8).astype(int)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_alone_in_a_batch_of_32_and_with_other_mates_a_post_scores_the_same(
    predictor: Predictor, sample: list[Post]
) -> None:
    """The pictures are encoded anew each time: the cache is what must not hide a difference."""
    randomly = random.Random(7)
    for lane, examples in by_lane([predictor.prepare(one) for one in sample]).items():
        chosen = randomly.sample(examples, min(32, len(examples)))
        assert len(chosen) >= 16, f"the sample feed has too few posts of lane {lane}"
        alone = []
        for example in chosen:
            predictor.images = ImageCache(512)
            alone.append(predictor.predict([example])[0])
        for _ in range(2):
            order = randomly.sample(range(len(chosen)), len(chosen))
            for start in range(0, len(order), 32):
                rows = order[start : start + 32]
                predictor.images = ImageCache(512)
                for row, scores in zip(rows, predictor.predict([chosen[row] for row in rows]), strict=True):
                    assert_same(alone[row], scores)


def test_padding_to_a_much_longer_mate_changes_nothing(predictor: Predictor) -> None:
    short = predictor.prepare(post("The tram is late again.", drawing()))
    long = predictor.prepare(post("word " * 500, drawing("blue")))
    assert long.tokens > 10 * short.tokens
    assert_same(predictor.predict([short])[0], predictor.predict([long, short])[1])


def test_each_modality_alone_is_first_class(predictor: Predictor) -> None:
    text, image, both = (
        predictor.predict([predictor.prepare(one)])[0]
        for one in (post("I love this"), post("", drawing()), post("I love this", drawing()))
    )
    assert (text.image, image.text) == (None, None)
    assert text.fused == text.text
    assert both.text != text.text  # beside a picture a text has other labels to tell apart
    assert image.fused == image.image == both.image
    assert both.token_map
    assert len(both.image_map) == predictor.grid[0] * predictor.grid[1]
    for scores in (text, image, both):
        assert sum(scores.fused) == pytest.approx(1)
        assert scores.confidence == max(scores.fused)


def test_obvious_posts_are_called_right(predictor: Predictor) -> None:
    called = [
        most_likely(predictor.predict([predictor.prepare(post(text))])[0].fused)
        for text in (
            "What a wonderful morning, I love this city so much!",
            "This is terrible, worst service ever, I am so angry",
            "The meeting starts at 10:30 in room 4",
        )
    ]
    assert called == ["positive", "negative", "neutral"]


def test_token_map_points_into_the_text_as_it_was_written(predictor: Predictor) -> None:
    text = "RT @ann: Grüße &amp; 🎉 from https://example.org to EVERYONE"
    scores = predictor.predict([predictor.prepare(post(text, drawing()))])[0]
    assert all(0 <= start < end <= len(text) and 0 <= weight <= 255 for start, end, weight in scores.token_map)
    assert "EVERYONE" in {text[start:end] for start, end, _ in scores.token_map}


def test_several_images_are_averaged_and_order_does_not_matter(predictor: Predictor) -> None:
    red, blue = drawing("red"), drawing("blue")
    one = predictor.predict([predictor.prepare(post("", red, blue))])[0]
    other = predictor.predict([predictor.prepare(post("", blue, red))])[0]
    np.testing.assert_allclose(one.fused, other.fused, atol=1e-6)
    assert {one.strongest_image, other.strongest_image} == {0, 1}


def test_a_picture_is_encoded_once(predictor: Predictor) -> None:
    predictor.images = ImageCache(512)
    example = predictor.prepare(post("", drawing("green")))
    first = predictor.predict([example])[0]
    again = predictor.prepare(post("", drawing("green")))
    assert again.images[0].pixels is None
    assert predictor.predict([again])[0] == first
    assert (predictor.images.hits, predictor.images.misses) == (1, 1)


def test_the_image_cache_is_bounded_and_an_evicted_picture_is_decoded_again(predictor: Predictor) -> None:
    predictor.images = ImageCache(1)
    predictor.predict([predictor.prepare(post("", drawing("green")))])
    cached = predictor.prepare(post("", drawing("green")))
    predictor.predict([predictor.prepare(post("", drawing("black")))])
    assert drawing("green").sha256 not in predictor.images
    assert predictor.predict([cached])[0].image is not None
    predictor.images = ImageCache(512)


@pytest.mark.parametrize("text", ["", "   \n\t", "\u200b\u200d", "\x00"])
def test_a_post_of_nothing_cannot_be_scored(predictor: Predictor, text: str) -> None:
    with pytest.raises(Unscorable, match="neither text nor image"):
        predictor.prepare(post(text))


@pytest.mark.parametrize(
    "text", ["😀", "👩‍👩‍👧‍👦" * 50, "x" * 20_000, "a\x00b", "שלום עולם", "Z̶̢͖͐a̷l̵g̸o"]
)  # fmt: skip
def test_odd_texts_give_a_valid_distribution(predictor: Predictor, text: str) -> None:
    scores = predictor.predict([predictor.prepare(post(text))])[0]
    assert sum(scores.fused) == pytest.approx(1)


def test_a_text_cut_short_says_so(predictor: Predictor) -> None:
    example = predictor.prepare(post("so many words " * 2000))
    assert example.warnings == (f"text truncated to {predictor.preprocessor.text.max_tokens} tokens",)
    assert example.tokens == predictor.preprocessor.text.max_tokens


def bad_image(data: bytes) -> Image:
    return Image(jpeg=data, sha256=hashlib.sha256(data).digest(), phash=b"", width=1, height=1)


def encoded(size: tuple[int, int], kind: str) -> bytes:
    buffer = io.BytesIO()
    PillowImage.new("L", size).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (drawing().jpeg[:900], "truncated"),
        (encoded((6400, 6400), "PNG"), "no readable JPEG"),
        (encoded((6400, 6400), "JPEG"), "is more than 4,000,000"),
        (b"", "no readable JPEG"),
        (b"<svg/>", "no readable JPEG"),
    ],
    ids=["truncated", "40 MP PNG", "40 MP JPEG", "empty", "SVG"],
)
def test_a_bad_picture_is_left_out_with_a_warning_or_makes_the_post_unscorable(
    predictor: Predictor, data: bytes, reason: str
) -> None:
    example = predictor.prepare(post("still here", bad_image(data)))
    assert example.lane == "text"
    (warning,) = example.warnings
    assert warning.startswith("image 1 left out")
    assert reason in warning
    with pytest.raises(Unscorable, match="image 1 left out"):
        predictor.prepare(post("", bad_image(data)))


class Faulty:
    """The engine, with NaN in what one of its graphs gives."""

    name = "faulty"

    def __init__(self, engine: Engine, graph: str, output: int) -> None:
        self.engine, self.graph, self.output = engine, graph, output

    def __getattr__(self, graph: str) -> Any:
        def run(*inputs: np.ndarray) -> Any:
            outputs = list(getattr(self.engine, graph)(*inputs))
            if graph == self.graph:
                outputs[self.output] = np.full_like(outputs[self.output], np.nan)
            return Fusion(*outputs) if graph == "fuse" else tuple(outputs)

        return run


def with_engine(predictor: Predictor, engine: Any) -> Predictor:
    return Predictor(
        name="faulty 1",
        engine=engine,
        preprocessor=predictor.preprocessor,
        calibration=predictor.calibration,
        label_order=[0, 1, 2],
        languages=predictor.languages,
    )


@pytest.mark.parametrize(
    ("graph", "output"),
    [*itertools.product(("encode_text", "encode_image"), range(2)), *(("fuse", output) for output in range(4))],
)
def test_whatever_of_a_post_is_not_finite_is_an_error(predictor: Predictor, graph: str, output: int) -> None:
    """NaN is never written; a picture it came of is looked at anew."""
    faulty = with_engine(predictor, Faulty(predictor.engine, graph, output))
    texts, pictures = {"encode_text": ("hello", ()), "encode_image": ("", (drawing(),))}.get(graph, ("a", (drawing(),)))
    example = faulty.prepare(post(texts, *pictures))
    with pytest.raises(WorkerError, match="not finite"):
        faulty.predict([example])
    faulty.engine = predictor.engine
    assert faulty.predict([example])


def test_an_engine_works_while_it_scores_its_golden_rows(predictor: Predictor) -> None:
    assert set(predictor.proofs) == {"text", "image", "both"}
    assert all(predictor.works(lane) for lane in predictor.proofs)
    faulty = with_engine(predictor, Faulty(predictor.engine, "encode_image", 1))
    faulty.proofs, faulty.images = predictor.proofs, predictor.images  # which it knows already
    assert [faulty.works(lane) for lane in ("text", "image", "both")] == [True, False, False]


def test_a_batch_of_mixed_lanes_is_a_mistake_of_the_caller(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="one lane"):
        predictor.predict([predictor.prepare(post("a")), predictor.prepare(post("a", drawing()))])


def test_alike_posts_have_alike_embeddings(predictor: Predictor) -> None:
    def of(*posts: Post) -> list[np.ndarray]:
        return [embedding(predictor.predict([predictor.prepare(one)])[0]) / 127 for one in posts]

    tram, delay, coffee = of(
        post("the tram is late again"), post("tram delayed once more, very late"), post("best flat white in town")
    )
    assert np.linalg.norm(tram) == pytest.approx(1, abs=0.05)
    assert tram @ delay > tram @ coffee + 0.1
    pictured, same = of(post("", drawing()), post("", drawing()))
    assert (pictured == same).all()


def test_a_posts_language_is_told_when_it_is_prepared(predictor: Predictor) -> None:
    german = msgspec.structs.replace(post("die Bahn hat mal wieder vierzig Minuten Verspätung"), lang="en")
    assert predictor.prepare(german).language == "de"
    assert predictor.is_foreign("de")


CAPTION = "I love waiting for my tram\nall morning long, said nobody ever"


def with_words(words: str | None) -> Image:
    return msgspec.structs.replace(drawing(), words=words)


def test_words_in_the_picture_of_a_post_without_text_are_scored_as_its_text(predictor: Predictor) -> None:
    captioned = predictor.prepare(post("", with_words(CAPTION)))
    assert captioned.lane == "both"
    assert captioned.warnings == ("words in the picture scored as its text",)
    (found,) = predictor.predict([captioned])
    (told,) = predictor.predict([predictor.prepare(post(CAPTION, drawing()))])
    assert_same(found, told)
    assert told.token_map and not found.token_map  # the post has no text to mark them in


def test_words_in_a_picture_tell_the_language_where_they_are_what_is_scored(predictor: Predictor) -> None:
    german = with_words("Die Bahn hat mal wieder vierzig Minuten Verspätung und keiner weiß warum")
    assert predictor.prepare(post("", german)).language == "de"
    assert predictor.prepare(post("late again this morning, as ever", german)).language != "de"


@pytest.mark.parametrize(
    "words", [None, "", "EXIT", "one two three four five six seven", "リツイート 1 2 3 4 5 6 7 8 9"]
)
def test_a_few_words_in_a_picture_are_left_to_the_picture(predictor: Predictor, words: str | None) -> None:
    example = predictor.prepare(post("", with_words(words)))
    assert example.lane == "image"
    assert example.warnings == ()


def test_beside_a_text_of_its_own_words_in_the_picture_change_nothing(predictor: Predictor) -> None:
    own = predictor.prepare(post("late again", with_words(CAPTION)))
    without = predictor.prepare(post("late again", drawing()))
    assert own.text is not None and without.text is not None
    assert own.text.spans == without.text.spans
    assert_same(predictor.predict([own])[0], predictor.predict([without])[0])


def test_words_beyond_the_tokens_are_cut_off_and_told(predictor: Predictor) -> None:
    example = predictor.prepare(post("", with_words("never again this tram " * 200)))
    assert example.tokens == predictor.preprocessor.text.max_tokens
    assert example.warnings[0].startswith("text truncated")
