"""A new model rolled out worker by worker while posts come: each is scored once, by one of the two."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from dashboard.gauges import workers as gauges
from dashboard.reading import Reading
from tests.pipeline.conftest import Pipeline, on_apache
from tests.pipeline.test_broker_faults import TAKEN_OVER_WITHIN_S, sending, until_settled
from tests.pipeline.test_redis_faults import took
from tests.pipeline.test_shadow import Versioned, artifact

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), on_apache]

OLD, NEW = "mdse-small 1", "mdse-small 2"
SCORED_BY_BOTH = 100
RATE = 40
"""Of the real model, which is what has a version."""


async def test_workers_restarted_one_by_one_with_a_new_model_score_every_post_once(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    artifacts = [artifact(tmp_path / version, version) for version in ("1", "2")]
    live = Versioned(pipeline.stack, pipeline.namespace, pipeline.runs)
    live.workers, live.link, live.extra = pipeline.workers, tmp_path / "current", {}
    await asyncio.to_thread(live.ask, "model", "switch", str(live.link), str(artifacts[0]))
    first, second = live.start_worker(), live.start_worker()
    await until_at_work(live, [OLD, OLD])
    async with sending(live, RATE) as sender:
        await asyncio.to_thread(live.ask, "model", "switch", str(live.link), str(artifacts[1]))
        began = datetime.now(UTC)
        assert await first.child.stop() == 0
        live.start_worker()
        await until_at_work(live, [OLD, NEW])
        mixed = datetime.now(UTC)
        shown = gauges(live.results.workers(), mixed, Reading(), is_replay=False)
        assert OLD in shown and NEW in shown
        await until_settled(live, sender.sent + SCORED_BY_BOTH)
        unmixed = datetime.now(UTC)
        assert await second.child.stop() == 0
        live.start_worker()
        await until_at_work(live, [NEW, NEW])
        done = datetime.now(UTC)
        await until_settled(live, sender.sent + SCORED_BY_BOTH)
    found = sorted(live.predictions(), key=lambda one: one.scored_at)
    assert len({one.id for one in found}) == len(found) == sender.sent
    assert {one.model for one in found if one.scored_at < began} == {OLD}
    assert {one.model for one in found if mixed < one.scored_at < unmixed} == {OLD, NEW}
    assert {one.model for one in found if one.scored_at > done} == {NEW}
    pauses_s = [(after.scored_at - before.scored_at).total_seconds() for before, after in pairwise(found)]
    late_s = [(one.scored_at - one.ingested_at).total_seconds() for one in found]
    took("rolled out, longest pause in which nothing is scored", max(pauses_s))
    took("rolled out, latest post", max(late_s))
    assert max(late_s) <= TAKEN_OVER_WITHIN_S


async def until_at_work(live: Versioned, models: Sequence[str]) -> None:
    """As many workers, with these models, have partitions."""

    def at_work() -> bool:
        return sorted(state.model for state in live.results.workers()) == models

    await asyncio.to_thread(live.until, at_work, f"{models} are at work", 60)
