"""Folders of replays: begun, found again, and refused in one line where going on would not give the same."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from dashboard.parts import Parts
from dashboard.report.words import command
from dashboard.runs import locked, read_run, status_of, write_run
from deploy import replay
from deploy.beginning import begin, resume
from deploy.errors import Misuse, NoRoom
from deploy.settings import Settings
from deploy.undertaking import Undertaking
from ingest.settings import Settings as IngestSettings
from tests.dashboard.evaluation.feeds import prediction
from tests.deploy.full_disk import no_room


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(runs=tmp_path / "runs")


@pytest.fixture
def feed(tmp_path: Path) -> Path:
    path = tmp_path / "feed.csv"
    path.write_text("words\nhello\nworld\n")
    return path


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def asked(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    replay.add_arguments(parser)
    return parser.parse_args(arguments)


def unstarted(feed: Path, settings: Settings, stack: ExitStack, *options: str) -> Undertaking:
    return begin(asked(str(feed), "--map", "text=words", *options), settings, IngestSettings(), "ns", stack)


def begun(feed: Path, settings: Settings, stack: ExitStack, *options: str) -> Undertaking:
    undertaking = unstarted(feed, settings, stack, *options)
    undertaking.start()
    return undertaking


def gone_on(settings: Settings, stack: ExitStack) -> Undertaking:
    undertaking = resume("ns", settings, stack)
    undertaking.start()
    return undertaking


def interrupted(feed: Path, settings: Settings, *options: str) -> Path:
    with ExitStack() as stack:
        return begun(feed, settings, stack, *options).folder


def test_a_begun_replay_tells_where_its_numbers_come_from(feed: Path, settings: Settings, stack: ExitStack) -> None:
    run = begun(feed, settings, stack, "--speed", "60").run
    assert len(run.archive_sha256) == 64
    assert (run.status, run.stack, run.expected, run.model) == ("running", "embedded", 2, "default")
    assert run.options["speed"] == 60 and run.variables == {"MOODSTREAM_PARTITIONS": "4"}
    assert run.versions["python"] and "cores" in run.processor
    assert read_run(settings.runs / "ns") == run


def test_a_resumed_replay_has_the_very_options_it_was_begun_with(
    feed: Path, settings: Settings, stack: ExitStack
) -> None:
    options = ("--speed", "60", "--from", "2026-01-01T00:00", "--limit", "7", "--workers", "2", "--keep")
    folder = interrupted(feed, settings, *options)
    before = read_run(folder)
    again = resume("ns", settings, stack)
    assert again.options.source == str(feed)
    assert (again.options.speed, again.options.limit, again.options.workers, again.options.keep) == (60, 7, 2, True)
    assert again.options.start == datetime(2026, 1, 1, tzinfo=UTC)
    assert dict(again.options.column_map) == {"text": "words"}
    assert again.options.topics == folder / "topics.toml"
    assert (again.run.run, again.began_ms) == (before.run, round(before.started_at.timestamp() * 1000))
    assert len(again.run.resumed_at) == 1


def test_the_command_a_report_gives_asks_for_the_same_again(
    feed: Path, settings: Settings, tmp_path: Path, stack: ExitStack
) -> None:
    options = ("--speed", "60", "--from", "2026-01-01T00:00", "--to", "2026-01-02T00:00Z", "--keep", "--limit", "7")
    conditions = ("--fail-under", "macro_f1=0.5", "--fail-under", "ece=0.1")
    topics = tmp_path / "my topics.toml"
    topics.write_text('[[topic]]\nname = "fine"\nquery = "fine"\n')
    given = replace(settings, outcome={"MOODSTREAM_ENGINE": "null"})
    asked_for = asked(str(feed), "--map", "text=words", *options, *conditions)
    undertaking = begin(asked_for, given, IngestSettings(topics_path=topics), "ns", stack)
    engine, partitions, program, name, *arguments = shlex.split(command(undertaking.run))
    assert (engine, partitions) == ("MOODSTREAM_ENGINE=null", "MOODSTREAM_PARTITIONS=4")
    assert (program, name) == ("moodstream", "replay")
    assert asked(*arguments) == asked(str(feed), "--map", "text=words", *options, *conditions, "--topics", str(topics))


def test_a_replay_is_found_by_its_folder_too(feed: Path, settings: Settings, tmp_path: Path, stack: ExitStack) -> None:
    interrupted(feed, settings, "--report", str(tmp_path / "out"))
    assert resume(str(tmp_path / "out"), settings, stack).run.namespace == "ns"


def test_a_changed_archive_is_refused(feed: Path, settings: Settings, stack: ExitStack) -> None:
    interrupted(feed, settings)
    feed.write_text("words\nhello\nthere\n")
    with pytest.raises(Misuse, match=r"feed.csv has changed since it was begun: put it back, or replay anew"):
        resume("ns", settings, stack)


def test_a_missing_archive_is_named(feed: Path, settings: Settings, stack: ExitStack) -> None:
    interrupted(feed, settings)
    feed.unlink()
    with pytest.raises(Misuse, match=r"its archive .*feed.csv is gone"):
        resume("ns", settings, stack)


def test_a_finished_replay_is_refused(feed: Path, settings: Settings, stack: ExitStack) -> None:
    with ExitStack() as first:
        begun(feed, settings, first).end("done")
    with pytest.raises(Misuse, match="that replay was finished at .* replay anew"):
        resume("ns", settings, stack)


def test_a_replay_in_use_is_refused(feed: Path, settings: Settings, stack: ExitStack) -> None:
    folder = interrupted(feed, settings)
    with locked(folder), pytest.raises(Misuse, match="is in use by a replay that runs"):
        resume("ns", settings, stack)


def test_other_servers_and_other_models_are_refused(
    feed: Path, settings: Settings, stack: ExitStack, tmp_path: Path
) -> None:
    folder = interrupted(feed, settings)
    elsewhere = Settings(runs=settings.runs, redis="redis://other:1")
    with ExitStack() as first, pytest.raises(Misuse, match="begun on its embedded store: unset MOODSTREAM_REDIS"):
        resume("ns", elsewhere, first)
    write_run(folder, msgspec.structs.replace(read_run(folder), model_sha256="0" * 64))
    with pytest.raises(Misuse, match="the model is not the one it was begun with"):
        resume("ns", settings, stack)


def test_an_unknown_replay_is_named_with_where_to_look(settings: Settings, stack: ExitStack) -> None:
    with pytest.raises(Misuse, match=r"no replay in 'nowhere', nor one of that name in .*runs: see `moodstream runs"):
        resume("nowhere", settings, stack)


def test_a_namespace_is_not_replayed_into_twice_unless_its_folder_is_named(
    feed: Path, settings: Settings, tmp_path: Path, stack: ExitStack
) -> None:
    interrupted(feed, settings)
    with ExitStack() as second, pytest.raises(Misuse, match="holds a replay that is not finished: --resume"):
        begun(feed, settings, second)
    with ExitStack() as third:
        gone_on(settings, third).end("done")
    with ExitStack() as fourth, pytest.raises(Misuse, match="there is a replay 'ns' already: `moodstream runs delete"):
        begun(feed, settings, fourth)
    out = ("--report", str(tmp_path / "out"))
    with ExitStack() as fifth:
        begun(feed, settings, fifth, *out).end("done")
    (tmp_path / "out" / "result.json").write_text("{}")
    assert begun(feed, settings, stack, *out).run.status == "running"
    assert not (tmp_path / "out" / "result.json").exists()  # nobody takes it for that of the new one


def test_an_evaluation_is_done_again_rather_than_gone_on_with(
    feed: Path, settings: Settings, tmp_path: Path, stack: ExitStack
) -> None:
    asked_for = asked(str(feed), "--map", "text=words", "--report", str(tmp_path / "out"))

    def evaluation(stack: ExitStack) -> Undertaking:
        undertaking = begin(asked_for, settings, IngestSettings(), "ns", stack, needs_servers=False)
        undertaking.start()
        return undertaking

    with ExitStack() as first:
        evaluation(first).end("failed", error="x")
    with ExitStack() as second, pytest.raises(Misuse, match="that is an evaluation: run `moodstream evaluate` again"):
        resume(str(tmp_path / "out"), settings, second)
    again = evaluation(stack).run
    assert (again.status, again.stack) == ("running", "none")
    assert command(again).startswith(f"moodstream evaluate --data {feed} --map text=words")


def test_an_archive_that_cannot_be_read_is_named(settings: Settings, tmp_path: Path, stack: ExitStack) -> None:
    with pytest.raises(Misuse, match=r"gone.csv: No such file or directory: make it readable; if it is being recorded"):
        begun(tmp_path / "gone.csv", settings, stack)


def test_progress_never_goes_back_and_a_killed_run_is_interrupted(feed: Path, settings: Settings) -> None:
    with ExitStack() as stack:
        undertaking = begun(feed, settings, stack)
        undertaking.note(read=50, settled=40)
        undertaking.note(read=3, settled=40)
        assert (undertaking.run.read, undertaking.run.settled) == (50, 40)
        assert status_of(undertaking.folder, undertaking.run) == "running"
    assert status_of(undertaking.folder, read_run(undertaking.folder)) == "interrupted"


def test_what_only_going_on_needs_is_removed_at_the_end(feed: Path, settings: Settings, stack: ExitStack) -> None:
    undertaking = begun(feed, settings, stack)
    for name in ("parts", "store"):
        (undertaking.folder / name).mkdir()
    for name in ("author.key", "pause"):
        (undertaking.folder / name).touch()
    undertaking.clean()
    assert sorted(path.name for path in undertaking.folder.iterdir()) == ["lock", "run.json", "topics.toml"]


def test_a_folder_that_cannot_be_written_to_is_named(feed: Path, tmp_path: Path, stack: ExitStack) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misuse, match="MOODSTREAM_RUNS: .*: name a folder that can be written to"):
        begun(feed, Settings(runs=tmp_path / "file"), stack)
    with pytest.raises(Misuse, match="--report .*: name a folder that can be written to"):
        begun(feed, Settings(runs=tmp_path), stack, "--report", str(tmp_path / "file" / "x"))


def test_what_was_not_started_leaves_nothing_behind(feed: Path, settings: Settings, tmp_path: Path) -> None:
    with ExitStack() as first:
        undertaking = unstarted(feed, settings, first)
        undertaking.withdraw()
        undertaking.end("failed", error="Redis was away")
    assert list(settings.runs.iterdir()) == []
    out = ("--report", str(tmp_path / "out"))
    with ExitStack() as second:
        begun(feed, settings, second, *out).end("done")
    (tmp_path / "out" / "result.json").write_text("{}")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    with ExitStack() as third:
        unstarted(feed, settings, third, *out).withdraw()
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_a_resumption_that_never_started_leaves_the_run_as_it_was(
    feed: Path, settings: Settings, stack: ExitStack
) -> None:
    before = read_run(interrupted(feed, settings))
    with ExitStack() as first:
        undertaking = resume("ns", settings, first)
        undertaking.withdraw()
        undertaking.end("failed", error="Redis was away")
    assert read_run(settings.runs / "ns") == before
    assert gone_on(settings, stack).run.run == before.run


def test_a_full_disk_is_one_line_that_says_how_to_go_on(feed: Path, settings: Settings, stack: ExitStack) -> None:
    undertaking = begun(feed, settings, stack)
    parts = Parts(undertaking.folder / "parts")
    remedy = r"no room left for .*: make some and go on with `moodstream replay --resume"
    with no_room(), pytest.raises(NoRoom, match=remedy), undertaking.room_needed():
        parts.write(0, "1-0", [prediction(number) for number in range(1_000)])
    assert parts.last_id(0) is None  # half a part does not count
    with pytest.raises(FileNotFoundError), undertaking.room_needed():
        (undertaking.folder / "nothing").read_text()


def test_one_that_cannot_even_start_on_a_full_disk_is_asked_for_again(
    feed: Path, settings: Settings, stack: ExitStack
) -> None:
    undertaking = unstarted(feed, settings, stack)
    for step in (undertaking.check_room, undertaking.start):
        again = "make some and run the same command again"
        with no_room(), pytest.raises(NoRoom, match=again), undertaking.room_needed():
            step()
    assert not (undertaking.folder / "room").exists() and not undertaking.is_started
