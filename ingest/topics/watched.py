"""A file that may be edited while it is in use."""

from __future__ import annotations

from pathlib import Path

__all__ = ["WatchedFile"]


class WatchedFile:
    """Tells that a file was written, replaced, made or removed since it was last read.

    Editors empty a file before they write it: an empty one therefore counts only where a second look finds it so, or
    its user would for one look have no topics at all.
    """

    def __init__(self, path: Path, *, unread: bool = False) -> None:
        """unread: as it stands it was not read yet, and so counts as written if it is there."""
        self.path = path
        self._read = self._seen = () if unread else _version(path)

    @property
    def is_there(self) -> bool:
        """As of the last look."""
        return self._read != ()

    def written(self) -> bool:
        """True once for each time it is written."""
        before, self._seen = self._seen, _version(self.path)
        if self._seen == self._read or (_is_empty(self._seen) and self._seen != before):
            return False
        self._read = self._seen
        return True


def _version(path: Path) -> tuple[int, ...]:
    """Empty while there is no file."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _is_empty(version: tuple[int, ...]) -> bool:
    return version[:1] == (0,)
