"""`moodstream dead-letters` where something is wrong: one line, and the exit code of its kind."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from deploy import own_redis
from deploy.cli import main
from deploy.printing import shown
from deploy.servers import start_store
from inference_worker.contract import Results
from inference_worker.settings import Settings
from inference_worker.store import Failed, Position, Store

DEAD = "127.0.0.1:1"
PLACE = "2:7:1007"


@pytest.fixture
def redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    """Three letters in namespace `letters` of a real store; a Kafka that is down."""
    with asyncio.Runner() as runner:
        child, url = runner.run(start_store(tmp_path / "store.log", None))
        runner.run(_fill(url))
        monkeypatch.setenv("MOODSTREAM_REDIS", url)
        monkeypatch.setenv("MOODSTREAM_KAFKA", DEAD)
        monkeypatch.setenv("MOODSTREAM_NAMESPACE", "letters")
        monkeypatch.setenv("MOODSTREAM_POST_RETENTION_S", "0")  # their places are of 1970
        with Redis.from_url(url) as client:
            yield client
        runner.run(child.stop())


async def _fill(url: str) -> None:
    async with AsyncRedis.from_url(url) as client:
        store = Store(client, Settings(namespace="letters", redis=url), model="test 1")
        await store.open()
        reasons = {7: "no text\x1b[2J", 8: "No Text either", 9: "a broken picture"}
        await store.write(
            [
                Failed(reason, f"x:{n}", 5, Position(2, n, 1000 + n), "run", None, "w-1", "onnx")
                for n, reason in reasons.items()
            ]
        )


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code, and the one line on stderr."""
    try:
        code = main(["dead-letters", *arguments])
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    return code, said.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["show", "2:7:9"], "there is no dead letter 2:7:9 in letters (any more): see `moodstream dead-letters list`"),
        (["retry", PLACE, "2:7:9"], "there is no dead letter 2:7:9"),
        (["show", "seven"], "'seven' is no place: use partition:offset:timestamp"),
        (["drop", "2:7"], "'2:7' is no place"),
        (["retry"], "which ones? dead-letters retry takes PLACE, --id, --reason or --all"),
        (["drop", PLACE, "--all"], "dead-letters drop takes PLACE, or --id, --reason and --all, not both"),
        (["drop", "--all"], "dropping 3 dead letters of letters cannot be undone: say --yes"),
        (["list", "--limit", "0"], "'0' is no whole number from 1"),
        (["list", "--namespace", "nowhere"], "namespace 'nowhere' has no results yet: start a worker for it"),
        (["list", "--namespace", "No!"], "namespace 'No!'"),
        ([], "ACTION"),
    ],
)
@pytest.mark.usefixtures("redis")
def test_misuse_is_one_line_and_exit_code_2(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # nobody to ask
    code, said = complaint(capsys, *arguments)
    assert code == 2
    assert expected in said


@pytest.mark.parametrize("arguments", [["show", PLACE], ["retry", PLACE]])
def test_an_unreachable_kafka_is_one_line_and_changes_nothing(
    redis: Redis, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = complaint(capsys, *arguments)
    assert code == 1
    assert said.startswith(f"moodstream: MOODSTREAM_KAFKA='{DEAD}' does not answer (")
    assert said.endswith("): start it\n")
    assert Results(redis, "letters").dead_letters_by_place()[PLACE].retried_at is None


@pytest.mark.parametrize("action", ["list", "show", "retry", "drop"])
def test_an_unreachable_redis_is_one_line(
    action: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOODSTREAM_REDIS", f"redis://:hidden@{DEAD}/0")
    code, said = complaint(capsys, action, *([] if action == "list" else [PLACE]))
    assert code == 1
    assert said.startswith(f"moodstream: MOODSTREAM_REDIS='redis://***@{DEAD}/0' does not answer (")
    assert "hidden" not in said


def test_a_paused_redis_is_one_line(
    redis: Redis, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_redis, "ANSWER_TIMEOUT_S", 0.2)
    monkeypatch.setattr(own_redis, "CONNECT_TIMEOUT_S", 0.2)
    pid = redis.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        code, said = complaint(capsys, "list")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert code == 1 and "does not answer (Timeout" in said


@pytest.mark.usefixtures("redis")
def test_letters_are_listed_a_line_each_with_nothing_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead-letters", "list", "--limit", "2", "--reason", "NO TEXT"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert {line.split()[0] for line in lines} == {PLACE, "2:8:1008"}
    assert any(line.endswith("x:7  onnx/w-1  no text\\x1b[2J") for line in lines)
    assert main(["dead-letters", "list", "--limit", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "1 of 3 dead letters of letters: --limit shows more"
    assert main(["dead-letters", "list", "--id", "x:1"]) == 0
    assert capsys.readouterr().out == "no dead letters in letters like that\n"


@pytest.mark.usefixtures("redis")
def test_json_names_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead-letters", "list", "--id", "x:9", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["namespace"], answer["total"]) == ("letters", 1)
    (found,) = answer["letters"]
    assert found.pop("failed_at")
    assert found == {
        "place": "2:9:1009", "id": "x:9", "reason": "a broken picture", "worker": "w-1", "engine": "onnx",
        "run": "run", "size": 5, "retried_at": None,
    }  # fmt: skip


@pytest.mark.parametrize(("answer", "left"), [("y\n", 1), ("\n", 3)])
def test_dropping_asks_first(
    redis: Redis, answer: str, left: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_terminal = io.StringIO(answer)
    monkeypatch.setattr(at_terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdin", at_terminal)
    code = main(["dead-letters", "drop", "--reason", "no text"])
    said = capsys.readouterr()
    assert said.err.startswith("drop 2 dead letters of letters? [y/N] ")
    assert (code, said.out) == ((0, "2 dropped\n") if left == 1 else (1, ""))
    assert len(Results(redis, "letters").dead_letters()) == left
    assert Results(redis, "letters").counters().get("dropped", 0) == 3 - left


def test_words_from_outside_stay_on_their_line() -> None:
    assert shown("a\nb\x9b1m \u202e \ud800 für 🙂") == "a\\nb\\x9b1m \\u202e \\ud800 für 🙂"
