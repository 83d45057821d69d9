import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from training.models.bag_of_words import bag_of_words, majority  # noqa: E402

TEXTS = ["lovely day", "lovely song", "lovely cat", "awful rain", "awful bus"]
LABELS = [0, 0, 0, 2, 2]


def test_words_decide() -> None:
    model = bag_of_words()
    model.fit(TEXTS, LABELS)
    assert model.predict(["awful thing", "lovely thing"]).tolist() == [2, 0]


def test_majority_ignores_the_text() -> None:
    model = majority()
    model.fit(TEXTS, LABELS)
    assert model.predict(["awful thing"]).tolist() == [0]
