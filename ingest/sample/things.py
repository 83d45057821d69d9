"""Things and creatures close up: cup, phone, parcel, faces, cat, snail, skeleton, chart."""

from __future__ import annotations

from math import cos, pi, sin
from typing import Final

from ingest.sample.canvas import HEIGHT, INK, WIDTH, Canvas, Mouth

WARM: Final = ("#ffe8d6", "#fde2e4", "#e2ece9", "#fff1c9", "#dfe7fd", "#e4f3d8")
COLD: Final = ("#8d99ae", "#9a8c98", "#7f8c8d", "#a3a8b8")


def _wall(c: Canvas, mood: str) -> None:
    """A plain background, warm or cold by mood; happy ones have confetti."""
    gloomy = mood not in ("happy", "plain")
    fill = c.random.choice(COLD if gloomy else WARM)
    c.gradient(fill, fill if gloomy else "#ffffff")
    if mood == "happy":
        for _ in range(26):
            x, y, size = c.random.uniform(0, WIDTH), c.random.uniform(0, HEIGHT), c.random.uniform(2, 4.5)
            c.ellipse(x, y, size, size, c.random.choice(["#ff595e", "#ffca3a", "#8ac926", "#1982c4", "#b388eb"]))


def _table(c: Canvas, fill: str = "#b08968") -> None:
    c.box(0, 190, WIDTH, 50, fill)
    for y in (202, 218):
        c.line((0, y), (WIDTH, y + c.random.uniform(-2, 2)), fill="#9c7353", width=1.2)


def cup(c: Canvas, mood: str) -> None:
    _wall(c, mood)
    _table(c)
    x = WIDTH / 2 + c.random.uniform(-22, 22)
    if mood == "spilled":
        _spilled_cup(c, x)
        return
    fill = c.random.choice(["#3f7fbf", "#2c5d94", "#5fa8d3"])
    c.arc(x + 56, 150, 24, 24, 0, 360, fill=fill, width=9)
    c.box(x - 58, 104, 116, 96, fill, round_=24, line=3)
    c.ellipse(x, 106, 58, 17, "#f8f9fa", line=3)
    if mood == "sad":
        c.ellipse(x, 110, 30, 7, "#6f4518")
    else:
        c.ellipse(x, 107, 50, 12.5, "#9c6644")
    if mood == "happy":
        _heart(c, x, 107, 11, "#fff1e0")
    if mood != "sad":
        for dx in (-24, 0, 24):
            _steam(c, x + dx)
    c.ellipse(x, 206, 82, 9, "#e9ecef", line=2)
    c.face(x, 152, 30, "smile" if mood == "happy" else "frown" if mood == "sad" else "flat", tears=mood == "sad")


def _steam(c: Canvas, x: float) -> None:
    points = [(x + 6 * sin(step / 2.2), 86 - step * 5.0) for step in range(12)]
    c.line(*points, fill="#cfd4da", width=3.5)


def _spilled_cup(c: Canvas, x: float) -> None:
    c.ellipse(x + 62, 214, 96, 20, "#6f4518")
    c.ellipse(x + 120, 222, 40, 11, "#6f4518")
    c.polygon((x - 92, 150), (x + 20, 128), (x + 34, 208), (x - 80, 198), fill="#5fa8d3", line=3)
    c.ellipse(x + 27, 168, 15, 40, "#f8f9fa", line=3)
    c.ellipse(x + 30, 176, 10, 26, "#6f4518")
    c.face(x - 32, 166, 26, "open", tears=True)
    for _ in range(8):
        c.ellipse(x + c.random.uniform(30, 140), c.random.uniform(120, 190), 3, 3, "#6f4518")


def _heart(c: Canvas, x: float, y: float, size: float, fill: str) -> None:
    outline = []
    for step in range(40):
        t = step * pi / 20
        across = 16 * sin(t) ** 3
        down = 13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)
        outline.append((x + across * size / 12, y - down * size / 16))
    c.polygon(*outline, fill=fill)


