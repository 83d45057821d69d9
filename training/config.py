"""What one training run is: a TOML file, checked; a bench table varies it."""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from training.loop import Precision, Schedule

GRID: Final = 4
"""Cells a side of a picture that every model sees. The small encoder's own 7 x 7 make a fusion three times as slow."""
CONFIGS: Final = Path(__file__).parent / "configs"
SMALL: Final = ("all-MiniLM-L6-v2", "EfficientNet-Lite0")
"""Text and image encoder of preset `small`, whose weights come with the train extra."""
CLIP: Final = "clip-vit-base-patch32"
"""Text and image encoder at once: one vector a text and a picture, in one space."""
TEXT_ENCODERS: Final = (SMALL[0], "e5-small-v2", "bert-base-uncased", "roberta-base", CLIP)
IMAGE_ENCODERS: Final = (SMALL[1], "resnet50", "vgg19", "vit_base_patch16_224", CLIP)
Imbalance = Literal["none", "class weights", "over-sampling", "focal"]


class BadConfig(ValueError):
    """A configuration that cannot be run; says which file, which key, and what it takes."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """system: name of a model (see `systems.py`); model: its constructor's arguments; text_encoder, image_encoder: what
    makes the states it reads; tuned_layers: so many last layers of the text encoder are trained, too, at the rate
    encoder_learning_rate.

    select: the validation measure that chooses the epoch; views: of each post in the feature cache, 1 for no
    augmentation; imbalance: how rare classes are helped; selection, early stopping and schedule as in `loop.fit`.
    """

    system: str
    model: dict[str, Any] = field(default_factory=dict)
    epochs: int = 12
    batch_size: int = 32
    learning_rate: float = 5e-4
    weight_decay: float = 0.01
    warmup: float = 0.06
    schedule: Schedule = "cosine"
    max_norm: float = 1.0
    precision: Precision = "bfloat16"
    patience: int = 3
    select: str = "weighted_f1"
    views: int = 1
    imbalance: Imbalance = "none"
    label_smoothing: float = 0.0
    text_encoder: str = SMALL[0]
    image_encoder: str = SMALL[1]
    tuned_layers: int = 0
    encoder_learning_rate: float = 5e-5

    @property
    def encoders(self) -> tuple[str, str]:
        return self.text_encoder, self.image_encoder

    def key(self, corpus: str, split: str, seed: int) -> str:
        """Names a run by all that its figures depend on, but for the weights of encoders: its line tells those."""
        settings = asdict(self)
        for name, small in zip(("text_encoder", "image_encoder"), SMALL, strict=True):
            if settings[name] == small:  # runs were named before there was a choice
                del settings[name]
        if not self.tuned_layers:
            del settings["tuned_layers"], settings["encoder_learning_rate"]
        told = json.dumps([settings, GRID, corpus, split, seed], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def read_config(name: str) -> RunConfig:
    """A shipped configuration by its name, or a TOML file by its path. Raises BadConfig."""
    path = Path(name) if name.endswith(".toml") else CONFIGS / f"{name}.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        shipped = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.toml")))
        raise BadConfig(f"cannot read {path} ({error.strerror}): give a TOML file or one of {shipped}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path} is no TOML: {error}") from error
    return _made(tables, str(path))


def varied(config: RunConfig, changes: Mapping[str, Any], where: str) -> RunConfig:
    """The configuration with some keys exchanged; those of `model` one by one. Raises BadConfig."""
    merged = asdict(config) | dict(changes)
    merged["model"] = config.model | changes.get("model", {})
    return _made(merged, where)


def _made(tables: Mapping[str, Any], where: str) -> RunConfig:
    known = {one.name: one for one in fields(RunConfig)}
    if unknown := sorted(set(tables) - set(known)):
        raise BadConfig(f"{where}: unknown key {unknown[0]!r}: use {', '.join(known)}")
    if "system" not in tables:
        raise BadConfig(f"{where}: system is missing: name the model to train")
    config = RunConfig(system=tables["system"])
    for name, value in tables.items():
        usual = getattr(config, name)
        if isinstance(usual, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not type(usual):
            raise BadConfig(f"{where}: {name} is {value!r}: it takes a {type(usual).__name__}, such as {usual!r}")
        config = replace(config, **{name: value})
    choices = {"schedule": ("linear", "cosine", "step", "constant"), "precision": ("float32", "bfloat16")}
    choices |= {"imbalance": ("none", "class weights", "over-sampling", "focal")}
    choices |= {"text_encoder": TEXT_ENCODERS, "image_encoder": IMAGE_ENCODERS}
    for name, allowed in choices.items():
        if getattr(config, name) not in allowed:
            raise BadConfig(f"{where}: {name} is {getattr(config, name)!r}: use one of {', '.join(allowed)}")
    for name in ("epochs", "batch_size", "patience", "views"):
        if getattr(config, name) < 1:
            raise BadConfig(f"{where}: {name} is {getattr(config, name)}: it takes 1 or more")
    return config
