"""What the model looked at: whole characters, escaped, and heat where the weight is."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dashboard.highlights import Piece, heated, marked, pieces
from tests.dashboard.seeding import drawing

FAMILY = "👨\u200d👩\u200d👧"


def test_neighbours_of_one_shade_become_one_mark() -> None:
    assert pieces("so late again", ((0, 2, 5), (3, 7, 255), (8, 13, 250))) == [Piece("so ", 0), Piece("late again", 6)]


def test_text_is_escaped_and_marked() -> None:
    assert marked("<b>late</b>", ((3, 7, 255),)) == '&lt;b&gt;<mark class="ms-m6">late</mark>&lt;/b&gt;'


def test_a_long_text_is_cut() -> None:
    assert marked("abcdef ghij", ((0, 3, 255),), 6) == '<mark class="ms-m6">abc</mark>de…'


@pytest.mark.parametrize(
    ("text", "span", "marks"),
    [
        (f"a{FAMILY}b", (2, 4), FAMILY),
        ("e\u0301te", (1, 2), "e\u0301"),
        ("👍🏽!", (0, 1), "👍🏽"),
        ("🇩🇪🇫🇷", (1, 2), "🇩🇪"),
        ("🇩🇪🇫🇷", (2, 3), "🇫🇷"),
        ("❤\ufe0f", (0, 1), "❤\ufe0f"),
    ],
)
def test_a_mark_never_parts_a_character(text: str, span: tuple[int, int], marks: str) -> None:
    assert [piece.text for piece in pieces(text, ((*span, 255),)) if piece.shade] == [marks]


@given(
    st.text(max_size=40),
    st.lists(st.tuples(st.integers(-3, 50), st.integers(-3, 50), st.integers(0, 255)), max_size=6),
)
def test_pieces_are_the_text_whatever_the_map_says(text: str, token_map: list[tuple[int, int, int]]) -> None:
    assert "".join(piece.text for piece in pieces(text, token_map)) == text


def test_heat_lies_where_the_weight_is() -> None:
    jpeg = drawing("x")
    hot = heated(jpeg, bytes([255] + [0] * 48), (7, 7))
    assert hot is not None
    with Image.open(BytesIO(jpeg)) as before, Image.open(BytesIO(hot)) as after:
        assert after.size == before.size
        corner, far = after.getpixel((70, 28)), after.getpixel((260, 230))
    assert corner[0] - corner[2] > 60
    assert abs(far[0] - far[2]) < 12


@pytest.mark.parametrize(("image_map", "shape"), [(b"", (0, 0)), (bytes(10), (7, 7)), (bytes(49), (0, 7))])
def test_a_map_that_does_not_fit_draws_nothing(image_map: bytes, shape: tuple[int, int]) -> None:
    assert heated(drawing("x"), image_map, shape) is None


def test_a_broken_picture_draws_nothing() -> None:
    assert heated(b"no jpeg", bytes(49), (7, 7)) is None
