"""Archives of text lines, whatever each line is: one source for all such formats, in every container."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from datetime import UTC
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ingest.authors import AuthorHash
from ingest.sources.items import Draft, Item, Kind, Skipped, in_thread
from ingest.sources.lines import Lines
from ingest.sources.live import UNREADABLE
from ingest.sources.opened import UNKNOWN, Member, described, members

ITEMS_PER_CHUNK: Final = 500
LINES_TRIED: Final = 50
"""A format shows in one of the first lines; the very first may be damaged, or a message of another sort."""
NO_PICTURE: Final = "picture not at hand"

Fields = Mapping[str, msgspec.Raw]
"""Of a JSON object, their values still unread."""
Read = Callable[[Lines, str], Iterator[Item]]
"""Lines of a file, and its stem → items. One reader reads all files of an archive."""


class Format(NamedTuple):
    """recognises: is one object of the beginning, or the beginning itself, of this format?

    is_line_by_line: each line that is not blank makes one item.
    """

    name: str
    reader: Callable[[AuthorHash], Read]
    recognises: Callable[[Fields], bool] = lambda fields: False
    begins: Callable[[bytes], bool] = lambda beginning: False
    is_line_by_line: bool = False

    def is_of(self, beginning: bytes, objects: Iterable[Fields]) -> bool:
        return self.begins(beginning) or any(map(self.recognises, objects))


class LineArchive:
    """The files at `path` that are of the format; `first` is one of them."""

    kind: Kind = "replay"

    def __init__(self, path: Path, form: Format, first: Member, *, authors: AuthorHash) -> None:
        self.name = str(path)
        self.format = described(form.name, first, path)
        self._path, self._form, self._authors = path, form, authors
        self._is_plain = path.is_file() and not first.packed

    def __aiter__(self) -> AsyncGenerator[Item, None]:
        return in_thread(self.items(), chunk=ITEMS_PER_CHUNK)

    def count(self) -> int | None:
        """Lines of a plain file, where a line is an item."""
        if not self._is_plain or not self._form.is_line_by_line:
            return None
        with self._path.open("rb") as file:
            lines = Lines(file)
            return sum(not line.isspace() for line in lines) + len(lines.troubles)

    def items(self) -> Iterator[Item]:
        """The same, blocking."""
        read = self._form.reader(self._authors)
        for member in members(self._path):
            if isinstance(member, Skipped):
                yield member
                continue
            if not self._form.is_of(member.beginning, objects_in(member.beginning)):
                yield Skipped(reason=UNKNOWN, item=f"{member.name}: begins with {looks(member.beginning)}")
                continue
            lines = member.lines
            for item in read(lines, member.stem):
                if lines.troubles:
                    yield from lines.taken_troubles()
                yield item
            yield from lines.taken_troubles()


_fields_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def objects_in(beginning: bytes) -> list[Fields]:
    """The JSON objects among the first lines."""
    found: list[Fields] = []
    for line in beginning.split(b"\n", LINES_TRIED)[:LINES_TRIED]:
        if line.lstrip(b"\xef\xbb\xbf \t\r").startswith(b"{"):
            try:
                found.append(_fields_of(line.removeprefix(b"\xef\xbb\xbf")))
            except UNREADABLE:
                continue
    return found


def looks(beginning: bytes) -> str:
    """The first bytes, for people."""
    return repr(beginning[:40].decode("utf-8", "backslashreplace")) if beginning else "nothing: it is empty"


def each_line(items_of: Callable[[bytes], Iterable[Item]]) -> Read:
    """A reader of formats where every line stands for itself."""

    def read(lines: Lines, stem: str) -> Iterator[Item]:
        for line in lines:
            if line.isspace():
                continue
            try:
                yield from items_of(line)
            except UNREADABLE as error:
                yield Skipped(reason="unreadable line", item=f"{lines.said()}: {error}")

    return read


def archived(draft: Draft) -> Draft:
    """A live source's draft as an archive gives it: at its own time, however long ago."""
    post = draft.post
    if post.original_created_at is not None:
        post = msgspec.structs.replace(post, created_at=post.original_created_at, original_created_at=None)
        draft = msgspec.structs.replace(draft, post=post)
    return at_hand(draft)


def at_hand(draft: Draft) -> Draft:
    """Its time in UTC, and without pictures that are mere addresses: nothing is fetched for an archive."""
    if draft.post.created_at.utcoffset():
        post = msgspec.structs.replace(draft.post, created_at=draft.post.created_at.astimezone(UTC))
        draft = msgspec.structs.replace(draft, post=post)
    if not draft.links:
        return draft
    return msgspec.structs.replace(draft, links=(), warnings=(*draft.warnings, NO_PICTURE))
