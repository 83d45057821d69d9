"""What is shipped for Prometheus, by Prometheus' own checker."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
RULES = (FOLDER / "rules.yml").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if (tool := shutil.which("promtool")) is None:
        pytest.skip("no promtool: install it (Debian: prometheus)")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("file", ["prometheus.yml", "compose.yml"])
def test_the_configuration_and_its_rules_are_valid(file: str) -> None:
    done = promtool("check", "config", FOLDER / file)
    assert done.returncode == 0, done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_rules_fire_when_they_should_and_only_then() -> None:
    done = promtool("test", "rules", FOLDER / "rules_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("old", "new"), [("> 1000", "> 99999"), ('check!~"store|partitions"', 'check!="store"')])
def test_a_rule_changed_for_the_worse_fails_its_tests(old: str, new: str, tmp_path: Path) -> None:
    assert RULES.count(old) == 1
    (tmp_path / "rules.yml").write_text(RULES.replace(old, new))
    shutil.copy(FOLDER / "rules_test.yml", tmp_path)
    assert promtool("test", "rules", tmp_path / "rules_test.yml").returncode != 0


@pytest.mark.parametrize("alert", ALERTS)
def test_every_rule_has_a_test_and_says_what_to_do(alert: str) -> None:
    assert f'alertname="{alert}"' in (FOLDER / "rules_test.yml").read_text()
    (rule,) = re.findall(rf"- alert: {alert}\n(.*?)(?=\n\n|\Z)", RULES, re.DOTALL)
    assert re.search(r"\n +summary: .+\n +runbook: .{40}", rule)
