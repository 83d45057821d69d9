from __future__ import annotations

from pathlib import Path

import pytest

from ingest.errors import BadSettings
from ingest.settings import SHIPPED_TOPICS, Settings


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_env({})
    assert (settings.namespace, settings.kafka, settings.partitions) == ("live", "localhost:9092", 4)
    assert settings.idempotence is True
    assert settings.topics_path == SHIPPED_TOPICS


def test_values_come_from_the_environment() -> None:
    settings = Settings.from_env(
        {
            "MOODSTREAM_NAMESPACE": "replay-1",
            "MOODSTREAM_KAFKA": "kafka:9092",
            "MOODSTREAM_PARTITIONS": "12",
            "MOODSTREAM_KAFKA_IDEMPOTENCE": "0",
            "MOODSTREAM_TOPICS": "mine.toml",
            "MOODSTREAM_AUTHOR_KEY": "secret",
        }
    )
    assert settings == Settings(
        namespace="replay-1",
        kafka="kafka:9092",
        partitions=12,
        idempotence=False,
        topics_path=Path("mine.toml"),
        author_key=b"secret",
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
        ("MOODSTREAM_KAFKA_IDEMPOTENCE", "yes"),
        ("MOODSTREAM_AUTHOR_KEY", ""),
    ],
)
def test_a_bad_value_is_named(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=name):
        Settings.from_env({name: value})


def test_the_author_key_is_not_shown() -> None:
    assert "secret" not in repr(Settings(author_key=b"secret"))


def test_without_a_key_every_process_has_its_own() -> None:
    assert Settings.from_env({}).author_key != Settings.from_env({}).author_key
