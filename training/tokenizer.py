"""tokenizer.json for posts: the encoder's own WordPiece with the text normaliser inside.

Training and serving run the same compiled normaliser, because it travels in the file and not in Python.
"""

from pathlib import Path

from tokenizers import Regex, Tokenizer
from tokenizers.normalizers import NFC, BertNormalizer, Normalizer, Replace, Sequence

# The corpora of 2013-2016 hold almost no emoji and the vocabulary none, so an emoji is worth nothing to the encoder
# unless it becomes a word or an emoticon that people used in its place. One pass per feeling keeps this cheap.
EMOJI = {
    " lol ": "😂🤣😹😆😅",
    " :) ": "😀-😄😇😊😉😋😌😎😏🙂🙃☺🤗🤠😸😺😁🤓",
    " love ": "❤♥💓-💟💌😍😘-😚🥰😻💑💏🧡🖤🤍🤎",
    " great ": "👍👏🙌💪👌🎉🎊🏆💯🔥✨🌟🤩🥳",
    " thanks ": "🙏",
    " :( ": "😢😭😞😔😟😓😥😪😿💔🙁☹😩😫😣😖🥺😿",
    " angry ": "😠😡🤬😤👿💢🖕",
    " bad ": "👎😒🙄😑🤮🤢😷💩",
    " scared ": "😱😨😰😳",
}


def text_normalizer() -> Normalizer:
    """Web text to plain lower-case words, entities, addresses, handles, emoji and drawn-out letters among them."""
    steps: list[Normalizer] = [
        NFC(),
        Replace(Regex("&amp;"), "&"),
        Replace(Regex("&lt;"), "<"),
        Replace(Regex("&gt;"), ">"),
        Replace(Regex("&(quot|#34);"), '"'),
        Replace(Regex("&(apos|#39);|[‘’]"), "'"),
        Replace(Regex("&nbsp;"), " "),
        Replace(Regex(r"^\s*RT\s+@\w+:?"), " "),
        Replace(Regex(r"\bhttps?(:\S*|…?$)|\bwww\.\S+|\bhtt?$"), " http "),
        Replace(Regex(r"@\w+"), " user "),
        Replace(Regex("[\u200d\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]"), ""),  # what joins and tints parts of an emoji
        *(Replace(Regex(f"[{emoji}]"), word) for word, emoji in EMOJI.items()),
        BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True),
        Replace(Regex(r"(?<=([a-z])\1)\1+"), ""),  # no word has a letter three times in a row: soooo is soo
    ]
    return Sequence(steps)


def build_tokenizer(encoder_tokenizer: Path) -> Tokenizer:
    """Take the pretrained encoder's tokenizer file, put our normaliser in and its fixed padding and truncation out."""
    tokenizer = Tokenizer.from_file(str(encoder_tokenizer))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.normalizer = text_normalizer()
    return tokenizer
