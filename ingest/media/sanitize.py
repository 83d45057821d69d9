"""Picture bytes from anywhere → a safe, small RGB JPEG with its hashes.

The bytes are hostile: kind by magic bytes, size read and capped before any pixel is decoded, one frame, only Pillow's
four web decoders, no metadata kept. A JPEG that already is what we would write stays byte for byte, so that archives
replay unchanged.
"""

from __future__ import annotations

import warnings
from hashlib import sha256
from io import BytesIO
from typing import Final

import numpy as np
from PIL import GifImagePlugin, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL import Image as Pillow

from ingest.contract import Image
from ingest.errors import MalformedMedia
from ingest.media.perceptual_hash import pdq

MAX_BYTES: Final = 8 << 20
MAGIC_BYTES: Final = 12
"""So many bytes tell the format."""
MAX_PIXELS: Final = 39_000_000
"""Just under 40 megapixels; decoding that many takes 160 MB for a moment."""
MAX_SCANS: Final = 100
"""A progressive JPEG may ask for thousands of passes over all its pixels; real ones make about ten."""
SHORT_SIDE: Final = 256
SHORT_SIDE_KEPT: Final = 224
"""A JPEG whose scaled decode lands between this and SHORT_SIDE is not resized again."""
LONG_SIDE: Final = 2048
SHRINK_GAP: Final = 1.5
"""How much of a shrink is left to the filter once whole pixels are averaged: half the time of 2, and 54 dB from it."""
QUALITY: Final = 88
MAX_KEPT_BYTES: Final = 96 << 10

# These four decoders are loaded here; Pillow would otherwise load all forty of them to find WEBP.
_DECODERS: Final = (GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin)
# Pillow warns from 89 megapixels on; here every picture that large is refused.
warnings.filterwarnings("error", category=Pillow.DecompressionBombWarning)
# It also warns of damaged metadata, of which none is kept.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def make_safe(data: bytes, *, alt: str = "", width: int | None = None, height: int | None = None) -> Image:
    """Bytes of a JPEG, PNG, WEBP or GIF → contract image. Raises MalformedMedia.

    width, height: of the original, where `data` is a smaller copy.
    """
    kind = _checked_kind(data)
    try:
        with Pillow.open(BytesIO(data), formats=(kind,)) as picture:
            _check_size(*picture.size)
            orientation = _orientation(picture)
            own_width, own_height = picture.size[::-1] if orientation in _SWAPS_SIDES else picture.size
            jpeg = data if _is_ours(picture, data) else _encode(_shrink(picture, orientation))
        # The hash is of the JPEG that travels, so that whoever hashes it again finds the same; and to get at the luma
        # all of the file is unpacked, so a kept one that is not sound to its end is found out.
        phash = perceptual_hash(jpeg)
    except (Pillow.DecompressionBombWarning, Pillow.DecompressionBombError) as error:
        raise MalformedMedia("too many pixels", str(error)) from error
    except MemoryError as error:
        raise MalformedMedia("too much memory", kind) from error
    except MalformedMedia:
        raise
    except Exception as error:  # decoders raise anything on damaged bytes: OSError, SyntaxError, struct.error …
        raise MalformedMedia("damaged", f"{kind}: {error}") from error
    return Image(
        jpeg=jpeg,
        sha256=sha256(jpeg).digest(),
        phash=phash,
        width=width or own_width,
        height=height or own_height,
        alt=alt,
    )


def perceptual_hash(jpeg: bytes) -> bytes:
    """PDQ hash of a safe JPEG, 32 bytes: of its luma, so that no colours need be decoded."""
    with Pillow.open(BytesIO(jpeg), formats=("JPEG",)) as picture:
        picture.draft("L", picture.size)
        return pdq(np.asarray(picture))


def kind_of(start: bytes | bytearray) -> str | None:
    """Pillow's name of the format that the first MAGIC_BYTES tell; None for any but the four read here."""
    if start.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if start.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
        return "WEBP"
    return None


