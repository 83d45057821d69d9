"""What can keep a page from showing results; each names what to do.

DashboardError
├── InvalidView       the link or the filter asks for something that cannot exist
├── NoResults         nothing has been scored in the namespace yet
├── StoreUnavailable  Redis does not answer: comes back by itself
│   └── StoreRefuses  it does, but refuses the user, a right, or the handshake
└── UnreadableResults Redis answers with what this version cannot read
"""

from __future__ import annotations


class DashboardError(Exception):
    """Root of all errors a page turns into a state of its own."""


class InvalidView(DashboardError):
    """A namespace or window that cannot exist."""


class NoResults(DashboardError):
    """The namespace is unknown, or no post of it has been scored yet."""

    def __init__(self, namespace: str) -> None:
        super().__init__(f"namespace {namespace!r} has no scored post yet: start a feed and a worker for it")
        self.namespace = namespace


class StoreUnavailable(DashboardError):
    """Redis refuses, drops or outlasts the connection."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"Redis at {address} does not answer ({reason}): start it or set MOODSTREAM_REDIS")
        self.address = address
        self.reason = reason


class StoreRefuses(StoreUnavailable):
    """Redis answers, and does not let us in or do this."""

    def __init__(self, address: str, problem: str, remedy: str) -> None:
        DashboardError.__init__(self, f"Redis at {address} refuses ({problem}): {remedy}")
        self.address, self.reason = address, problem


class UnreadableResults(DashboardError):
    """The namespace holds what this version cannot read."""
