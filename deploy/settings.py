"""Settings of the `moodstream` command: where Kafka and Redis are, if the user has them."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.errors import Misuse
from inference_worker.redis_access import masked, redis_url
from ingest.kafka_access import PLAINTEXT, KafkaAccess

OUTCOME: Final = (
    "MOODSTREAM_ENGINE",
    "MOODSTREAM_MODEL",
    "MOODSTREAM_PARTITIONS",
    "MOODSTREAM_SHARDS",
    "MOODSTREAM_BATCH_TOKENS",
    "MOODSTREAM_OCR",
)
"""Variables on which a replay's outcome depends, its place in Kafka and Redis included: a resumed one keeps them."""

BROKER_LEAST_MB: Final = 64
"""It takes 16 empty, and the seconds that a source takes again after a pause have to fit in, too."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """`kafka`, `redis`: the user's own, None for the embedded ones; `namespace`: None lets the command choose.

    ingest_health: where ingest answers `GET /healthz`, None for a free port; worker_health: where the first worker
    does, None for nowhere; has_display: a browser would have a screen to open on; runs: folder of the replays' folders;
    outcome: those of the variables OUTCOME that are set; broker_max_mb: memory of the embedded broker, of a live feed.
    """

    kafka: str | None = None
    kafka_access: KafkaAccess = PLAINTEXT
    redis: str | None = None
    namespace: str | None = None
    ingest_health: str | None = None
    worker_health: str | None = None
    has_display: bool = True
    runs: Path = Path(".moodstream/runs")
    outcome: Mapping[str, str] = field(default_factory=dict)
    broker_max_mb: int = 1024

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Raises Misuse naming a variable that cannot be used."""
        environ = os.environ if environ is None else environ
        kafka, has_redis = environ.get("MOODSTREAM_KAFKA") or None, bool(environ.get("MOODSTREAM_REDIS"))
        try:
            access = KafkaAccess.from_env(environ) if kafka else PLAINTEXT
            redis = redis_url(environ) if has_redis else None
        except ValueError as error:
            raise Misuse(str(error)) from error
        return cls(
            kafka=kafka,
            kafka_access=access,
            redis=redis,
            namespace=environ.get("MOODSTREAM_NAMESPACE") or None,
            ingest_health=environ.get("MOODSTREAM_INGEST_HEALTH") or None,
            worker_health=environ.get("MOODSTREAM_WORKER_HEALTH") or None,
            runs=Path(environ.get("MOODSTREAM_RUNS") or cls.runs),
            outcome=_outcome(environ),
            broker_max_mb=_broker_max_mb(environ.get("MOODSTREAM_BROKER_MAX_MB") or str(cls.broker_max_mb)),
            has_display=sys.platform != "linux" or "DISPLAY" in environ or "WAYLAND_DISPLAY" in environ,
        )

    def __repr__(self) -> str:
        redis = masked(self.redis) if self.redis else None
        return f"Settings(kafka={self.kafka!r}, redis={redis!r}, namespace={self.namespace!r})"


def _broker_max_mb(given: str) -> int:
    if not given.isdecimal() or int(given) < BROKER_LEAST_MB:
        raise Misuse(f"MOODSTREAM_BROKER_MAX_MB is {given!r}: use a whole number of MB from {BROKER_LEAST_MB}")
    return int(given)


def _outcome(environ: Mapping[str, str]) -> dict[str, str]:
    """A model's folder is named in full: a replay may be gone on with from elsewhere."""
    found = {name: environ[name] for name in OUTCOME if environ.get(name)}
    if model := found.get("MOODSTREAM_MODEL"):
        found["MOODSTREAM_MODEL"] = str(Path(model).absolute())
    return found
