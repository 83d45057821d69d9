"""Whether Kafka and Redis let this worker in, asked before the model is loaded: a refusal is one line, not a crash.

Who does not answer at all is waited for, up to MOODSTREAM_START_TIMEOUT_S.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError, KafkaError, for_code
from redis.exceptions import RedisError

from inference_worker.contract import Keys, meta_key
from inference_worker.errors import StoreRefuses, StoreUnavailable
from inference_worker.redis_access import connect_async, is_cluster, redis_refusal, redis_trouble
from inference_worker.settings import Settings
from ingest.kafka_access import awaited, broker_error, may_pass, refused_by

TIMEOUT_MS = 5_000


async def refused(settings: Settings) -> str | None:
    """None once both answer; else one line that names who refuses or does not answer, and the remedy.

    Exits where they answer only after the worker was told to stop.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def ask() -> Exception | None:
        return await _trouble_with_redis(settings) or await _trouble_with_kafka(settings)

    def may_end(trouble: Exception) -> bool:
        return may_pass(trouble) and not isinstance(trouble, StoreRefuses)

    with _quiet_aiokafka():
        trouble = await awaited(ask, may_end, within_s=settings.start_timeout_s, stop=stop)
    if trouble is None and stop.is_set():
        sys.exit()
    return str(trouble) if trouble is not None else None


def told(error: BaseException, settings: Settings) -> str | None:
    """The same line of an error that ended the worker later: a server went away, or took a right or a password away."""
    if redis_refusal(error) is not None:
        return redis_trouble(error, settings.redis)
    if (found := settings.kafka_access.refusal(error)) is not None:
        return str(refused_by(settings.kafka, found))
    if isinstance(error, KafkaConnectionError):
        return str(asyncio.run(broker_error(error, settings.kafka, settings.kafka_access)))
    return str(error) if isinstance(error, StoreUnavailable) else None


async def _trouble_with_redis(settings: Settings) -> StoreUnavailable | None:
    try:
        async with connect_async(settings.redis, socket_timeout=5, socket_connect_timeout=5) as redis:
            await redis.mget(_looked_at(settings))
    except (RedisError, OSError) as error:
        kind = StoreRefuses if redis_refusal(error) is not None else StoreUnavailable
        return kind(redis_trouble(error, settings.redis))
    return None


def _looked_at(settings: Settings) -> list[str]:
    """Keys of two slots, which a node refuses at once if it is a cluster's and we took it for a server of its own."""
    meta = meta_key(settings.namespace)
    return [meta] if is_cluster(settings.redis) else [meta, Keys(settings.namespace, 0).watermark]


async def _trouble_with_kafka(settings: Settings) -> Exception | None:
    access = settings.kafka_access
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka, request_timeout_ms=TIMEOUT_MS, **access.options())
    try:
        await admin.start()
        if access.protocol != "PLAINTEXT":  # which asks nobody who they are
            await _use_rights(admin, settings)
    except (KafkaError, OSError) as error:
        return await broker_error(error, settings.kafka, access)
    finally:
        await admin.close()
    return None


async def _use_rights(admin: AIOKafkaAdminClient, settings: Settings) -> None:
    (topic,) = await admin.describe_topics([settings.posts_topic])
    denied = for_code(topic["error_code"])(topic["topic"])
    if settings.kafka_access.refusal(denied) is not None:
        raise denied
    await admin.find_coordinator(settings.consumer_group)


@contextmanager
def _quiet_aiokafka() -> Iterator[None]:
    """It logs every attempt; what matters of them comes back as our errors."""
    logger = logging.getLogger("aiokafka")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
