"""Kafka's id of a topic: another one each time it is made, and none where it is not known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError

from deploy.servers import start_broker
from inference_worker.topic_id import topic_id


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[AIOKafkaAdminClient]:
    child, address = await start_broker(tmp_path / "broker.log")
    client = AIOKafkaAdminClient(bootstrap_servers=address)
    try:
        await client.start()
        yield client
    finally:
        await client.close()
        await child.stop()


async def test_a_topic_made_anew_has_another_id(admin: AIOKafkaAdminClient) -> None:
    assert await topic_id(admin._client, "posts") is None
    found = []
    for _ in range(2):
        await admin.create_topics([NewTopic("posts", 2, 1), NewTopic("others", 1, 1)])
        found.append(await topic_id(admin._client, "posts"))
        assert await topic_id(admin._client, "posts") == found[-1]
        await admin.delete_topics(["posts"])
    assert None not in found and len(set(found)) == 2


@pytest.mark.parametrize("error", [NotImplementedError("v9"), KafkaConnectionError("gone"), TimeoutError(), OSError()])
async def test_a_broker_that_is_older_or_away_leaves_it_open(error: Exception) -> None:
    class Client:
        def get_random_node(self) -> int:
            return 1

        async def send(self, *_: Any) -> Any:
            raise error

    assert await topic_id(Client(), "posts") is None  # type: ignore[arg-type]
