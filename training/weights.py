"""Where pretrained weights are: in a folder the user names, in the hub's cache, or on the hub.

A folder of weights holds one folder an encoder, by its name here: `roberta-base/config.json`, `model.safetensors` (or
`pytorch_model.bin`, of which nothing but tensors is read) and, for texts, `tokenizer.json`.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.config import BadConfig

TENSORS: Final = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Published:
    """An encoder as its owners published it: repository of the hub, what its config.json calls the architecture."""

    repository: str
    key: str
    architecture: str
    reads_text: bool

    @property
    def needs(self) -> tuple[tuple[str, ...], ...]:
        """Files, each by the names it may have."""
        return (("config.json",), *((("tokenizer.json",),) if self.reads_text else ()), TENSORS)


PUBLISHED: Final = {
    "bert-base-uncased": Published("google-bert/bert-base-uncased", "model_type", "bert", reads_text=True),
    "roberta-base": Published("FacebookAI/roberta-base", "model_type", "roberta", reads_text=True),
    "e5-small-v2": Published("intfloat/e5-small-v2", "model_type", "bert", reads_text=True),
    "clip-vit-base-patch32": Published("openai/clip-vit-base-patch32", "model_type", "clip", reads_text=True),
    "resnet50": Published("timm/resnet50.tv_in1k", "architecture", "resnet50", reads_text=False),
    "vgg19": Published("timm/vgg19.tv_in1k", "architecture", "vgg19", reads_text=False),
    "vit_base_patch16_224": Published(
        "timm/vit_base_patch16_224.augreg_in21k_ft_in1k", "architecture", "vit_base_patch16_224", reads_text=False
    ),
}


class MissingWeights(BadConfig):
    """Weights that are in none of the places looked at; says which places, and what would help."""


@dataclass(frozen=True)
class Weights:
    """Files of one encoder that are all there and of the right architecture."""

    name: str
    folder: Path

    @property
    def identity(self) -> str:
        """Hash of all that is read of it: two fine-tunings of one architecture differ in this."""
        digest = hashlib.sha256()
        for names in PUBLISHED[self.name].needs:
            with _first(self.folder, names).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:12]


def find_weights(name: str, folder: Path | None) -> Weights:
    """The weights of an encoder in the user's folder, else in the hub's cache, else downloaded.

    Raises   MissingWeights if they are nowhere; BadConfig if the folder is none or holds another architecture
    """
    looked = ["no package ships them"]
    if folder is None:
        looked.append("no folder was given")
    elif not folder.is_dir():
        raise BadConfig(f"weights: {folder} is no folder: it should hold one folder an encoder, such as {name}")
    elif (folder / name).is_dir():
        return _checked(name, folder / name)
    else:
        looked.append(f"{folder} has no folder {name}")
    try:
        return _checked(name, _from_hub(name))
    except _NotThere as error:
        looked.append(f"the hub: {error}")
    files = ", ".join(" or ".join(names) for names in PUBLISHED[name].needs)
    raise MissingWeights(
        f"weights of {name} are missing ({'; '.join(looked)}): give --weights FOLDER or MOODSTREAM_WEIGHTS with "
        f"{name}/ holding {files}"
    )


def _checked(name: str, folder: Path) -> Weights:
    published = PUBLISHED[name]
    for names in published.needs:
        if not any((folder / one).is_file() for one in names):
            raise MissingWeights(f"weights of {name} are incomplete: {folder} lacks {' or '.join(names)}; put it there")
    file = folder / "config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))[published.key]
    except (ValueError, KeyError, TypeError) as error:
        raise BadConfig(f"{file} is no configuration with {published.key!r}: {error!r}") from error
    if found != published.architecture:
        raise BadConfig(
            f"{file} says {published.key} {found!r}: {name} needs {published.architecture!r}; give its own files"
        )
    return Weights(name, folder)


def _first(folder: Path, names: tuple[str, ...]) -> Path:
    return next(folder / name for name in names if (folder / name).is_file())


class _NotThere(Exception):
    """The hub and its cache do not have a file; says why in one line."""


def _from_hub(name: str) -> Path:
    """The snapshot's folder in the hub's cache, downloaded if need be."""
    published = PUBLISHED[name]
    files = [_hub_file(published.repository, names) for names in published.needs]
    return files[0].parent


def _hub_file(repository: str, names: tuple[str, ...]) -> Path:
    import httpx
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    # The cache is asked first and by itself, because a hub out of reach ends in an error though the cache has the file.
    for only_cached in (True, False):
        for name in names:
            try:
                return Path(hf_hub_download(repository, name, local_files_only=only_cached))
            except (EntryNotFoundError, OSError, httpx.HTTPError) as error:
                problem = str(error).partition("\n")[0]
            except RuntimeError:  # huggingface_hub tries again by a client it has closed
                problem = "the hub cannot be reached"
    raise _NotThere(
        f"{repository} has no {' or '.join(names)} in its cache {constants.HF_HUB_CACHE}, nor can it be downloaded "
        f"({problem})"
    )
