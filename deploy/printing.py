"""What `moodstream runs …` says on stdout: lines for people, or one JSON object."""

from __future__ import annotations

import argparse
import sys
from typing import Any

import msgspec


def print_line(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")


def print_json(found: dict[str, Any]) -> None:
    print_line(msgspec.json.encode(found).decode())


def print_done(options: argparse.Namespace, line: str) -> int:
    if options.json:
        print_json({"done": line})
    else:
        print_line(line)
    return 0
