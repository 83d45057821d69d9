"""A run of the bench with its weights and its posts, for figures of what the model does."""

import argparse
import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.batches import MAX_CHARS
from training.bench import open_bench
from training.config import SMALL, BadConfig, RunConfig
from training.datasets.example import Example
from training.features import Features
from training.one_run import Bench
from training.systems import build_model
from training.table import Row, Table
from training.tuning import Tuned, tuned
from training.weights import find_weights

BATCH: Final = 64
HOW_TO_MAKE: Final = (
    "moodstream bench mvsa_single --only MDSE --seeds 1 --checkpoints FOLDER --mvsa mvsa_single.parquet"
)


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """name: of the run's folder, which ends in its key; word_pieces: of a text, as the encoder read it."""

    name: str
    seed: int
    config: RunConfig
    bench: Bench
    model: nn.Module
    word_pieces: Callable[[str], list[str]]

    @property
    def told(self) -> str:
        bench = self.bench
        key = self.config.key(bench.name, bench.split, self.seed)
        return (
            f"{self.config.system} on {bench.encoders} encoders, {bench.name}, {bench.split} split, seed {self.seed}, "
            f"key {key}"
        )

    @property
    def test(self) -> list[Example]:
        return self.bench.corpus.splits["test"]

    def post(self, wanted: str | None) -> Example:
        """By its id in any split; the first test post by default."""
        if wanted is None:
            return self.test[0]
        for examples in self.bench.corpus.splits.values():
            for example in examples:
                if example.id == wanted:
                    return example
        raise BadConfig(f"post {wanted!r} is not in {self.bench.name}: give the id of one, such as {self.test[0].id}")

    def pieces_of(self, post: Example) -> list[str]:
        """One a text state of the post. Raises BadConfig if the states are of another tokenizer."""
        pieces = self.word_pieces((post.text or "")[:MAX_CHARS])
        if len(pieces) != self.bench.cache.length(post):
            raise BadConfig(
                f"post {post.id} has {len(pieces)} word pieces but {self.bench.cache.length(post)} text states: "
                f"give --cache a folder this version made"
            )
        return pieces

    @property
    def fusion(self) -> nn.Module:
        """The model of states itself, without layers of the encoder that were trained with it."""
        return self.model.model if isinstance(self.model, Tuned) else self.model

    def states(self, posts: Sequence[Example]) -> Features:
        return self.bench.cache.batch(posts, layers=int(self.model.text_layers_needed))  # type: ignore[arg-type]

    def output(self, posts: Sequence[Example]) -> Any:
        """What the model says of these posts, as one batch."""
        states = self.states(posts)
        with torch.inference_mode():
            return self.model(states.text_states, states.attention_mask, states.image_states)

    def outputs(self, posts: Sequence[Example], name: str) -> NDArray[np.float32]:
        """One field of the output, batch by batch."""
        batches = (posts[start : start + BATCH] for start in range(0, len(posts), BATCH))
        return np.concatenate([getattr(self.output(batch), name).numpy() for batch in batches])


def open_run(folder: Path | None, arguments: argparse.Namespace) -> TrainedRun:
    """The run whose checkpoints `bench --checkpoints` left in `folder`, with its corpus and cached states."""
    if folder is None:
        raise BadConfig(f"a trained run is needed: give --run FOLDER, one that was made by {HOW_TO_MAKE}")
    checkpoint = _read(folder / "best.pt")
    told = checkpoint["config"]
    try:
        config = RunConfig(**told["settings"])
    except TypeError as error:
        raise BadConfig(f"{folder / 'best.pt'} is of another version ({error}): make it with this one") from error
    table = Table(folder.name, "", told["corpus"], told["split"], 1, (Row(config.system, config, {}),))
    bench = open_bench(table, arguments, config.encoders)
    model = build_model(
        config,
        text_width=bench.cache.text_width,
        image_width=bench.cache.image_width,
        classes=len(bench.corpus.classes),
        shares=bench.corpus.shares(),
    )
    model = tuned(model, config)
    model.load_state_dict(checkpoint["model"])
    return TrainedRun(
        name=folder.name,
        seed=told["seed"],
        config=config,
        bench=bench,
        model=model.eval(),
        word_pieces=_word_pieces(config.text_encoder, arguments),
    )


def _read(file: Path) -> dict[str, Any]:
    try:
        checkpoint: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise BadConfig(f"cannot read {file} ({error.strerror}): make it with {HOW_TO_MAKE}") from error
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise BadConfig(f"{file} is no checkpoint: make one with {HOW_TO_MAKE}") from error
    if not isinstance(checkpoint, dict) or "settings" not in checkpoint.get("config", {}):
        raise BadConfig(f"{file} is no checkpoint of a bench run: make one with {HOW_TO_MAKE}")
    return checkpoint


def _word_pieces(text_encoder: str, arguments: argparse.Namespace) -> Callable[[str], list[str]]:
    """As people write them: RoBERTa's own bytes are other letters."""
    if text_encoder == SMALL[0]:
        from training.encoders import small_tokenizer

        tokenizer = small_tokenizer()
    else:
        from training.paper_encoders import paper_text_encoder

        tokenizer, _ = paper_text_encoder(find_weights(text_encoder, arguments.weights))
    return lambda text: [
        tokenizer.decode([number], skip_special_tokens=False).strip() for number in tokenizer.encode(text).ids
    ]


def side_of(cells: int) -> int:
    """Of the square map that a picture's cells are."""
    return math.isqrt(cells)
