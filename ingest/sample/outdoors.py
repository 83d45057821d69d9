"""Scenes of the invented town: tram, queue, skyline, café, ambulance. Moods change the weather and the faces."""

from __future__ import annotations

from math import cos, radians, sin
from typing import Final

from ingest.sample.canvas import HEIGHT, WIDTH, Canvas

TEAL: Final = "#1f9e9a"
RED: Final = "#d1495b"
SKINS: Final = ("#ffd6a5", "#c68642", "#8d5524", "#f1c27d")


def _sky(c: Canvas, mood: str, *, until: float = HEIGHT) -> None:
    if mood == "happy":
        top, bottom = c.random.choice([("#4fb3ff", "#d9f2ff"), ("#ff9a8b", "#ffe3b3"), ("#58c4f2", "#fdf3c4")])
        c.gradient(top, bottom, until=until)
        _sun(c, c.random.uniform(45, 275), c.random.uniform(38, 55))
    elif mood == "plain":
        c.gradient("#bcd4e6", "#eef4f8", until=until)
        _cloud(c, c.random.uniform(60, 140), 42, "#ffffff")
        _cloud(c, c.random.uniform(190, 280), 60, "#ffffff")
    else:
        c.gradient(*c.random.choice([("#4a5568", "#9aa5b1"), ("#3d4663", "#8d93ab")]), until=until)
        for x in (70, 170, 265):
            _cloud(c, x + c.random.uniform(-25, 25), c.random.uniform(28, 48), c.random.choice(["#6b7686", "#5c6675"]))
        _rain(c)


def _sun(c: Canvas, x: float, y: float) -> None:
    for angle in range(0, 360, 30):
        _ray(c, x, y, angle)
    c.ellipse(x, y, 22, 22, "#ffd23f")
    c.face(x, y, 16, "smile")


def _ray(c: Canvas, x: float, y: float, angle: float) -> None:
    dx, dy = cos(radians(angle)), sin(radians(angle))
    c.line((x + dx * 27, y + dy * 27), (x + dx * 36, y + dy * 36), fill="#ffd23f", width=3.5)


def _cloud(c: Canvas, x: float, y: float, fill: str) -> None:
    for dx, dy, radius in ((-24, 4, 15), (0, -4, 21), (24, 4, 16), (0, 8, 18)):
        c.ellipse(x + dx, y + dy, radius * 1.2, radius * 0.8, fill)


def _rain(c: Canvas) -> None:
    for _ in range(70):
        x, y = c.random.uniform(0, WIDTH), c.random.uniform(60, HEIGHT)
        c.line((x, y), (x - 4, y + 11), fill="#a9c7e8", width=1.4)


