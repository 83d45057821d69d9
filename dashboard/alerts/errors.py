"""What can go wrong with alerts.

AlertsError
├── BadRules        alerts.toml, or what an editor typed for it, cannot be used: the old rules stay
├── RulesChanged    somebody else saved rules since these were read
├── BadSettings     a variable of the service cannot be used
├── LockLost        another instance evaluates this namespace now: nothing of the batch was written
└── NotDelivered    a sink did not take a notification; `retry_after_s` is None where asking again is of no use
"""

from __future__ import annotations


class AlertsError(Exception):
    """Root of all errors of the alert service."""


class BadRules(AlertsError):
    """One line: the rule, the value, the remedy."""


class RulesChanged(AlertsError):
    """Somebody else saved rules since an editor began: theirs stay."""


class BadSettings(AlertsError):
    """One line: the variable, the value, the remedy."""


class LockLost(AlertsError):
    """The lock of the namespace expired or was taken over."""


class NotDelivered(AlertsError):
    """A sink refused or did not answer."""

    def __init__(self, reason: str, *, retry_after_s: float | None) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s
