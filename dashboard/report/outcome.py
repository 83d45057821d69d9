"""result.json: where every row of the archive ended, as `moodstream replay` wrote it; fields it lacks read as none."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dashboard.runs import RESULT_FILE


class BadResult(ValueError):
    """result.json is there and cannot be read."""


class BrokenRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that could not be read: where it stands in the archive, and what is wrong with it."""

    item: str
    reason: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """skipped, failed, warnings: counts by reason; lost: read and found nowhere; samples: a few of the broken rows.

    withdrawn: posts and revisions that are not judged: superseded by a later revision, deleted, or of an author who was
    to be forgotten; deletions: rows that say so.
    """

    posts_read: int | None = None
    predictions: int | None = None
    duplicates: int = 0
    withdrawn: int = 0
    deletions: int = 0
    dead_letters: int = 0
    lost: int = 0
    redelivered: int = 0
    skipped: dict[str, int] = {}
    failed: dict[str, int] = {}
    warnings: dict[str, int] = {}
    samples: tuple[BrokenRow, ...] = ()
    seconds: float | None = None
    throughput_posts_per_s: float | None = None

    @property
    def broken(self) -> int:
        return sum(self.skipped.values()) + sum(self.failed.values())

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Why rows were left out, the commonest first."""
        counts = [*self.skipped.items(), *self.failed.items()]
        return sorted(counts, key=lambda one: (-one[1], one[0]))


_decoder = msgspec.json.Decoder(Outcome)


def read_outcome(folder: Path) -> Outcome:
    """Raises BadResult. A replay that has not ended has no result yet: an empty outcome."""
    path = folder / RESULT_FILE
    try:
        return _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return Outcome()
    except OSError as error:
        raise BadResult(f"{path}: {error.strerror}: name the folder of a replay") from error
    except msgspec.MsgspecError as error:
        raise BadResult(f"{path} is no result of a replay: {error}: replay the archive again") from error
