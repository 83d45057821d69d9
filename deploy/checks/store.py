"""Redis: version, eviction, memory, persistence, shards, the worker's script, its clock."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from deploy.checks.finding import CannotTell, Check, Deployment, Finding, fail, of_bytes, ok, warn
from inference_worker.contract import Keys, NewerResults, Results, UnknownNamespace
from inference_worker.redis_access import masked, redis_refusal
from inference_worker.script import SCRIPT, arguments

TIMEOUT_S: Final = 5.0
OLDEST: Final = 7
SKEW_TOLD_S: Final = 1.0
SKEW_MOST_S: Final = 60.0
ALMOST_FULL: Final = 0.80
FULL: Final = 0.95


def server(deployment: Deployment) -> Finding:
    try:
        info = _info(deployment, "server")
    except CannotTell as error:
        if error.finding.level == "warn":
            raise
        if (refused := redis_refusal(error)) is not None:
            return fail(f"{masked(deployment.worker.redis)} refuses: {refused.problem}", refused.remedy)
        found = f"{masked(deployment.worker.redis)} does not answer ({error.__cause__})"
        return fail(found, "start it, or let MOODSTREAM_REDIS name it")
    return judged_server(info, masked(deployment.worker.redis))


def judged_server(info: Mapping[str, Any], address: str) -> Finding:
    name = "Valkey" if "valkey_version" in info else "Redis"
    number = str(info.get("valkey_version") or info["redis_version"])
    mode = str(info.get("server_mode") or info.get("redis_mode", "standalone"))
    found = f"{name} {number}, {mode}, at {address}"
    if name == "Redis" and int(number.partition(".")[0]) < OLDEST:
        return fail(found, f"use Redis {OLDEST} or newer, or Valkey")
    return ok(found)


def eviction(deployment: Deployment) -> Finding:
    """An evicted receipt would let its post count twice."""
    policy = str(_info(deployment, "memory")["maxmemory_policy"])
    if policy != "noeviction":
        remedy = "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf: an evicted receipt counts twice"
        return fail(f"maxmemory-policy is {policy}", remedy)
    return ok("maxmemory-policy is noeviction")


def memory(deployment: Deployment) -> Finding:
    """A full one refuses writes, and workers wait."""
    info = _info(deployment, "memory")
    used, limit = int(info["used_memory"]), int(info["maxmemory"])
    most = limit or int(info.get("total_system_memory") or 0)
    found = f"{of_bytes(used)} used" + (f" of {of_bytes(most)}" if most else "") + ("" if limit else ", no maxmemory")
    share = used / most if most else 0.0
    remedy = "raise maxmemory, shorten MOODSTREAM_ROLLUP_RETENTION_S, or delete replays (`moodstream runs delete`)"
    if share >= FULL:
        return fail(found, remedy)
    return warn(found, remedy) if share >= ALMOST_FULL else ok(found)


def persistence(deployment: Deployment) -> Finding:
    info = _info(deployment, "persistence")
    if info.get("rdb_last_bgsave_status") == "err":
        return fail("the last snapshot failed: Redis may refuse writes", "see its log; most often its disk is full")
    if not int(info["aof_enabled"]):
        return warn("no append-only file: what a restart forgets is gone", "appendonly yes, appendfsync everysec")
    if info.get("aof_last_write_status") != "ok" or info.get("aof_last_bgrewrite_status") != "ok":
        return fail("the append-only file cannot be written", "see the log of Redis; most often its disk is full")
    return ok(f"append-only file, {of_bytes(int(info.get('aof_current_size') or 0))}")


def shards(deployment: Deployment) -> Finding:
    """Their number is fixed when a namespace is made."""
    settings = deployment.worker
    with redis_of(deployment) as redis:
        try:
            stored = Results(redis, settings.namespace).meta().shards
        except UnknownNamespace:
            return ok(f"namespace {settings.namespace} is new, and will have {settings.shards}")
        except NewerResults as error:
            return fail(str(error), "upgrade this Moodstream before its workers write")
    found = f"namespace {settings.namespace} has {stored}"
    if stored != settings.shards:
        remedy = f"set it to {stored}; another number needs another namespace"
        return warn(f"{found}, MOODSTREAM_SHARDS is {settings.shards} and counts for nothing", remedy)
    return ok(found)


def workers(deployment: Deployment) -> Finding:
    """Those whose own account of themselves has not expired."""
    with redis_of(deployment) as redis:
        alive = Results(redis, deployment.worker.namespace).workers()
    if not alive:
        return warn("no worker says that it is alive", "start `moodstream worker`")
    found = f"{len(alive)} alive, {sum(worker.posts_per_s for worker in alive):.0f} posts/s"
    models = sorted({f"{worker.model} on {worker.engine}" for worker in alive})
    if len(models) > 1:
        return warn(f"{found}, of {', '.join(models)}", "give all the same MOODSTREAM_MODEL and MOODSTREAM_ENGINE")
    return ok(f"{found}, {models[0]}")


def script(deployment: Deployment) -> Finding:
    """The worker's own, with nothing to write."""
    keys = Keys(deployment.worker.namespace, 0)
    with redis_of(deployment) as redis:
        try:
            redis.register_script(SCRIPT)(keys=[keys.counters], args=arguments(keys, []))
        except RedisError as error:
            if isinstance(error, RedisConnectionError | RedisTimeoutError):
                raise
            remedy = "let the user load and run scripts: ACL SETUSER … +@scripting, keys ~{ns*"
            return fail(f"the worker's script is refused ({error})", remedy)
    return ok("the worker's script loads and runs")


def clock(deployment: Deployment) -> Finding:
    """Retention is reckoned by Redis, event times by the sources and this machine."""
    with redis_of(deployment) as redis:
        redis.ping()  # connected: now an answer takes one round trip
        began_s = deployment.clock_s()
        seconds, microseconds = redis.time()
        ended_s = deployment.clock_s()
    skew_s = (began_s + ended_s) / 2 - (seconds + microseconds / 1e6)
    found = f"{abs(skew_s):.3f} s {'ahead of' if skew_s > 0 else 'behind'} Redis"
    if abs(skew_s) - (ended_s - began_s) / 2 <= SKEW_TOLD_S:
        return ok(found)
    remedy = "let both keep time by NTP (chrony, systemd-timesyncd)"
    return fail(found, remedy) if abs(skew_s) > SKEW_MOST_S else warn(found, remedy)


@contextmanager
def redis_of(deployment: Deployment) -> Iterator[Any]:
    """Raises CannotTell if it does not answer, or refuses. (redis-py types every reply as bytes or str.)"""
    try:
        with Redis.from_url(
            deployment.worker.redis, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S
        ) as redis:
            yield redis
    except NoPermissionError as error:
        allowed = "let the user of MOODSTREAM_REDIS do that, or run the doctor as one who may"
        raise CannotTell(warn(f"unknown: {error}", allowed)) from error
    except (RedisError, OSError, ValueError) as error:
        raise CannotTell(fail("unknown, as Redis does not answer", "see the check `redis`")) from error


def _info(deployment: Deployment, section: str) -> Mapping[str, Any]:
    with redis_of(deployment) as redis:
        found: Mapping[str, Any] = redis.info(section)
        return found


CHECKS: Final = (
    Check("redis", server),
    Check("redis-eviction", eviction),
    Check("redis-memory", memory),
    Check("redis-persistence", persistence),
    Check("redis-shards", shards),
    Check("redis-script", script),
    Check("redis-clock", clock),
    Check("workers", workers),
)
