"""The Redis a user has, for commands that look into it beside whatever runs there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from deploy.errors import Misuse, StackFailed
from deploy.settings import Settings
from inference_worker.redis_access import connect, masked, redis_refusal, redis_trouble

CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 30.0
"""One that is paused, or far away, is told rather than waited for."""


@contextmanager
def own_redis(settings: Settings) -> Iterator[Any]:
    """None without one. (redis-py types every reply as bytes or str.)

    Raises StackFailed when it does not answer, Misuse where a newer Moodstream wrote what is looked at.
    """
    from redis.exceptions import RedisError  # slow to load: not at the command's start

    from inference_worker.contract import NewerResults

    if settings.redis is None:
        yield None
        return
    try:
        with connect(
            settings.redis, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=ANSWER_TIMEOUT_S
        ) as redis:
            yield redis
    except NewerResults as error:
        raise Misuse(str(error)) from error
    except RedisError as error:
        if redis_refusal(error) is not None:
            raise StackFailed(redis_trouble(error, settings.redis)) from error
        raise StackFailed(f"MOODSTREAM_REDIS={masked(settings.redis)!r} does not answer ({error}): start it") from error
