"""How many posts X has delivered this month, counted so that the budget stops the stream before it is overdrawn.

X bills every post it delivers, once a UTC day. The count is kept in a small file. It runs ahead of the truth by part of
a block: a process that is killed then counts a few posts too many, never one too few.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

import msgspec

from ingest.errors import BadSettings, BadSource, SourceUnreachable

BUDGET: Final = "MOODSTREAM_X_BUDGET_POSTS"
DEFAULT_BUDGET: Final = 10_000
"""About 50 dollars at half a cent a post: to spend more is for the user to say."""
BLOCK: Final = 100
MAX_RATE: Final = 250
"""Posts a second X sends at most: so many may be on their way when the stream is closed, and are billed too."""
REMEMBERED: Final = 200_000
"""Posts told apart within a day; one that comes again after so many others is counted again, to be safe."""

Clock = Callable[[], datetime]


class _Kept(msgspec.Struct):
    """The file: `posts` of the UTC month `month` ("2026-11")."""

    month: str
    posts: int


class UsageCounter:
    """Posts delivered in this UTC month, against a budget."""

    def __init__(self, *, budget: int, file: Path, now: Clock = lambda: datetime.now(UTC)) -> None:
        self.budget, self._file, self._now = budget, file, now
        self._block = max(1, min(BLOCK, budget // 100))
        self._limit = budget - min(MAX_RATE, budget // 100)
        self._day = now().date()
        self._seen: dict[str, None] = {}
        kept = self._read()
        self.used = kept.posts if kept.month == _month(self._day) else 0
        self._booked = self.used

    def count(self, post_id: str) -> None:
        """A post was delivered."""
        self._turn_page()
        if post_id in self._seen:
            return
        self._seen[post_id] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self.used += 1
        if self.used > self._booked:
            self._book(self.used - 1 + self._block)

    def check(self) -> None:
        """Raises SourceUnreachable once the budget is used up, but for the posts that may still be on their way."""
        self._turn_page()
        if self.used >= self._limit:
            raise SourceUnreachable(
                f"{self}, and reading stops here: raise {BUDGET} (X bills each post), or wait for the next UTC month"
            )

    def close(self) -> None:
        """Books what was really used."""
        if self._booked != self.used:
            self._book(self.used)

    def __str__(self) -> str:
        return f"{self.used:,} of {self.budget:,} posts of {self._day:%B %Y} used"

    def _turn_page(self) -> None:
        """X tells posts apart within a UTC day, and the budget is for a UTC month."""
        today = self._now().date()
        if today == self._day:
            return
        if _month(today) != _month(self._day):
            self.used = self._booked = 0
        self._day = today
        self._seen.clear()

    def _book(self, posts: int) -> None:
        unfinished = self._file.with_name(self._file.name + ".part")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(msgspec.json.encode(_Kept(month=_month(self._day), posts=posts)))
            unfinished.replace(self._file)
        except OSError as error:
            raise SourceUnreachable(
                f"cannot keep count of X's posts in {self._file} ({error.strerror}): "
                "make room there or let MOODSTREAM_STATE name another folder"
            ) from error
        self._booked = posts

    def _read(self) -> _Kept:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return _Kept(month=_month(self._day), posts=0)
        except (OSError, msgspec.MsgspecError) as error:
            raise BadSource(
                f"{self._file} should hold the count of posts read from X, but is unreadable ({error}): write "
                f'{{"month": "{_month(self._day)}", "posts": 0}} into it, with the number https://console.x.com shows'
            ) from error


def state_folder(environ: Mapping[str, str]) -> Path:
    """Where a service keeps what outlives it."""
    return Path(environ.get("MOODSTREAM_STATE") or ".moodstream/state")


def open_counter(environ: Mapping[str, str], folder: Path) -> UsageCounter:
    """The counter kept in `folder`. Raises BadSettings if the budget is no number."""
    value = environ.get(BUDGET, str(DEFAULT_BUDGET))
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise BadSettings(f"{BUDGET} is {value!r}: use a whole number of posts per month")
    return UsageCounter(budget=int(value), file=folder / "x-usage.json")


def _month(day: date) -> str:
    return f"{day:%Y-%m}"
