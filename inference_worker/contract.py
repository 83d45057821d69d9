"""What the worker writes to Redis: `Prediction`, packed rollups, the key layout, and the readers of it all.

Each post belongs to shard `crc32(id) % shards` of its namespace; every key the post touches carries the hash tag
`{namespace:shard}`, so one script call writes it atomically and Redis Cluster works. Readers sum the shards.
Everything that shows or judges results imports this module and nothing else of the package.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from zlib import crc32

import msgspec

from ingest.contract import Label

if TYPE_CHECKING:
    from redis import Redis

SCHEMA_VERSION: Final = 1
LABELS: Final[tuple[Label, ...]] = ("positive", "neutral", "negative")
"""Order of every distribution below; an artifact with another order is mapped onto it once, on load."""
ALL: Final = "all"
"""The built-in topic every scored post enters; sums are taken over it."""
FIXED_POINT: Final = 1_000
"""Scores and confidences are summed as integers in units of 1 / FIXED_POINT: sums never depend on order."""
TAIL_SHOWN: Final = 100
TAIL_KEPT: Final = 3 * TAIL_SHOWN
"""Three times what is shown is kept, so that deletions leave no holes."""

Distribution = tuple[float, float, float]
Level = Literal["minute", "hour", "day"]


class NewerResults(ValueError):
    """The namespace was written by a newer Moodstream than this one."""


class UnknownNamespace(LookupError):
    """No such namespace in this Redis."""


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """All the dashboard shows of a post.

    probabilities, text_probabilities, image_probabilities: calibrated distributions in the order of LABELS; fused, and
    what the text alone and the image alone say (None where the post lacks it).
    confidence: largest fused probability; abstained: the model says it does not know.
    token_map: (start, end, weight) per token, character span in `text`, weight 0-255;
    image_map: row-major weights 0-255 of the strongest image's cells, `image_map_shape` = (rows, columns).
    warnings: what was odd about the post, e.g. `text truncated`.
    """

    id: str
    source: str
    created_at: datetime
    ingested_at: datetime
    scored_at: datetime
    predicted: Label
    probabilities: Distribution
    confidence: float
    model: str
    schema: int = SCHEMA_VERSION
    revision: int = 0
    text_probabilities: Distribution | None = None
    image_probabilities: Distribution | None = None
    abstained: bool = False
    text: str = ""
    lang: str | None = None
    author: str | None = None
    reach: int | None = None
    url: str | None = None
    sensitive: bool = False
    images: int = 0
    strongest_image: int = 0
    image_hashes: tuple[bytes, ...] = ()
    alt: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    label: Label | None = None
    token_map: tuple[tuple[int, int, int], ...] = ()
    image_map: bytes = b""
    image_map_shape: tuple[int, int] = (0, 0)
    warnings: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """Net sentiment in [-1, 1]: P(positive) - P(negative)."""
        return self.probabilities[0] - self.probabilities[2]

    @property
    def disagrees(self) -> bool:
        """Text alone and image alone call different classes."""
        if self.text_probabilities is None or self.image_probabilities is None:
            return False
        return most_likely(self.text_probabilities) != most_likely(self.image_probabilities)


def most_likely(probabilities: Distribution) -> Label:
    """The class of largest probability; the first in LABELS order on a tie."""
    return LABELS[max(range(len(LABELS)), key=probabilities.__getitem__)]


class Counters(NamedTuple):
    """What a set of posts adds up to: integers only, so that addition and subtraction are exact.

    `*_sum` fields are in units of 1 / FIXED_POINT. New fields go at the end; shorter packed values read as zeros there.
    """

    posts: int = 0
    positive: int = 0
    neutral: int = 0
    negative: int = 0
    abstained: int = 0
    with_text: int = 0
    with_image: int = 0
    disagreements: int = 0
    sensitive: int = 0
    labelled: int = 0
    correct: int = 0
    score_sum: int = 0
    score_square_sum: int = 0
    confidence_sum: int = 0
    text_score_sum: int = 0
    image_score_sum: int = 0

    @classmethod
    def of(cls, prediction: Prediction) -> Counters:
        """The share one post has in every rollup it enters."""
        score = round(prediction.score * FIXED_POINT)
        text, image = prediction.text_probabilities, prediction.image_probabilities
        return cls(
            posts=1,
            positive=int(prediction.predicted == "positive"),
            neutral=int(prediction.predicted == "neutral"),
            negative=int(prediction.predicted == "negative"),
            abstained=int(prediction.abstained),
            with_text=int(text is not None),
            with_image=int(image is not None),
            disagreements=int(prediction.disagrees),
            sensitive=int(prediction.sensitive),
            labelled=int(prediction.label is not None),
            correct=int(prediction.label == prediction.predicted),
            score_sum=score,
            score_square_sum=round(prediction.score**2 * FIXED_POINT),
            confidence_sum=round(prediction.confidence * FIXED_POINT),
            text_score_sum=round((text[0] - text[2]) * FIXED_POINT) if text else 0,
            image_score_sum=round((image[0] - image[2]) * FIXED_POINT) if image else 0,
        )

    @classmethod
    def unpack(cls, packed: bytes) -> Counters:
        """Packed value of a rollup field → counters."""
        return cls(*_counters_decoder.decode(packed)[: len(cls._fields)])

    def plus(self, other: Counters) -> Counters:
        return Counters(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def net_sentiment(self) -> float | None:
        """Mean of P(positive) - P(negative), in [-1, 1]; None without posts."""
        return self.score_sum / FIXED_POINT / self.posts if self.posts else None

    @property
    def mean_confidence(self) -> float | None:
        return self.confidence_sum / FIXED_POINT / self.posts if self.posts else None


_counters_decoder: msgspec.msgpack.Decoder[list[int]] = msgspec.msgpack.Decoder(list[int])


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What a namespace is: kind `live`, `sample` or `replay`; `shards` never changes once written."""

    shards: int
    kind: str = "live"
    source: str = ""
    model: str = ""
    created_at: datetime | None = None
    schema: int = SCHEMA_VERSION


