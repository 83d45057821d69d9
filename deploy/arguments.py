"""Option types of the `moodstream` command; what does not fit is named with its value."""

from __future__ import annotations

import argparse


def port(text: str) -> int:
    """A TCP port one can listen on."""
    return _whole(text, 1, 65_535)


def workers(text: str) -> int:
    """A number of worker processes."""
    return _whole(text, 1, 64)


def _whole(text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
    return int(text)
