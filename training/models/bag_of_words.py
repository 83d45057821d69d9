"""Floors every model must clear: the commonest class, and logistic regression on words."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


class TextClassifier(Protocol):
    def fit(self, texts: Sequence[str], labels: Sequence[int]) -> object: ...

    def predict(self, texts: Sequence[str]) -> NDArray[np.int64]: ...


def majority() -> TextClassifier:
    """Always the commonest label of the training set."""
    classifier: Any = DummyClassifier(strategy="most_frequent")
    return classifier


def bag_of_words() -> TextClassifier:
    """Words and pairs of words, weighted by rarity; nothing is tuned."""
    classifier: Any = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))
    return classifier
