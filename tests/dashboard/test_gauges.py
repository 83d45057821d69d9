"""The page Health's numbers as HTML."""

from __future__ import annotations

import msgspec
import pytest

from dashboard import gauges
from dashboard.feeds import Head
from dashboard.reading import Reading
from inference_worker.contract import Meta
from tests.dashboard.seeding import NOW, worker_state


@pytest.mark.parametrize(
    ("known_pictures", "meter"), [(0.25, "<span>Pictures known</span><b>25 %</b>"), (0.0, "<b>0 %</b>"), (None, "")]
)
def test_a_worker_that_saw_pictures_tells_how_many_it_knew(known_pictures: float | None, meter: str) -> None:
    state = msgspec.structs.replace(worker_state(), known_pictures=known_pictures)
    html = gauges.workers([state], NOW, Reading(), is_replay=False)
    assert meter in html
    assert ("Pictures known" in html) is (known_pictures is not None)


@pytest.mark.parametrize(("gap", "shown"), [({}, False), ({"gap": 1234}, True)])
def test_records_that_are_lost_are_told_where_there_are_some(gap: dict[str, int], shown: bool) -> None:
    head = Head(meta=Meta(shards=1), clock=NOW, topics=(), counts={"scored": 5, **gap}, workers=(), read_at=NOW)
    assert ("records lost to Redis and Kafka" in gauges.facts(head, Reading())) is shown
