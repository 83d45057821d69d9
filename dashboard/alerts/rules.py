"""The user's alert rules: `alerts.toml`, read again whenever it is written."""

from __future__ import annotations

import fcntl
import os
import threading
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import msgspec
from scipy.special import ndtri

from inference_worker.contract import ALL
from ingest.topics.watched import WatchedFile

from .errors import BadRules, RulesChanged

SHIPPED: Final = Path(__file__).parent.parent / "alerts.toml"
MINUTES_A_DAY: Final = 1440
LOOKS_A_WINDOW: Final = 12
"""Crossings of a level z by a moving sum of noise come to about z squared tail chances per length of the window."""
SINKS: Final = ("log", "webhook")

Kind = Literal["volume", "sentiment", "share", "silent", "drift"]
Share = Literal["positive", "neutral", "negative", "abstained", "with_image", "disagreements", "sensitive", "foreign"]


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to watch for, on which topics, and how surprised to be before saying so.

    ratio: a spike has at least so many times the posts expected; effect: a shift of the mean, or of the share, at
    least so large. clear_after_min: minutes below half the strength that opened an alert, until it closes.
    """

    name: str
    kind: Kind
    topics: Literal["*"] | tuple[str, ...] = "*"
    of: Share = "abstained"
    direction: Literal["up", "down", "both"] = "both"
    windows_min: tuple[int, ...] = (60,)
    false_alarms_per_day: float = 0.05
    recheck: float = 0.002
    ratio: float = 2.0
    effect: float = 0.3
    min_posts: int = 10
    cooldown_min: int = 180
    clear_after_min: int = 30
    sinks: tuple[str, ...] = SINKS
    notify_closing: bool = False
    enabled: bool = True

    @property
    def threshold(self) -> float:
        """Standard deviations asked for, so that all looks of a day make no more false alarms than accepted.

        A window that moves on by a minute keeps most of its posts, so its looks count as LOOKS_A_WINDOW independent
        ones per length of the window; looking both ways doubles them.
        """
        looks = sum(LOOKS_A_WINDOW * MINUTES_A_DAY / window for window in self.windows_min)
        ways = 2 if self.kind in ("sentiment", "share") and self.direction == "both" else 1
        return float(-ndtri(min(self.false_alarms_per_day / looks / ways, 0.5)))

    @property
    def recheck_threshold(self) -> float:
        return float(-ndtri(self.recheck))

    def watched(self, known: Sequence[str]) -> list[str]:
        """The topics of a namespace this rule is for; the built-in `all` only by name, or where there is no other."""
        if self.topics != "*":
            return [topic for topic in known if topic in self.topics]
        return [topic for topic in known if topic != ALL] or list(known)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    rule: tuple[Rule, ...] = ()


def load_rules(path: Path) -> tuple[Rule, ...]:
    """Reads `[[rule]]` tables. Raises BadRules."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadRules(f"cannot read {path} (MOODSTREAM_ALERTS): {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadRules(f"{path} is not UTF-8: {error}") from error
    return parse_rules(text, str(path))


def parse_rules(text: str, name: str) -> tuple[Rule, ...]:
    """TOML → rules. Raises BadRules; `name` is what the message calls the text."""
    try:
        rules = msgspec.convert(tomllib.loads(text), _File).rule
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadRules(f"{name} is not a list of [[rule]] tables: {error}") from error
    seen: set[str] = set()
    for rule in rules:
        check_rule(rule, name)
        if rule.name in seen:
            raise BadRules(f"{name}: two rules are called {rule.name!r}: rename one")
        seen.add(rule.name)
    return rules


def check_rule(rule: Rule, name: str) -> None:
    """Raises BadRules if a value is out of its range."""
    where = f"{name}: rule {rule.name!r}"
    if not 1 <= len(rule.name) <= 60 or not rule.name.isprintable() or rule.name != rule.name.strip():
        raise BadRules(f"{where}: give it a name of 1 to 60 printable characters")
    if not rule.windows_min or not all(1 <= window <= 240 for window in rule.windows_min):
        raise BadRules(f"{where}: windows_min is {list(rule.windows_min)}: give minutes from 1 to 240")
    ranges: tuple[tuple[str, float, float], ...] = (
        ("false_alarms_per_day", 1e-6, 100),
        ("recheck", 1e-6, 0.5),
        ("ratio", 1, 1000),
        ("effect", 0, 2),
        ("min_posts", 1, 1_000_000),
        ("cooldown_min", 1, 14 * MINUTES_A_DAY),
        ("clear_after_min", 1, MINUTES_A_DAY),
    )
    for field, low, high in ranges:
        if not low <= getattr(rule, field) <= high:
            raise BadRules(f"{where}: {field} is {getattr(rule, field)}: give a number from {low:g} to {high:g}")
    for sink in rule.sinks:
        if sink not in SINKS:
            raise BadRules(f"{where}: sink {sink!r} is none of {', '.join(SINKS)}")
    if rule.topics != "*" and not rule.topics:
        raise BadRules(f'{where}: topics is empty: name some, or write "*" for all')


class RulesFile:
    """The rules of a file that may be edited, made or removed while they are in use; without a file, those shipped."""

    def __init__(self, path: Path) -> None:
        """Raises BadRules."""
        self.path = path
        self._watched = WatchedFile(path)
        self.rules = load_rules(path if self._watched.is_there else SHIPPED)

    def changed(self) -> bool:
        """Reads the file again if it was written since.

        Raises BadRules, once for each time it is written, if it cannot be used; the old rules then stay.
        """
        if not self._watched.written():
            return False
        self.rules = load_rules(self.path if self._watched.is_there else SHIPPED)
        return True


def rules_text(path: Path) -> str:
    """The file as an editor sees it; the rules shipped where there is none."""
    return (path if path.is_file() else SHIPPED).read_text(encoding="utf-8")


def save_rules(path: Path, text: str, seen: str) -> tuple[Rule, ...]:
    """Checks, then replaces the file in one step, if it is still what its editor saw when they began.

    Raises BadRules, RulesChanged, and nothing is written.
    """
    rules = parse_rules(text, "these rules")
    path = path.resolve()  # a link to a mounted file stays one
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with _alone_in(path.parent):
            if rules_text(path) != seen:
                raise RulesChanged(f"{path.name} was saved by somebody else meanwhile: take theirs, then edit again")
            part.write_text(text, encoding="utf-8")
            part.replace(path)
    except OSError as error:
        raise BadRules(f"cannot write {path} (MOODSTREAM_ALERTS): {error.strerror}") from error
    return rules


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One at a time, over threads and processes of this machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
