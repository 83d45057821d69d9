"""Does a richer calibration than one temperature pay? Cross-validated on the validation rows of an artifact alone.

    python -m training.scaling --artifact DIR --mvsa MVSA --tweets TWEETS

Held against a temperature (Guo et al., ICML 2017): a temperature with a bias for each class (Alexandari, Kundaje and
Shrikumar, ICML 2020) and vector scaling, a weight and a bias for each class (Guo et al.). Both move labels, too, and
both could be folded into a head's last layer; see `training/calibrate.py` for what this found.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from scipy.optimize import minimize
from sklearn.metrics import recall_score
from sklearn.model_selection import RepeatedStratifiedKFold

from training.calibration_error import calibration_error
from training.datasets.example import labels_of
from training.datasets.mvsa import read_mvsa
from training.datasets.tweet_sentiment import read_tweet_sentiment
from training.differences import interval
from training.evaluate import ExportedModel
from training.metrics import FloatArray, IntArray, softmax

FOLDS, REPEATS = 5, 10

Scaling = Callable[[FloatArray, FloatArray], FloatArray]
"""(parameters, logits) → scaled logits; at parameters of 0 they stay as they are."""
SCALINGS: Final[dict[str, tuple[int, Scaling]]] = {
    "temperature": (1, lambda given, logits: logits * np.exp(given[0])),
    "temperature and bias": (4, lambda given, logits: logits * np.exp(given[0]) + given[1:]),
    "vector": (6, lambda given, logits: logits * np.exp(given[:3]) + given[3:]),
}
"""How many parameters each has for three classes, and what it does with them."""


def scaled_out_of_fold(labels: IntArray, logits: FloatArray, name: str) -> FloatArray:
    """(REPEATS, N, C) probabilities, each post's by a scaling fitted on other posts."""
    folds = RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=REPEATS, random_state=0)
    found = np.empty((REPEATS, *logits.shape))
    for number, (fitted_on, held_out) in enumerate(folds.split(logits, labels)):
        size, scaling = SCALINGS[name]
        given = _fit(labels[fitted_on], logits[fitted_on], size, scaling)
        found[number // FOLDS, held_out] = softmax(scaling(given, logits[held_out]))
    return found


def _fit(labels: IntArray, logits: FloatArray, size: int, scaling: Scaling) -> FloatArray:
    found: FloatArray = minimize(
        lambda given: surprise(labels, softmax(scaling(given, logits))).mean(), np.zeros(size)
    ).x
    return found


def surprise(labels: IntArray, probabilities: FloatArray) -> FloatArray:
    """(..., N, C) → (..., N): negative log-likelihoods."""
    told = np.take_along_axis(probabilities, np.broadcast_to(labels, probabilities.shape[:-1])[..., None], -1)[..., 0]
    likelihoods: FloatArray = -np.log(told + 1e-12)
    return likelihoods


def compare(labels: IntArray, logits: FloatArray) -> list[str]:
    """A line a scaling: log-likelihood and its gain over the temperature's with a 95 % interval, errors, scores."""
    lines, reference = [], None
    for name in SCALINGS:
        probabilities = scaled_out_of_fold(labels, logits, name)
        lost = surprise(labels, probabilities)
        reference = lost if reference is None else reference
        low, high = interval(reference - lost)
        predicted = probabilities.argmax(-1)
        rms = np.mean([calibration_error(labels, one).rms_debiased for one in probabilities])
        recall = np.mean([recall_score(labels, one, average="macro") for one in predicted])
        lines.append(
            f"  {name:21} NLL {lost.mean():.4f}, gain {(reference - lost).mean():+.4f} ({low:+.4f} to {high:+.4f}), "
            f"RMS error {100 * rms:.1f}, accuracy {100 * (predicted == labels).mean():.1f}, recall {100 * recall:.1f}"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--mvsa", type=Path, required=True)
    parser.add_argument("--tweets", type=Path, required=True)
    arguments = parser.parse_args()
    model = ExportedModel(arguments.artifact)
    posts, tweets = (
        read_mvsa(arguments.mvsa).splits["validation"],
        read_tweet_sentiment(arguments.tweets)["validation"],
    )
    of_posts = model.logits(posts)
    rows = {kind: (labels_of(posts), of_posts[kind]) for kind in ("caption", "image", "both")}
    for kind, (labels, logits) in {"text": (labels_of(tweets), model.logits(tweets)["text"]), **rows}.items():
        sys.stdout.write("\n".join([f"{kind} ({len(labels)} rows)", *compare(labels, logits)]) + "\n")


if __name__ == "__main__":
    main()
