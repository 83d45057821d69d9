"""The `moodstream` command from outside: its answers, its one-line errors and its exit codes."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import socket
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent.parent
DISTRIBUTION = {"positive", "neutral", "negative"}


def moodstream(
    *arguments: str, stdin: str = "", python: str = sys.executable, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end, without this process's MOODSTREAM_ variables."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MOODSTREAM_")}
    return subprocess.run(
        [python, "-m", "deploy", *arguments],
        cwd=ROOT,
        env={**inherited, **environment},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def drawing() -> bytes:
    packed = BytesIO()
    Image.new("RGB", (300, 200), "teal").save(packed, "PNG")
    return packed.getvalue()


def test_help_names_every_command() -> None:
    shown = moodstream("--help").stdout
    for name in (
        "up",
        "replay",
        "dead-letters",
        "classify",
        "ingest",
        "worker",
        "dashboard",
        "train",
        "bench",
        "figure",
    ):
        assert f"    {name} " in shown or f"    {name}\n" in shown


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["up", "--host", "wss://a.example"], "name it, for example --source bluesky"),
        (["up", "--source", "sample", "--all"], "--all: sample is sent whole anyway"),
        (["up", "--source", "bluesky", "--channel", "r/all"], "no channels"),
        (["up", "--source", "x"], "X bills every post"),
        (["replay", "bluesky"], "never ends: `moodstream up --source bluesky`"),
        (["brew"], "invalid choice: 'brew'"),
        ([], "COMMAND"),
        (["up", "--source", "smoke"], "there is no source or file 'smoke'"),
        (["up", "--source", "sample", "--replay", "x.csv"], "give one of the two"),
        (["up", "--replay", "nowhere.csv"], "'nowhere.csv'"),
        (["up", "--replay", "README.md"], "--map text=COLUMN"),
        (["up", "--map", "text=words"], "give that file too"),
        (["up", "--port", "99999"], "'99999' is no whole number from 1 to 65535"),
        (["up", "--workers", "0"], "'0' is no whole number"),
        (["replay", "LICENSE", "--map", "text=nope"], "nope"),
        (["replay", "nowhere.csv"], "'nowhere.csv'"),
        (["replay", "sample"], "never ends: `moodstream up --source sample`"),
        (["replay"], "replay takes SOURCE, an archive, or --resume RUN"),
        (["replay", "LICENSE", "--map", "text=Apache License", "--resume", "x"], "leave out --map, SOURCE"),
        (["replay", "README.md", "--from", "noon"], "'noon' is no ISO 8601 time"),
        (["replay", "README.md", "--speed", "fast"], "'fast' is neither 'max' nor a factor"),
        (["worker", "--fast"], "unrecognized arguments: --fast"),
        (["classify"], "TEXT and --image, or --jsonl FILE"),
        (["classify", "   "], "give some text"),
        (["classify", "--jsonl", "nowhere.jsonl"], "nowhere.jsonl: No such file"),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(arguments: list[str], expected: str) -> None:
    done = moodstream(*arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""


def test_a_port_in_use_is_misuse() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = moodstream("up", "--headless", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr.startswith(f"moodstream: --port {port}: something listens there already")


def test_an_unreachable_kafka_is_misuse_in_one_line(tmp_path: Path) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_text("words\nhello\n")
    runs = {"MOODSTREAM_RUNS": str(tmp_path / "runs")}
    done = moodstream("replay", str(feed), "--map", "text=words", MOODSTREAM_KAFKA="127.0.0.1:1", **runs)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "MOODSTREAM_KAFKA='127.0.0.1:1' does not answer" in done.stderr


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="this environment has the extra `train`")
@pytest.mark.parametrize("name", ["train", "bench", "figure"])
def test_training_without_its_extra_says_what_to_install(name: str) -> None:
    done = moodstream(name)
    assert done.returncode == 2
    assert done.stderr == f"moodstream: {name} needs torch, transformers, timm: pip install 'moodstream[train]'\n"


def test_services_are_passed_on_to() -> None:
    done = moodstream("ingest", "nowhere.csv")
    assert done.returncode == 2
    assert "'nowhere.csv'" in done.stderr


def test_classify_scores_a_text() -> None:
    done = moodstream("classify", "what a lovely day")
    answer = json.loads(done.stdout)
    assert done.returncode == 0
    assert set(answer) == {"id", "label", "confidence", "abstain", "probabilities", "text", "image"}
    assert set(answer["probabilities"]) == DISTRIBUTION
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert answer["probabilities"][answer["label"]] == max(answer["probabilities"].values()) == answer["confidence"]
    assert answer["text"] == answer["probabilities"] and answer["image"] is None


def test_classify_abstains_on_a_language_the_model_does_not_know() -> None:
    answer = json.loads(moodstream("classify", "die Bahn hat mal wieder vierzig Minuten Verspätung").stdout)
    assert answer["abstain"] is True
    assert answer["warnings"] == ["language de: the model does not know it"]


def test_classify_scores_a_picture_with_and_without_text(tmp_path: Path) -> None:
    picture = tmp_path / "teal.png"
    picture.write_bytes(drawing())
    alone = json.loads(moodstream("classify", "--image", str(picture)).stdout)
    both = json.loads(moodstream("classify", "so calm", "--image", str(picture)).stdout)
    assert alone["text"] is None and set(alone["image"]) == DISTRIBUTION
    assert set(both["text"]) == DISTRIBUTION and both["image"] == alone["image"]


def test_classify_answers_each_line_in_order_and_marks_the_bad_ones(tmp_path: Path) -> None:
    (tmp_path / "teal.png").write_bytes(drawing())
    lines = [
        {"id": "a", "text": "worst day ever"},
        {"id": "b", "image": "teal.png"},
        {"id": "c", "text": "look", "image": base64.b64encode(drawing()).decode()},
        {"id": "d", "image": "not a picture"},
        {"id": "e"},
        {"id": 6, "text": None, "image": "teal.png"},
    ]
    requests = tmp_path / "requests.jsonl"
    requests.write_text("\n".join([*map(json.dumps, lines), "no json", ""]))
    done = moodstream("classify", "--jsonl", str(requests))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [answer["id"] for answer in answers] == ["a", "b", "c", "d", "e", 6, "line 7"]
    assert ["error" in answer for answer in answers] == [False, False, False, True, True, False, True]
    assert answers[1]["image"] == answers[2]["image"] == answers[5]["image"]


def test_classify_of_one_line_does_not_depend_on_its_neighbours() -> None:
    texts = ["great", "a much longer text about a tram that was late again and again " * 3, "ok 🙂"]
    together = moodstream(
        "classify", "--jsonl", "-", stdin="".join(json.dumps({"text": text}) + "\n" for text in texts)
    )
    for text, line in zip(texts, together.stdout.splitlines(), strict=True):
        alone = json.loads(moodstream("classify", text).stdout)
        assert json.loads(line)["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-4)


def test_a_damaged_model_is_refused_in_one_line(tmp_path: Path) -> None:
    done = moodstream("classify", "hello", "--model", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert str(tmp_path) in done.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--speed", "20000"], "--speed 20000: use max, or a factor from 1 to 10000"),
        (["--from", "2026-01-02", "--to", "2026-01-01"], "is not before --to 2026-01-01T00:00:00+00:00"),
        (["--namespace", "No!"], "namespace 'No!'"),
    ],
)
def test_a_replay_that_cannot_be_is_refused_before_anything_is_made(
    options: list[str], expected: str, tmp_path: Path
) -> None:
    feed = tmp_path / "feed.csv"
    feed.write_text("words\nhello\n")
    runs = {"MOODSTREAM_RUNS": str(tmp_path / "runs")}
    done = moodstream("replay", str(feed), "--map", "text=words", *options, **runs)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert expected in done.stderr
    assert not (tmp_path / "runs").exists()
