"""Redis: version, eviction, memory, persistence, shards, the worker's script, its clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar, get_args

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from deploy.checks.finding import CannotTell, Check, Deployment, Finding, Level, fail, of_bytes, ok, warn
from inference_worker.contract import Keys, NewerResults, Results, UnknownNamespace
from inference_worker.redis_access import connect, is_cluster, masked, redis_refusal
from inference_worker.script import SCRIPT, arguments, named

TIMEOUT_S: Final = 5.0
OLDEST: Final = 7
SKEW_TOLD_S: Final = 1.0
SKEW_MOST_S: Final = 60.0
ALMOST_FULL: Final = 0.80
FULL: Final = 0.95
LEVELS: Final = get_args(Level)

T = TypeVar("T")


def server(deployment: Deployment) -> Finding:
    try:
        infos = _infos(deployment, "server")
    except CannotTell as error:
        if error.finding.level == "warn":
            raise
        if (refused := redis_refusal(error)) is not None:
            return fail(f"{masked(deployment.worker.redis)} refuses: {refused.problem}", refused.remedy)
        found = f"{masked(deployment.worker.redis)} does not answer ({error.__cause__})"
        return fail(found, "start it, or let MOODSTREAM_REDIS name it")
    return _worst(infos, partial(judged_server, address=masked(deployment.worker.redis)))


def judged_server(info: Mapping[str, Any], address: str) -> Finding:
    name = "Valkey" if "valkey_version" in info else "Redis"
    number = str(info.get("valkey_version") or info["redis_version"])
    mode = str(info.get("server_mode") or info.get("redis_mode", "standalone"))
    found = f"{name} {number}, {mode}, at {address}"
    if name == "Redis" and int(number.partition(".")[0]) < OLDEST:
        return fail(found, f"use Redis {OLDEST} or newer, or Valkey")
    if mode == "cluster" and not is_cluster(address):
        return fail(found, "begin MOODSTREAM_REDIS with redis-cluster:// or rediss-cluster://")
    return ok(found)


def eviction(deployment: Deployment) -> Finding:
    """An evicted receipt would let its post count twice."""
    return _worst(_infos(deployment, "memory"), judged_eviction)


def judged_eviction(info: Mapping[str, Any]) -> Finding:
    policy = str(info["maxmemory_policy"])
    if policy != "noeviction":
        remedy = "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf: an evicted receipt counts twice"
        return fail(f"maxmemory-policy is {policy}", remedy)
    return ok("maxmemory-policy is noeviction")


def memory(deployment: Deployment) -> Finding:
    """A full one refuses writes, and workers wait."""
    return _worst(_infos(deployment, "memory"), judged_memory)


def judged_memory(info: Mapping[str, Any]) -> Finding:
    used, limit = int(info["used_memory"]), int(info["maxmemory"])
    most = limit or int(info.get("total_system_memory") or 0)
    found = f"{of_bytes(used)} used" + (f" of {of_bytes(most)}" if most else "") + ("" if limit else ", no maxmemory")
    share = used / most if most else 0.0
    remedy = "raise maxmemory, shorten MOODSTREAM_ROLLUP_RETENTION_S, or delete replays (`moodstream runs delete`)"
    if share >= FULL:
        return fail(found, remedy)
    return warn(found, remedy) if share >= ALMOST_FULL else ok(found)


def persistence(deployment: Deployment) -> Finding:
    return _worst(_infos(deployment, "persistence"), judged_persistence)


def judged_persistence(info: Mapping[str, Any]) -> Finding:
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
            redis.register_script(SCRIPT)(keys=named(keys), args=arguments(keys, []))
        except RedisError as error:
            if isinstance(error, RedisConnectionError | RedisTimeoutError):
                raise
            remedy = "let the user load and run scripts: ACL SETUSER … +@scripting, keys ~{ns*"
            return fail(f"the worker's script is refused ({error})", remedy)
    return ok("the worker's script loads and runs")


def clock(deployment: Deployment) -> Finding:
    """Retention is reckoned by Redis, event times by the sources and this machine."""
    with redis_of(deployment) as redis:
        if not is_cluster(deployment.worker.redis):
            return judged_clock(deployment, redis)
        return _worst(
            {node.name: redis.get_redis_connection(node) for node in redis.get_primaries()},
            partial(judged_clock, deployment),
        )


def judged_clock(deployment: Deployment, redis: Any) -> Finding:
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
        with connect(deployment.worker.redis, socket_connect_timeout=TIMEOUT_S, socket_timeout=TIMEOUT_S) as redis:
            yield redis
    except NoPermissionError as error:
        allowed = "let the user of MOODSTREAM_REDIS do that, or run the doctor as one who may"
        raise CannotTell(warn(f"unknown: {error}", allowed)) from error
    except (RedisError, OSError, ValueError) as error:
        raise CannotTell(fail("unknown, as Redis does not answer", "see the check `redis`")) from error


def _infos(deployment: Deployment, section: str) -> Mapping[str, Mapping[str, Any]]:
    """By the server's address: of a cluster, those of all nodes."""
    url = deployment.worker.redis
    with redis_of(deployment) as redis:
        if not is_cluster(url):
            return {masked(url): redis.info(section)}
        return {node.name: redis.get_redis_connection(node).info(section) for node in redis.get_nodes()}


def _worst(of: Mapping[str, T], judge: Callable[[T], Finding]) -> Finding:
    """What is amiss with one of several servers is told with its address."""
    found = {address: judge(one) for address, one in of.items()}
    address = max(found, key=lambda address: LEVELS.index(found[address].level))
    level, what, remedy = found[address]
    return Finding(level, f"{address}: {what}" if len(found) > 1 and level != "ok" else what, remedy)


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