def _houses(c: Canvas, ground: float, *, lit: bool) -> None:
    x = -10.0
    while x < WIDTH:
        width, height = c.random.uniform(34, 58), c.random.uniform(45, 100)
        colours = ["#f4a259", "#8cb369", "#5b8e7d", "#bc4b51", "#f4e285"] if lit else ["#555f6e", "#67717f", "#4b5361"]
        c.box(x, ground - height, width, height, c.random.choice(colours))
        if c.random.random() < 0.6:
            c.polygon(
                (x - 3, ground - height),
                (x + width / 2, ground - height - 22),
                (x + width + 3, ground - height),
                fill="#7f4f24" if lit else "#3b424d",
            )
        for row in range(int((height - 14) // 20)):
            for column in (0.25, 0.65):
                pane = "#fff3b0" if lit or c.random.random() < 0.15 else "#39404b"
                c.box(x + width * column - 4, ground - height + 10 + row * 20, 9, 11, pane)
        x += width + c.random.uniform(0, 4)


def tram(c: Canvas, mood: str) -> None:
    _sky(c, "sad" if mood == "broken" else mood)
    _houses(c, 176, lit=mood != "broken")
    c.box(0, 174, WIDTH, 66, "#7d8597" if mood == "broken" else "#a3b18a")
    for y in (206, 214):
        c.line((0, y), (WIDTH, y), fill="#40444f", width=2.5)
    c.line((0, 92), (WIDTH, 92), fill="#30343f", width=1.5)
    x = c.random.uniform(34, 62)
    body = "#5f7f7d" if mood == "broken" else c.random.choice([TEAL, "#179c8e", "#2a9dab"])
    c.line((x + 105, 122), (x + 90, 106), (x + 112, 93) if mood != "broken" else (x + 78, 112), width=3)
    c.box(x, 120, 215, 82, body, round_=16, line=2.5)
    c.box(x + 4, 182, 207, 9, "#fff4e0")
    for number in range(4):
        c.box(x + 14 + number * 36, 131, 30, 30, "#2f3640" if mood == "broken" else "#e3f6ff", round_=4, line=1.5)
        if mood != "broken":
            _rider(c, x + 29 + number * 36, 152, mood)
    c.box(x + 160, 127, 46, 40, "#3a4048" if mood == "broken" else "#dff6ff", round_=9, line=2)
    c.text(x + 183, 175, "9", 13, fill="white")
    for wheel in (30, 62, 150, 182):
        c.ellipse(x + wheel, 203, 10, 10, "#343a40", line=2)
    c.ellipse(x + 210, 180, 4, 4, "#40444f" if mood == "broken" else "#fff7ae")
    if mood == "broken":
        _breakdown(c, x)


def _rider(c: Canvas, x: float, y: float, mood: str) -> None:
    c.ellipse(x, y, 9, 9, c.random.choice(SKINS))
    c.face(x, y, 8, "smile" if mood == "happy" else "flat")


def _breakdown(c: Canvas, x: float) -> None:
    for _ in range(9):
        radius = c.random.uniform(9, 20)
        c.ellipse(
            x + 40 + c.random.uniform(-20, 45),
            c.random.uniform(52, 118),
            radius,
            radius * 0.8,
            c.random.choice(["#3f4550", "#565d69", "#70777f"]),
        )
    c.face(x + 183, 149, 17, "frown")
    c.polygon((262, 226), (282, 190), (302, 226), fill="#f9c80e", line=3)
    c.text(282, 215, "!", 22)


def _person(c: Canvas, x: float, ground: float, mood: str) -> None:
    coat = c.random.choice(["#e76f51", "#457b9d", "#6a4c93", "#2a9d8f", "#e9c46a"])
    skin = c.random.choice(SKINS)
    tall = c.random.uniform(0.9, 1.1)
    c.box(x - 9, ground - 26, 7, 26, "#333a45")
    c.box(x + 2, ground - 26, 7, 26, "#333a45")
    c.box(x - 14, ground - 66 * tall, 28, 66 * tall - 20, coat, round_=9)
    c.ellipse(x, ground - 80 * tall, 15, 15, skin)
    c.face(x, ground - 80 * tall, 13, "smile" if mood == "happy" else "frown", angry=mood == "sad" and tall > 1)
    if mood == "happy":
        c.line((x + 11, ground - 56 * tall), (x + 24, ground - 84 * tall), fill=coat, width=6)


def queue(c: Canvas, mood: str) -> None:
    _sky(c, mood)
    c.box(0, 196, WIDTH, 44, "#b7a99a" if mood == "happy" else "#5f6570")
    c.line((28, 214), (28, 96), width=4)
    c.box(10, 78, 36, 26, TEAL, round_=4, line=2)
    c.text(28, 91, "9", 18, fill="white")
    for number in range(3 if mood == "happy" else 7):
        gap = 72 if mood == "happy" else 37
        _person(c, 76 + number * gap + c.random.uniform(-4, 4), 214 + c.random.uniform(-4, 6), mood)
    if mood == "sad":
        _clock(c, 292, 40)


def _clock(c: Canvas, x: float, y: float) -> None:
    c.ellipse(x, y, 21, 21, "white", line=3)
    c.line((x, y), (x, y - 14), width=2.5)
    c.line((x, y), (x + 10, y + 6), width=2.5)


def town(c: Canvas, mood: str) -> None:
    _sky(c, mood)
    if mood == "happy":
        for number, colour in enumerate(["#e63946", "#f4a261", "#ffd166", "#06d6a0", "#118ab2", "#7b2cbf"]):
            c.arc(WIDTH / 2, 190, 130 - number * 6, 130 - number * 6, 180, 360, fill=colour, width=6.5)
    _houses(c, 190, lit=mood != "sad")
    c.box(0, 188, WIDTH, 52, "#3d8bc4" if mood != "sad" else "#44505e")
    for _ in range(14):
        x, y = c.random.uniform(0, WIDTH), c.random.uniform(196, 234)
        c.arc(x, y, 9, 4, 200, 340, fill="#bfe3ff" if mood != "sad" else "#76828f", width=1.6)
    if mood != "sad":
        x = c.random.uniform(70, 240)
        c.polygon((x, 196), (x, 156), (x + 26, 194), fill="white", line=1.5)
        c.polygon((x - 26, 200), (x + 32, 200), (x + 20, 216), (x - 16, 216), fill=RED, line=2)


def cafe(c: Canvas, mood: str) -> None:
    _sky(c, mood)
    is_open = mood != "sad"
    c.box(0, 200, WIDTH, 40, "#c9b79c" if is_open else "#5a5f69")
    c.box(40, 66, 240, 138, "#f7e1c6" if is_open else "#7c7a7d", line=3)
    c.box(58, 124, 118, 62, "#fff3b0" if is_open else "#2f333b", line=3)
    c.box(198, 118, 58, 86, "#3f6ea8" if is_open else "#474c57", line=3)
    c.ellipse(206, 164, 3, 3, "#f4d35e")
    for stripe in range(8):
        fill = "#3f7fbf" if stripe % 2 == 0 else "#ffffff"
        c.polygon(*((x, y) for x, y in _awning(stripe)), fill=fill if is_open else "#6a7080", line=1.5)
    c.box(92, 74, 136, 24, "#2c5d94" if is_open else "#4d5360", round_=5, line=2)
    c.text(160, 86, "BLUEBIRD", 17, fill="white")
    c.text(117, 172, "OPEN" if is_open else "CLOSED", 15, fill="#2b2d42" if is_open else "#ff8a8a")
    if is_open:
        for x in (92, 142):
            _rider(c, x, 150, "happy" if mood == "happy" else "plain")
    else:
        _person(c, 227, 226, "sad")
    if mood == "happy":
        _person(c, 282, 228, "happy")


def _awning(stripe: int) -> list[tuple[float, float]]:
    left, right = 40 + stripe * 30, 70 + stripe * 30
    return [(left, 100), (right, 100), (right - (160 - right) * 0.06, 122), (left - (160 - left) * 0.06, 122)]


def ambulance(c: Canvas, mood: str) -> None:
    _sky(c, mood)
    _houses(c, 176, lit=False)
    c.box(0, 174, WIDTH, 66, "#7d8597")
    c.box(56, 96, 150, 98, "white", round_=8, line=3)
    c.polygon((206, 120), (246, 120), (268, 156), (268, 194), (206, 194), fill="white", line=3)
    c.polygon((212, 128), (241, 128), (256, 154), (212, 154), fill="#bfe3ff", line=2)
    c.box(120, 112, 16, 50, "#2a9d8f")
    c.box(103, 129, 50, 16, "#2a9d8f")
    c.box(56, 172, 212, 8, RED)
    c.box(150, 84, 26, 12, "#3a86ff", round_=4, line=2)
    for x in (96, 232):
        c.ellipse(x, 196, 17, 17, "#343a40", line=2)
        c.ellipse(x, 196, 7, 7, "#ced4da")