BUCKET_S: Final[dict[Level, int]] = {"minute": 60, "hour": 3600, "day": 86_400}
SPAN_S: Final[dict[Level, int]] = {"minute": 3600, "hour": 86_400, "day": 32 * 86_400}
"""One hash holds a topic's buckets of one span: 60 minutes, 24 hours, 32 days (all far below listpack limits)."""


_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def check_namespace(namespace: str) -> str:
    """The namespace itself, or ValueError: it must do as part of a Kafka topic, a consumer group and a Redis key."""
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError(
            f"namespace {namespace!r}: use 1 to 63 lower-case letters, digits, '.', '_' or '-', letter or digit first"
        )
    return namespace


def shard_of(post_id: str, shards: int) -> int:
    return crc32(post_id.encode()) % shards


class Keys:
    """Redis keys of one shard of a namespace; `store.lua` builds the same names from `prefix`."""

    def __init__(self, namespace: str, shard: int) -> None:
        self.prefix = f"{{{namespace}:{shard}}}"

    def receipt(self, post_id: str) -> str:
        return f"{self.prefix}:receipt:{post_id}"

    def post(self, post_id: str) -> str:
        return f"{self.prefix}:post:{post_id}"

    def thumbnails(self, post_id: str) -> str:
        return f"{self.prefix}:thumbs:{post_id}"

    def rollup(self, level: Level, span: int, topic: str) -> str:
        """Hash of the buckets of one span; `span` counts spans of SPAN_S[level] since the epoch."""
        return f"{self.prefix}:{level}:{span}:{topic}"

    def tail(self, topic: str) -> str:
        return f"{self.prefix}:tail:{topic}"

    def author(self, author: str) -> str:
        """Sorted set of the ids of an author's posts that have a receipt or a dead letter, by when it was written."""
        return f"{self.prefix}:author:{author}"

    def forgotten(self, partition: int, author: str) -> str:
        """Where in a partition an author's last deletion stands: what comes of before it later on is refused."""
        return f"{self.prefix}:forgotten:{partition}:{author}"

    def letters(self, key: str) -> str:
        """Set of where the dead letters of a Kafka key stand in Kafka: their fields in the hash of dead letters."""
        return f"{self.prefix}:letters:{key}"

    def run(self, run: str) -> str:
        return f"{self.prefix}:run:{run}"

    @property
    def topics(self) -> str:
        return f"{self.prefix}:topics"

    @property
    def counters(self) -> str:
        return f"{self.prefix}:counters"

    @property
    def watermark(self) -> str:
        return f"{self.prefix}:watermark"

    @property
    def results(self) -> str:
        return f"{self.prefix}:results"

    @property
    def dead_letters(self) -> str:
        return f"{self.prefix}:dead-letters"


def meta_key(namespace: str) -> str:
    return f"{{{namespace}}}:meta"


def worker_key(namespace: str, worker: str) -> str:
    return f"{{{namespace}}}:worker:{worker}"


