"""`moodstream model`: a link is moved to what works, back to what was, and never to anything else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.cli import main
from deploy.servers import start_store
from inference_worker.settings import DEFAULT_MODEL, Settings


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path, Path]]:
    """A link that is not there yet, and two artifacts. What a golden row proves is proved elsewhere."""
    monkeypatch.setenv("MOODSTREAM_ENGINE", "null")
    yield tmp_path / "current", artifact(tmp_path / "one", "1"), artifact(tmp_path / "two", "2")


def artifact(folder: Path, version: str) -> Path:
    """The shipped one under another version."""
    folder.mkdir()
    for file in DEFAULT_MODEL.iterdir():
        if file.name != "artifact.json":
            (folder / file.name).symlink_to(file)
    manifest = json.loads((DEFAULT_MODEL / "artifact.json").read_text())
    (folder / "artifact.json").write_text(json.dumps({**manifest, "version": version}))
    return folder


def switched(link: Path, target: Path) -> int:
    return main(["model", "switch", str(link), str(target)])


def test_a_switch_moves_the_link_and_a_rollback_moves_it_back(
    versions: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    link, one, two = versions
    assert switched(link, one) == switched(link, two) == 0
    assert link.resolve() == two.resolve()
    assert "is mdse-small 2 from now on: restart the workers one after another" in capsys.readouterr().out
    for target in (one, two):  # a rollback is rolled back alike
        assert main(["model", "rollback", str(link), "--json"]) == 0
        assert link.resolve() == target.resolve()
    assert not list(link.parent.glob(".current*"))


def test_what_is_no_sound_artifact_is_not_switched_to(
    versions: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    link, one, two = versions
    switched(link, one)
    (two / "golden.json").unlink()
    (two / "golden.json").write_text("{}")
    assert switched(link, two) == 1
    assert "nothing is switched: " in capsys.readouterr().err
    assert link.resolve() == one.resolve()
    assert main(["model", "rollback", str(link)]) == 2
    assert "has no artifact before the present one" in capsys.readouterr().err


def test_misuse_is_told_in_a_line(versions: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    link, one, two = versions
    switched(link, one)
    assert switched(link, one) == 2
    assert f"{link} is mdse-small 1 already" in capsys.readouterr().err
    assert switched(two, one) == 2
    assert f"{two} is no link: move it aside" in capsys.readouterr().err
    assert switched(link.parent / "missing" / "link", one) == 1
    assert "cannot be made a link to" in capsys.readouterr().err


def test_a_shadow_that_never_ran_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with asyncio.Runner() as runner:
        store, url = runner.run(start_store(tmp_path / "store.log", None))
        monkeypatch.setenv("MOODSTREAM_REDIS", url)
        assert main(["model", "compare", "candidate"]) == 2
        assert "namespace 'live' has no results yet" in capsys.readouterr().err
        assert main(["model", "compare", "No!"]) == 2
        assert "namespace 'live-No!': use 1 to 63" in capsys.readouterr().err
        runner.run(store.stop())
    assert main(["model", "compare", "candidate"]) == 1
    assert "does not answer" in capsys.readouterr().err


def test_a_shadow_reads_its_namespaces_posts_and_writes_elsewhere() -> None:
    shadow = Settings.from_env({"MOODSTREAM_NAMESPACE": "news", "MOODSTREAM_SHADOW": "v2"})
    assert (shadow.namespace, shadow.posts_topic) == ("news-v2", "news.posts")
    assert (shadow.consumer_group, shadow.source) == ("news-v2.inference-worker", "shadow of news")
    assert Settings.from_env({"MOODSTREAM_NAMESPACE": "news"}).posts_topic == "news.posts"
    with pytest.raises(ValueError, match="namespace 'live-V 2': use 1 to 63 lower-case letters"):
        Settings.from_env({"MOODSTREAM_SHADOW": "V 2"})
