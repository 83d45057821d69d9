"""How right an artifact is by what only the services tell of posts: their language, and the words in their pictures.

    python -m tests.benchmarks.traits --tweets TWEETS --mvsa MVSA [--memotion MEMES] [--limit 200] [--json]

Scored by the worker's own loader in float32. Words are read as ingest reads them: a third of a second of a core for a
picture with lettering. `--json > FILE` is what `python -m training card --traits FILE` puts into the model's card.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from msgspec.structs import replace

from inference_worker import artifact
from inference_worker.predictor import Predictor, Scores
from inference_worker.preprocess import text_of
from inference_worker.settings import DEFAULT_MODEL
from ingest.contract import Post
from ingest.media.lettering import has_lettering
from ingest.media.ocr import WordReader
from ingest.media.sanitize import make_safe
from tests.benchmarks.agreement import REFERENCE, post
from training.datasets.example import Example, labels_of
from training.datasets.memotion import read_memotion
from training.datasets.mvsa import read_mvsa
from training.datasets.tweet_sentiment import read_tweet_sentiment
from training.judgement import accuracy_interval, macro_recall_interval
from training.metrics import classification_report

CLASSES: Final = 3
FEW_WORDS: Final = "fewer words in the picture"
MANY_WORDS: Final = "8 words and more in the picture"
"""As many as the worker takes for the text of a post that has none."""


def as_ingested(example: Example, reader: WordReader) -> Post:
    """With its picture as it travels, and the words in that."""
    image = make_safe(example.image or b"")
    words = reader.read(image.jpeg).words if has_lettering(image.jpeg) else ""
    return replace(post(example), images=(replace(image, words=words),))


def language_trait(predictor: Predictor, one: Post) -> str:
    language = predictor.languages.of(one.text, one.lang)
    if language is None:
        return "in no language that is told"
    return "in another language" if predictor.is_foreign(language) else "in the model's language"


def words_trait(one: Post) -> str:
    if text_of(replace(one, text="")):
        return MANY_WORDS
    return FEW_WORDS if one.images[0].words else "no words in the picture"


def scored(predictor: Predictor, posts: Sequence[Post]) -> list[Scores]:
    """One by one, as some have a text and some do not."""
    return [predictor.predict([predictor.prepare(one)])[0] for one in posts]


def by_trait(traits: Sequence[str], labels: np.ndarray, distributions: Sequence[Any], told: str) -> Iterator[Any]:
    """A row a trait, that of most posts first."""
    probabilities = np.array(distributions)
    for trait in sorted(set(traits), key=lambda name: (-traits.count(name), name)):
        has_it = np.array(traits) == trait
        predicted = probabilities[has_it].argmax(-1)
        report = classification_report(labels[has_it], probabilities[has_it])
        yield {
            "trait": trait,
            "input": told,
            **{name: report[name] for name in ("rows", "accuracy", "macro_recall")},
            "accuracy_interval": accuracy_interval(labels[has_it], predicted),
            "macro_recall_interval": macro_recall_interval(labels[has_it], predicted, classes=CLASSES),
        }


def of_texts(predictor: Predictor, examples: Sequence[Example]) -> Iterator[Any]:
    posts = [post(example) for example in examples]
    whole = [scores.fused for scores in scored(predictor, posts)]
    yield from by_trait([language_trait(predictor, one) for one in posts], labels_of(examples), whole, "text")


def of_posts(predictor: Predictor, examples: Sequence[Example], reader: WordReader) -> Iterator[Any]:
    """Also of posts with many words in their pictures, as if these came without a text of their own."""
    posts, labels = [as_ingested(example, reader) for example in examples], labels_of(examples)
    answers = scored(predictor, posts)
    whole = [scores.fused for scores in answers]
    yield from by_trait([language_trait(predictor, one) for one in posts], labels, whole, "text and picture")
    traits = [words_trait(one) for one in posts]
    yield from by_trait(traits, labels, whole, "text and picture")
    lettered = [row for row, trait in enumerate(traits) if trait == MANY_WORDS]
    alone = [answers[row].image for row in lettered]
    with_words = scored(predictor, [replace(posts[row], text="") for row in lettered])
    for told, found in (("picture alone", alone), ("picture and its words", [scores.fused for scores in with_words])):
        yield from by_trait([MANY_WORDS] * len(lettered), labels[lettered], found, told)


def measure(model: Path, sets: Mapping[str, Sequence[Example]], threads: int) -> list[dict[str, Any]]:
    predictor = artifact.load(model, engine=REFERENCE, threads=threads)
    rows: list[dict[str, Any]] = []
    for name, examples in sets.items():
        has_pictures = examples[0].image is not None
        found = of_posts(predictor, examples, WordReader()) if has_pictures else of_texts(predictor, examples)
        rows += [{"data": name, **row} for row in found]
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(
        f"{row['data']:24} {row['trait']:32} {row['input']:22} {row['rows']:5} "
        f"accuracy {row['accuracy']:6.1%}  macro recall {row['macro_recall']:6.1%}"
        for row in rows
    )


def _some(examples: Sequence[Example], limit: int | None) -> Sequence[Example]:
    """Drawn, as sets may be sorted by label; the same ones every time."""
    return examples if limit is None else random.Random(1).sample(examples, min(limit, len(examples)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="artifact (default: the shipped one)")
    parser.add_argument("--mvsa", type=Path, help="MVSA-Single")
    parser.add_argument("--memotion", type=Path, help="Memotion 7k")
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="of MVSA-Single and Memotion")
    parser.add_argument("--tweets", type=Path, help="tweet_sentiment.parquet: its half to report on")
    parser.add_argument("--limit", type=int, help="so many posts of each set, drawn")
    parser.add_argument("--threads", type=int, default=0, help="of the engine within a call; one per core by default")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on standard output")
    options = parser.parse_args()
    sets: dict[str, Sequence[Example]] = {}
    if options.tweets:
        sets["tweet_sentiment report"] = read_tweet_sentiment(options.tweets)["report"]
    if options.mvsa:
        sets[f"mvsa_single {options.split}"] = read_mvsa(options.mvsa).splits[options.split]
    if options.memotion:
        sets[f"memotion {options.split}"] = read_memotion(options.memotion).splits[options.split]
    if not sets:
        parser.error("nothing to measure on: give --tweets, --mvsa or --memotion")
    rows = measure(options.model, {name: _some(one, options.limit) for name, one in sets.items()}, options.threads)
    print(table(rows), file=sys.stderr)
    if options.json:
        print(json.dumps({"traits": rows}))


if __name__ == "__main__":
    main()
