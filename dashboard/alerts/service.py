"""The alert service: one instance per namespace evaluates every closed minute, with no browser open."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

import msgspec
from redis import Redis
from redis.exceptions import RedisError

from inference_worker.contract import ALL, NewerResults, Results, UnknownNamespace
from inference_worker.redis_access import connect, redis_refusal

from .delivery import Delivery
from .errors import BadRules, BadSettings, LockLost
from .evaluation import clock_of, closed_until, evaluate, first_state
from .ledger import RENEW_S, Ledger
from .rules import RulesFile
from .settings import AlertSettings
from .sinks import LogSink, Sink, WebhookSink, webhook_client

TICK_S: Final = 1.0
_STORE_TIMEOUT_S: Final = 5.0
_LAST_ROUND_S: Final = 5.0

log = logging.getLogger(__name__)


class Watch:
    """Evaluates one namespace, a batch a step."""

    def __init__(
        self,
        redis: Redis,
        settings: AlertSettings,
        rules: RulesFile,
        sinks: frozenset[str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.redis, self.settings, self.rules, self.sinks, self.now = redis, settings, rules, sinks, now
        self.ledger = Ledger(redis, settings.namespace)
        self.evaluated = 0
        self.evaluated_until: datetime | None = None
        self.is_leading: bool | None = None
        self._told: set[str] = set()

    def step(self) -> bool:
        """Evaluates what has closed, at most one batch; True if more waits. Redis errors pass through."""
        self._reread_rules()
        is_leading = self.ledger.hold()
        if is_leading != self.is_leading:
            log.info("%s", "evaluating" if is_leading else "standing by: another instance evaluates this namespace")
            self.is_leading = is_leading
        if not is_leading:
            return False
        results = Results(self.redis, self.settings.namespace)
        try:
            meta = results.meta()
        except UnknownNamespace:
            return False  # the first post is still to come
        clock = clock_of(results, meta, self.now(), self.settings.quiet_after_s)
        if clock is None:
            return False
        state = self.ledger.state() or first_state(results, meta, clock)
        if state is None:
            return False
        last, first = closed_until(clock, self.settings.grace_s), state.next_minute
        if last <= first:
            return False
        self._tell_unknown_topics(results)
        outcome = evaluate(results, self.rules.rules, state, last)
        try:
            left_out = self.ledger.commit(state, outcome, self.rules.rules, self.sinks)
        except LockLost as error:
            log.warning("%s: nothing written", error)
            self.is_leading = None
            return False
        if left_out:
            log.error("%d notifications left out: too many wait for their sink already", left_out)
        self.evaluated += state.next_minute - first
        self.evaluated_until = datetime.fromtimestamp(60 * state.next_minute, UTC)
        return state.next_minute < last

    def _reread_rules(self) -> None:
        try:
            if self.rules.changed():
                self._told.clear()
                log.info("rules read again: %d", len(self.rules.rules))
        except BadRules as error:
            log.error("%s; the old rules stay", error)

    def _tell_unknown_topics(self, results: Results) -> None:
        """Once per rule and name: a typing error would else stay silent for ever."""
        known = results.topics()
        for rule in self.rules.rules:
            for topic in () if rule.topics == "*" else rule.topics:
                what = f"rule {rule.name!r} names topic {topic!r}, of which no post was seen yet"
                if topic not in known and topic != ALL and what not in self._told:
                    self._told.add(what)
                    log.warning("%s: known are %s", what, ", ".join(repr(name) for name in known))


async def run(settings: AlertSettings) -> None:
    """Until SIGTERM or Ctrl-C: the batch at hand is finished, what waits is sent if that takes no longer than seconds.

    Raises BadRules if the rules cannot be used from the start.
    """
    rules = RulesFile(settings.rules)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    redis = connect(settings.redis_url, socket_timeout=_STORE_TIMEOUT_S, socket_connect_timeout=_STORE_TIMEOUT_S)
    async with webhook_client() as client:
        sinks: dict[str, Sink] = {"log": LogSink()}
        if settings.webhook_url is not None:
            sinks["webhook"] = WebhookSink(client, settings.webhook_url, settings.public_url)
        watch = Watch(redis, settings, rules, frozenset(sinks))
        try:
            log.info(
                "namespace %s in Redis at %s, %d rules, sinks: %s",
                settings.namespace,
                settings.redis_address,
                len(rules.rules),
                ", ".join(sinks),
            )
            delivery = Delivery(watch.ledger, sinks)
            async with _observed(watch, delivery):
                await serve(watch, delivery, stopping)
        finally:
            with suppress(RedisError, OSError):
                await asyncio.to_thread(watch.ledger.release)
            redis.close()


@asynccontextmanager
async def _observed(watch: Watch, delivery: Delivery) -> AsyncIterator[None]:
    """Answers for the service while the body runs, where that is asked for."""
    if watch.settings.health is None:
        yield
        return
    from ingest.telemetry import endpoint  # 0.2 s of imports, for those who ask for it

    from .metrics import AlertsMetrics

    metrics = AlertsMetrics(watch, delivery)
    try:
        async with endpoint.serve(metrics, watch.settings.health, variable="MOODSTREAM_ALERTS_HEALTH"):
            yield
    except endpoint.CannotListen as error:
        raise BadSettings(str(error)) from error


async def serve(watch: Watch, delivery: Delivery, stopping: asyncio.Event) -> None:
    """Evaluates, delivers and holds the lock side by side: a slow sink delays no minute, a long batch loses no lock."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_evaluate(watch, stopping))
        group.create_task(_deliver(watch, delivery, stopping))
        group.create_task(keep_lock(watch.ledger, stopping))


async def _evaluate(watch: Watch, stopping: asyncio.Event) -> None:
    trouble = ""
    while not stopping.is_set():
        more = False
        try:
            more = await asyncio.to_thread(watch.step)
            if trouble:
                log.info("Redis answers again: catching up")
            trouble = ""
        except (RedisError, OSError, NewerResults, msgspec.MsgspecError) as error:
            trouble = _told_once(trouble, error)
        if not more:
            await _pause(stopping)


async def _deliver(watch: Watch, delivery: Delivery, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        await _pause(stopping)
        await _round(watch, delivery)
    with suppress(TimeoutError):
        await asyncio.wait_for(_round(watch, delivery), _LAST_ROUND_S)


async def _round(watch: Watch, delivery: Delivery) -> None:
    """A standby sends nothing: two would send everything twice."""
    if watch.is_leading:
        with suppress(RedisError, OSError):  # told by the evaluating side; what waits stays in Redis
            await delivery.send_waiting()


async def keep_lock(ledger: Ledger, stopping: asyncio.Event) -> None:
    """Renews the lock beside whatever takes long."""
    while not stopping.is_set():
        with suppress(RedisError, OSError):  # told by the evaluating side
            await asyncio.to_thread(ledger.renew)
        await _pause(stopping, RENEW_S)


def _told_once(before: str, error: Exception) -> str:
    """Logs a trouble when it begins; the message of a lost connection may carry an address, not credentials."""
    refused = redis_refusal(error)
    what = f"{type(error).__name__}: {error}" if refused is None else f"{refused.problem}: {refused.remedy}"
    if what != before:
        log.error("cannot evaluate (%s): trying again, and catching up then", what)
    return what


async def _pause(stopping: asyncio.Event, pace_s: float = TICK_S) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), pace_s)