def phone(c: Canvas, mood: str) -> None:
    _wall(c, mood)
    x = WIDTH / 2 + c.random.uniform(-40, 40)
    c.box(x - 55, 18, 110, 204, "#22252e", round_=17, line=3)
    screen = c.random.choice(["#5e60ce", "#2a9d8f", "#ff9f1c", "#4895ef"]) if mood in ("happy", "plain") else "#39414f"
    c.box(x - 48, 28, 96, 184, screen, round_=10)
    c.ellipse(x, 36, 3.5, 3.5, "#0b0c10")
    if mood == "plain":
        c.arc(x, 108, 30, 30, 0, 360, fill="white", width=5)
        c.ellipse(x + 27, 92, 8, 8, "white")
        c.text(x, 168, "ONE", 20, fill="white")
        return
    mouth: Mouth = "smile" if mood == "happy" else "open" if mood == "cracked" else "frown"
    c.face(x, 108, 38, mouth, tears=mood == "sad", ink=INK if mood == "happy" else "#d5dae2")
    if mood == "happy":
        _heart(c, x + 78, 62, 13, "#ff595e")
        _heart(c, x - 80, 96, 9, "#ff595e")
    if mood == "cracked":
        _cracks(c, x + c.random.uniform(-25, 25), c.random.uniform(60, 150))
    if mood == "sad":
        c.box(x - 24, 164, 44, 22, None, round_=4, line=3)
        c.box(x + 20, 170, 5, 10, INK)
        c.box(x - 21, 167, 6, 16, "#ff595e")


def _cracks(c: Canvas, x: float, y: float) -> None:
    for number in range(9):
        angle = number * 2 * pi / 9 + c.random.uniform(-0.25, 0.25)
        points, at, radius = [(x, y)], angle, 0.0
        for _ in range(4):
            radius += c.random.uniform(6, 13)
            at += c.random.uniform(-0.22, 0.22)
            points.append((x + radius * cos(at), y + radius * sin(at)))
        c.line(*points, fill="#f1f3f5", width=1.8)


def box(c: Canvas, mood: str) -> None:
    _wall(c, mood)
    _table(c)
    c.polygon((90, 112), (230, 112), (244, 216), (76, 216), fill="#c69c6d", line=3)
    c.polygon((90, 112), (50, 84), (136, 80), (160, 112), fill="#ddb892", line=3)
    c.polygon((230, 112), (272, 82), (184, 78), (160, 112), fill="#ddb892", line=3)
    if mood == "happy":
        c.box(132, 48, 56, 96, "#22252e", round_=10, line=2)
        c.box(137, 55, 46, 82, c.random.choice(["#4895ef", "#2a9d8f", "#ff9f1c"]), round_=6)
        c.face(160, 90, 18, "smile")
        c.polygon((84, 150), (236, 150), (241, 190), (79, 190), fill="#c69c6d")
    c.text(160, 182, "ORBIT", 22)


def face(c: Canvas, mood: str) -> None:
    _wall(c, mood)
    fill = {"happy": "#ffd23f", "angry": "#f25c54", "sad": "#7fb2e5"}[mood]
    c.ellipse(160, 122, 92, 92, fill, line=4)
    mouth: Mouth = "smile" if mood == "happy" else "frown"
    c.face(160, 118, 74, mouth, angry=mood == "angry", tears=mood == "sad")
    if mood == "happy":
        for side in (-1, 1):
            c.ellipse(160 + side * 58, 140, 14, 10, "#ff9e6d")


