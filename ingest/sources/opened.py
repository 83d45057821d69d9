"""Files as people have them: plain, compressed, in a tar (itself compressed, its members too), or a folder of those.

Told by content, never by name, and read as streams: nothing is unpacked to disk, and a member's name is shown to
people and never used as a path.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple, cast

from ingest.errors import BadSource
from ingest.sources.items import Skipped
from ingest.sources.lines import MAX_LINE_BYTES, Lines
from ingest.sources.unpacked import DAMAGED, Unpacked, magic_of, name_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_LAYERS: Final = 3
"""Compressions around one stream: more is a trap rather than an archive."""
BEGINNING_BYTES: Final = 1 << 16
NOT_A_FILE: Final = "no file but a link, device or the like"
UNKNOWN: Final = "file of unknown kind"
_MAX_HEADER_BYTES: Final = 1 << 20
_LONG_HEADERS: Final = frozenset({tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"x", b"g", b"X"})
_BUFFER_BYTES: Final = 1 << 16


class Member(NamedTuple):
    """One file. packed: what is around it, outermost first; beginning: its first line or more, still in `file`."""

    name: str
    stem: str
    file: BinaryIO
    beginning: bytes
    packed: tuple[str, ...]
    layers: tuple[Unpacked | _TarBytes, ...]

    @property
    def lines(self) -> Lines:
        return Lines(self.file, self.name, self.trouble)

    def trouble(self) -> Skipped | None:
        """Why it ended too soon, if it did: what is outermost knows best."""
        return next((layer.trouble for layer in self.layers if layer.trouble is not None), None)


def members(path: Path) -> Iterator[Member | Skipped]:
    """The files at `path`, one open at a time; a folder's in the order of their names. Raises BadSource."""
    if not path.is_dir():
        yield from _in_file(path, "")
        return
    for found in files_in(path):
        yield from _in_file(found, found.relative_to(path).as_posix())


def described(what: str, member: Member, path: Path) -> str:
    """A format for people: "X API v2 JSON Lines, tar, gzip"."""
    return ", ".join((what, *reversed(member.packed), *(("a folder",) if path.is_dir() else ())))


def files_in(folder: Path) -> Iterator[Path]:
    """Depth first, in the order of their names, without what is hidden; links to folders are not followed."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if not path.is_symlink():
                yield from files_in(path)
        elif path.is_file():
            yield path


def is_tar(beginning: bytes) -> bool:
    """Has it a tar header with a right check sum?"""
    try:
        tarfile.TarInfo.frombuf(beginning[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _in_file(path: Path, name: str) -> Iterator[Member | Skipped]:
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise BadSource(f"cannot read {path}: {error.strerror}") from error
        outer = _peeled(raw, name, path.name, ())
        if not isinstance(outer, Member) or not is_tar(outer.beginning):
            yield outer
            return
        yield from _in_tar(outer)


def _in_tar(outer: Member) -> Iterator[Member | Skipped]:
    is_told = False
    try:
        with _Tar.open(fileobj=outer.file, mode="r|", tarinfo=_Header) as tar:
            while (header := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # which would grow with the archive
                name = header.name.encode("utf-8", "replace").decode()
                name = f"{outer.name}:{name}" if outer.name else name
                if header.isdir():
                    continue
                if not header.isreg() or header.issparse():
                    yield Skipped(reason=NOT_A_FILE, item=name)
                    continue
                content = _TarBytes(cast(BinaryIO, tar.fileobj), header.size)
                inner = _peeled(content, name, PurePosixPath(header.name).name, outer.layers)
                if isinstance(inner, Skipped):
                    yield inner
                elif is_tar(inner.beginning):
                    yield Skipped(reason=UNKNOWN, item=f"{name}: an archive in an archive")
                else:
                    yield inner._replace(packed=(*outer.packed, "tar", *inner.packed))
                    is_told = content.trouble is not None or outer.trouble() is not None  # by the member's lines
            problem = "" if tar.ended else "the tar ends too soon"
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        problem = str(error)
    if problem and not is_told:
        trouble = outer.trouble()
        yield trouble or Skipped(reason=DAMAGED, item=f"{outer.name or 'tar'}: {problem}")


def _peeled(
    raw: BinaryIO | io.RawIOBase, name: str, file_name: str, around: tuple[Unpacked | _TarBytes, ...]
) -> Member | Skipped:
    """The stream without its compressions."""
    layers = around if isinstance(raw, io.BufferedIOBase) else (*around, cast(_TarBytes, raw))
    packed: tuple[str, ...] = ()
    stream = raw
    while True:
        file, beginning = _begun(stream)
        magic = magic_of(beginning)
        if magic is None:
            stem = _stem(name or file_name)
            return Member(name, stem, file, beginning, packed, layers)
        if len(packed) == MAX_LAYERS:
            return Skipped(reason=UNKNOWN, item=f"{name}: compressed more than {MAX_LAYERS} times")
        stream = Unpacked(file, magic)
        layers, packed = (*layers, stream), (*packed, name_of(magic))


def _stem(name: str) -> str:
    """What rows without ids are called after: the folders too, for archives have one 00.json an hour."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.partition('.')[0]}".lstrip("/") or "file"


def _begun(stream: BinaryIO | io.RawIOBase) -> tuple[BinaryIO, bytes]:
    """The stream as before, and how it begins: its first line at least, unless that is too long."""
    beginning = b""
    parts = []
    size = 0
    while part := stream.read(BEGINNING_BYTES):
        parts.append(part)
        size += len(part)
        if size >= BEGINNING_BYTES and (b"\n" in part or size >= MAX_LINE_BYTES or b"\0" in parts[0]):
            break
    beginning = b"".join(parts)
    return io.BufferedReader(_Again(beginning, stream), _BUFFER_BYTES), beginning


class _Again(io.RawIOBase):
    """What was read of a stream already, then the rest of it."""

    def __init__(self, beginning: bytes, rest: BinaryIO | io.RawIOBase) -> None:
        self._beginning, self._rest = memoryview(beginning), rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        if not self._beginning:
            return cast(io.RawIOBase, self._rest).readinto(view) or 0
        given, self._beginning = self._beginning[: len(view)], self._beginning[len(view) :]
        view[: len(given)] = given
        return len(given)


class _TarBytes(io.RawIOBase):
    """A tar member's contents. tarfile's own reader loses what it has read before the place where the tar was cut."""

    def __init__(self, tar: BinaryIO, size: int) -> None:
        self.trouble: Skipped | None = None
        self._tar, self._left = tar, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        wanted = min(len(view), self._left)
        given = self._tar.read(wanted)
        self._left -= len(given)
        if len(given) < wanted:
            self._left = 0
            self.trouble = Skipped(reason=DAMAGED, item="the tar ends too soon")
        view[: len(given)] = given
        return len(given)


class _Tar(tarfile.TarFile):
    """Knows whether it ended as it should, with a block of zeros: tarfile takes any end for one."""

    ended = False


class _Header(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _LONG_HEADERS and header.size > _MAX_HEADER_BYTES:  # it is read whole
            raise tarfile.HeaderError(f"a header of {header.size} bytes")
        return header

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            cast(_Tar, tarfile_).ended = True
            raise
