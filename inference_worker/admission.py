"""Whether Kafka and Redis let this worker in, asked before the model is loaded: a refusal is one line, not a crash.

Who does not answer at all is not told of here; that may pass, and is the running worker's to deal with.
"""

from __future__ import annotations

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, for_code
from redis.exceptions import RedisError

from inference_worker.contract import Keys, meta_key
from inference_worker.redis_access import connect_async, is_cluster, redis_refusal, redis_trouble
from inference_worker.settings import Settings
from ingest.kafka_access import refused_by, why_refused

TIMEOUT_MS = 5_000


async def refused(settings: Settings) -> str | None:
    """One line that names who refuses, what, and the remedy; None if nobody does."""
    return await _refused_by_redis(settings) or await _refused_by_kafka(settings)


def refusal_of(error: BaseException, settings: Settings) -> str | None:
    """The same line of an error that ended the worker later, when a right or a password was taken away."""
    if redis_refusal(error) is not None:
        return redis_trouble(error, settings.redis)
    found = settings.kafka_access.refusal(error)
    return str(refused_by(settings.kafka, found)) if found is not None else None


async def _refused_by_redis(settings: Settings) -> str | None:
    try:
        async with connect_async(settings.redis, socket_timeout=5, socket_connect_timeout=5) as redis:
            await redis.mget(_looked_at(settings))
    except (RedisError, OSError) as error:
        return redis_trouble(error, settings.redis) if redis_refusal(error) is not None else None
    return None


def _looked_at(settings: Settings) -> list[str]:
    """Keys of two slots, which a node refuses at once if it is a cluster's and we took it for a server of its own."""
    meta = meta_key(settings.namespace)
    return [meta] if is_cluster(settings.redis) else [meta, Keys(settings.namespace, 0).watermark]


async def _refused_by_kafka(settings: Settings) -> str | None:
    access = settings.kafka_access
    if access.protocol == "PLAINTEXT":  # asks nobody who they are
        return None
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka, request_timeout_ms=TIMEOUT_MS, **access.options())
    try:
        await admin.start()
        (topic,) = await admin.describe_topics([settings.posts_topic])
        if (denied := for_code(topic["error_code"])(topic["topic"])) and access.refusal(denied) is not None:
            raise denied
        await admin.find_coordinator(settings.consumer_group)
    except (KafkaError, OSError) as error:
        found = await why_refused(error, settings.kafka, access)
        return str(refused_by(settings.kafka, found)) if found is not None else None
    finally:
        await admin.close()
    return None
