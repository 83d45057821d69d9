"""Checks of Kafka where there is none, and how what it tells is judged; real ones: tests/pipeline/test_doctor.py."""

from __future__ import annotations

import socket

import pytest

from deploy.checks import kafka
from deploy.checks.finding import CannotTell, Check, Deployment
from inference_worker.settings import Settings as WorkerSettings
from ingest.settings import Settings as IngestSettings


def partition(leader: int = 1, replicas: tuple[int, ...] = (1, 2), isr: tuple[int, ...] = (1, 2)) -> dict[str, object]:
    return {"leader": leader, "replicas": list(replicas), "isr": list(isr)}


@pytest.mark.parametrize(
    ("changed", "brokers", "level", "said"),
    [
        ({}, 3, "ok", "live.posts x 2, live.dead-letters x 1"),
        ({"leader": -1}, 3, "fail", "1 partitions without a leader"),
        ({"isr": (1,)}, 3, "warn", "1 partitions lack a replica in sync"),
        ({"replicas": (1,), "isr": (1,)}, 3, "warn", "kept once on a cluster of 3"),
        ({"replicas": (1,), "isr": (1,)}, 1, "ok", "live.posts x 2"),
    ],
)
def test_what_a_cluster_of_several_may_lack(changed: dict[str, object], brokers: int, level: str, said: str) -> None:
    described = {"live.posts": [partition(**changed), partition()], "live.dead-letters": [partition()]}
    found = kafka.judged_topics(WorkerSettings(partitions=2), described, brokers)
    assert (found.level, said in found.found) == (level, True), found


@pytest.mark.parametrize(
    ("group", "level", "remedy"),
    [
        (kafka.Group("Stable", 2, 4, 100, 0), "ok", ""),
        (kafka.Group("Stable", 2, 4, 10_001, 0), "warn", "start more workers, up to 4"),
        (kafka.Group("Stable", 5, 4, 0, 0), "warn", "some are idle"),
        (kafka.Group("PreparingRebalance", 2, 4, 0, 0), "warn", "look again"),
        (kafka.Group("Dead", 0, 0, 0, 0), "warn", "start `moodstream worker`"),
    ],
)
def test_a_group_is_judged_by_its_state_and_its_lag(group: kafka.Group, level: str, remedy: str) -> None:
    found = kafka.judged_group(WorkerSettings(), group)
    assert (found.level, remedy in found.remedy) == (level, True), found


@pytest.mark.parametrize("check", kafka.CHECKS, ids=[check.name for check in kafka.CHECKS])
def test_a_dead_kafka_is_told_once_and_pointed_at_by_the_rest(check: Check) -> None:
    dead = Deployment(worker=WorkerSettings(kafka="127.0.0.1:1"), ingest=IngestSettings())
    if check.name == "kafka":
        found = check.look(dead)
        assert found.found.startswith("127.0.0.1:1 does not answer (")
    else:
        with pytest.raises(CannotTell) as told:
            check.look(dead)
        found = told.value.finding
        assert found.remedy == "see the check `kafka`"
    assert found.level == "fail"


def test_a_server_that_never_answers_takes_no_longer_than_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "TIMEOUT_MS", 300)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        found = kafka.brokers(Deployment(worker=WorkerSettings(kafka=address), ingest=IngestSettings()))
    assert found.level == "fail" and found.found.startswith(f"{address} does not answer (")


@pytest.mark.parametrize(
    ("told", "level", "said"),
    [
        ("1048588", "ok", "takes 1048588 bytes"),
        ("1000000", "fail", "takes 1000000 bytes, the largest post has 1048576"),
        (None, "ok", "does not tell"),
    ],
)
def test_a_topic_must_take_the_largest_post(told: str | None, level: str, said: str) -> None:
    found = kafka.judged_size("live.posts", told)
    assert (found.level, said in found.found) == (level, True), found
