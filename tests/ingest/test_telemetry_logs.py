"""Log lines for machines: one JSON object each, whatever is in them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.telemetry.logs import REPEATED_AFTER_S, JsonLines, Seldom, about

ROOT = Path(__file__).parents[2]
SERVICES = ("ingest", "inference_worker", "dashboard.alerts", "dashboard")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.handler.setFormatter(JsonLines())
    caplog.set_level(logging.INFO)
    return caplog


def test_a_line_is_one_object_with_the_post_it_is_about(lines: pytest.LogCaptureFixture) -> None:
    logging.getLogger("a.b").warning('no %s\nfor "%s"', "score", "ü", extra=about("bluesky:1"))
    (line,) = lines.text.splitlines()
    told = json.loads(line)
    assert told.pop("time").endswith("+00:00")
    expected = {"level": "WARNING", "logger": "a.b", "message": 'no score\nfor "ü"', "post": "bluesky:1"}
    assert told == expected


def test_a_line_about_no_post_says_none_and_an_error_has_its_traceback(lines: pytest.LogCaptureFixture) -> None:
    try:
        raise ValueError("odd")
    except ValueError:
        logging.getLogger("a").exception("failed", extra=about(None))
    (line,) = lines.text.splitlines()
    told = json.loads(line)
    assert told.keys() == {"time", "level", "logger", "message", "exception"}
    assert told["exception"].endswith("ValueError: odd")


def test_a_library_repeats_itself_seldom_and_nobody_else_is_held_back() -> None:
    said = [(0.0, "aiokafka.client", "no %s"), (0.1, "aiokafka.client", "no %s"), (0.2, "aiokafka.client", "else")]
    said += [(0.3, "worker", "no %s"), (0.4, "worker", "no %s"), (REPEATED_AFTER_S, "aiokafka.client", "no %s")]
    seldom, told = Seldom("aiokafka"), []
    for at_s, name, words in said:
        record = logging.LogRecord(name, logging.ERROR, "file", 1, words, ("1",), None)
        record.created = 1e9 + at_s
        if seldom.filter(record):
            told.append(at_s)
    assert told == [0.0, 0.2, 0.3, 0.4, REPEATED_AFTER_S]


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_refuses_a_form_it_does_not_know(service: str) -> None:
    arguments = ["sample"] if service == "ingest" else []
    done = subprocess.run(
        [sys.executable, "-m", service, *arguments],
        cwd=ROOT,
        env={"MOODSTREAM_LOG": "xml", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "MOODSTREAM_LOG" in done.stderr.splitlines()[-1]


def test_a_service_asked_for_json_logs_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ingest", "sample", "--limit", "3"],
        cwd=tmp_path,
        env={
            "MOODSTREAM_LOG": "json",
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "MOODSTREAM_KAFKA": "127.0.0.1:9",
            "MOODSTREAM_START_TIMEOUT_S": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    *lines, last = done.stderr.splitlines()
    assert last.startswith("ingest: Kafka at 127.0.0.1:9 does not answer")
    assert all("message" in json.loads(line) for line in lines)
