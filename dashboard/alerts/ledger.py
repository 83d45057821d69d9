"""What the service keeps in Redis: its lock, how far it came, and the notifications not yet delivered.

A batch's outcome is written in one transaction that holds only while the lock is ours: state, history and outbox move
together or not at all, so each minute counts exactly once across restarts and standbys.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
from redis import Redis
from redis.exceptions import WatchError

from .errors import LockLost
from .evaluation import Outcome, State
from .history import KEPT, Keys, mute_field
from .rules import Rule
from .sinks import Notification

LOCK_TTL_MS: Final = 20_000
"""So long a killed instance keeps a standby waiting; a clean stop hands over at once."""
RENEW_S: Final = 4.0
"""Pace at which the lock is renewed, also while a batch takes long: the first one imports river."""
OUTBOX_KEPT: Final = 1_000
"""Notifications that wait for a sink, at most; beyond it the newest are not taken in, and counted."""


class Ledger:
    """One instance's hold on one namespace."""

    def __init__(self, redis: Redis, namespace: str) -> None:
        self.redis: Any = redis  # redis-py types every reply as bytes or str
        self.keys = Keys(namespace)
        self.token = secrets.token_hex(8).encode()

    def hold(self) -> bool:
        """Takes or renews the lock; False while another instance holds it."""
        if self.redis.set(self.keys.lock, self.token, nx=True, px=LOCK_TTL_MS):
            return True
        if self.redis.get(self.keys.lock) != self.token:
            return False
        return bool(self.redis.pexpire(self.keys.lock, LOCK_TTL_MS))

    def renew(self) -> None:
        """Keeps the lock while it is ours. Never takes it: what a batch began from may be old once it was another's."""
        if self.redis.get(self.keys.lock) == self.token:
            self.redis.pexpire(self.keys.lock, LOCK_TTL_MS)

    def release(self) -> None:
        """Lets a standby take over at once."""
        with self.redis.pipeline(transaction=True) as pipeline:
            try:
                pipeline.watch(self.keys.lock)
                if pipeline.get(self.keys.lock) == self.token:
                    pipeline.multi()
                    pipeline.delete(self.keys.lock)
                    pipeline.execute()
            except WatchError:
                return  # it expired in between: nothing of ours to release

    def state(self) -> State | None:
        packed = self.redis.get(self.keys.state)
        return None if packed is None else msgspec.msgpack.decode(packed, type=State)

    def commit(self, state: State, outcome: Outcome, rules: Sequence[Rule], sinks: Collection[str]) -> int:
        """Writes a batch's outcome; the number of notifications left out. Raises LockLost, and nothing is written."""
        unmuted = self._unmuted(outcome, {rule.name: rule for rule in rules})
        notifications = [notification for notification in unmuted if notification.sink in sinks]
        room = max(OUTBOX_KEPT - int(self.redis.hlen(self.keys.outbox)), 0)
        with self.redis.pipeline(transaction=True) as pipeline:
            pipeline.watch(self.keys.lock)
            if pipeline.get(self.keys.lock) != self.token:
                raise LockLost("another instance evaluates this namespace now")
            pipeline.multi()
            pipeline.set(self.keys.state, msgspec.msgpack.encode(state))
            for alert in outcome.changed:
                pipeline.hset(self.keys.alerts, alert.id, msgspec.msgpack.encode(alert))
                pipeline.zadd(self.keys.by_time, {alert.id: alert.opened_at.timestamp()})
                (pipeline.sadd if alert.is_active else pipeline.srem)(self.keys.active, alert.id)
            for notification in notifications[:room]:
                pipeline.hset(self.keys.outbox, notification.id, msgspec.msgpack.encode(notification))
            if outcome.checks:
                pipeline.delete(self.keys.checks)
                checks = {mute_field(check.rule, check.topic): check for check in outcome.checks}
                pipeline.hset(
                    self.keys.checks, mapping={name: msgspec.msgpack.encode(check) for name, check in checks.items()}
                )
            try:
                pipeline.execute()
            except WatchError as error:
                raise LockLost("the lock was taken over while a batch was evaluated") from error
        if outcome.changed:
            self._trim()
        return max(len(notifications) - room, 0)

    def _unmuted(self, outcome: Outcome, rules: dict[str, Rule]) -> list[Notification]:
        """What to tell which sink; a rule and topic that is muted by the namespace's clock tells nobody."""
        if not outcome.events:
            return []
        muted = {field.decode(): int(until) for field, until in self.redis.hgetall(self.keys.muted).items()}
        found = []
        for event in outcome.events:
            rule = rules.get(event.alert.rule)
            if rule is None or event.minute * 60 < muted.get(mute_field(rule.name, event.alert.topic), 0):
                continue
            if event.happening == "closed" and not rule.notify_closing:
                continue
            found += [
                Notification(
                    id=f"{event.alert.id}:{event.happening}:{sink}",
                    sink=sink,
                    happening=event.happening,
                    alert=event.alert,
                )
                for sink in rule.sinks
            ]
        return found

    def _trim(self) -> None:
        """Takes the oldest alerts out of a history that is too long, but for active ones."""
        surplus = self.redis.zcard(self.keys.by_time) - KEPT
        if surplus <= 0:
            return
        active = self.redis.smembers(self.keys.active)
        old = [name for name in self.redis.zrange(self.keys.by_time, 0, surplus - 1) if name not in active]
        if old:
            pipeline = self.redis.pipeline(transaction=True)
            pipeline.zrem(self.keys.by_time, *old)
            pipeline.hdel(self.keys.alerts, *old)
            pipeline.hdel(self.keys.seen, *old)
            pipeline.execute()

    def waiting(self) -> int:
        """How many notifications are not yet delivered."""
        return int(self.redis.hlen(self.keys.outbox))

    def undelivered(self) -> list[Notification]:
        """Oldest first."""
        packed = self.redis.hvals(self.keys.outbox)
        found = [msgspec.msgpack.decode(one, type=Notification) for one in packed]
        return sorted(found, key=lambda notification: (notification.alert.opened_at, notification.id))

    def delivered(self, notification: Notification) -> None:
        self.redis.hdel(self.keys.outbox, notification.id)
