"""What can go wrong when the parts are wired together.

DeployError
├── Misuse            the command or its environment is wrong: exit 2
├── MissingPart       a package, an extra or a program is not installed; the message says what to install
├── NoRoom            a folder's disk is full
└── StackFailed       a process of the stack did not start or died for good; carries the last lines of its log
"""

from __future__ import annotations


class DeployError(Exception):
    """Root of all errors of this package."""


class Misuse(DeployError):
    """The user must change the command or a variable."""


class MissingPart(DeployError):
    """Something that has to be installed is not."""


class NoRoom(DeployError):
    """What was to be written found no room; the message says where, and how to go on."""


class StackFailed(DeployError):
    """A process of the stack is gone and cannot be brought back."""

    def __init__(self, problem: str, *, log_path: str = "", log_tail: str = "") -> None:
        self.log_path, self.log_tail = log_path, log_tail
        shown = f"{problem}; the end of {log_path}:\n{log_tail}" if log_tail else problem
        super().__init__(shown)
