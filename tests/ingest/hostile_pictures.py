"""Pictures made to do harm, or merely odd, and what must become of each: "safe", or the reason of its refusal."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms, PngImagePlugin

SIDE: Final = 300
MARK: Final = b"<script>alert(document.domain)</script>"
"""Must be in no picture that comes out."""


def saved(picture: Pillow.Image, kind: str, **options: Any) -> bytes:
    out = BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


@cache
def photo(kind: str, **options: Any) -> bytes:
    small = np.random.default_rng(7).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    return saved(Pillow.fromarray(small).resize((400, SIDE), Pillow.Resampling.BICUBIC), kind, **options)


def plain(mode: str = "RGB", size: tuple[int, int] = (SIDE, SIDE)) -> Pillow.Image:
    return Pillow.new(mode, size)


def archive() -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("Main.class", MARK)
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(*chunks: bytes, width: int = 8, height: int = 8, depth: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


PIXELS_8X8: Final = chunk(b"IDAT", zlib.compress(bytes(8 * 25)))


def png_with(*chunks: bytes) -> bytes:
    return png(*chunks, PIXELS_8X8)


def png_of_frames(count: int) -> bytes:
    control = chunk(b"acTL", struct.pack(">II", count, 0))
    frame = struct.pack(">IIIIHHBB", 8, 8, 0, 0, 1, 100, 0, 0)
    later = b"".join(
        chunk(b"fcTL", struct.pack(">I", 2 * n - 1) + frame)
        + chunk(b"fdAT", struct.pack(">I", 2 * n) + zlib.compress(bytes(8 * 25)))
        for n in range(1, count)
    )
    return png(control, chunk(b"fcTL", struct.pack(">I", 0) + frame), PIXELS_8X8, later)


def gif(*blocks: bytes, width: int = 8, height: int = 8) -> bytes:
    return (
        b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + b"".join(blocks) + b";"
    )


def gif_frame(width: int = 8, height: int = 8) -> bytes:
    whole = saved(plain("P", (8, 8)), "GIF")
    body = whole[whole.rindex(b"\x2c") + 10 : -1]
    return b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0) + body


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def webp_canvas(width: int, height: int, flags: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp_chunk(b"VP8X", bytes((flags, 0, 0, 0)) + sides)


def webp_of_frames(count: int) -> bytes:
    picture = saved(plain("RGB", (8, 8)), "WEBP", lossless=True)[12:]
    frame = webp_chunk(b"ANMF", bytes(6) + b"\x07\0\0\x07\0\0" + b"\x64\0\0\0" + picture)
    return riff(webp_canvas(8, 8, 0x02), webp_chunk(b"ANIM", bytes(6)), *[frame] * count)


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(*segments: bytes) -> bytes:
    data = photo("JPEG")
    return data[:2] + b"".join(segments) + data[2:]


def jpeg_sized(width: int, height: int, frame: int = 0xC0) -> bytes:
    data = bytearray(photo("JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1] = frame
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def exif(*entries: bytes, start: int = 8) -> bytes:
    return b"Exif\0\0II*\0" + struct.pack("<I", start) + struct.pack("<H", len(entries)) + b"".join(entries)


def oriented(value: int) -> bytes:
    data = Pillow.Exif()
    data[0x0112] = value
    return photo("JPEG", exif=data.tobytes())


def icc(parts: int, of: int, body: bytes) -> bytes:
    return b"".join(segment(0xE2, b"ICC_PROFILE\0" + bytes((n + 1, of)) + body) for n in range(parts))


def scans(count: int) -> bytes:
    data = photo("JPEG", progressive=True)
    end = data.rindex(b"\xff\xda")
    return data[:end] + data[end:-2] * count + data[-2:]


def cut(kind: str, share: float) -> bytes:
    return photo(kind)[: int(len(photo(kind)) * share)]


def damaged(kind: str, at: float) -> bytes:
    data = bytearray(photo(kind))
    place = int(len(data) * at)
    data[place : place + 40] = b"\xff" * 40
    return bytes(data)


def text_bomb(kind: str) -> bytes:
    packed = zlib.compress(b"A" * 80_000_000, 9)
    if kind == "zTXt":
        return png_with(chunk(b"zTXt", b"bomb\0\0" + packed))
    if kind == "iTXt":
        return png_with(chunk(b"iTXt", b"bomb\0\1\0\0\0" + packed))
    return png_with(chunk(b"iCCP", b"bomb\0\0" + packed))


def many_text_bombs() -> bytes:
    packed = zlib.compress(b"A" * 1_000_000, 9)
    return png_with(*[chunk(b"zTXt", b"bomb\0\0" + packed)] * 80)


def heif(brand: bytes) -> bytes:
    return b"\0\0\0\x1cftyp" + brand + bytes(16)


def every_pixel(mode: str, kind: str) -> bytes:
    return saved(plain(mode, (6500, 6000)), kind)


def sixteen_bits(channels: int) -> bytes:
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + b"\x80\x01" * 8 * channels for _ in range(8))
    return png(chunk(b"IDAT", zlib.compress(rows)), depth=16, colour=colour)


Case = tuple[Callable[[], bytes], str]
SAFE: Final = "safe"
DAMAGED: Final = "damaged"
PIXELS: Final = "too many pixels"
UNKNOWN: Final = "unknown format"

FOREIGN: Final[dict[str, Case]] = {
    "no bytes at all": (lambda: b"", UNKNOWN),
    "one byte": (lambda: b"\xff", UNKNOWN),
    "svg with script": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'>" + MARK + b"</svg>", UNKNOWN),
    "svg with an entity bomb": (lambda: b"<?xml version='1.0'?><!DOCTYPE l [<!ENTITY a 'a'>]><svg>&a;</svg>", UNKNOWN),
    "svgz": (lambda: gzip.compress(b"<svg/>"), UNKNOWN),
    "html": (lambda: b"<!doctype html>" + MARK, UNKNOWN),
    "html before a jpeg": (lambda: MARK + photo("JPEG"), UNKNOWN),
    "blanks before a png": (lambda: b"  " + photo("PNG"), UNKNOWN),
    "byte order mark before a gif": (lambda: b"\xef\xbb\xbf" + photo("GIF"), UNKNOWN),
    "pdf": (lambda: b"%PDF-1.7\n" + bytes(100), UNKNOWN),
    "eps, a program": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n(x) run", UNKNOWN),
    "eps with a dos header": (lambda: b"\xc5\xd0\xd3\xc6" + bytes(100), UNKNOWN),
    "bmp": (lambda: saved(plain(), "BMP"), UNKNOWN),
    "ico": (lambda: saved(plain(size=(32, 32)), "ICO"), UNKNOWN),
    "icns": (lambda: b"icns" + bytes(60), UNKNOWN),
    "tiff": (lambda: saved(plain(), "TIFF"), UNKNOWN),
    "big tiff": (lambda: b"II+\0\x08\0\0\0" + bytes(60), UNKNOWN),
    "psd": (lambda: b"8BPS\0\x01" + bytes(60), UNKNOWN),
    "jpeg 2000": (lambda: saved(plain(), "JPEG2000"), UNKNOWN),
    "avif": (lambda: heif(b"avif"), UNKNOWN),
    "heic": (lambda: heif(b"heic"), UNKNOWN),
    "fits": (lambda: b"SIMPLE  =                    T" + bytes(60), UNKNOWN),
    "ppm": (lambda: saved(plain(), "PPM"), UNKNOWN),
    "tga": (lambda: saved(plain(), "TGA"), UNKNOWN),
    "wave in riff": (lambda: b"RIFF\x20\0\0\0WAVEfmt " + bytes(50), UNKNOWN),
    "gzip of a jpeg": (lambda: gzip.compress(photo("JPEG")), UNKNOWN),
    "zip": (archive, UNKNOWN),
    "mp4": (lambda: heif(b"isom"), UNKNOWN),
    "elf": (lambda: b"\x7fELF" + bytes(60), UNKNOWN),
    "more bytes than are read": (lambda: photo("JPEG") + bytes(8 << 20), "too large"),
}

POLYGLOTS: Final[dict[str, Case]] = {
    "jpeg with html behind": (lambda: photo("JPEG") + MARK, SAFE),
    "jpeg with html in its comment": (lambda: jpeg_with(segment(0xFE, MARK)), SAFE),
    "jpeg with html as its exif": (lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + MARK)), SAFE),
    "jpeg with html as its xmp": (lambda: jpeg_with(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + MARK)), SAFE),
    "jpeg with a zip behind": (lambda: photo("JPEG") + archive(), SAFE),
    "jpeg within a jpeg": (lambda: jpeg_with(segment(0xFE, photo("JPEG"))), SAFE),
    "two jpegs in a row": (lambda: photo("JPEG") + photo("JPEG"), SAFE),
    "gif with a jar behind": (lambda: photo("GIF") + archive(), SAFE),
    "gif that is javascript": (lambda: b"GIF89a=1;" + MARK, DAMAGED),
    "gif with html in its comment": (lambda: gif(b"\x21\xfe" + bytes((len(MARK),)) + MARK + b"\0", gif_frame()), SAFE),
    "gif with html as its palette": (lambda: photo("GIF")[:13] + MARK, DAMAGED),
    "png with html behind": (lambda: photo("PNG") + MARK, SAFE),
    "png with html in its text": (lambda: png_with(chunk(b"tEXt", b"Comment\0" + MARK)), SAFE),
    "png with a private chunk": (lambda: png_with(chunk(b"htMl", MARK)), SAFE),
    "png with php in its pixels": (
        lambda: png(chunk(b"IDAT", zlib.compress((b"\0" + b"<?php 1?>" * 2 + bytes(6)) * 8))),
        SAFE,
    ),
    "png with no more than a signature": (lambda: b"\x89PNG\r\n\x1a\n" + MARK, DAMAGED),
    "webp with html behind": (lambda: photo("WEBP") + MARK, SAFE),
    "webp with html in a chunk": (lambda: riff(photo("WEBP")[12:], webp_chunk(b"HTML", MARK)), SAFE),
    "webp that is html": (lambda: riff(MARK), DAMAGED),
    "jpeg that is php": (lambda: b"\xff\xd8\xff<?php system('id') ?>", DAMAGED),
}

BOMBS: Final[dict[str, Case]] = {
    "png of 2^31 by 2^31": (lambda: png(PIXELS_8X8, width=2**31 - 1, height=2**31 - 1), PIXELS),
    "png of 40 megapixels": (lambda: png(PIXELS_8X8, width=8000, height=5000), PIXELS),
    "png of 90 megapixels": (lambda: png(PIXELS_8X8, width=9000, height=10_000), PIXELS),
    "png one pixel high and 2^31 wide": (lambda: png(PIXELS_8X8, width=2**31 - 1, height=1), PIXELS),
    "png without height": (lambda: png(PIXELS_8X8, width=8, height=0), DAMAGED),
    "png claiming more than it holds": (lambda: png(PIXELS_8X8, width=6000, height=6000), DAMAGED),
    "png whose data unpack to 200 MB more than its pixels": (
        lambda: png(chunk(b"IDAT", zlib.compress(bytes(8 * 25)) + zlib.compress(bytes(200_000_000), 9))),
        SAFE,
    ),
    "png with 80 MB of packed text": (lambda: text_bomb("zTXt"), DAMAGED),
    "png with 80 MB of packed utf-8 text": (lambda: text_bomb("iTXt"), DAMAGED),
    "png with 80 MB of packed colour profile": (lambda: text_bomb("iCCP"), DAMAGED),
    "png with 80 texts of 1 MB": (many_text_bombs, DAMAGED),
    "png of 50,000 empty chunks": (lambda: png_with(*[chunk(b"teXt", b"")] * 50_000), SAFE),
    "png chunk of 2 GB": (lambda: png_with(b"\x7f\xff\xff\xfftEXt" + bytes(20)), DAMAGED),
    "png with 39 megapixels of nothing": (lambda: every_pixel("1", "PNG"), SAFE),
    "apng of 10,000 frames": (lambda: png_of_frames(10_000), SAFE),
    "apng claiming 2^31 frames": (
        lambda: png(chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), PIXELS_8X8),
        SAFE,
    ),
    "gif of 65535 by 65535": (lambda: gif(gif_frame(), width=65_535, height=65_535), PIXELS),
    "gif frame larger than its screen": (lambda: gif(gif_frame(65_535, 65_535)), PIXELS),
    "gif frame outside its screen": (lambda: gif(gif_frame(200, 200)), DAMAGED),
    "gif of 10,000 frames": (lambda: gif(*[gif_frame()] * 10_000), SAFE),
    "gif without frames": (lambda: gif(), DAMAGED),
    "gif of 39 megapixels": (lambda: every_pixel("P", "GIF"), SAFE),
    "webp of 16383 by 16383": (lambda: riff(webp_canvas(16_383, 16_383, 0)), PIXELS),
    "webp of 2^24 by 2^24": (lambda: riff(webp_canvas(1 << 24, 1 << 24, 2)), PIXELS),
    "webp of 36 bytes and 39 megapixels": (
        lambda: saved(plain("RGB", (6500, 6000)), "WEBP", lossless=True, method=0),
        SAFE,
    ),
    "webp of 10,000 frames": (lambda: webp_of_frames(10_000), SAFE),
    "webp whose frame is larger than its canvas": (
        lambda: riff(webp_canvas(8, 8, 0), photo("WEBP", lossless=True)[12:]),
        DAMAGED,
    ),
    "jpeg of 65535 by 65535": (lambda: jpeg_sized(65_535, 65_535), PIXELS),
    "jpeg without height": (lambda: jpeg_sized(300, 0), DAMAGED),
    "jpeg claiming more than it holds": (lambda: jpeg_sized(6000, 6000), SAFE),
    "jpeg of 200 scans": (lambda: scans(200), "too many scans"),
    "jpeg of 2,000 scans": (lambda: scans(2000), "too many scans"),
    "jpeg of 39 megapixels, progressive": (
        lambda: saved(plain(size=(6500, 6000)), "JPEG", progressive=True, subsampling=0),
        SAFE,
    ),
    "jpeg with 6 MB of colour profile": (lambda: jpeg_with(icc(100, 100, bytes(60_000))), SAFE),
    "jpeg with a colour profile that lacks parts": (lambda: jpeg_with(icc(1, 255, bytes(1000))), SAFE),
    "jpeg with 20,000 comments": (lambda: jpeg_with(*[segment(0xFE, b"")] * 20_000), SAFE),
    "jpeg with an exif directory of 65535 entries": (
        lambda: jpeg_with(segment(0xE1, exif(*[struct.pack("<HHII", 0x0112, 4, 2**32 - 1, 0)] * 4000))),
        SAFE,
    ),
    "jpeg with an exif directory that is its own next": (
        lambda: jpeg_with(segment(0xE1, exif(start=8) + struct.pack("<I", 8))),
        SAFE,
    ),
    "jpeg with an exif value of 4 GB": (
        lambda: jpeg_with(segment(0xE1, exif(struct.pack("<HHII", 0x010E, 2, 2**32 - 1, 8)))),
        SAFE,
    ),
    "jpeg with an exif directory beyond its end": (lambda: jpeg_with(segment(0xE1, exif(start=2**31))), SAFE),
    "jpeg with an orientation that is a text": (
        lambda: jpeg_with(segment(0xE1, exif(struct.pack("<HHI4s", 0x0112, 2, 4, b"six\0")))),
        SAFE,
    ),
    "jpeg with an orientation of 99": (lambda: oriented(99), SAFE),
}

MALFORMED: Final[dict[str, Case]] = {
    **{
        f"{kind.lower()} cut at {share:.0%}": ((lambda kind=kind, share=share: cut(kind, share)), DAMAGED)
        for kind in ("JPEG", "PNG", "GIF", "WEBP")
        for share in (0.05, 0.5, 0.95)
    },
    "jpeg of 12 bytes": (lambda: photo("JPEG")[:12], DAMAGED),
    "png of damaged pixels, which can be unpacked": (lambda: damaged("PNG", 0.5), SAFE),
    "png with a wrong header checksum": (lambda: photo("PNG")[:29] + b"\0\0\0\0" + photo("PNG")[33:], DAMAGED),
    "png of an impossible colour type": (lambda: png(PIXELS_8X8, colour=5), DAMAGED),
    "png of an impossible depth": (lambda: png(PIXELS_8X8, depth=7), DAMAGED),
    "png without pixels": (lambda: png(), DAMAGED),
    "png with a palette of none": (lambda: png(PIXELS_8X8, colour=3), DAMAGED),
    "webp of damaged pixels, which can be unpacked": (lambda: damaged("WEBP", 0.05), SAFE),
    "webp longer than it says": (lambda: b"RIFF\x04\0\0\0" + photo("WEBP")[8:], DAMAGED),
    "gif of an impossible code size": (lambda: gif(gif_frame()[:10] + b"\x20" + gif_frame()[11:]), DAMAGED),
    "gif whose block never ends": (lambda: gif(b"\x21\xfe" + b"\xff" + bytes(300)), DAMAGED),
    "jpeg of 12 bits a sample": (
        lambda: photo("JPEG").replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c"),
        DAMAGED,
    ),
    "jpeg of the lossless process": (lambda: jpeg_sized(400, SIDE, frame=0xC3), DAMAGED),
    "jpeg of hierarchical frames": (lambda: jpeg_sized(400, SIDE, frame=0xC5), DAMAGED),
    "jpeg without tables": (lambda: photo("JPEG").replace(b"\xff\xdb", b"\xff\xfe"), DAMAGED),
    "jpeg without an end": (lambda: photo("JPEG")[:-2], DAMAGED),
    "jpeg of one component too many": (lambda: jpeg_with(segment(0xC0, b"\x08\0\x08\0\x08\x05" + bytes(15))), DAMAGED),
}

ODD: Final[dict[str, Case]] = {
    "jpeg of cmyk": (lambda: saved(plain("CMYK"), "JPEG"), SAFE),
    "jpeg of grey": (lambda: saved(plain("L"), "JPEG"), SAFE),
    "jpeg, progressive": (lambda: photo("JPEG", progressive=True), SAFE),
    "jpeg with restarts": (lambda: photo("JPEG", restart_marker_blocks=1), SAFE),
    "jpeg with a colour profile": (
        lambda: photo("JPEG", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()),
        SAFE,
    ),
    "jpeg of one pixel": (lambda: saved(plain(size=(1, 1)), "JPEG"), SAFE),
    "jpeg of 65,000 by 1": (lambda: saved(plain(size=(65_000, 1)), "JPEG"), SAFE),
    "jpeg of 1 by 65,000": (lambda: saved(plain(size=(1, 65_000)), "JPEG"), SAFE),
    "mpo of two pictures": (lambda: saved(plain(), "MPO", save_all=True, append_images=[plain()]), SAFE),
    **{f"jpeg of orientation {n}": ((lambda n=n: oriented(n)), SAFE) for n in (2, 3, 4, 5, 6, 7, 8)},
    "png of 16-bit grey": (lambda: sixteen_bits(1), SAFE),
    "png of 16-bit grey and alpha": (lambda: sixteen_bits(2), SAFE),
    "png of 16-bit colour": (lambda: sixteen_bits(3), SAFE),
    "png of 16-bit colour and alpha": (lambda: sixteen_bits(4), SAFE),
    "png of one bit": (lambda: saved(plain("1"), "PNG"), SAFE),
    "png of a palette": (lambda: saved(plain("P"), "PNG"), SAFE),
    "png of a palette with transparency": (lambda: saved(plain("P"), "PNG", transparency=0), SAFE),
    "png of grey with transparency": (lambda: saved(plain("L"), "PNG", transparency=0), SAFE),
    "png of colour with transparency": (lambda: saved(plain(), "PNG", transparency=(0, 0, 0)), SAFE),
    "png, interlaced": (lambda: png(chunk(b"IDAT", zlib.compress(bytes(15 * 25))), interlace=1), SAFE),
    "png with an honest text": (
        lambda: photo("PNG", pnginfo=_text("Author", "somebody")),
        SAFE,
    ),
    "gif of one pixel": (lambda: saved(plain("P", (1, 1)), "GIF"), SAFE),
    "gif, transparent": (lambda: saved(plain("P"), "GIF", transparency=0), SAFE),
    "webp with alpha": (lambda: saved(plain("RGBA"), "WEBP"), SAFE),
    "webp, lossless": (lambda: photo("WEBP", lossless=True), SAFE),
}


def _text(key: str, value: str) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text(key, value)
    return info


PICTURES: Final[dict[str, Case]] = {**FOREIGN, **POLYGLOTS, **BOMBS, **MALFORMED, **ODD}
