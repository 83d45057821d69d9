from __future__ import annotations

from pathlib import Path

import pytest

from ingest.topics.watched import WatchedFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "some.toml"
    path.write_text("a = 1")
    return path


def test_what_was_written_is_told_once(path: Path) -> None:
    watched = WatchedFile(path)
    assert not watched.written()
    path.write_text("a = 22")
    assert watched.written() and not watched.written()


def test_a_file_that_an_editor_just_emptied_is_not_taken_for_an_empty_one(path: Path) -> None:
    watched = WatchedFile(path)
    path.write_text("")
    assert not watched.written()
    path.write_text("a = 22")
    assert watched.written() and not watched.written()


def test_a_file_that_stays_empty_counts(path: Path) -> None:
    watched = WatchedFile(path)
    path.write_text("")
    assert [watched.written() for _ in range(3)] == [False, True, False]


def test_removed_and_made_again(path: Path) -> None:
    watched = WatchedFile(path)
    path.unlink()
    assert watched.written() and not watched.is_there and not watched.written()
    path.write_text("a = 1")
    assert watched.written() and watched.is_there


def test_an_unread_file_counts_as_soon_as_it_is_there(path: Path, tmp_path: Path) -> None:
    assert WatchedFile(path, unread=True).written()
    watched = WatchedFile(tmp_path / "none.toml", unread=True)
    assert not watched.written()
    watched.path.write_text("a = 1")
    assert watched.written()
