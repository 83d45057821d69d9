"""Whether a server says what our predictor says: the largest difference of a probability over some answers.

python -m tests.benchmarks.worker.parity --model DIRECTORY --feed FILE --first N --answers FILE
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from inference_worker import artifact
from inference_worker.predictor import Predictor
from inference_worker.settings import Settings
from ingest.contract import Post
from tests.benchmarks.worker import feed

COMPARED: Final = 48


def largest_difference(predictor: Predictor, posts: Sequence[Post], answers: Sequence[dict[str, Any]]) -> float:
    """Over all that a server says of a post: fused, text, image. Raises ValueError if it says it of other parts."""
    largest = 0.0
    for post, answer in zip(posts, answers, strict=True):
        (scores,) = predictor.predict([predictor.prepare(post)])
        for ours, theirs in ((scores.fused, "probabilities"), (scores.text, "text"), (scores.image, "image")):
            if (ours is None) != (answer[theirs] is None):
                raise ValueError(f"{post.id}: {theirs} is {answer[theirs]}, ours is {ours}")
            largest = max([largest, *(abs(a - b) for a, b in zip(ours or (), answer[theirs] or (), strict=True))])
    return largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--engine", default=Settings.engine)
    parser.add_argument("--feed", type=Path, required=True)
    parser.add_argument("--first", type=int, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    options = parser.parse_args()
    answers = json.loads(options.answers.read_bytes())[:COMPARED]
    posts = feed.read(options.feed, options.first, len(answers))
    print(json.dumps(largest_difference(artifact.load(options.model, engine=options.engine), posts, answers)))


if __name__ == "__main__":
    main()
