"""One line of an error that ended a worker, where a server is at fault; who is let in: tests/pipeline."""

from __future__ import annotations

import os
import signal

import pytest
from aiokafka.errors import KafkaConnectionError

from inference_worker import admission
from inference_worker.admission import refused, told
from inference_worker.errors import StoreUnavailable
from inference_worker.settings import Settings

SETTINGS = Settings(kafka="127.0.0.1:1")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StoreUnavailable("Redis at redis://r does not answer"), "Redis at redis://r does not answer"),
        (
            KafkaConnectionError("no bootstrap"),
            "Kafka at 127.0.0.1:1 does not answer (KafkaConnectionError: no bootstrap): start it, or point "
            "MOODSTREAM_KAFKA at a running one; `moodstream up` brings its own",
        ),
        (ValueError("a fault of ours"), None),
    ],
)
def test_a_server_that_went_away_is_told_in_one_line(error: Exception, line: str | None) -> None:
    assert told(error, SETTINGS) == line


async def test_a_stop_while_it_waits_is_obeyed_though_the_server_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter((StoreUnavailable("Redis does not answer"), None))

    async def redis(settings: Settings) -> StoreUnavailable | None:
        if (trouble := next(answers)) is not None:
            os.kill(os.getpid(), signal.SIGTERM)
        return trouble

    async def kafka(settings: Settings) -> None:
        return None

    monkeypatch.setattr(admission, "_trouble_with_redis", redis)
    monkeypatch.setattr(admission, "_trouble_with_kafka", kafka)
    with pytest.raises(SystemExit) as ended:
        await refused(SETTINGS)
    assert not ended.value.code
