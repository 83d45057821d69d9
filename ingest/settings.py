"""Settings of the ingest service, read once from the environment."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

from ingest.errors import BadSettings
from ingest.kafka_access import PLAINTEXT, KafkaAccess
from ingest.telemetry.variables import collector, health_address, log_form

P = ParamSpec("P")
T = TypeVar("T")

SHIPPED_TOPICS = Path(__file__).parent / "topics.toml"
SHIPPED_LIVE_TOPICS = Path(__file__).parent / "topics_live.toml"
OWN_TOPICS = Path("topics.toml")
KEPT_STATE = Path(".moodstream/state")
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where ingest writes, and how.

    kafka: bootstrap servers, comma-separated; kafka_access: who we are to them; partitions, post_retention_s: of the
    topic, when ingest creates it (0 keeps its records for ever); idempotence: off on the embedded broker, which lacks
    it; author_key: secret of the author hashes, so that nobody can tell the authors by hashing known handles (when not
    given, random per process; a
    live source keeps it in state_dir: an author's deletion must find what was sent before a restart).
    reads_words: in pictures of posts without text, by the extra `ocr`.
    Of live sources alone. keep_all: posts that match no topic are sent too; media_hosts: pictures may come from there
    as well; state_dir: what is kept between runs; cursor_dir: where they go on, None for nowhere; health: where to
    answer /healthz, /readyz and /metrics; environ: where a source looks for its keys. log: form of log lines.
    traces: URL of a collector of spans, None for none; traces_share: of the records, that are traced.
    start_timeout_s: how long a process that starts waits for a Kafka that is away.
    """

    namespace: str = "live"
    kafka: str = "localhost:9092"
    kafka_access: KafkaAccess = PLAINTEXT
    partitions: int = 4
    post_retention_s: int = 2 * 86_400
    idempotence: bool = True
    topics_path: Path = SHIPPED_TOPICS
    author_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    is_author_key_given: bool = False
    reads_words: bool = False
    keep_all: bool = False
    media_hosts: tuple[str, ...] = ()
    state_dir: Path | None = None
    cursor_dir: Path | None = None
    health: tuple[str, int] | None = None
    log: str = "plain"
    traces: str | None = None
    traces_share: float = 0.01
    start_timeout_s: int = 60
    environ: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _NAMESPACE.fullmatch(self.namespace):
            raise BadSettings(
                f"MOODSTREAM_NAMESPACE is {self.namespace!r}: use 1 to 63 lower-case letters, digits, '.', '_' or '-', "
                "letter or digit first"
            )
        if self.partitions < 1:
            raise BadSettings(f"MOODSTREAM_PARTITIONS is {self.partitions}: use 1 or more")
        if self.post_retention_s < 0:
            raise BadSettings(f"MOODSTREAM_POST_RETENTION_S is {self.post_retention_s}: use seconds, or 0 for no end")
        if self.start_timeout_s < 0:
            raise BadSettings(f"MOODSTREAM_START_TIMEOUT_S is {self.start_timeout_s}: use seconds, or 0 not to wait")
        if not self.author_key:
            raise BadSettings("MOODSTREAM_AUTHOR_KEY is empty: give it any long secret, or unset it")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Raises BadSettings naming the variable, its value and what would do."""
        given: dict[str, object] = {}
        state_dir = Path(environ.get("MOODSTREAM_STATE") or KEPT_STATE)
        if "MOODSTREAM_NAMESPACE" in environ:
            given["namespace"] = environ["MOODSTREAM_NAMESPACE"]
        if "MOODSTREAM_KAFKA" in environ:
            given["kafka"] = environ["MOODSTREAM_KAFKA"]
        if "MOODSTREAM_AUTHOR_KEY" in environ:
            given["author_key"] = environ["MOODSTREAM_AUTHOR_KEY"].encode()
            given["is_author_key_given"] = True
        return cls(
            kafka_access=_told(KafkaAccess.from_env, environ),
            partitions=_whole_number(environ, "MOODSTREAM_PARTITIONS", cls.partitions),
            post_retention_s=_whole_number(environ, "MOODSTREAM_POST_RETENTION_S", cls.post_retention_s),
            idempotence=_switch(environ, "MOODSTREAM_KAFKA_IDEMPOTENCE", cls.idempotence),
            topics_path=_topics_path(environ),
            reads_words=_switch(environ, "MOODSTREAM_OCR", cls.reads_words),
            keep_all=_keep_all(environ),
            media_hosts=tuple(environ.get("MOODSTREAM_MEDIA_HOSTS", "").replace(",", " ").split()),
            state_dir=state_dir,
            cursor_dir=Path(environ.get("MOODSTREAM_CURSORS") or state_dir),
            health=_told(health_address, environ, "MOODSTREAM_INGEST_HEALTH", example=8081),
            log=_told(log_form, environ),
            traces=_told(collector, environ),
            traces_share=_share(environ, "MOODSTREAM_TRACES_SHARE", cls.traces_share),
            start_timeout_s=_whole_number(environ, "MOODSTREAM_START_TIMEOUT_S", cls.start_timeout_s),
            environ=environ,
            **given,  # type: ignore[arg-type]  # what is set above, each of its field's type
        )

    def topics_of(self, kind: str) -> Path:
        """The shipped topics for the sample feed fit nothing else: live sources come with broader ones."""
        is_shipped = self.topics_path == SHIPPED_TOPICS
        return SHIPPED_LIVE_TOPICS if is_shipped and kind == "live" else self.topics_path


def _told(read: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """What all services read alike, with our own error."""
    try:
        return read(*given, **named)
    except ValueError as error:
        raise BadSettings(str(error)) from error


def _keep_all(environ: Mapping[str, str]) -> bool:
    value = environ.get("MOODSTREAM_KEEP", "matched")
    if value not in ("matched", "all"):
        raise BadSettings(f"MOODSTREAM_KEEP is {value!r}: use matched (posts of your topics) or all")
    return value == "all"


def _share(environ: Mapping[str, str], name: str, default: float) -> float:
    value = environ.get(name, str(default))
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise BadSettings(f"{name} is {value!r}: use a number from 0 to 1")
    return share


def _whole_number(environ: Mapping[str, str], name: str, default: int) -> int:
    value = environ.get(name)
    if value is None:
        return default
    try:
        return int(value)
    except ValueError as error:
        raise BadSettings(f"{name} is {value!r}: use a whole number") from error


def _switch(environ: Mapping[str, str], name: str, default: bool) -> bool:
    value = environ.get(name)
    if value is None:
        return default
    if value not in ("0", "1"):
        raise BadSettings(f"{name} is {value!r}: use 1 (on) or 0 (off)")
    return value == "1"


def _topics_path(environ: Mapping[str, str]) -> Path:
    """The user's file if named, else ./topics.toml if there is one, else the shipped one."""
    if "MOODSTREAM_TOPICS" in environ:
        return Path(environ["MOODSTREAM_TOPICS"])
    return OWN_TOPICS if OWN_TOPICS.exists() else SHIPPED_TOPICS
