from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow
from PIL import PngImagePlugin

from ingest.contract import Image
from ingest.errors import MalformedMedia
from ingest.media.sanitize import LONG_SIDE, MAX_BYTES, MAX_KEPT_BYTES, make_safe

RNG = np.random.default_rng(7)


def saved(picture: Pillow.Image, kind: str = "PNG", **options: object) -> bytes:
    out = BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def photo(width: int, height: int) -> Pillow.Image:
    small = RNG.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return Pillow.fromarray(small).resize((width, height), Pillow.Resampling.BICUBIC)


def opened(image: Image) -> Pillow.Image:
    picture = Pillow.open(BytesIO(image.jpeg))
    picture.load()
    return picture


def colour(image: Image, x: float = 0.5, y: float = 0.5) -> tuple[int, int, int]:
    picture = opened(image)
    pixel = picture.getpixel((int(x * (picture.width - 1)), int(y * (picture.height - 1))))
    assert isinstance(pixel, tuple)
    return pixel  # type: ignore[return-value]


def near(found: tuple[int, ...], wanted: tuple[int, int, int]) -> bool:
    return all(abs(a - b) <= 12 for a, b in zip(found, wanted, strict=True))


def png_claiming(width: int, height: int) -> bytes:
    """A valid PNG header of any size, with next to no data behind it."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def webp_claiming(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_every_kind_becomes_a_small_rgb_jpeg(kind: str) -> None:
    image = make_safe(saved(photo(600, 450), kind), alt="hills")
    picture = opened(image)
    assert (picture.format, picture.mode, image.width, image.height, image.alt) == ("JPEG", "RGB", 600, 450, "hills")
    assert 224 <= min(picture.size) <= 256
    assert picture.width / picture.height == pytest.approx(4 / 3, abs=0.01)
    assert image.sha256 == sha256(image.jpeg).digest()
    assert len(image.phash) == 32


@pytest.mark.parametrize(("size", "expected"), [((100, 60), (100, 60)), ((1, 1), (1, 1)), ((2000, 300), (1707, 256))])
def test_pictures_shrink_and_never_grow(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert opened(make_safe(saved(photo(*size)))).size == expected


def test_a_very_long_picture_is_bounded_on_its_long_side() -> None:
    assert max(opened(make_safe(saved(photo(9000, 60)))).size) == LONG_SIDE


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_png_mode_becomes_rgb(mode: str) -> None:
    picture = photo(300, 300)
    if mode == "I;16":
        picture = Pillow.fromarray(np.full((300, 300), 128 << 8, dtype=np.uint16))
    elif mode != "RGB":
        picture = picture.convert(mode)
    assert opened(make_safe(saved(picture))).mode == "RGB"


def test_sixteen_bit_grey_keeps_its_shade() -> None:
    grey = Pillow.fromarray(np.full((300, 300), 100 << 8, dtype=np.uint16))
    assert near(colour(make_safe(saved(grey))), (100, 100, 100))


def test_cmyk_becomes_rgb() -> None:
    cyan = Pillow.new("CMYK", (300, 300), (255, 0, 0, 0))
    assert near(colour(make_safe(saved(cyan, "JPEG"))), (0, 255, 255))


@pytest.mark.parametrize("size", [200, 600])
def test_transparency_lies_over_white(size: int) -> None:
    clear = Pillow.new("RGBA", (size, size), (255, 0, 0, 0))
    assert near(colour(make_safe(saved(clear))), (255, 255, 255))
    palette = Pillow.new("P", (size, size), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    assert near(colour(make_safe(saved(palette, transparency=0))), (255, 255, 255))
    assert near(colour(make_safe(saved(palette))), (255, 0, 0))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_only_the_first_frame_is_taken(kind: str) -> None:
    frames = [Pillow.new("RGB", (300, 200), shade) for shade in ("red", "blue", "lime")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert near(colour(make_safe(data)), (254, 0, 0))


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, (0.1, 0.1)), (3, (0.9, 0.9)), (6, (0.9, 0.1)), (8, (0.1, 0.9))]
)
def test_exif_orientation_is_applied_and_removed(orientation: int, corner: tuple[float, float]) -> None:
    picture = Pillow.new("RGB", (600, 400), "blue")
    picture.paste("red", (0, 0, 300, 200))
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    image = make_safe(saved(picture, "JPEG", exif=exif))
    assert near(colour(image, *corner), (254, 0, 0))
    assert (image.width, image.height) == ((400, 600) if orientation in (6, 8) else (600, 400))
    assert not opened(image).getexif()


@pytest.mark.filterwarnings("default:Corrupt EXIF data:UserWarning")
def test_damaged_exif_costs_no_picture() -> None:
    assert make_safe(saved(photo(600, 400), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xffgarbage")).width == 600


def test_metadata_is_left_behind() -> None:
    exif = Pillow.Exif()
    exif[0x010E] = "taken at home"
    data = saved(photo(200, 200), "JPEG", exif=exif, comment=b"secret place")
    image = make_safe(data)
    assert b"taken at home" in data and b"secret place" in data
    assert b"taken at home" not in image.jpeg and b"secret place" not in image.jpeg


def test_a_picture_of_ours_stays_byte_for_byte() -> None:
    once = make_safe(saved(photo(1200, 900), "JPEG"))
    again = make_safe(once.jpeg, width=1200, height=900)
    assert again == once


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"<script>",
        lambda data: data[:2] + b"\xff\xfe\x00\x09comment" + data[2:],
        lambda data: data + data,
    ],
)
def test_a_small_jpeg_with_anything_else_in_it_is_encoded_anew(change: Callable[[bytes], bytes]) -> None:
    changed = change(saved(photo(200, 200), "JPEG"))
    image = make_safe(changed)
    assert image.jpeg != changed
    assert b"comment" not in image.jpeg and b"<script>" not in image.jpeg


def test_a_small_but_heavy_jpeg_is_encoded_anew() -> None:
    noise = Pillow.fromarray(RNG.integers(0, 255, (256, 256, 3), dtype=np.uint8))
    heavy = saved(noise, "JPEG", quality=100, subsampling=0)
    assert len(heavy) > MAX_KEPT_BYTES
    assert len(make_safe(heavy).jpeg) < len(heavy)


def test_the_perceptual_hash_forgives_size_and_quality() -> None:
    picture = photo(1200, 900)
    first = make_safe(saved(picture, "JPEG", quality=95)).phash
    second = make_safe(saved(picture.resize((800, 600)), "JPEG", quality=40)).phash
    other = make_safe(saved(photo(1200, 900), "JPEG")).phash
    assert bits_apart(first, second) <= 31
    assert bits_apart(first, other) > 60


def bits_apart(first: bytes, second: bytes) -> int:
    return (int.from_bytes(first) ^ int.from_bytes(second)).bit_count()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.97])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    whole = saved(photo(300, 200), kind)
    with pytest.raises(MalformedMedia):
        make_safe(whole[: int(len(whole) * share)])


@pytest.mark.parametrize("size", [(8000, 5000), (6400, 6250), (200_000, 200_000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_of_forty_megapixels_is_refused_before_decoding(size: tuple[int, int]) -> None:
    started = time.perf_counter()
    with pytest.raises(MalformedMedia, match=r"too many pixels") as raised:
        make_safe(png_claiming(*size))
    assert raised.value.reason == "too many pixels"
    assert time.perf_counter() - started < 0.5


def test_a_real_forty_megapixel_png_is_refused() -> None:
    with pytest.raises(MalformedMedia, match=r"8000x5000 = 40,000,000; at most 39,000,000"):
        make_safe(saved(Pillow.new("1", (8000, 5000))))


@pytest.mark.parametrize("size", [(16_383, 16_383), (1 << 24, 1 << 24)])
def test_a_webp_canvas_is_checked_before_room_is_made_for_it(size: tuple[int, int]) -> None:
    with pytest.raises(MalformedMedia, match="too many pixels"):
        make_safe(webp_claiming(*size))


def test_a_text_chunk_bomb_is_refused_or_ignored() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("bomb", "A" * 80_000_000, zip=True)
    with pytest.raises(MalformedMedia, match="damaged"):
        make_safe(saved(Pillow.new("RGB", (300, 300)), pnginfo=info))


def test_a_jpeg_of_thousands_of_scans_is_refused() -> None:
    data = saved(photo(300, 300), "JPEG", progressive=True)
    end = data.rindex(b"\xff\xda")
    with pytest.raises(MalformedMedia, match="too many scans"):
        make_safe(data[:end] + data[end:-2] * 200 + data[-2:])
    assert make_safe(data).width == 300


def test_a_file_of_more_bytes_than_allowed_is_refused() -> None:
    with pytest.raises(MalformedMedia, match="too large"):
        make_safe(saved(photo(10, 10)) + bytes(MAX_BYTES))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"<?xml version='1.0'?><svg/>",
        b"%PDF-1.7\n" + bytes(100),
        b"%!PS-Adobe-3.0 EPSF-3.0\n",
        b"BM" + bytes(100),
        b"II*\0" + bytes(100),
        b"8BPS\0\x01" + bytes(100),
        b"SIMPLE  =                    T",
        b"\0\0\0\x0cjP  \r\n\x87\n",
        b"<html>\xff\xd8\xff",
        b"RIFF\0\0\0\0WAVE" + bytes(50),
    ],
    ids=["empty", "short", "svg", "xml", "pdf", "eps", "bmp", "tiff", "psd", "fits", "jpeg2000", "html-first", "wave"],
)
def test_other_formats_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedMedia) as raised:
        make_safe(data)
    assert raised.value.reason == "unknown format"


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a<svg onload=alert(1)>",
        b"GIF89a=1;alert(1)//",
        b"\x89PNG\r\n\x1a\n<script>alert(1)</script>",
        b"\xff\xd8\xff<?php system('id') ?>",
        b"RIFF\x20\0\0\0WEBP<svg/>" + bytes(30),
        b"RIFF\x20\0\0\0WEBPVP8 ",
    ],
)
def test_a_polyglot_that_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMedia) as raised:
        make_safe(data)
    assert raised.value.reason == "damaged"


def test_a_picture_that_is_also_a_script_comes_out_as_a_picture_only() -> None:
    gif = saved(photo(300, 300), "GIF") + b"<script>alert(1)</script>"
    assert b"<script>" not in make_safe(gif).jpeg


def test_random_damage_never_escapes_as_another_error(jpeg: bytes) -> None:
    chance = np.random.default_rng(1)
    for data in (jpeg, saved(photo(300, 200), "PNG"), saved(photo(300, 200), "GIF"), saved(photo(300, 200), "WEBP")):
        for _ in range(40):
            damaged = bytearray(data)
            for place in chance.integers(8, len(data), 6):
                damaged[place] = int(chance.integers(256))
            try:
                make_safe(bytes(damaged))
            except MalformedMedia as error:
                assert error.reason in ("damaged", "too many pixels")


@pytest.mark.data
def test_pictures_of_mvsa_stay_byte_for_byte(data: Path) -> None:
    with pq.ParquetFile(data / "mvsa_single.parquet") as file:
        batch = next(file.iter_batches(100, columns=["image"]))
    for row in batch.to_pylist():
        assert make_safe(row["image"]).jpeg == row["image"]
