from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import BadSettings
from ingest.settings import KEPT_STATE, SHIPPED_LIVE_TOPICS, SHIPPED_TOPICS, Settings
from ingest.topics.definitions import load_topics


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_env({})
    assert (settings.namespace, settings.kafka, settings.partitions) == ("live", "localhost:9092", 4)
    assert settings.idempotence is True
    assert settings.topics_path == SHIPPED_TOPICS
    assert (settings.keep_all, settings.media_hosts, settings.health) == (False, (), None)
    assert settings.state_dir == settings.cursor_dir == KEPT_STATE


def test_values_come_from_the_environment() -> None:
    settings = Settings.from_env(
        {
            "MOODSTREAM_NAMESPACE": "replay-1",
            "MOODSTREAM_KAFKA": "kafka:9092",
            "MOODSTREAM_PARTITIONS": "12",
            "MOODSTREAM_POST_RETENTION_S": "3600",
            "MOODSTREAM_KAFKA_IDEMPOTENCE": "0",
            "MOODSTREAM_TOPICS": "mine.toml",
            "MOODSTREAM_AUTHOR_KEY": "secret",
            "MOODSTREAM_KEEP": "all",
            "MOODSTREAM_MEDIA_HOSTS": "media.example.org, *.example.net",
            "MOODSTREAM_STATE": "/var/lib/moodstream",
            "MOODSTREAM_CURSORS": "/var/lib/cursors",
            "MOODSTREAM_INGEST_HEALTH": "[::1]:8081",
        }
    )
    assert settings == Settings(
        namespace="replay-1",
        kafka="kafka:9092",
        partitions=12,
        post_retention_s=3600,
        idempotence=False,
        topics_path=Path("mine.toml"),
        author_key=b"secret",
        is_author_key_given=True,
        keep_all=True,
        media_hosts=("media.example.org", "*.example.net"),
        state_dir=Path("/var/lib/moodstream"),
        cursor_dir=Path("/var/lib/cursors"),
        health=("::1", 8081),
    )


def test_topics_of_the_working_directory_come_before_the_shipped_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("topics.toml").write_text("")
    assert Settings.from_env({}).topics_path == Path("topics.toml")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MOODSTREAM_NAMESPACE", "Über uns"),
        ("MOODSTREAM_NAMESPACE", ""),
        ("MOODSTREAM_PARTITIONS", "many"),
        ("MOODSTREAM_PARTITIONS", "0"),
        ("MOODSTREAM_POST_RETENTION_S", "-1"),
        ("MOODSTREAM_KAFKA_IDEMPOTENCE", "yes"),
        ("MOODSTREAM_AUTHOR_KEY", ""),
        ("MOODSTREAM_KEEP", "some"),
        ("MOODSTREAM_INGEST_HEALTH", "8081"),
        ("MOODSTREAM_LOG", "xml"),
        ("MOODSTREAM_TRACES", "4318"),
        ("MOODSTREAM_TRACES_SHARE", "all"),
        ("MOODSTREAM_TRACES_SHARE", "2"),
        ("MOODSTREAM_INGEST_HEALTH", "localhost:99999"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=name):
        Settings.from_env({name: value})


def test_the_author_key_is_not_shown() -> None:
    assert "secret" not in repr(Settings(author_key=b"secret"))


def test_without_a_key_every_process_has_its_own() -> None:
    assert Settings.from_env({}).author_key != Settings.from_env({}).author_key


def test_live_sources_come_with_topics_of_their_own_until_the_user_writes_some() -> None:
    assert Settings().topics_of("live") == SHIPPED_LIVE_TOPICS
    assert Settings().topics_of("sample") == SHIPPED_TOPICS
    assert Settings(topics_path=Path("mine.toml")).topics_of("live") == Path("mine.toml")
    assert "Cats and dogs" in load_topics(SHIPPED_LIVE_TOPICS).names
