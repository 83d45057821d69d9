"""`make audit`: holes are listed, none is said only by who was asked, and silence is no clean bill.

pip-audit itself asks a server of the tests' own, in OSV's place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from deploy import audit

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
Answer = Callable[[dict[str, Any]], tuple[int, dict[str, Any]]]


class Advisories:
    """`answer` is what is said of a package: status and body."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _: (200, {})
        self.asked: list[str] = []
        advisories = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                advisories.asked.append(asked["package"]["name"])
                status, body = advisories.answer(asked)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.options = ["-s", "osv", "--osv-url", f"http://127.0.0.1:{self._server.server_port}/v1/query"]
        self._thread = Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def advisories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Advisories]:
    """With two pins to ask about, and one that is not for this machine."""
    (tmp_path / "lock.txt").write_text("pillow==12.2.0\nredis==7.0.0\npywin32==311 ; sys_platform == 'win32'\n")
    monkeypatch.setattr(audit, "ROOT", tmp_path)
    monkeypatch.setattr(audit, "LOCKS", ["lock.txt"])
    server = Advisories()
    yield server
    server.close()


def hole(name: str, fixed: str) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]
    affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": ranges, "versions": ["12.2.0"]}]
    return {"vulns": [{"id": "PYSEC-2026-1", "aliases": ["CVE-2026-42311"], "affected": affected}]}


def test_what_is_asked_about_and_has_no_holes_is_clean(
    advisories: Advisories, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main(advisories.options) == 0
    assert sorted(advisories.asked) == ["pillow", "redis"]
    assert capsys.readouterr().out == "audit: no known holes in 2 pins\n"


def test_a_hole_is_told_with_its_names_and_how_to_mend_it(
    advisories: Advisories, capsys: pytest.CaptureFixture[str]
) -> None:
    advisories.answer = lambda asked: (200, hole("pillow", "12.3.0") if asked["package"]["name"] == "pillow" else {})
    assert audit.main(advisories.options) == audit.HOLES
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("audit: pillow 12.2.0: PYSEC-2026-1, CVE-2026-42311: fixed in 12.3.0: raise its range")
    assert audit.main([*advisories.options, "--ignore-vuln", "CVE-2026-42311"]) == 0


def test_a_service_that_fails_is_no_clean_bill(advisories: Advisories, capsys: pytest.CaptureFixture[str]) -> None:
    advisories.answer = lambda _: (503, {})
    assert audit.main(advisories.options) == audit.NOT_AUDITED
    told = capsys.readouterr().err
    assert told.startswith("audit: NOT AUDITED: pip-audit could not ask: ") and told.count("\n") == 1


def test_a_service_nobody_reaches_is_no_clean_bill(advisories: Advisories, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["-s", "osv", "--osv-url", "http://127.0.0.1:1/v1/query"]) == audit.NOT_AUDITED
    told = capsys.readouterr().err
    assert "could not ask" in told and "ask OSV (make audit ARGS='-s osv')" in told and told.count("\n") == 1


def test_pins_nobody_has_heard_of_are_no_clean_bill(
    advisories: Advisories, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What pip-audit passes over it ends with 0 for."""
    (tmp_path / "lock.txt").write_text("pillow\n")
    assert audit.main(advisories.options) == audit.NOT_AUDITED
    assert "NOT AUDITED" in capsys.readouterr().err
