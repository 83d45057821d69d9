"""What can go wrong in the worker.

WorkerError
├── ArtifactError        the model directory is missing, damaged or does not reproduce its golden rows: refuse to start
├── EngineOutOfMemory    the batch was too large: halve it and retry
├── EngineBroken         nothing can be scored any more: exit, and leave the records to the next worker
├── Unscorable           this one record cannot be scored: dead letter, then acknowledge
└── StoreUnavailable     Redis does not take writes now: keep the records un-acknowledged and retry
    └── StoreRefuses     it answers, but not to us: a password, a certificate or a right is wrong
"""

from __future__ import annotations


class WorkerError(Exception):
    """Root of all errors of the worker."""


class ArtifactError(WorkerError):
    """The artifact directory cannot be used."""


class EngineOutOfMemory(WorkerError):
    """The engine could not hold the batch."""


class EngineBroken(WorkerError):
    """The engine fails at what it could score before."""


class Unscorable(WorkerError):
    """One record cannot be scored; the message says why."""


class StoreUnavailable(WorkerError):
    """Redis refuses or does not answer."""


class StoreRefuses(StoreUnavailable):
    """Redis refuses the user or its certificate, or the user lacks a right."""
