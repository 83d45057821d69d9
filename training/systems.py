"""The systems of the bench by the names they have in tables and configurations."""

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from training.config import CLIP, BadConfig, RunConfig
from training.losses import LabelLoss
from training.models.aau import AB, AE
from training.models.bag_of_words import TextClassifier, bag_of_words, majority
from training.models.baselines import CLIPHead, Pooled, VisualBERT
from training.models.clmlf import CLMLF
from training.models.mdse_states import MDSEStates
from training.models.spp_scl import SPPSCL

FOCAL_GAMMA: Final = 2.0
FLOORS: Final = {"Bag of words": bag_of_words, "Majority": majority}
"""Systems that read texts, not states."""
NAMES: Final = (
    *FLOORS,
    "Uni-Text",
    "Uni-Image",
    "ResNet",
    "Concatenation",
    "MDSE",
    "CLMLF",
    "SPP-SCL",
    "AE-Cat",
    "AE-Add",
    "AB-Cat",
    "AB-Add",
    "CLIP",
    "VisualBERT",
)


class Model(Protocol):
    """What every model of states is, beside an `nn.Module`: see `features.py`."""

    text_layers_needed: int


def build_floor(config: RunConfig) -> TextClassifier:
    return FLOORS[config.system]()


def build_model(
    config: RunConfig, *, text_width: int, image_width: int, classes: int, shares: NDArray[np.float64]
) -> nn.Module:
    """shares: of the classes in training, for class weights.

    Raises   BadConfig for unknown names and arguments, and for encoders whose states the system cannot read
    """
    _check_encoders(config)
    given = {
        "text_width": text_width,
        "image_width": image_width,
        "classes": classes,
        "label_loss": label_loss(config, shares),
        **config.model,
    }
    try:
        match config.system:
            case "Uni-Text":
                return Pooled(modality="text", **given)
            case "Uni-Image":
                return Pooled(modality="image", **given)
            case "ResNet":
                return Pooled(modality="image", hidden=0, **given)
            case "Concatenation":
                return Pooled(modality="both", **given)
            case "MDSE":
                return MDSEStates(**given)
            case "CLMLF":
                return CLMLF(**given)
            case "SPP-SCL":
                return SPPSCL(**given)
            case "AE-Cat" | "AE-Add":
                return AE(how="cat" if config.system.endswith("Cat") else "add", **given)
            case "AB-Cat" | "AB-Add":
                return AB(how="cat" if config.system.endswith("Cat") else "add", **given)
            case "CLIP":
                del given["image_width"]  # CLIP's two vectors are of one width
                return CLIPHead(width=given.pop("text_width"), **given)
            case "VisualBERT":
                return VisualBERT(**given)
    except (TypeError, ValueError) as error:
        raise BadConfig(f"model of {config.system} does not take {config.model}: {error}") from error
    raise BadConfig(f"system {config.system!r} is none of {', '.join(NAMES)}")


def _check_encoders(config: RunConfig) -> None:
    if config.system == "CLIP" and config.encoders != (CLIP, CLIP):
        raise BadConfig(f"CLIP reads vectors of one space, not of {config.encoders}: set both encoders to {CLIP}")
    if config.system == "SPP-SCL" and config.text_encoder == CLIP:
        raise BadConfig(f"SPP-SCL reads word pieces, and {CLIP} has one vector a text: set another text_encoder")


def label_loss(config: RunConfig, shares: NDArray[np.float64]) -> LabelLoss:
    """Class weights are inverse shares, of mean 1 over the posts; the focal loss has them, too (Lin et al., 2017)."""
    weights: tuple[float, ...] = ()
    if config.imbalance in ("class weights", "focal"):
        inverse = 1 / np.maximum(shares, 1e-9)
        weights = tuple((inverse / (inverse * shares).sum()).tolist())
    return LabelLoss(
        class_weights=weights,
        label_smoothing=config.label_smoothing,
        focal_gamma=FOCAL_GAMMA if config.imbalance == "focal" else 0.0,
    )
