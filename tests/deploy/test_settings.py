from __future__ import annotations

from pathlib import Path

import pytest

from deploy.archives import checked, namespace_of
from deploy.errors import Misuse
from deploy.settings import Settings


def test_unset_and_empty_variables_leave_the_choice_to_the_command() -> None:
    assert Settings.from_env({"MOODSTREAM_KAFKA": ""}) == Settings(has_display=Settings.from_env({}).has_display)


def test_settings_are_taken_from_the_environment_and_the_password_is_not_shown() -> None:
    settings = Settings.from_env(
        {"MOODSTREAM_KAFKA": "k:9092", "MOODSTREAM_REDIS": "redis://u:secret@r/0", "DISPLAY": ":0"}
    )
    assert (settings.kafka, settings.redis, settings.has_display) == ("k:9092", "redis://u:secret@r/0", True)
    assert "secret" not in repr(settings) and "redis://***@r/0" in repr(settings)


def test_where_ingest_says_how_it_is_may_be_the_user_s_own() -> None:
    assert Settings.from_env({"MOODSTREAM_INGEST_HEALTH": "127.0.0.1:8081"}).ingest_health == "127.0.0.1:8081"


@pytest.mark.parametrize("given", ["63", "-1", "1 GB", "1e3"])
def test_a_cap_of_the_broker_below_what_it_takes_empty_is_misuse(given: str) -> None:
    assert (
        Settings.from_env({}).broker_max_mb,
        Settings.from_env({"MOODSTREAM_BROKER_MAX_MB": "64"}).broker_max_mb,
    ) == (
        1024,
        64,
    )
    with pytest.raises(Misuse, match=f"MOODSTREAM_BROKER_MAX_MB is '{given}': use a whole number of MB from 64"):
        Settings.from_env({"MOODSTREAM_BROKER_MAX_MB": given})


NAMES = {
    "us_airline_2015.csv": "us-airline-2015",
    "US Airline (2015).CSV": "us-airline-2015",
    "...": "replay",
    "日本.csv": "replay",
}


@pytest.mark.parametrize(("name", "expected"), NAMES.items())
def test_namespace_of_a_file_is_one_word(name: str, expected: str) -> None:
    assert checked(namespace_of(Path(name))) == expected


def test_a_namespace_that_will_not_do_is_misuse() -> None:
    with pytest.raises(Misuse, match="'Live Feed'"):
        checked("Live Feed")
