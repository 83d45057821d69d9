"""Posts outrun the worker: what it leaves unscored is counted, once, and shown beside what it scored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import pytest

from dashboard.feeds import Feed
from dashboard.queries import snapshot
from dashboard.reading import PLAIN
from dashboard.tiles import now
from deploy.local import LocalStack
from inference_worker.contract import ALL, Counters
from ingest.contract import EDIT_STEP, Deletion, Post
from tests.pipeline.conftest import Pipeline, on_embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

POSTS: Final = 1500
"""Fifteen seconds of the slow worker's time."""
SHEDS: Final = {
    "MOODSTREAM_KIND": "live",
    "MOODSTREAM_ENGINE": "null",
    "MOODSTREAM_SHED_AFTER_S": "5",
    "MOODSTREAM_SAMPLE_LEAST": "0.5",
    "MOODSTREAM_SAMPLE_AFTER_S": "1",
    "MOODSTREAM_IN_FLIGHT": "128",
    "MOODSTREAM_BATCH_ITEMS": "16",
    "MOODSTREAM_RESULTS_KEPT": "0",
}


class Outrun(Pipeline):
    """A namespace whose workers shed."""

    def environment(self, namespace: str | None = None) -> dict[str, str]:
        return super().environment(namespace) | SHEDS


def post(name: int, *, revision: int = 0) -> Post:
    at = datetime.now(UTC)
    text = f"what a lovely day, number {name}"
    return Post(id=f"test:{name}", source="test", created_at=at, ingested_at=at, text=text, revision=revision)


@pytest.fixture
def outrun(stack: LocalStack, pipeline: Pipeline) -> Outrun:
    made = Outrun(stack, pipeline.namespace, pipeline.runs)
    made.workers = pipeline.workers  # which ends them
    return made


@on_embedded
def test_posts_that_outrun_the_worker_are_counted_once_and_shown_as_a_sample(outrun: Outrun) -> None:
    """One worker is killed at work, and what it had read comes again to the next."""
    worker = outrun.start_worker("tests.pipeline.slow_worker")
    outrun.wait_for_worker()
    outrun.send_fast([post(number) for number in range(POSTS)], run="outrun")
    outrun.until(lambda: outrun.settled("outrun") > 0, "some are settled", 60)
    worker.child.kill()
    outrun.start_worker("tests.pipeline.slow_worker")
    counts = outrun.wait_until_settled("outrun", POSTS, 90)
    assert counts["scored"] > 0
    assert counts["shed"] > 0
    assert counts["scored"] + counts["shed"] == POSTS
    assert counts.keys() <= {"scored", "shed", "redelivered"}
    total = outrun.results.total()
    assert (total.posts, total.shed) == (counts["scored"], counts["shed"])
    page = now(snapshot(Feed(outrun.redis, outrun.namespace, address="here"), window="1h"))
    assert f"{counts['scored']:,} scored of {POSTS:,}" in page
    assert f"{PLAIN.percent(counts['scored'], POSTS)} sample" in page

    scored = {prediction.id for prediction in outrun.predictions()}
    edited, deleted = [number for number in range(POSTS) if f"test:{number}" not in scored][:2]
    at = datetime.now(UTC)
    later = [
        post(edited, revision=EDIT_STEP),
        Deletion(source="test", deleted_at=at, ingested_at=at, post_id=f"test:{deleted}"),
        post(POSTS),  # the worker is no longer behind
    ]
    outrun.send(later, run="later")
    assert outrun.wait_until_settled("later", len(later), 60) == {"scored": 2, "deletions": 1}
    assert outrun.results.total().shed == total.shed - 2
    assert outrun.results.total().posts == total.posts + 2
    assert Counters(*map(sum, zip(*outrun.results.rollups([ALL], "day", at, at)[ALL].values(), strict=True))) == (
        outrun.results.total()
    )
