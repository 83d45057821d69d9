"""What can go wrong in ingest, by what the caller would do about it.

IngestError
├── Misuse                 the user must change the command or a file; exit 2
│   ├── BadSettings        an environment variable
│   ├── BadTopics          topics.toml or a query in it; carries topic, query and column
│   ├── BadSource          the source's name, file, columns or options
│   └── BadCredentials     a key or token is missing, wrong or not allowed to do this
├── SourceUnreachable      a live upstream that was never reached, or is lost for good
├── DecoderDown            no process that decodes pictures comes up
├── MediaUnavailable       this picture could not be fetched, the post goes on without it; carries a countable reason
├── MalformedMedia         this picture is lost, the post goes on without it
├── BrokerUnreachable      Kafka does not answer; nothing more can be sent
│   └── BrokerRefuses      it does, but not to us: a password, a certificate or a right is wrong
└── ArchiveUnwritable      the folder that is recorded to; nothing more can be recorded
"""

from __future__ import annotations

from pathlib import Path


class IngestError(Exception):
    """Root of all errors of this package."""


class Misuse(IngestError):
    """The command, its options or a file of the user's is wrong."""


class BadSettings(Misuse):
    """An environment variable has a value that cannot be used."""


class BadTopics(Misuse):
    """topics.toml cannot be used; `topic`, `query` and `column` (from 1) say where, as far as known."""

    def __init__(self, problem: str, *, topic: str = "", query: str = "", column: int | None = None) -> None:
        self.problem, self.topic, self.query, self.column = problem, topic, query, column
        where = f"topic {topic!r}" if topic else "topics"
        if column is not None:
            where += f", column {column} of the query {query!r}"
        super().__init__(f"{where}: {problem}")


class BadSource(Misuse):
    """The source cannot be opened: unknown kind, missing file, missing column or an option that does not fit."""


class BadCredentials(Misuse):
    """A live source refuses us: names the variable to set and where to get its value, never the value."""


class SourceUnreachable(IngestError):
    """A live upstream cannot be reached, and trying on would not help; says which host and what to do."""


class DecoderDown(IngestError):
    """The processes that decode pictures do not start; says why."""


class MediaUnavailable(IngestError):
    """A picture that was not fetched; `reason` is short and alike for all lost for it, so that it can be counted."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        super().__init__(f"{reason}: {detail}" if detail else reason)


class MalformedMedia(IngestError):
    """A picture that is refused; `reason` is short and alike for all refused for it, so that it can be counted."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        super().__init__(f"{reason}: {detail}" if detail else reason)


class BrokerUnreachable(IngestError):
    """Kafka does not answer at `brokers`."""

    what = "does not answer"

    def __init__(
        self,
        brokers: str,
        problem: str,
        remedy: str = "start it, or point MOODSTREAM_KAFKA at a running one; `moodstream up` brings its own",
    ) -> None:
        self.brokers = brokers
        super().__init__(f"Kafka at {brokers} {self.what} ({problem}): {remedy}")


class BrokerRefuses(BrokerUnreachable):
    """Kafka at `brokers` refuses the user, its own certificate is not to be trusted, or the user lacks a right."""

    what = "refuses"


class ArchiveUnwritable(IngestError):
    """The folder of a recording cannot be written to; what is in it stays readable."""

    def __init__(self, folder: Path, problem: str | OSError) -> None:
        reason = problem.strerror if isinstance(problem, OSError) else problem
        super().__init__(f"cannot record to {folder}: {reason}; let --out name a folder with room that is not in use")
