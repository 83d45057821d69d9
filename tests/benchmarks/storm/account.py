"""The account after a storm: the topic read from its beginning, held against what was told and what is in Redis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from typing import Any, Final

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from deploy.accounting import settled
from inference_worker.contract import Prediction, Results
from inference_worker.pipeline import prediction_of
from inference_worker.predictor import Predictor
from ingest.contract import MalformedRecord, NewerSchema, Post, decode, posts_topic
from tests.benchmarks.recomputed import rollups_are_exact
from tests.benchmarks.storm.network import Told

QUIET_MS: Final = 2000
"""The topic is read so long past the end the broker told: the embedded one's falls short of its last batch."""
CHUNK: Final = 512
SHOWN: Final = 5
TOLERANCE: Final = 1e-4
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
PASSING: Final = {"ingested_at": _EPOCH, "scored_at": _EPOCH, "queued_ms": None, "computed_ms": None}
"""What differs between two deliveries of a post by nature."""


@dataclass
class Topic:
    """All that reached Kafka. posts: of each id the first record of its highest revision."""

    records: int = 0
    posts: dict[str, Post] = field(default_factory=dict)

    def add(self, value: bytes | None) -> None:
        self.records += 1
        try:
            record = decode(value or b"")
        except (MalformedRecord, NewerSchema):
            return
        if isinstance(record, Post):
            known = self.posts.get(record.id)
            if known is None or record.revision > known.revision:
                self.posts[record.id] = record


async def read_topic(kafka: str, namespace: str) -> Topic:
    topic = Topic()
    consumer = AIOKafkaConsumer(
        posts_topic(namespace), bootstrap_servers=kafka, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        while (found := await consumer.getmany(timeout_ms=QUIET_MS)) or not await _is_read(consumer, ends):
            for record in chain.from_iterable(found.values()):
                topic.add(record.value)
    finally:
        await consumer.stop()
    return topic


async def _is_read(consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int]) -> bool:
    return all([await consumer.position(partition) >= end for partition, end in ends.items()])


@dataclass
class Account:
    """off: what is not as it must be, a line each; nothing is right but where it is empty."""

    figures: dict[str, Any] = field(default_factory=dict)
    off: list[str] = field(default_factory=list)

    def check(self, name: str, wrong: Sequence[str] | int) -> None:
        """A count of what must not be, with examples where there are some."""
        count = wrong if isinstance(wrong, int) else len(wrong)
        self.figures[name] = count
        if count:
            examples = "" if isinstance(wrong, int) else f", such as {'; '.join(wrong[:SHOWN])}"
            self.off.append(f"{name}: {count}{examples}")


def settle_accounts(
    told: Sequence[Told], poison: Mapping[str, int], topic: Topic, results: Results, predictor: Predictor
) -> Account:
    """poison: what dead letters must say, and how many of them."""
    account = Account()
    counts = results.counters()
    standing = [post for post in told if not post.is_deleted]
    found = {prediction.id: prediction for prediction in _read(results, [post.id for post in told])}
    total = results.total().posts
    account.figures |= {"records": topic.records, "counters": counts, "posts_standing": len(standing)}
    account.check("lost", [post.id for post in standing if post.id not in found])
    account.check("counted_twice", total - len(standing) if total > len(standing) else 0)
    account.check("missing_in_rollups", len(standing) - total if total < len(standing) else 0)
    account.check("not_forgotten", [post.id for post in told if post.is_deleted and post.id in found])
    account.check("records_unsettled", max(0, topic.records - settled(counts)))
    account.check("records_settled_twice", max(0, settled(counts) - topic.records))
    account.check("rollups_wrong", int(not rollups_are_exact(results)))
    seen = [(post, found[post.id]) for post in standing if post.id in found]
    account.check("wrong_texts", [post.id for post, prediction in seen if prediction.text != post.text])
    account.check("pictures_missing", [post.id for post, prediction in seen if prediction.images != post.has_picture])
    account.check("not_in_kafka", [post.id for post in standing if post.id not in topic.posts])
    sent = [topic.posts[post.id] for post in standing if post.id in topic.posts and post.id in found]
    account.check("wrong_predictions", wrong_predictions(sent, found, predictor))
    account.check("wrong_dead_letters", wrong_letters(poison, [one.error for one in results.dead_letters(1000)]))
    account.figures["dead_letters"] = dict(Counter(one.error[:60] for one in results.dead_letters(1000)))
    return account


def wrong_predictions(posts: Sequence[Post], found: Mapping[str, Prediction], predictor: Predictor) -> list[str]:
    """Posts whose prediction is not what the engine says of them here, in other batches and on a calm day."""
    wrong = []
    for lane in (True, False):
        alike = [post for post in posts if bool(post.images) is lane]
        for start in range(0, len(alike), CHUNK):
            for expected in predicted(alike[start : start + CHUNK], predictor):
                if not is_same(expected, found[expected.id]):
                    wrong.append(expected.id)
    return wrong


def predicted(posts: Sequence[Post], predictor: Predictor) -> Iterable[Prediction]:
    """Of posts that all have pictures, or all have none. Raises Unscorable of a post that cannot be scored."""
    encodings = predictor.encode(posts)
    examples = [predictor.prepare(post, encoding) for post, encoding in zip(posts, encodings, strict=True)]
    for post, example, scores in zip(posts, examples, predictor.predict(examples), strict=True):
        yield prediction_of(post, example, scores, datetime.now(UTC), predictor)


def is_same(expected: Prediction, found: Prediction) -> bool:
    """To the last bit but for times where no model is at work; else the label, and probabilities within TOLERANCE."""
    if expected.model == "null":
        one, other = (msgspec.structs.replace(each, **PASSING) for each in (expected, found))
        return one == other
    near = zip(expected.probabilities, found.probabilities, strict=True)
    return expected.predicted == found.predicted and all(abs(one - other) <= TOLERANCE for one, other in near)


def wrong_letters(expected: Mapping[str, int], errors: Sequence[str]) -> list[str]:
    """What is missing among the dead letters, and what is there without a cause."""
    left = Counter(expected)
    wrong = []
    for error in errors:
        said = next((words for words in left if words in error and left[words]), None)
        if said is None:
            wrong.append(f"unexpected: {error}")
        else:
            left[said] -= 1
    return wrong + [f"missing: {words}" for words in left.elements()]


def _read(results: Results, ids: Sequence[str]) -> Iterable[Prediction]:
    for start in range(0, len(ids), CHUNK):
        yield from results.predictions(ids[start : start + CHUNK])
