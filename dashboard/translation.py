"""Errors of Redis, of the contract and of decoding → DashboardError, once, at the boundary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from inference_worker.contract import NewerResults, UnknownNamespace, check_namespace
from inference_worker.redis_access import redis_refusal

from .errors import DashboardError, InvalidView, NoResults, StoreRefuses, StoreUnavailable, UnreadableResults


@contextmanager
def translated(namespace: str, address: str) -> Iterator[None]:
    """Around every read of a namespace; `address` names the store without credentials."""
    try:
        check_namespace(namespace)
    except ValueError as error:
        raise InvalidView(str(error)) from error
    try:
        yield
    except DashboardError:
        raise
    except UnknownNamespace as error:
        raise NoResults(namespace) from error
    except NewerResults as error:
        raise UnreadableResults(str(error)) from error
    except msgspec.MsgspecError as error:
        raise UnreadableResults(f"namespace {namespace!r} holds a value that is none of ours: {error}") from error
    except (RedisError, OSError) as error:
        if (refused := redis_refusal(error)) is not None:
            raise StoreRefuses(address, refused.problem, refused.remedy) from error
        raise _translated(error, namespace, address) from error


def _translated(error: Exception, namespace: str, address: str) -> DashboardError:
    if isinstance(error, ResponseError):
        return UnreadableResults(f"Redis at {address} refuses a read of {namespace!r}: {error}")
    return StoreUnavailable(address, _reason(error))


def _reason(error: Exception) -> str:
    """The error's kind in words; its own message may carry addresses and credentials."""
    causes = (error, error.__cause__, error.__context__)
    if any(isinstance(cause, (RedisTimeoutError, TimeoutError)) for cause in causes):
        return "timed out"
    said = [cause.strerror for cause in causes if isinstance(cause, OSError) and cause.strerror]
    return said[0].lower() if said else "connection lost" if isinstance(error, RedisConnectionError) else str(error)
