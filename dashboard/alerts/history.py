"""Alerts as they stand in Redis: what an alert says, where it is kept, and the light readers pages use.

All keys carry the hash tag `{namespace}`, so one transaction writes state, history and outbox together, and deleting a
namespace finds them by its prefix.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
from redis import Redis

from inference_worker.contract import check_namespace

SCHEMA_VERSION: Final = 1
KEPT: Final = 5_000
"""Alerts of a namespace kept in its history; the oldest go first."""

EARLIEST: Final = datetime.min.replace(tzinfo=UTC)

Direction = Literal["up", "down"]


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of the past an alert was checked against. minutes: how much of it the feed has."""

    name: str
    expected: float
    strength: float
    minutes: int


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that fired on one topic, from its opening to its closing.

    opened_at, updated_at, peak_at, closed_at: ends of closed minutes of the namespace's clock; closed_at is None while
    it is active. observed and expected: at the peak, in the unit of the rule's kind (posts, net sentiment, share).
    strength: standard deviations from what the baselines led to expect, of the least surprised one.
    sample: posts in the window. link: path into the dashboard. examples: ids of posts from the window.
    """

    id: str
    namespace: str
    rule: str
    kind: str
    topic: str
    opened_at: datetime
    updated_at: datetime
    peak_at: datetime
    window_min: int
    observed: float
    expected: float
    strength: float
    p: float
    direction: Direction
    sample: int
    sentence: str
    link: str
    baselines: tuple[Baseline, ...] = ()
    examples: tuple[str, ...] = ()
    closed_at: datetime | None = None
    acknowledged_by: str | None = None
    acknowledged_at: datetime | None = None
    schema: int = SCHEMA_VERSION

    @property
    def is_active(self) -> bool:
        return self.closed_at is None


class Keys:
    """Redis keys of a namespace's alerts."""

    def __init__(self, namespace: str) -> None:
        prefix = f"{{{check_namespace(namespace)}}}:alerts"
        self.lock = f"{prefix}:lock"
        self.state = f"{prefix}:state"
        """How far the namespace was evaluated, and the lives of its alerts."""
        self.alerts = f"{prefix}:log"
        """Hash of all alerts kept, by id."""
        self.by_time = f"{prefix}:by-time"
        """Sorted set of the alerts' ids, by opening."""
        self.active = f"{prefix}:active"
        """Set of the ids of alerts that have not closed."""
        self.outbox = f"{prefix}:outbox"
        """Hash of the notifications no sink has acknowledged, by number."""
        self.seen = f"{prefix}:seen"
        """Hash of who acknowledged an alert and when, by the alert's id."""
        self.muted = f"{prefix}:muted"
        """Hash of until when a rule and topic stays silent."""
        self.checks = f"{prefix}:checks"
        """Hash of what each rule saw of each topic at the last minute evaluated."""


def active_alerts(redis: Redis, namespace: str) -> list[Alert]:
    """Alerts that have not closed, strongest first."""
    client: Any = redis  # redis-py types every reply as bytes or str
    keys = Keys(namespace)
    found = _read(client, keys, client.smembers(keys.active))
    return sorted(found, key=lambda alert: (-alert.strength, alert.id))


def alerts_between(redis: Redis, namespace: str, start: datetime, end: datetime) -> list[Alert]:
    """Alerts that opened with start <= opened_at < end, oldest first."""
    client: Any = redis
    keys = Keys(namespace)
    return _read(client, keys, client.zrangebyscore(keys.by_time, start.timestamp(), f"({end.timestamp()}"))


def latest_alerts(redis: Redis, namespace: str, limit: int = 100) -> list[Alert]:
    """The alerts that opened last, newest first."""
    client: Any = redis
    keys = Keys(namespace)
    return _read(client, keys, client.zrange(keys.by_time, 0, limit - 1, desc=True))


def acknowledge(redis: Redis, namespace: str, alert: Alert, *, by: str, at: datetime) -> None:
    """Writes down who sees to an alert; a hash of its own, since the service goes on writing the alert itself."""
    client: Any = redis
    client.hset(Keys(namespace).seen, alert.id, msgspec.msgpack.encode((by, at)))


def mute(redis: Redis, namespace: str, rule: str, topic: str, until: datetime | None) -> None:
    """No notification of this rule on this topic goes out before `until`; None ends it. History goes on."""
    client: Any = redis
    field = mute_field(rule, topic)
    if until is None:
        client.hdel(Keys(namespace).muted, field)
    else:
        client.hset(Keys(namespace).muted, field, int(until.timestamp()))


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule saw of a topic at the last minute evaluated; strength is None while there is no baseline."""

    rule: str
    topic: str
    at: datetime
    window_min: int
    observed: float
    expected: float | None
    strength: float | None
    threshold: float
    sample: int


def checks(redis: Redis, namespace: str) -> list[Check]:
    """What each rule saw of each topic last."""
    client: Any = redis
    found = [msgspec.msgpack.decode(packed, type=Check) for packed in client.hvals(Keys(namespace).checks)]
    return sorted(found, key=lambda check: (check.rule, check.topic))


def muted(redis: Redis, namespace: str, clock: datetime | None = None) -> dict[str, datetime]:
    """Until when which rule and topic (see `mute_field`) stays silent; with a clock, of those that still do by it."""
    client: Any = redis
    return {
        field.decode(): at
        for field, until in client.hgetall(Keys(namespace).muted).items()
        if (at := datetime.fromtimestamp(int(until), UTC)) > (clock or EARLIEST)
    }


def mute_field(rule: str, topic: str) -> str:
    return f"{rule}\x1f{topic}"


def _read(client: Any, keys: Keys, ids: Iterable[bytes]) -> list[Alert]:
    asked = list(ids)
    if not asked:
        return []
    pipeline = client.pipeline(transaction=False)
    pipeline.hmget(keys.alerts, asked)
    pipeline.hmget(keys.seen, asked)
    found = []
    for packed, seen in zip(*pipeline.execute(), strict=True):
        if packed is None:
            continue
        alert = msgspec.msgpack.decode(packed, type=Alert)
        if seen is not None:
            by, at = msgspec.msgpack.decode(seen, type=tuple[str, datetime])
            alert = msgspec.structs.replace(alert, acknowledged_by=by, acknowledged_at=at)
        found.append(alert)
    return found
