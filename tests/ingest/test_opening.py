from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from ingest.arguments import Request, add_arguments
from ingest.cursors import CursorFile
from ingest.errors import BadSource, BadTopics, Misuse
from ingest.opening import open_asked
from ingest.settings import Settings
from ingest.sources.live import LIVE


def request(*arguments: str) -> Request:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return Request.of(parser.parse_args(arguments))


@pytest.mark.parametrize(
    "line",
    [
        ["sample"],
        ["tweets.csv", "--map", "text=body", "label=mood", "--speed", "60.0", "--topics", "mine.toml"],
        ["mvsa", "--split", "test"],
        [
            "mastodon",
            "--host",
            "https://a.example",
            "--host",
            "https://b.example",
            "--channel",
            "hashtag:tram",
            "--all",
        ],
    ],
)
def test_a_request_and_its_command_line_are_the_same(line: list[str]) -> None:
    assert request(*line).command_line() == line


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["bluesky", "--split", "test"], "--split test: bluesky has no splits"),
        (["bluesky", "--map", "text=body"], "--map: only CSV, TSV and JSON Lines"),
        (["bluesky", "--speed", "60"], "--speed: bluesky keeps its own time"),
        (["sample", "--host", "wss://a.example"], "--host wss://a.example: only live sources"),
        (["sample", "--channel", "r/all"], "--channel r/all: only live sources"),
        (["sample", "--all"], "--all: sample is sent whole anyway"),
    ],
)
def test_an_option_that_does_not_fit_the_source_is_refused(line: list[str], said: str) -> None:
    with pytest.raises(BadSource, match=said):
        open_asked(request(*line), Settings())


def test_x_asks_for_topics_of_the_users_own() -> None:
    with pytest.raises(BadTopics, match="X bills every post"):
        open_asked(request("x"), Settings())


@pytest.mark.parametrize("name", LIVE)
def test_every_live_source_is_called_by_its_name(name: str, tmp_path: Path) -> None:
    """Its cursor is kept under that name."""
    keys = ("X_TOKEN", "MASTODON_TOKEN", "REDDIT_CLIENT_ID", "REDDIT_CLIENT_SECRET")
    environ = {"MOODSTREAM_STATE": str(tmp_path)} | {f"MOODSTREAM_{key}": "made-up" for key in keys}
    topics = tmp_path / "topics.toml"
    topics.write_text('[[topic]]\nname = "trams"\nquery = "tram"\n')
    channels = {"reddit": ["--channel", "r/trams"], "rss": ["--channel", "https://a.example/feed"]}
    settings = Settings(topics_path=topics, state_dir=tmp_path, environ=environ)
    asked = open_asked(request(name, *channels.get(name, [])), settings)
    assert (asked.source.name, asked.source.kind) == (name, "live")
    assert asked.topics.topics.names == ("trams",)


def test_a_live_source_goes_on_where_it_was(tmp_path: Path) -> None:
    settings = Settings(namespace="live", cursor_dir=tmp_path)
    CursorFile(tmp_path, namespace="live", source="bluesky").save("no cursor of Bluesky's")
    with pytest.raises(Misuse, match="no cursor of Bluesky's"):
        open_asked(request("bluesky"), settings)
