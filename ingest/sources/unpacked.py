"""Compressed streams, unpacked on the way: gzip, zstd, bzip2 and xz, told by their first bytes.

An archive may be anybody's: memory is bounded whatever a stream says of itself, and one that is damaged, cut off or
swells beyond measure simply ends; what came before counts, and `trouble` says why.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

import zstandard

from ingest.sources.items import Skipped

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_WINDOW_BYTES: Final = 128 << 20
MAX_RATIO: Final = 500
"""JSON of one and the same post over and over shrinks to a 300th; a stream that was made to swell goes far beyond."""
FREE_BYTES: Final = 256 << 20
"""So much may come out whatever the ratio."""
DAMAGED: Final = "archive damaged from here on"
SWELLING: Final = f"archive swells to more than {MAX_RATIO} times its size: not read on"
_PACKED_BYTES: Final = 1 << 14
_ZSTD_BYTES: Final = 512
"""A zstd block of 4 bytes may unpack to 128 KiB, and comes out whole: 16 MiB at a time at the most."""
_ERRORS: Final = (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError, ValueError)
GZIP, ZSTD, BZIP2, XZ = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\0"


class _Frame(Protocol):
    """A decompressor of one frame, as bz2 and lzma have it."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _GzipFrame:
    def __init__(self) -> None:
        self._inflating = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._inflating.eof

    @property
    def needs_input(self) -> bool:
        return not self._inflating.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inflating.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inflating.decompress(self._inflating.unconsumed_tail + data, max_length)


class _ZstdFrame:
    """Fed in sips: its decompressor cannot be told how much to give."""

    def __init__(self) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
        self._inflating = decompressor.decompressobj()
        self._fed, self._out = b"", memoryview(b"")

    @property
    def eof(self) -> bool:
        return self._inflating.eof and not self._out

    @property
    def needs_input(self) -> bool:
        return not self._fed and not self._out

    @property
    def unused_data(self) -> bytes:
        return self._inflating.unused_data + self._fed

    def decompress(self, data: bytes, max_length: int) -> bytes:
        self._fed += data
        if not self._out:
            sip, self._fed = self._fed[:_ZSTD_BYTES], self._fed[_ZSTD_BYTES:]
            self._out = memoryview(self._inflating.decompress(sip))
        given, self._out = self._out[:max_length], self._out[max_length:]
        return bytes(given)


_FRAMES: Final[dict[bytes, tuple[str, Callable[[], _Frame]]]] = {
    GZIP: ("gzip", _GzipFrame),
    ZSTD: ("zstd", _ZstdFrame),
    BZIP2: ("bzip2", bz2.BZ2Decompressor),
    XZ: ("xz", lambda: lzma.LZMADecompressor(memlimit=MAX_WINDOW_BYTES)),
}


def magic_of(beginning: bytes) -> bytes | None:
    """Which compression a stream that begins like this has."""
    return next((magic for magic in _FRAMES if _begins_with(magic, beginning)), None)


def _begins_with(magic: bytes, beginning: bytes) -> bool:
    """zstd files may have frames to be passed over, as pzstd and the seekable format write them."""
    is_passed_over = beginning[1:4] == b"\x2a\x4d\x18" and beginning[0] & 0xF0 == 0x50
    return beginning.startswith(magic) or (magic == ZSTD and is_passed_over)


def name_of(magic: bytes) -> str:
    return _FRAMES[magic][0]


class Unpacked(io.RawIOBase):
    """What is in a compressed stream; several frames one after the other are one stream."""

    def __init__(self, packed: BinaryIO, magic: bytes) -> None:
        self.trouble: Skipped | None = None
        self._packed, self._magic, self._new_frame = packed, magic, _FRAMES[magic][1]
        self._frame = self._new_frame()
        self._left = b""
        self._bytes_in = self._bytes_out = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        if self.trouble is not None:
            return 0
        try:
            given = self._next(len(view))
        except _ERRORS as error:
            self.trouble = Skipped(reason=DAMAGED, item=str(error))
            return 0
        self._bytes_out += len(given)
        if self._bytes_out > FREE_BYTES and self._bytes_out > MAX_RATIO * self._bytes_in:
            self.trouble = Skipped(reason=SWELLING, item=f"{self._bytes_in} bytes became {self._bytes_out}")
            return 0
        view[: len(given)] = given
        return len(given)

    def _next(self, size: int) -> bytes:
        while True:
            if self._frame.eof and not self._begin_frame():
                return b""
            data = b""
            if self._frame.needs_input and not (data := self._take()):
                raise EOFError("it ends too soon")
            if given := self._frame.decompress(data, size):
                return given

    def _begin_frame(self) -> bool:
        """False at the end of the stream."""
        self._left = self._frame.unused_data.lstrip(b"\0")  # which tapes pad with
        while len(self._left) < len(self._magic):
            if not (more := self._read()):
                break
            self._left = (self._left + more).lstrip(b"\0")
        if not self._left:
            return False
        if not _begins_with(self._magic, self._left):
            raise EOFError("something else follows")
        self._frame = self._new_frame()
        return True

    def _take(self) -> bytes:
        taken, self._left = self._left or self._read(), b""
        return taken

    def _read(self) -> bytes:
        data = self._packed.read(_PACKED_BYTES)
        self._bytes_in += len(data)
        return data
