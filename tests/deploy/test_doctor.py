"""`moodstream doctor` from outside: a line per check, and one broken thing hides no other."""

from __future__ import annotations

import json
import threading
import time

import pytest

from deploy.checks.finding import Check, Deployment, Finding, ok
from deploy.doctor import findings
from inference_worker.settings import Settings as WorkerSettings
from ingest.settings import Settings as IngestSettings
from tests.deploy.test_cli import moodstream

NOWHERE = {"MOODSTREAM_KAFKA": "127.0.0.1:1", "MOODSTREAM_REDIS": "redis://:hidden@127.0.0.1:1/0"}
EVERYTHING = [
    "python", "libraries", "processor", "disk", "file-handles",
    "kafka", "topics", "consumer-group", "message-size",
    "redis", "redis-eviction", "redis-memory", "redis-persistence", "redis-shards", "redis-script", "redis-clock",
    "workers", "model", "keys", "dashboard",
]  # fmt: skip
DEPLOYMENT = Deployment(worker=WorkerSettings(), ingest=IngestSettings())


def test_with_everything_down_every_check_has_its_line() -> None:
    done = moodstream("doctor", MOODSTREAM_X_TOKEN="hidden", MOODSTREAM_ENGINE="null", **NOWHERE)
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [name for _, name, _ in lines] == EVERYTHING
    levels = {name: level for level, name, _ in lines}
    assert {name for name, level in levels.items() if level == "fail"} == {
        name for name in EVERYTHING if name.startswith(("kafka", "topics", "consumer", "message", "redis", "workers"))
    }
    assert all("  -> " in said for level, _, said in lines if level != "ok")
    assert "hidden" not in done.stdout + done.stderr
    assert done.stderr.startswith("engine null: ") and done.stderr.count("\n") == 1  # as a worker would say


def test_json_is_one_object_and_only_asks_what_is_named() -> None:
    done = moodstream("doctor", "--json", "--only", "python", "--only", "keys")
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["ok"], answer["failed"]) == (0, True, 0)
    assert [check["name"] for check in answer["checks"]] == ["python", "keys"]
    assert answer["checks"][1] == {
        "name": "keys", "level": "ok", "found": "none set: bluesky and rss need none", "remedy": ""
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (["--only", "weather"], {}, "--only weather: use one of python, libraries,"),
        (["--port", "0"], {}, "'0' is no whole number from 1 to 65535"),
        ([], {"MOODSTREAM_SHARDS": "many"}, "MOODSTREAM_SHARDS='many'"),
        ([], {"MOODSTREAM_KEEP": "some"}, "MOODSTREAM_KEEP is 'some'"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(arguments: list[str], environment: dict[str, str], expected: str) -> None:
    done = moodstream("doctor", *arguments, **environment)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert expected in done.stderr


def test_a_check_that_hangs_or_breaks_down_hides_no_other() -> None:
    released = threading.Event()

    def hang(_: Deployment) -> Finding:
        released.wait(20)
        return ok("too late")

    def break_down(_: Deployment) -> Finding:
        raise ZeroDivisionError("by zero")

    checks = [Check("hangs", hang, 0.2), Check("breaks", break_down), Check("works", lambda _: ok("fine"))]
    began_s = time.monotonic()
    found = {check.name: finding for check, finding in findings(checks, DEPLOYMENT)}
    assert time.monotonic() - began_s < 10
    released.set()
    assert found["hangs"][:2] == ("fail", "no answer within 0.2 s")
    assert found["breaks"][:2] == ("fail", "ZeroDivisionError: by zero")
    assert found["works"] == ("ok", "fine", "")
