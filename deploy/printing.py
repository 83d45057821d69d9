"""What commands say on stdout: lines for people, or one JSON object."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import msgspec


def print_line(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")


def shown(text: str) -> str:
    """Words from outside on one line, with nothing in them a terminal would obey."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def print_json(found: dict[str, Any]) -> None:
    print_line(msgspec.json.encode(found).decode())


def print_done(options: argparse.Namespace, line: str) -> int:
    if options.json:
        print_json({"done": line})
    else:
        print_line(line)
    return 0
