"""The page Health's numbers as HTML."""

from __future__ import annotations

import msgspec
import pytest

from dashboard import gauges
from dashboard.reading import Reading
from tests.dashboard.seeding import NOW, worker_state


@pytest.mark.parametrize(
    ("known_pictures", "meter"), [(0.25, "<span>Pictures known</span><b>25 %</b>"), (0.0, "<b>0 %</b>"), (None, "")]
)
def test_a_worker_that_saw_pictures_tells_how_many_it_knew(known_pictures: float | None, meter: str) -> None:
    state = msgspec.structs.replace(worker_state(), known_pictures=known_pictures)
    html = gauges.workers([state], NOW, Reading(), is_replay=False)
    assert meter in html
    assert ("Pictures known" in html) is (known_pictures is not None)