def cat(c: Canvas, mood: str) -> None:
    _wall(c, mood)
    fur = c.random.choice(["#f4a261", "#8d99ae", "#7d7f9c", "#e9c46a", "#b08968"])
    c.ellipse(160, 240, 92, 70, fur, line=4)
    for side in (-1, 1):
        c.polygon((160 + side * 26, 84), (160 + side * 76, 34), (160 + side * 80, 112), fill=fur, line=4)
        c.polygon((160 + side * 44, 82), (160 + side * 68, 54), (160 + side * 70, 96), fill="#ffb3c1")
    c.ellipse(160, 124, 86, 68, fur, line=4)
    for side in (-1, 1):
        eye_x = 160 + side * 36
        if mood == "happy":
            c.arc(eye_x, 118, 15, 14, 190, 350, width=5)
        else:
            c.ellipse(eye_x, 114, 15, 16, "#d8f3a0", line=2)
            c.ellipse(eye_x, 115, 4, 13, INK)
            c.line((eye_x - side * 17, 102), (eye_x + side * 17, 90), width=6)
        for tilt in (-7, 2, 11):
            c.line((160 + side * 44, 144 + tilt * 0.4), (160 + side * 108, 138 + tilt), width=1.6)
    c.polygon((152, 134), (168, 134), (160, 143), fill="#ff8fab", line=1.5)
    for side in (-1, 1):
        if mood == "happy":
            c.arc(160 + side * 10, 144, 10, 10, 0 if side > 0 else 20, 160 if side > 0 else 180, width=3)
        else:
            c.arc(160 + side * 10, 160, 10, 9, 190, 350, width=3)


def snail(c: Canvas, mood: str) -> None:
    c.gradient("#bde0fe", "#eaf4d3")
    c.box(0, 186, WIDTH, 54, "#90be6d")
    c.ellipse(150, 184, 96, 17, "#e9c9a0", line=3)
    c.ellipse(232, 160, 21, 30, "#e9c9a0", line=3)
    for dx in (-9, 11):
        c.line((234 + dx, 134), (238 + dx * 1.6, 106), width=4)
        c.ellipse(238 + dx * 1.6, 104, 6, 6, "white", line=2)
    c.arc(238, 156, 12, 11, 20, 150, width=3)
    for radius, fill in ((62, "#bc6c25"), (47, "#dda15e"), (31, "#bc6c25"), (15, "#dda15e")):
        c.ellipse(138 + (62 - radius) * 0.25, 128 + (62 - radius) * 0.2, radius, radius, fill, line=2.5)
    for y in (120, 142, 164):
        c.line((14, y), (52, y), fill="white", width=4)


def skeleton(c: Canvas, mood: str) -> None:
    c.gradient("#414a5c", "#8d99ae")
    c.box(0, 204, WIDTH, 36, "#3b4252")
    c.box(70, 164, 180, 13, "#7f5539", line=2)
    for x in (84, 226):
        c.box(x, 177, 10, 34, "#7f5539", line=2)
    bone = "#f8f4e3"
    c.line((160, 112), (160, 164), fill=bone, width=7)
    for y, width in ((122, 25), (134, 27), (146, 23)):
        c.arc(160, y, width, 9, 0, 360, fill=bone, width=4.5)
    c.line((148, 164), (128, 172), (124, 208), fill=bone, width=7)
    c.line((172, 164), (194, 172), (198, 208), fill=bone, width=7)
    c.line((138, 120), (112, 146), (126, 160), fill=bone, width=6)
    c.line((182, 120), (208, 142), (222, 112), fill=bone, width=6)
    c.ellipse(160, 84, 31, 29, bone, line=3)
    c.box(144, 100, 32, 18, bone, round_=5, line=2)
    for x in (148, 172):
        c.ellipse(x, 82, 8.5, 9.5, INK)
    for x in (152, 160, 168):
        c.line((x, 106), (x, 116), width=1.8)
    c.line((222, 112), (222, 92), fill=bone, width=5)
    c.line((40, 60), (60, 40), fill="#c0c7d6", width=1.2)
    c.line((40, 60), (22, 40), fill="#c0c7d6", width=1.2)


def chart(c: Canvas, mood: str) -> None:
    c.gradient("#ffffff", "#f1f5f9")
    for y in range(50, 200, 30):
        c.line((44, y), (296, y), fill="#d5dbe3", width=1)
    for number in range(7):
        height = c.random.uniform(12, 135)
        c.box(54 + number * 35, 200 - height, 23, height, "#4895ef", round_=3)
        c.text(65 + number * 35, 212, "MTWTFSS"[number], 11)
    c.line((44, 40), (44, 200), (296, 200), width=2)