def workers_key(namespace: str) -> str:
    """Set of worker names; each one's state expires by itself."""
    return f"{{{namespace}}}:workers"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record no worker could score, as mirrored in Redis; the bytes themselves are in the dead-letters topic."""

    partition: int
    offset: int
    error: str
    key: str | None
    size: int
    failed_at: datetime


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's own account of itself, renewed every few seconds and gone soon after it dies.

    Latencies are of the last minute: from ingest to Redis, in milliseconds.
    """

    name: str
    model: str
    engine: str
    started_at: datetime
    updated_at: datetime
    posts_per_s: float = 0.0
    latency_p50_ms: float = 0.0
    latency_p95_ms: float = 0.0
    latency_p99_ms: float = 0.0
    batch_size_mean: float = 0.0
    pad_waste: float = 0.0
    queue_age_ms: float = 0.0
    engine_busy_share: float = 0.0
    lag: int | None = None


class Results:
    """Reads one namespace's results; all methods are single pipelines. `redis` must not decode responses."""

    def __init__(self, redis: Redis, namespace: str) -> None:
        self.redis: Any = redis  # redis-py types every reply as bytes or str
        self.namespace = check_namespace(namespace)
        self._shards: list[Keys] | None = None

    def meta(self) -> Meta:
        """Raises UnknownNamespace if nothing was ever written, NewerResults if a newer version wrote it."""
        packed = self.redis.get(meta_key(self.namespace))
        if packed is None:
            raise UnknownNamespace(f"namespace {self.namespace!r} has no results yet: start a worker for it")
        meta = msgspec.msgpack.decode(packed, type=Meta)
        if meta.schema > SCHEMA_VERSION:
            raise NewerResults(
                f"namespace {self.namespace!r} has schema {meta.schema}, this reads up to {SCHEMA_VERSION}: upgrade"
            )
        return meta

    def shards(self) -> list[Keys]:
        if self._shards is None:
            self._shards = [Keys(self.namespace, shard) for shard in range(self.meta().shards)]
        return self._shards

    def topics(self) -> list[str]:
        """Names of all topics seen, `all` first."""
        pipeline = self.redis.pipeline(transaction=False)
        for keys in self.shards():
            pipeline.smembers(keys.topics)
        names = {name.decode() for members in pipeline.execute() for name in members}
        return sorted(names, key=lambda name: (name != ALL, name))

    def watermark(self) -> datetime | None:
        """The namespace's clock: the latest event time scored; None before the first post."""
        pipeline = self.redis.pipeline(transaction=False)
        for keys in self.shards():
            pipeline.get(keys.watermark)
        times = [int(value) for value in pipeline.execute() if value is not None]
        return datetime.fromtimestamp(max(times) / 1000, UTC) if times else None

    def rollups(
        self, topics: Sequence[str], level: Level, start: datetime, end: datetime
    ) -> dict[str, dict[datetime, Counters]]:
        """Counters per topic and bucket start, buckets with start <= bucket < end; empty buckets are absent."""
        first, last = int(start.timestamp()), max(int(start.timestamp()), int(end.timestamp()) - 1)
        spans = range(first // SPAN_S[level], last // SPAN_S[level] + 1)
        asked = [(topic, span, keys) for topic in topics for span in spans for keys in self.shards()]
        pipeline = self.redis.pipeline(transaction=False)
        for topic, span, keys in asked:
            pipeline.hgetall(keys.rollup(level, span, topic))
        found: dict[str, dict[datetime, Counters]] = {topic: {} for topic in topics}
        for (topic, span, _), buckets in zip(asked, pipeline.execute(), strict=True):
            for field, packed in buckets.items():
                begin = span * SPAN_S[level] + int(field) * BUCKET_S[level]
                if first - first % BUCKET_S[level] <= begin <= last:
                    at = datetime.fromtimestamp(begin, UTC)
                    counters, of_other_shards = Counters.unpack(packed), found[topic].get(at)
                    found[topic][at] = of_other_shards.plus(counters) if of_other_shards else counters
        return found

    def total(self, topic: str = ALL) -> Counters:
        """Sum of all day rollups of a topic."""
        pipeline = self.redis.pipeline(transaction=False)
        for keys in self.shards():
            pattern = _glob_escape(keys.prefix) + ":day:*:" + _glob_escape(topic)
            for key in self.redis.scan_iter(match=pattern, count=1000):
                pipeline.hvals(key)
        total = Counters()
        for values in pipeline.execute():
            for packed in values:
                total = total.plus(Counters.unpack(packed))
        return total

    def tail(self, *topics: str, limit: int = TAIL_SHOWN) -> list[Prediction]:
        """The latest posts by event time, newest first: of the topics named, each post once; of `all` by default."""
        asked = [(keys, topic) for keys in self.shards() for topic in topics or (ALL,)]
        pipeline = self.redis.pipeline(transaction=False)
        for keys, topic in asked:
            pipeline.zrange(keys.tail(topic), 0, limit - 1, desc=True, withscores=True)
        found = {
            (score, post_id.decode()): keys
            for (keys, _), entries in zip(asked, pipeline.execute(), strict=True)
            for post_id, score in entries
        }
        newest = sorted(found, reverse=True)[:limit]
        pipeline = self.redis.pipeline(transaction=False)
        for score, post_id in newest:
            pipeline.get(found[score, post_id].post(post_id))
        return [decode_prediction(packed) for packed in pipeline.execute() if packed is not None]

    def prediction(self, post_id: str) -> Prediction | None:
        """What is known of one post, while it is retained."""
        packed = self.redis.get(self._keys_of(post_id).post(post_id))
        return decode_prediction(packed) if packed is not None else None

    def thumbnails(self, posts: Iterable[tuple[str, int]]) -> list[bytes | None]:
        """JPEG bytes per (post id, image index), None where none is retained."""
        pipeline = self.redis.pipeline(transaction=False)
        for post_id, index in posts:
            pipeline.hget(self._keys_of(post_id).thumbnails(post_id), str(index))
        return list(pipeline.execute())

    def counters(self, run: str | None = None) -> dict[str, int]:
        """What happened to the records: `scored`, `duplicates`, `stale`, `edits`, `deletions`, `dead_letters`.

        Of the whole namespace, or of one ingest run. Each record is in exactly one of these; beside them stand
        `redelivered` (records counted before), `forgotten` (posts taken out by deletions of their authors) and `unseen`
        (deletions whose post has no receipt: never kept, or past its retention and no longer to be subtracted).
        """
        pipeline = self.redis.pipeline(transaction=False)
        for keys in self.shards():
            pipeline.hgetall(keys.counters if run is None else keys.run(run))
        sums: dict[str, int] = {}
        for counts in pipeline.execute():
            for field, value in counts.items():
                sums[field.decode()] = sums.get(field.decode(), 0) + int(value)
        return sums

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The newest dead letters."""
        pipeline = self.redis.pipeline(transaction=False)
        for keys in self.shards():
            pipeline.hvals(keys.dead_letters)
        letters = [
            msgspec.msgpack.decode(packed, type=DeadLetter) for values in pipeline.execute() for packed in values
        ]
        return sorted(letters, key=lambda letter: letter.failed_at, reverse=True)[:limit]

    def workers(self) -> list[WorkerState]:
        """The workers alive now."""
        names = [name.decode() for name in self.redis.smembers(workers_key(self.namespace))]
        pipeline = self.redis.pipeline(transaction=False)
        for name in sorted(names):
            pipeline.get(worker_key(self.namespace, name))
        return [msgspec.msgpack.decode(packed, type=WorkerState) for packed in pipeline.execute() if packed is not None]

    def drain_results(self, *, batch: int = 1000) -> Iterator[Prediction]:
        """Takes the results stream's entries out, in order of scoring per shard, until it is empty."""
        for keys in self.shards():
            while entries := self.redis.xrange(keys.results, count=batch):
                yield from (decode_prediction(fields[b"p"]) for _, fields in entries)
                self.redis.xdel(keys.results, *(entry_id for entry_id, _ in entries))

    def _keys_of(self, post_id: str) -> Keys:
        shards = self.shards()
        return shards[shard_of(post_id, len(shards))]


_prediction_encoder = msgspec.msgpack.Encoder()
_prediction_decoder = msgspec.msgpack.Decoder(Prediction)


def encode_prediction(prediction: Prediction) -> bytes:
    return _prediction_encoder.encode(prediction)


def decode_prediction(packed: bytes) -> Prediction:
    """Raises NewerResults if a newer Moodstream wrote it."""
    prediction = _prediction_decoder.decode(packed)
    if prediction.schema > SCHEMA_VERSION:
        raise NewerResults(f"prediction of {prediction.id} has schema {prediction.schema}: upgrade this reader")
    return prediction


def _glob_escape(text: str) -> str:
    return re.sub(r"([*?\[\]\\^])", r"\\\1", text)
