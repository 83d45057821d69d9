from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.authors import AuthorHash, kept_key
from ingest.contract import Post, decode
from ingest.cursors import CursorFile, Cursors
from ingest.errors import BadSettings
from ingest.settings import Settings
from tests.ingest.resumable import COUNT, has_picture
from tests.ingest.test_service import ROOT, records


def test_the_cursor_is_that_of_the_oldest_item_on_its_way() -> None:
    cursors = Cursors("start")
    assert cursors.safe("now") == "now"
    first, second, third = (cursors.hold(cursor) for cursor in ("1", "2", "3"))
    assert cursors.safe("3") == "now"
    second.release()
    assert cursors.safe("3") == "now"
    first.release()
    assert cursors.safe("3") == "2"
    third.hold()
    third.release()
    assert cursors.safe("3") == "2"
    third.release()
    assert cursors.safe("9") == "9"
    cursors.hold("10")
    assert cursors.safe("10") == "9"


def test_a_first_run_that_is_killed_early_has_a_cursor_too() -> None:
    cursors = Cursors(None)
    first = cursors.hold("1")
    cursors.hold("2")
    assert cursors.safe("2") == "1"
    first.release()
    assert cursors.safe("2") == "1"


@given(st.lists(st.sampled_from(["item", "settle", "look"]), max_size=60), st.randoms(use_true_random=False))
def test_a_restart_from_the_cursor_misses_no_item_that_was_not_settled(steps: list[str], random: Random) -> None:
    """Cursor n means: what was yielded first comes again from item n + 1 on."""
    cursors, on_their_way, number, looked = Cursors("0"), {}, 0, 0
    for step in steps:
        if step == "item":
            number += 1
            on_their_way[number] = cursors.hold(str(number))
        elif step == "settle" and on_their_way:
            on_their_way.pop(random.choice(list(on_their_way))).release()
        else:
            cursor = cursors.safe(str(number))
            assert cursor is not None
            assert int(cursor) == min(on_their_way, default=number + 1) - 1
            assert int(cursor) >= looked
            looked = int(cursor)


def test_a_cursor_survives_and_none_changes_nothing(tmp_path: Path) -> None:
    file = CursorFile(tmp_path / "state", namespace="live", source="bluesky")
    assert file.load() is None
    file.save(None)
    assert not file.path.exists()
    file.save("wss://host 42")
    file.save(None)
    assert CursorFile(tmp_path / "state", namespace="live", source="bluesky").load() == "wss://host 42"
    assert CursorFile(tmp_path / "state", namespace="live", source="x").load() is None
    assert [path.name for path in file.path.parent.iterdir()] == ["live.bluesky.cursor.json"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"cursor": 3}', b'"1"'])
def test_a_damaged_cursor_is_no_cursor_and_said(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = CursorFile(tmp_path, namespace="live", source="bluesky")
    file.path.write_bytes(content)
    assert file.load() is None
    assert "starts without a cursor" in caplog.text


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(BadSettings, match="MOODSTREAM_STATE"):
        CursorFile(tmp_path / "state", namespace="live", source="x").save("1")
    with (
        pytest.raises(BadSettings, match="MOODSTREAM_STATE"),
        CursorFile(tmp_path / "state", namespace="live", source="x").locked(),
    ):
        pass
    with pytest.raises(BadSettings, match="MOODSTREAM_STATE"):
        kept_key(tmp_path / "state")


def test_a_cursor_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    file, other = (CursorFile(tmp_path, namespace="live", source="x") for _ in range(2))
    with file.locked(), pytest.raises(BadSettings, match="another ingest keeps its cursor in"), other.locked():
        pass
    with other.locked():
        pass


def test_the_secret_of_the_author_hashes_is_kept(tmp_path: Path) -> None:
    key = kept_key(tmp_path / "state")
    assert len(key) == 32
    assert AuthorHash(key)("x", "ann") == AuthorHash(kept_key(tmp_path / "state"))("x", "ann")
    [path] = (tmp_path / "state").iterdir()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_an_ingest_killed_again_and_again_loses_nothing(settings: Settings, tmp_path: Path) -> None:
    """Six times kill -9 at random points; posts, completed posts and deletions are all there, each in order."""
    random, kills, done = Random(6), 0, False
    while not done:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.ingest.resumable", settings.kafka, settings.namespace, str(tmp_path)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"reading\n"
        if kills < 6:
            await asyncio.sleep(random.uniform(0.05, 1.2))
            process.send_signal(signal.SIGKILL)
            kills += 1
        else:
            await process.wait()
            done = True
            assert process.returncode == 0
        process._transport.close()  # type: ignore[attr-defined]
        await process.wait()
    fates = await all_fates(settings)
    for number in range(COUNT):
        if number % 10 == 7:
            assert fates[f"x:{number}"][-1] is None
        else:
            assert (1 if has_picture(number) else 0) in fates[f"x:{number}"]


async def all_fates(settings: Settings) -> dict[str, list[int | None]]:
    """By id, the revisions sent, None for the deletion; asked until all are there: Tansu's end offsets come late."""
    while True:
        fates: dict[str, list[int | None]] = {}
        for record in await records(settings):
            sent = decode(record.value)
            key = sent.id if isinstance(sent, Post) else str(sent.post_id)
            fates.setdefault(key, []).append(sent.revision if isinstance(sent, Post) else None)
        if len(fates) == COUNT:
            return fates
