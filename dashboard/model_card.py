"""The card of the model that scores: what it was trained on, how good it is, where it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Final

CARD: Final = "MODEL_CARD.md"
_BYTES_READ: Final = 200_000


def read(model: str) -> str:
    """The card in a model's directory as Markdown; empty if there is none."""
    try:
        with (Path(model) / CARD).open("rb") as card:
            return card.read(_BYTES_READ).decode("utf-8", errors="replace")
    except OSError:
        return ""
