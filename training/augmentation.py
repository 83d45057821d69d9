"""Other views of a post that mean the same: pictures bent and cropped, words exchanged, texts translated and back.

Everything random comes from the generator given, so that a seed repeats every view.
"""

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import RandAugment, RandomErasing

from training.batches import crop

_WORD: Final = re.compile(r"[A-Za-z']+")
Synonyms = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Augmentation:
    """What is done to a view, each thing by its own chance.

    randaugment: operations and magnitude of 30 (Cubuk et al., CVPRW 2020; both papers use 2 and 14), None for none;
    padding: pixels added around before the random crop; flip, erasing: chances; replaced: share of the words with a
    synonym that are exchanged; translations: text by what a translation there and back made of it, taken first.
    """

    randaugment: tuple[int, int] | None = (2, 14)
    padding: int = 16
    flip: float = 0.5
    erasing: float = 0.25
    replaced: float = 0.2
    synonyms: Synonyms = field(default_factory=dict, repr=False)
    translations: Mapping[str, str] = field(default_factory=dict, repr=False)

    def picture(self, image: NDArray[np.uint8], generator: np.random.Generator) -> NDArray[np.uint8]:
        """(H, W, 3) bytes to a crop of the encoder's size."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator.integers(2**62)))
            padded = np.pad(image, ((self.padding,) * 2, (self.padding,) * 2, (0, 0)))
            tensor = torch.from_numpy(crop(padded, generator, flip=self.flip).transpose(2, 0, 1).copy())
            if self.randaugment is not None:
                operations, magnitude = self.randaugment
                tensor = RandAugment(operations, magnitude)(tensor)
            erased: Tensor = RandomErasing(self.erasing)(tensor)
        return erased.numpy().transpose(1, 2, 0)

    def text(self, text: str, generator: np.random.Generator) -> str:
        """The translation there and back, where there is one; else words exchanged for synonyms."""
        if text in self.translations:
            return self.translations[text]

        def exchanged(match: re.Match[str]) -> str:
            choices = self.synonyms.get(match[0].lower(), ())
            if not choices or generator.random() >= self.replaced:
                return match[0]
            return str(choices[int(generator.integers(len(choices)))])

        return _WORD.sub(exchanged, text)


def read_synonyms(path: Path) -> dict[str, list[str]]:
    """Lines of a word and its synonyms, tab-separated. Raises ValueError naming the line that is none."""
    synonyms: dict[str, list[str]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file, delimiter="\t"), start=1):
            if len(row) < 2 or not row[0]:
                raise ValueError(f"{path} line {number} is no word with tab-separated synonyms: {row}")
            synonyms[row[0].lower()] = [word for word in row[1:] if word]
    return synonyms


def nearest_words(
    vocabulary: Mapping[str, int], embeddings: Tensor, *, neighbours: int = 4, closest: float = 0.55
) -> dict[str, list[str]]:
    """Synonyms for want of a thesaurus: whole words whose input embeddings are the nearest by cosine.

    closest: the least cosine that counts. Opposites can be near, too: see RESULTS.md for what it is worth.
    """
    words = sorted(word for word in vocabulary if len(word) > 2 and word.isascii() and word.isalpha())
    rows = torch.nn.functional.normalize(embeddings[[vocabulary[word] for word in words]].float(), dim=-1)
    found: dict[str, list[str]] = {}
    for start in range(0, len(words), 1024):
        similarity = rows[start : start + 1024] @ rows.T
        best = similarity.topk(neighbours + 1)
        for number, (scores, near) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True), start):
            chosen = [words[at] for score, at in zip(scores, near, strict=True) if at != number and score >= closest]
            if chosen:
                found[words[number]] = chosen
    return found


def read_translations(path: Path) -> dict[str, str]:
    """JSON Lines of {"text", "back"}. Raises ValueError naming the line that is none."""
    translations: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            translations[row["text"]] = row["back"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f'{path} line {number} is not {{"text": …, "back": …}}: {error}') from error
    return translations


def translate_back(
    texts: Sequence[str], path: Path, *, there: Callable[[list[str]], list[str]], back: Callable[[list[str]], list[str]]
) -> None:
    """Writes what `read_translations` reads. `there` and `back`: batches to batches, such as `translator` makes."""
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, len(texts), 32):
            chunk = list(texts[start : start + 32])
            for text, returned in zip(chunk, back(there(chunk)), strict=True):
                file.write(json.dumps({"text": text, "back": returned}, ensure_ascii=False) + "\n")


def translator(folder: str) -> Callable[[list[str]], list[str]]:
    """Any sequence-to-sequence translation model of transformers, from a local folder or the hub's name of it."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()

    def translate(texts: list[str]) -> list[str]:
        encoded = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=200)
        with torch.inference_mode():
            generated = model.generate(**encoded, max_new_tokens=200)
        decoded: list[str] = tokenizer.batch_decode(generated, skip_special_tokens=True)
        return decoded

    return translate
