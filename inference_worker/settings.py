"""Settings of one worker, all from the environment; every default is written here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from inference_worker.contract import check_namespace
from inference_worker.redis_access import DEFAULT_URL, masked, redis_url
from ingest.contract import posts_topic
from ingest.kafka_access import PLAINTEXT, KafkaAccess
from ingest.telemetry.variables import collector, health_address, log_form

DEFAULT_MODEL = Path(__file__).parent / "models" / "default"
DAY_S = 86_400
ENGINES = ("onnx", "onnx-int8", "onnx-float32", "torch", "torch-float32", "torch-cpu", "null", "fixed")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a worker runs. Retention of 0 keeps for ever (replays); live namespaces count it from the last write.

    shadowed: namespace whose posts a shadow reads; its results go to `namespace`, and it touches nothing else.

    leave_group: when it tells Kafka that it goes, so that its partitions move at once: always, or when it has them all.
    shed_after_s, sample_least, sample_after_s: what is not scored while it is behind (see `shedding.py`); 0 seconds
    and a least share of 1 are nothing.
    health: where to answer /healthz, /readyz and /metrics, None for nowhere; log: form of log lines;
    traces: URL of a collector of spans, None for none; start_timeout_s: how long it waits, when it starts, for a server
    that is away.
    """

    namespace: str = "live"
    shadowed: str = ""
    kind: str = "live"
    source: str = ""
    kafka: str = "localhost:9092"
    kafka_access: KafkaAccess = PLAINTEXT
    redis: str = DEFAULT_URL
    model: Path = DEFAULT_MODEL
    engine: str = "onnx"
    engine_threads: int = 0
    partitions: int = 4
    replicas: int = 1
    shards: int = 1
    session_timeout_s: float = 60.0
    heartbeat_s: float = 3.0
    leave_group: str = "always"
    drain_timeout_s: float = 20.0
    watchdog_s: float = 120.0
    start_timeout_s: int = 60
    batch_items: int = 64
    batch_tokens: int = 4096
    batch_images: int = 16
    in_flight: int = 1024
    shed_after_s: float = 0.0
    sample_least: float = 1.0
    sample_after_s: float = 10.0
    rollup_retention_s: int = 90 * DAY_S
    post_retention_s: int = 2 * DAY_S
    results_kept: int = 10_000
    health: tuple[str, int] | None = None
    log: str = "plain"
    traces: str | None = None

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Raises ValueError naming the variable, its value and what it takes."""
        env = _Reader(os.environ if environ is None else environ)
        kind = env.one_of("KIND", cls.kind, ("live", "sample", "replay"))
        keeps_all = kind == "replay"
        namespace, shadow = check_namespace(env.text("NAMESPACE", cls.namespace)), env.text("SHADOW", "")
        return cls(
            namespace=shadow_of(namespace, shadow) if shadow else namespace,
            shadowed=namespace if shadow else cls.shadowed,
            kind=kind,
            source=env.text("SOURCE", f"shadow of {namespace}" if shadow else cls.source),
            kafka=env.text("KAFKA", cls.kafka),
            kafka_access=KafkaAccess.from_env(env.environ),
            redis=redis_url(env.environ),
            model=Path(env.text("MODEL", str(cls.model))),
            engine=env.one_of("ENGINE", cls.engine, ENGINES),
            engine_threads=env.whole("ENGINE_THREADS", cls.engine_threads),
            partitions=env.whole("PARTITIONS", cls.partitions, least=1),
            replicas=env.whole("REPLICAS", cls.replicas, least=1),
            shards=env.whole("SHARDS", cls.shards, least=1),
            session_timeout_s=env.seconds("SESSION_TIMEOUT_S", cls.session_timeout_s),
            heartbeat_s=env.seconds("HEARTBEAT_S", cls.heartbeat_s),
            leave_group=env.one_of("LEAVE_GROUP", cls.leave_group, ("always", "alone")),
            drain_timeout_s=env.seconds("DRAIN_TIMEOUT_S", cls.drain_timeout_s),
            watchdog_s=env.seconds("WATCHDOG_S", cls.watchdog_s),
            start_timeout_s=env.whole("START_TIMEOUT_S", cls.start_timeout_s),
            batch_items=env.whole("BATCH_ITEMS", cls.batch_items, least=1),
            batch_tokens=env.whole("BATCH_TOKENS", cls.batch_tokens, least=1),
            batch_images=env.whole("BATCH_IMAGES", cls.batch_images, least=1),
            in_flight=env.whole("IN_FLIGHT", cls.in_flight, least=1),
            shed_after_s=env.seconds("SHED_AFTER_S", cls.shed_after_s),
            sample_least=env.share("SAMPLE_LEAST", cls.sample_least),
            sample_after_s=env.seconds("SAMPLE_AFTER_S", cls.sample_after_s),
            rollup_retention_s=env.whole("ROLLUP_RETENTION_S", 0 if keeps_all else cls.rollup_retention_s),
            post_retention_s=env.whole("POST_RETENTION_S", 0 if keeps_all else cls.post_retention_s),
            results_kept=env.whole("RESULTS_KEPT", 0 if keeps_all else cls.results_kept),
            health=health_address(env.environ, "MOODSTREAM_WORKER_HEALTH", example=9102),
            log=log_form(env.environ),
            traces=collector(env.environ),
        )

    @property
    def posts_topic(self) -> str:
        """What is scored."""
        return posts_topic(self.shadowed or self.namespace)

    @property
    def consumer_group(self) -> str:
        return f"{self.namespace}.inference-worker"

    def __repr__(self) -> str:
        shown = {**self.__dict__, "redis": masked(self.redis)}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"


def shadow_of(namespace: str, shadow: str) -> str:
    """Namespace of a shadow's results, or ValueError."""
    return check_namespace(f"{namespace}-{shadow}")


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def text(self, name: str, default: str) -> str:
        return self.environ.get(f"MOODSTREAM_{name}", "") or default

    def one_of(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.text(name, default)
        if value not in choices:
            raise ValueError(f"MOODSTREAM_{name}={value!r}: use one of {', '.join(choices)}")
        return value

    def whole(self, name: str, default: int, *, least: int = 0) -> int:
        value = self.text(name, str(default))
        if not value.isdecimal() or int(value) < least:
            raise ValueError(f"MOODSTREAM_{name}={value!r}: use a whole number, at least {least}")
        return int(value)

    def seconds(self, name: str, default: float) -> float:
        """The default itself may be 0, which is off."""
        number = self._number(name, default)
        if number is None or (number <= 0 and number != default):
            raise ValueError(f"MOODSTREAM_{name}={self.text(name, '')!r}: use seconds, more than 0")
        return number

    def share(self, name: str, default: float) -> float:
        number = self._number(name, default)
        if number is None or not 0 < number <= 1:
            raise ValueError(f"MOODSTREAM_{name}={self.text(name, '')!r}: use a share, more than 0 and at most 1")
        return number

    def _number(self, name: str, default: float) -> float | None:
        try:
            number = float(self.text(name, str(default)))
        except ValueError:
            return None
        return number if isfinite(number) else None
