"""Rules are read, checked and read again; a file that cannot be used is told in one line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dashboard.alerts.errors import BadRules, RulesChanged
from dashboard.alerts.rules import SHIPPED, Rule, RulesFile, load_rules, parse_rules, rules_text, save_rules

GOOD = '[[rule]]\nname = "spike"\nkind = "volume"\n'


def test_shipped_rules_cover_every_kind() -> None:
    assert {rule.kind for rule in load_rules(SHIPPED)} == {"volume", "sentiment", "share", "silent", "drift"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rule", "is not a list of [[rule]] tables"),
        ('[[rule]]\nname = "x"\nkind = "magic"\n', "magic"),
        (GOOD + "ratoi = 2\n", "ratoi"),
        (GOOD + "ratio = 0.5\n", "ratio is 0.5: give a number from 1 to 1000"),
        (GOOD + "windows_min = []\n", "windows_min is []: give minutes from 1 to 240"),
        (GOOD + "windows_min = [0]\n", "windows_min is [0]"),
        (GOOD + "false_alarms_per_day = nan\n", "false_alarms_per_day is nan"),
        (GOOD + 'sinks = ["pager"]\n', "sink 'pager' is none of log, webhook"),
        (GOOD + "topics = []\n", "topics is empty"),
        (GOOD + GOOD, "two rules are called 'spike': rename one"),
        (GOOD.replace("spike", " "), "give it a name"),
    ],
)
def test_rules_that_cannot_be_used_are_told_in_one_line(text: str, said: str) -> None:
    with pytest.raises(BadRules) as refused:
        parse_rules(text, "alerts.toml")
    assert said in str(refused.value)
    assert str(refused.value).startswith("alerts.toml")
    assert "\n" not in str(refused.value)


def test_a_missing_file_means_the_shipped_rules(tmp_path: Path) -> None:
    assert RulesFile(tmp_path / "none.toml").rules == load_rules(SHIPPED)


def test_an_edit_counts_and_a_bad_one_leaves_the_old_rules(tmp_path: Path) -> None:
    path = tmp_path / "alerts.toml"
    path.write_text(GOOD)
    file = RulesFile(path)
    path.write_text(GOOD.replace("spike", "another"))
    assert file.changed()
    path.write_text("[[rule")
    with pytest.raises(BadRules):
        file.changed()
    assert [rule.name for rule in file.rules] == ["another"]
    assert not file.changed()
    path.unlink()
    assert file.changed()
    assert file.rules == load_rules(SHIPPED)


def test_rules_that_cannot_be_used_are_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "alerts.toml"
    save_rules(path, GOOD, SHIPPED.read_text())
    with pytest.raises(BadRules):
        save_rules(path, GOOD + GOOD, GOOD)
    assert path.read_text() == GOOD


def test_what_somebody_else_saved_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "alerts.toml"
    seen = rules_text(path)
    theirs, mine = GOOD.replace('"spike"', '"theirs"'), GOOD.replace('"spike"', '"mine"')
    save_rules(path, theirs, seen)
    with pytest.raises(RulesChanged, match="alerts.toml was saved by somebody else meanwhile: take theirs, then edit"):
        save_rules(path, mine, seen)
    assert path.read_text() == theirs
    save_rules(path, mine, rules_text(path))
    assert path.read_text() == mine


def test_of_editors_who_save_at_once_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "alerts.toml"
    texts = [GOOD.replace('"spike"', f'"editor {number}"') for number in range(8)]

    def saved(text: str) -> str | None:
        try:
            save_rules(path, text, SHIPPED.read_text())
        except RulesChanged:
            return None
        return text

    with ThreadPoolExecutor(len(texts)) as editors:
        won = [text for text in editors.map(saved, texts) if text]
    assert won == [path.read_text()]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRules, match="cannot write"):
        save_rules(tmp_path / "no such folder" / "alerts.toml", GOOD, "")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "alerts.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadRules, match="not UTF-8"):
        load_rules(path)


def test_all_is_watched_only_by_name_or_alone() -> None:
    every = Rule(name="a", kind="volume")
    assert every.watched(["all", "tram"]) == ["tram"]
    assert every.watched(["all"]) == ["all"]
    assert Rule(name="b", kind="silent", topics=("all", "gone")).watched(["all", "tram"]) == ["all"]


def test_more_looks_ask_for_more_strength() -> None:
    assert Rule(name="a", kind="volume", windows_min=(60,)).threshold == pytest.approx(3.58, abs=0.01)
    assert Rule(name="a", kind="volume", windows_min=(5, 15, 60)).threshold == pytest.approx(4.26, abs=0.01)
