"""Where a partition is taken up: whatever Redis or Kafka forgot, nothing is skipped that can still be applied."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from faust.types import TP

from inference_worker.resumption import Resuming, Resumption, resumption
from inference_worker.stats import Stats
from inference_worker.store import Store

TP_0, TP_1 = TP("t.posts", 0), TP("t.posts", 1)
EMPTY, UNMARKED = (None, False), (None, True)


@pytest.mark.parametrize(
    ("committed", "begin", "shards", "expected"),
    [
        pytest.param(200, 0, [(199, True)], Resumption(200), id="in step"),
        pytest.param(200, 0, [(204, True)], Resumption(200), id="marked, and killed before committing"),
        pytest.param(200, 0, [(150, True)], Resumption(151, again=49), id="an older file"),
        pytest.param(200, 0, [EMPTY], Resumption(0, again=200), id="empty"),
        pytest.param(200, 120, [EMPTY], Resumption(120, again=80, gap=120), id="empty, and Kafka dropped some"),
        pytest.param(200, 180, [(150, True)], Resumption(180, again=20, gap=29), id="older than what Kafka has"),
        pytest.param(200, 250, [(199, True)], Resumption(250, gap=50), id="dropped before they were scored"),
        pytest.param(200, 250, [(99, True)], Resumption(250, gap=150), id="both"),
        pytest.param(None, 0, [EMPTY], Resumption(0), id="new"),
        pytest.param(None, 70, [EMPTY], Resumption(70), id="new, on an old topic"),
        pytest.param(None, 70, [(199, True)], Resumption(70), id="a new group, or a topic made anew"),
        pytest.param(200, 0, [UNMARKED], Resumption(200), id="of a version that made no marks"),
        pytest.param(200, 0, [(199, True), (150, True)], Resumption(151, again=49), id="one shard went back"),
        pytest.param(200, 0, [(199, True), EMPTY], Resumption(0, again=200), id="one shard is empty"),
        pytest.param(3, 0, [(5000, True)], Resumption(3), id="a mark of a topic that was made anew"),
    ],
)
def test_a_partition_goes_on_at_the_smaller_of_committed_and_applied(
    committed: int | None, begin: int, shards: list[tuple[int | None, bool]], expected: Resumption
) -> None:
    assert resumption(committed, begin, shards) == expected


def resuming(store: object) -> tuple[Resuming, Stats]:
    stats = Stats(name="w", model="m", engine="e")
    return Resuming(store, stats), stats  # type: ignore[arg-type]


class GoneStore:
    """No Redis listens."""

    def __init__(self) -> None:
        self.retries = 0
        self.marks = SimpleNamespace(has_forgotten=False, topic=None)

    async def mark(self, applied: dict[int, int]) -> bool:
        raise ConnectionError("refused")

    async def standing(self, partitions: list[int]) -> list[object]:
        raise ConnectionError("refused")


async def test_without_redis_nothing_is_committed_and_it_is_asked_again_later(caplog: pytest.LogCaptureFixture) -> None:
    gone = GoneStore()
    found, _ = resuming(gone)
    assert await found.mark({TP_0: 5}) is False
    assert await found.find({TP_0: 5}, {TP_0: 0}) == {}
    assert (gone.marks.has_forgotten, gone.retries) == (True, 1)
    assert "Redis does not tell what is applied (refused): going on at what is committed" in caplog.text


async def test_a_gap_is_told_in_one_line_counted_once_and_marked(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    found, stats = resuming(store)
    with caplog.at_level(logging.ERROR):
        assert await found.find({TP_0: 200}, {TP_0: 120}) == {TP_0: Resumption(120, 80, 120)}
    assert [record.getMessage() for record in caplog.records] == [
        "partition 0: 120 records before 120 are not in Redis, and Kafka no longer has them: raise its retention.ms "
        "above the longest outage"
    ]
    assert await found.find({TP_0: 120}, {TP_0: 120}) == {TP_0: Resumption(120)}
    assert (stats.gap, stats.applied_again) == (120, 80)
    assert await store.redis.hget("{t:0}:counters", "gap") == b"120"


async def test_a_topic_made_anew_is_read_from_its_beginning_whatever_is_committed(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    found, stats = resuming(store)
    of_both = {TP_0: 200, TP_1: 90}
    await found.find(of_both, {TP_0: 0, TP_1: 0}, "old")
    assert await found.mark({TP_0: 250, TP_1: 100})
    assert await found.find({TP_0: 250}, {TP_0: 3}, "new") == {TP_0: Resumption(3, gap=3, is_anew=True)}
    assert await found.find({TP_0: 3, TP_1: 100}, {TP_0: 3, TP_1: 0}, "new") == {
        TP_0: Resumption(3),
        TP_1: Resumption(0, is_anew=True),
    }
    assert [record.getMessage() for record in caplog.records if "anew" in record.getMessage()] == [
        f"topic t.posts was made anew: partitions {number} are read from their beginning; what was not read before is "
        "gone"
        for number in (0, 1)
    ]
    assert (stats.gap, stats.applied_again) == (3, 290)
