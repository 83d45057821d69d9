"""The scenes by name, and what to tell of them to those who cannot see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ingest.sample import outdoors, things
from ingest.sample.canvas import Canvas

SCENES: Final[dict[str, Callable[[Canvas, str], None]]] = {
    "ambulance": outdoors.ambulance,
    "box": things.box,
    "cafe": outdoors.cafe,
    "cat": things.cat,
    "chart": things.chart,
    "cup": things.cup,
    "face": things.face,
    "phone": things.phone,
    "queue": outdoors.queue,
    "skeleton": things.skeleton,
    "snail": things.snail,
    "town": outdoors.town,
    "tram": outdoors.tram,
}

ALT_TEXTS: Final[dict[tuple[str, str], str]] = {
    ("ambulance", "plain"): "Drawing: an ambulance in front of dark houses",
    ("box", "happy"): "Drawing: a smiling Orbit One jumps out of its box",
    ("box", "plain"): "Drawing: an open box with the word Orbit",
    ("cafe", "happy"): "Drawing: a Bluebird café on a sunny day, guests inside",
    ("cafe", "plain"): "Drawing: a Bluebird café",
    ("cafe", "sad"): "Drawing: a closed Bluebird café in the rain",
    ("cat", "angry"): "Drawing: an angry cat",
    ("cat", "happy"): "Drawing: a happy cat",
    ("chart", "plain"): "Chart: seven blue bars",
    ("cup", "happy"): "Drawing: a smiling Bluebird cup with a heart in the foam",
    ("cup", "plain"): "Drawing: a Bluebird cup",
    ("cup", "sad"): "Drawing: a crying Bluebird cup, nearly empty",
    ("cup", "spilled"): "Drawing: a spilled Bluebird cup",
    ("face", "angry"): "Drawing: an angry red face",
    ("face", "happy"): "Drawing: a smiling yellow face",
    ("face", "sad"): "Drawing: a crying blue face",
    ("phone", "cracked"): "Drawing: an Orbit One with a cracked screen",
    ("phone", "happy"): "Drawing: a smiling Orbit One with hearts",
    ("phone", "plain"): "Drawing: the front of an Orbit One",
    ("phone", "sad"): "Drawing: a crying Orbit One with an empty battery",
    ("queue", "happy"): "Drawing: people wave at the tram stop in the sun",
    ("queue", "sad"): "Drawing: a long, grim queue at the tram stop in the rain",
    ("skeleton", "sad"): "Drawing: a skeleton waits on a bench",
    ("snail", "plain"): "Drawing: a snail at full speed",
    ("town", "happy"): "Drawing: a rainbow over houses and a sailing boat",
    ("town", "plain"): "Drawing: houses by the harbour",
    ("town", "sad"): "Drawing: grey houses in the rain",
    ("tram", "broken"): "Drawing: a broken tram smokes in the rain",
    ("tram", "happy"): "Drawing: a tram full of smiling people in the sun",
    ("tram", "plain"): "Drawing: a tram",
}


def draw(scene: str, mood: str, seed: str, captions: tuple[str, str] | None = None) -> bytes:
    """JPEG of a scene; the same seed draws the same picture. Raises KeyError for a scene there is not."""
    canvas = Canvas(f"{scene} {mood} {seed}")
    SCENES[scene](canvas, mood)
    if captions is not None:
        canvas.caption(captions[0], top=True)
        canvas.caption(captions[1], top=False)
    return canvas.jpeg()


def describe(scene: str, mood: str, captions: tuple[str, str] | None = None) -> str:
    """Alternative text of a scene."""
    alt = ALT_TEXTS[scene, mood]
    return f"{alt}; caption: {captions[0]} / {captions[1]}" if captions is not None else alt
