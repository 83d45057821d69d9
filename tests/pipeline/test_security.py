"""The whole way over TLS, SASL and ACLs of real servers, with the rights deploy/security grants and none beside.

What is refused is refused by the servers themselves: a password, a certificate, an authority, a right.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from dashboard.errors import StoreRefuses
from dashboard.feeds import Feed
from dashboard.queries import outline
from dashboard.translation import translated
from deploy.servers import ask_kafka
from inference_worker.admission import refused
from inference_worker.amendments import relabel
from inference_worker.contract import Results, UnknownNamespace
from inference_worker.redis_access import redis_url
from inference_worker.settings import Settings
from ingest.kafka_access import KafkaAccess
from tests import apache
from tests.secured import Secured, opened

ROOT = Path(__file__).parent.parent.parent
NAMESPACE = "secured"
POSTS = 20
pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if (reason := apache.missing()) is not None:
        pytest.skip(reason)
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            yield runner.run(opened(tmp_path_factory.mktemp("secured"), NAMESPACE, stack))
        finally:
            runner.run(stack.aclose())


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    file = tmp_path / "feed.csv"
    # A minute each, and the last ones still to come: alerts look at minutes after their namespace began.
    began_at = datetime.now(UTC) - timedelta(minutes=POSTS // 2)
    rows = [
        f"{number},so happy with the tram,{began_at + timedelta(minutes=number):%Y-%m-%dT%H:%M:%SZ}"
        for number in range(POSTS)
    ]
    file.write_text("\n".join(["id,text,at", *rows]))
    return file


def environment(secured: Secured, user: str, **more: str) -> dict[str, str]:
    return {
        **os.environ,
        **secured.kafka_environment(user),
        **secured.redis_environment(user),
        "PYTHONPATH": str(ROOT),
        "MOODSTREAM_NAMESPACE": NAMESPACE,
        **more,
    }


def ingested(feed: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "ingest", str(feed), "--map", "text=text", "id=id", "created_at=at"]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def until(condition: Callable[[], bool], what: str, timeout_s: float = 200.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)


def listening(pid: int) -> list[str]:
    """Addresses on which a process waits for connections."""
    held = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()]
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held]


def test_posts_are_scored_and_seen_with_no_right_too_many(secured: Secured, feed: Path, tmp_path: Path) -> None:
    sent = ingested(feed, environment(secured, "moodstream-ingest"))
    assert sent.returncode == 0, sent.stderr
    viewer = Redis.from_url(redis_url(secured.redis_environment("moodstream-dashboard")))
    results = Results(viewer, NAMESPACE)

    def scored() -> int:
        with suppress(UnknownNamespace):
            return results.counters().get("scored", 0)
        return 0

    commands = {"inference_worker": "moodstream-worker", "dashboard.alerts": "moodstream-alerts"}
    running = []
    try:
        for module, user in commands.items():
            environ = environment(secured, user, MOODSTREAM_SESSION_TIMEOUT_S="6", MOODSTREAM_HEARTBEAT_S="2")
            with (tmp_path / module).open("wb") as log:
                running.append(subprocess.Popen([sys.executable, "-P", "-m", module], env=environ, stderr=log))
        until(lambda: scored() >= POSTS, "all posts are scored")
        until(lambda: viewer.exists(f"{{{NAMESPACE}}}:alerts:state") == 1, "the alerts have evaluated")
        assert [listening(process.pid) for process in running] == [[], []]
        assert outline(Feed(viewer, NAMESPACE, address="secured")).topics
    finally:
        for process in running:
            process.terminate()
        codes = [process.wait(60) for process in running]
    assert codes == [0, 0], [(tmp_path / module).read_text()[-2000:] for module in commands]
    checked(secured)
    corrected(secured, viewer)
    with Redis.from_url(secured.admin_redis) as admin:
        refusals = {(entry["username"], entry["object"]) for entry in admin.acl_log()}
    assert {refusal for refusal in refusals if refusal[1] != "client|setinfo"} == {("moodstream-dashboard", "evalsha")}


def checked(secured: Secured) -> None:
    """The doctor finds nothing amiss with servers, topics and rights."""
    names = ("kafka", "topics", "message-size", "redis", "redis-eviction", "redis-script", "redis-shards")
    command = [sys.executable, "-m", "deploy", "doctor", *(option for name in names for option in ("--only", name))]
    environ = environment(secured, "moodstream-operator")
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.count("\n") == len(names), done.stdout + done.stderr


def corrected(secured: Secured, viewer: Redis) -> None:
    """An editor may correct a post, a viewer may not."""
    (post_id, *_) = [prediction.id for prediction in Results(viewer, NAMESPACE).tail(limit=1)]
    editor = Redis.from_url(redis_url(secured.redis_environment("moodstream-editor")))
    assert relabel(Results(editor, NAMESPACE), post_id, "negative", by="ann", at=datetime.now(UTC))
    with pytest.raises(NoPermissionError):
        relabel(Results(viewer, NAMESPACE), post_id, "positive", by="bob", at=datetime.now(UTC))
    editor.close()
    viewer.close()


KAFKA_REFUSALS = {
    "wrong password": "user 'USER' with this password is not known",
    "unknown authority": "its certificate is by an unknown authority",
    "expired": "its certificate has expired",
    "missing right": "user 'stranger' lacks a right: topic .*secured.posts",
}
REMEDIES = {
    "wrong password": "_USERNAME and MOODSTREAM_.*_PASSWORD_FILE",
    "unknown authority": "_CA_FILE",
    "expired": "renew the server's certificate",
    "missing right": "deploy/security/",
}


def kafka_case(secured: Secured, case: str, user: str) -> dict[str, str]:
    changed = {
        "wrong password": {"PASSWORD_FILE": str(secured.folder / "ca.pem")},
        "unknown authority": {"CA_FILE": str(secured.folder / "other-ca.pem")},
        "expired": {"": secured.expired_kafka},
        "missing right": {},
    }
    return secured.kafka_environment("stranger" if case == "missing right" else user, **changed[case])


@pytest.mark.parametrize("case", KAFKA_REFUSALS)
def test_ingest_tells_what_kafka_refuses_in_one_line(secured: Secured, feed: Path, case: str) -> None:
    environ = environment(secured, "moodstream-worker", **kafka_case(secured, case, "moodstream-ingest"))
    done = ingested(feed, environ)
    assert done.returncode == 1
    told = done.stderr.splitlines()[-1]
    problem = KAFKA_REFUSALS[case].replace("USER", "moodstream-ingest")
    assert re.fullmatch(rf"ingest: Kafka at localhost:\d+ refuses \({problem}.*\): .*{REMEDIES[case]}.*", told), told
    assert (secured.folder / "ca.pem").read_text()[:40] not in told


@pytest.mark.parametrize("case", KAFKA_REFUSALS)
async def test_a_worker_tells_what_kafka_refuses(secured: Secured, case: str) -> None:
    environ = {
        **secured.redis_environment("moodstream-worker"),
        **kafka_case(secured, case, "moodstream-worker"),
        "MOODSTREAM_NAMESPACE": NAMESPACE,
    }
    told = await refused(Settings.from_env(environ))
    problem = KAFKA_REFUSALS[case].replace("USER", "moodstream-worker")
    assert told and re.fullmatch(rf"Kafka at localhost:\d+ refuses \({problem}.*\): .*{REMEDIES[case]}.*", told), told


REDIS_REFUSALS = {
    "wrong password": "the user or password is not known",
    "unknown authority": "its certificate is by an unknown authority",
    "expired": "its certificate has expired",
    "missing right": "the user lacks a right: .*",
}


def redis_case(secured: Secured, case: str, user: str) -> dict[str, str]:
    changed = {
        "wrong password": {"PASSWORD_FILE": str(secured.folder / "passwords" / "stranger")},
        "unknown authority": {"CA_FILE": str(secured.folder / "other-ca.pem")},
        "expired": {"": secured.expired_redis},
        "missing right": {},
    }
    return secured.redis_environment(user, **changed[case])


@pytest.mark.parametrize("case", REDIS_REFUSALS)
async def test_a_worker_tells_what_redis_refuses(secured: Secured, case: str) -> None:
    other = "another" if case == "missing right" else NAMESPACE  # whose keys the user may not touch
    environ = {
        **secured.kafka_environment("moodstream-worker"),
        **redis_case(secured, case, "moodstream-worker"),
        "MOODSTREAM_NAMESPACE": other,
    }
    told = await refused(Settings.from_env(environ))
    refuses = rf"Redis at rediss://\S+ refuses: {REDIS_REFUSALS[case]}.*: .*{REMEDIES[case]}.*"
    assert told and re.fullmatch(refuses, told), told


def test_a_worker_that_is_refused_exits_with_one_line(secured: Secured) -> None:
    environ = environment(secured, "moodstream-worker", **redis_case(secured, "wrong password", "moodstream-worker"))
    command = [sys.executable, "-P", "-m", "inference_worker"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("inference_worker: Redis at rediss://***@localhost") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("case", REDIS_REFUSALS)
def test_a_page_tells_what_redis_refuses(secured: Secured, case: str) -> None:
    other = "another" if case == "missing right" else NAMESPACE
    with (
        Redis.from_url(redis_url(redis_case(secured, case, "moodstream-dashboard"))) as redis,
        pytest.raises(StoreRefuses, match=REDIS_REFUSALS[case]) as caught,
        translated(other, "the store"),
    ):
        Results(redis, other).meta()
    assert re.search(REMEDIES[case], str(caught.value))


def test_alerts_wait_and_tell_what_redis_refuses(secured: Secured, tmp_path: Path) -> None:
    environ = environment(secured, "moodstream-alerts", **redis_case(secured, "wrong password", "moodstream-alerts"))
    log = tmp_path / "log"
    with log.open("wb") as written:
        process = subprocess.Popen([sys.executable, "-P", "-m", "dashboard.alerts"], env=environ, stderr=written)
        try:
            until(lambda: "cannot evaluate" in log.read_text(), "the refusal is told", 60)
            assert process.poll() is None
        finally:
            process.terminate()
            process.wait(30)
    assert "the user or password is not known: set MOODSTREAM_REDIS_USERNAME" in log.read_text()


async def test_the_mechanism_plain_is_understood_too(secured: Secured) -> None:
    plain = secured.kafka_environment("moodstream-ingest", SASL_MECHANISM="PLAIN")
    await ask_kafka(secured.kafka, KafkaAccess.from_env(plain))
