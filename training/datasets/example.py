"""One labelled post, as every corpus reader yields it."""

from dataclasses import dataclass

LABELS = ("positive", "neutral", "negative")


@dataclass(frozen=True, slots=True)
class Example:
    """`image` holds the encoded file as it was read; `label` indexes LABELS."""

    id: str
    text: str | None
    image: bytes | None
    label: int


def label_index(name: str) -> int:
    if name not in LABELS:
        raise ValueError(f"label {name!r} is none of {', '.join(LABELS)}")
    return LABELS.index(name)
