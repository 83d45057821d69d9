"""Lines of a stream in constant memory, however long one is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import BinaryIO, Final

from ingest.sources.items import Skipped

MAX_LINE_BYTES: Final = 16 << 20
TOO_LONG: Final = "line too long"
_BOM: Final = b"\xef\xbb\xbf"


def _no_trouble() -> Skipped | None:
    return None


class Lines:
    """Lines as bytes, with their ends.

    number: of the line given last, from 1; place: where the next one starts, in bytes; where: the name of what is read.
    What is lost on the way waits in `troubles`; `trouble` says at the end of the stream why it ends too soon.
    """

    def __init__(self, file: BinaryIO, where: str = "", trouble: Callable[[], Skipped | None] = _no_trouble) -> None:
        self.number = self.place = 0
        self.where = where
        self.troubles: list[Skipped] = []
        self._file, self._trouble = file, trouble

    def __iter__(self) -> Iterator[bytes]:
        readline, limit = self._file.readline, MAX_LINE_BYTES
        while line := readline(limit):
            self.number += 1
            self.place += len(line)
            if not line.endswith(b"\n"):
                if len(line) == limit:
                    self._read_past()
                    continue
                if self._trouble() is not None:
                    break  # cut off in this line
            if self.number == 1:
                line = line.removeprefix(_BOM)
            yield line
        if (trouble := self._trouble()) is not None:
            after = f"{self.said()}: {trouble.item}"
            self.troubles.append(Skipped(reason=trouble.reason, item=after))

    def taken_troubles(self) -> list[Skipped]:
        """What waits in `troubles`, which then is empty."""
        if not self.troubles:
            return []
        taken, self.troubles = self.troubles, []
        return taken

    def said(self) -> str:
        """Where the line given last stands, for people."""
        return f"{self.where}, line {self.number}" if self.where else f"line {self.number}"

    def _read_past(self) -> None:
        self.troubles.append(Skipped(reason=TOO_LONG, item=f"{self.said()}: more than {MAX_LINE_BYTES >> 20} MiB"))
        while part := self._file.readline(1 << 20):
            self.place += len(part)
            if part.endswith(b"\n"):
                return