def _checked_kind(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        raise MalformedMedia("too large", f"{len(data):,} bytes; at most {MAX_BYTES:,} are read")
    kind = kind_of(data)
    if kind is None:
        raise MalformedMedia("unknown format", f"starts with {data[:8]!r}; JPEG, PNG, WEBP and GIF are read")
    if kind == "JPEG" and _scans(data) > MAX_SCANS:
        raise MalformedMedia("too many scans", f"a JPEG of more than {MAX_SCANS} scans")
    if kind == "WEBP":
        # Pillow makes room for the whole canvas on opening, before its size can be asked.
        _check_size(*_webp_size(data))
    return kind


def _scans(jpeg: bytes) -> int:
    """At least as many as there are; numpy counts a pair of bytes six times as fast as bytes.count."""
    values = np.frombuffer(jpeg, np.uint8)
    return int(np.count_nonzero((values[:-1] == 0xFF) & (values[1:] == 0xDA)))


def _webp_size(data: bytes) -> tuple[int, int]:
    chunk, body = data[12:16], data[20:30]
    if len(body) == 10 and chunk == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if len(body) == 10 and chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if len(body) == 10 and chunk == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    raise MalformedMedia("damaged", "WEBP without a size")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise MalformedMedia("too many pixels", f"{width}x{height} = {width * height:,}; at most {MAX_PIXELS:,}")


def _is_ours(picture: ImageFile.ImageFile, data: bytes) -> bool:
    """Is it an RGB JPEG as small as ours, with nothing in it but the picture?"""
    return (
        picture.format == "JPEG"
        and picture.mode == "RGB"
        and min(picture.size) <= SHORT_SIDE
        and max(picture.size) <= LONG_SIDE
        and len(data) <= MAX_KEPT_BYTES
        and data.endswith(b"\xff\xd9")
        and all(marker == "APP0" for marker, _ in getattr(picture, "applist", [("none", b"")]))
        and data.count(b"\xff\xd9") == 1
    )


_UPRIGHT: Final = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
_SWAPS_SIDES: Final = frozenset({5, 6, 7, 8})


def _orientation(picture: Pillow.Image) -> int:
    """EXIF orientation, 1 where there is none; damaged EXIF is common and no reason to lose the picture."""
    try:
        return int(picture.getexif().get(0x0112, 1))
    except Exception:  # the EXIF parser raises anything on damaged bytes
        return 1


def _shrink(picture: Pillow.Image, orientation: int) -> Pillow.Image:
    """First frame, upright, over white, RGB, short side at most SHORT_SIDE; never enlarged."""
    width, height = picture.size
    scale = min(1.0, SHORT_SIDE / min(width, height), LONG_SIDE / max(width, height))
    wanted = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 1:
        # Only JPEG can decode at 1/2, 1/4 or 1/8; for the others this does nothing.
        enough = SHORT_SIDE_KEPT / SHORT_SIDE
        picture.draft("RGB", (round(wanted[0] * enough), round(wanted[1] * enough)))
    frame = _eight_bits(picture)
    if min(frame.size) > SHORT_SIDE or max(frame.size) > LONG_SIDE:
        frame = frame.resize(wanted, Pillow.Resampling.BICUBIC, reducing_gap=SHRINK_GAP)
    if frame.mode == "RGBA":
        white = Pillow.new("RGBA", frame.size, "white")
        frame = Pillow.alpha_composite(white, frame).convert("RGB")
    turn = _UPRIGHT.get(orientation)
    return frame.transpose(turn) if turn is not None else frame


def _eight_bits(picture: Pillow.Image) -> Pillow.Image:
    """Any mode → RGB, or RGBA where something shines through."""
    if picture.mode.startswith("I"):
        # 16-bit grey: Pillow's own conversion clips everything above 255 to white.
        return Pillow.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    picture.load()
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _encode(picture: Pillow.Image) -> bytes:
    out = BytesIO()
    picture.info = {}  # Pillow would write a comment found there into the new file
    picture.save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
