"""What a replay shows of itself while it runs."""

from __future__ import annotations

import logging

import pytest

from deploy import progress
from deploy.progress import Progress, line_of


def test_a_line_tells_rate_and_time_left() -> None:
    assert line_of(500, 600, 1500, 100.0, is_paused=False) == (
        "500 of about 1500 posts are accounted for, 600 read, 100 posts/s, 10 s left"
    )
    assert line_of(5, 6, None, 0.0, is_paused=True) == "paused: 5 posts are accounted for, 6 read, 0 posts/s"


def test_a_terminal_gets_a_bar_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(100, on_terminal=True) as shown:
        shown.show(10, read=20)
        shown.show(120, read=130, is_paused=True)
    captured = capsys.readouterr()
    assert captured.out == "" and "paused" in captured.err and "posts" in captured.err


def test_a_bar_never_passes_its_end_and_has_none_where_nobody_knows_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(10, on_terminal=True) as shown:
        shown.show(12, read=11)
    assert "12.0/12.0" in capsys.readouterr().err
    with Progress(None, on_terminal=True) as shown:
        shown.show(12, read=11)
    said = capsys.readouterr().err
    assert "12.0 posts" in said and "%" not in said


def test_elsewhere_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO), Progress(None, on_terminal=False) as shown:
        shown.show(10, read=20)
    assert "10 posts are accounted for" in caplog.text
