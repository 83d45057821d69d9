"""Asks before what cannot be undone."""

from __future__ import annotations

import sys

from deploy.errors import DeployError, Misuse


def confirm(verb: str, doing: str, done: str, what: str) -> None:
    """Asks whether to `verb` (delete, deleting, deleted). Raises Misuse where nobody can be, DeployError on a no."""
    if not sys.stdin.isatty():
        raise Misuse(f"{doing} {what} cannot be undone: say --yes")
    sys.stderr.write(f"{verb} {what}? [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise DeployError(f"nothing was {done}")
