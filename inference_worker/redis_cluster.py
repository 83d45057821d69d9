"""Clients of a Redis Cluster that fit wherever one of a single server does: connected on first use, failing alike.

redis-py's own connect where they are made (the blocking one), and what ails the cluster as a whole is no `RedisError`.
Everything else is theirs: the slots, MOVED and ASK while slots move, scripts on every node, pipelines node by node.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, Final

from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.cluster import ClusterPipeline as AsyncClusterPipeline
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import SSLConnection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException

from inference_worker.redis_access import node_urls

DEFAULT_PORT: Final = 6379

_parse_url: Any = parse_url  # redis-py leaves it untyped
_node: Any = ClusterNode


def _settings(url: str, options: dict[str, Any]) -> tuple[list[tuple[str, int]], dict[str, Any]]:
    """Host and port of each node the URL names, and how to connect to any node."""
    nodes: list[dict[str, Any]] = [_parse_url(node) for node in node_urls(url)]
    places = [(node["host"], node.get("port", DEFAULT_PORT)) for node in nodes]
    known = {name: value for name, value in nodes[0].items() if name not in ("host", "port", "db")}
    if known.pop("connection_class", None) is SSLConnection:
        known["ssl"] = True
    return places, {**options, **known}


@contextmanager
def _as_redis_error() -> Iterator[None]:
    """Of a connection that another task closes meanwhile, redis-py 7 uses the writer that is no more."""
    try:
        yield
    except (RedisClusterException, AttributeError) as error:
        raise RedisConnectionError(str(error)) from error


class Cluster:
    """The blocking client. Threads may share it."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self._url, self._options = url, options
        self._opening = Lock()
        self._opened: RedisCluster | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client(), name)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def _client(self) -> RedisCluster:
        with self._opening:
            if self._opened is None:
                places, options = _settings(self._url, self._options)
                with _as_redis_error():
                    self._opened = _BlockingClient(startup_nodes=[_node(*place) for place in places], **options)
            return self._opened


class _BlockingClient(RedisCluster):
    def execute_command(self, *args: Any, **options: Any) -> Any:
        with _as_redis_error():
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> Any:
        """Its class is not ours to choose."""
        pipeline: Any = super().pipeline(transaction, shard_hint)  # type: ignore[no-untyped-call]
        pipeline.execute = _as_redis_error()(pipeline.execute)
        pipeline.execute_command = _as_redis_error()(pipeline.execute_command)
        return pipeline


class AsyncCluster(AsyncRedisCluster):
    """The client for an event loop."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        places, options = _settings(url, options)
        super().__init__(startup_nodes=[AsyncClusterNode(*place) for place in places], **options)

    async def __aenter__(self) -> AsyncCluster:
        return self

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        with _as_redis_error():
            return await super().execute_command(*args, **options)

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> AsyncClusterPipeline:
        return _AsyncPipeline(self, transaction)  # type: ignore[abstract]  # in redis-py's stubs alone


class _AsyncPipeline(AsyncClusterPipeline):
    async def execute(self, *args: Any, **options: Any) -> list[Any]:
        with _as_redis_error():
            return await super().execute(*args, **options)
