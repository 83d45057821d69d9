"""HFM (Cai et al., ACL 2019): sarcastic tweets with a picture, in the owners' layout.

Folder: text/train.txt, text/valid2.txt, text/test2.txt, each line a Python list [id, text, label …] whose last element
counts; dataset_image/<id>.jpg. 1 is sarcastic, 0 is not (one paper's appendix calls 1 "positive"). Rows with a word
that gives the answer away are dropped, as the papers do.
"""

import ast
from pathlib import Path
from typing import Final

from training.datasets.example import Corpus, Example

CLASSES: Final = ("not sarcastic", "sarcastic")
FILES: Final = {"train": "train.txt", "validation": "valid2.txt", "test": "test2.txt"}
TELLING: Final = frozenset(
    ("exgag", "sarcasm", "sarcastic", "reposting", "<url>", "joke", "humour", "humor", "jokes", "irony", "ironic")
)


def read_hfm(path: Path) -> Corpus:
    """Raises ValueError if a file is missing."""
    missing = [name for name in FILES.values() if not (path / "text" / name).is_file()]
    if missing:
        raise ValueError(f"{path} lacks text/{', text/'.join(missing)}: give the folder of HFM")
    corpus = Corpus({}, CLASSES)
    for split, name in FILES.items():
        corpus.splits[split] = []
        for number, line in enumerate((path / "text" / name).read_text(encoding="utf-8").splitlines(), start=1):
            place = f"{name} line {number}"
            try:
                row = ast.literal_eval(line)
                id, text, label = str(row[0]), str(row[1]), int(row[-1])
                is_whole = len(row) >= 3 and label in (0, 1)
            except (ValueError, SyntaxError, TypeError, IndexError, KeyError):
                is_whole = False
            if not is_whole:
                corpus.skip("bad row", place)
            elif TELLING & set(text.split()):
                corpus.skip("gives the answer away", f"{place}: {id}")
            elif not (picture := path / "dataset_image" / f"{id}.jpg").is_file():
                corpus.skip("file missing", f"{place}: {id}")
            else:
                corpus.splits[split].append(Example(id, text, picture.read_bytes(), label))
    return corpus
