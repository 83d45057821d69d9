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
EMBEDDING_SIZE: Final = 32
MAX_LETTER_BYTES: Final = 4 << 20
"""A dead letter is larger than its record by its headers; by default clients and topics take 1 MB of either."""
CUT_HEADER: Final = "cut"
"""Kafka header of a dead letter whose record was too large for the topic, and is not in it: how many bytes it had."""
HOUR_S: Final = 3600
RECEIPT_FIELDS: Final = 8
"""A receipt has at least so many; a tombstone has fewer."""

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
    lang: of the post, as its words or its source tell it (see `languages.py`); foreign: it is a language the model was
    not trained for, and the post is always abstained on.
    correction: the class a person gave it instead (see `amendments.py`).
    queued_ms, computed_ms: how long the post waited for the engine, and how long the engine took for its batch; None
    where nobody took the time.
    embedding: EMBEDDING_SIZE signed bytes, a direction in the model's own feature space; alike posts point alike.
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
    foreign: bool = False
    correction: Label | None = None
    embedding: bytes = b""
    queued_ms: int | None = None
    computed_ms: int | None = None

    @property
    def mood(self) -> Label:
        """The class the post counts as: a person's word over the model's."""
        return self.correction or self.predicted

    @property
    def score(self) -> float:
        """Net sentiment in [-1, 1]: P(positive) - P(negative), or what a person's class says for certain."""
        if self.correction is not None:
            return float((self.correction == "positive") - (self.correction == "negative"))
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

    posts were scored, shed were not; what follows posts is of those. `*_sum` fields are in units of 1 / FIXED_POINT.
    New fields go at the end; shorter packed values read as zeros there.
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
    foreign: int = 0
    corrected: int = 0
    shed: int = 0

    @classmethod
    def of(cls, prediction: Prediction) -> Counters:
        """The share one post has in every rollup it enters."""
        score = prediction.score
        mood, truth = prediction.mood, prediction.correction or prediction.label
        text, image = prediction.text_probabilities, prediction.image_probabilities
        return cls(
            posts=1,
            positive=int(mood == "positive"),
            neutral=int(mood == "neutral"),
            negative=int(mood == "negative"),
            abstained=int(prediction.abstained),
            with_text=int(text is not None),
            with_image=int(image is not None),
            disagreements=int(prediction.disagrees),
            sensitive=int(prediction.sensitive),
            labelled=int(truth is not None),
            correct=int(truth == prediction.predicted),
            score_sum=round(score * FIXED_POINT),
            score_square_sum=round(score**2 * FIXED_POINT),
            confidence_sum=round(prediction.confidence * FIXED_POINT),
            text_score_sum=round((text[0] - text[2]) * FIXED_POINT) if text else 0,
            image_score_sum=round((image[0] - image[2]) * FIXED_POINT) if image else 0,
            foreign=int(prediction.foreign),
            corrected=int(prediction.correction is not None),
        )

    @classmethod
    def unpack(cls, packed: bytes) -> Counters:
        """Packed value of a rollup field → counters."""
        return cls(*_counters_decoder.decode(packed)[: len(cls._fields)])

    def plus(self, other: Counters) -> Counters:
        return Counters(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def volume(self) -> int:
        """Posts that came, scored or not."""
        return self.posts + self.shed

    @property
    def net_sentiment(self) -> float | None:
        """Mean of P(positive) - P(negative), in [-1, 1]; None without posts."""
        return self.score_sum / FIXED_POINT / self.posts if self.posts else None

    @property
    def mean_confidence(self) -> float | None:
        return self.confidence_sum / FIXED_POINT / self.posts if self.posts else None


def without_zeros(share: tuple[int, ...]) -> tuple[int, ...]:
    """Counters as they are packed: without the zeros at their end, which readers supply."""
    length = len(share)
    while length and not share[length - 1]:
        length -= 1
    return share[:length]


_counters_decoder: msgspec.msgpack.Decoder[list[int]] = msgspec.msgpack.Decoder(list[int])


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What a namespace is: kind `live`, `sample` or `replay`; `shards` never changes once written.

    shadowed: of a shadow's, the namespace whose posts it scores.
    """

    shards: int
    kind: str = "live"
    source: str = ""
    model: str = ""
    shadowed: str = ""
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
    return crc32(post_id.encode()) % shards if shards > 1 else 0


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

    def posts(self, hour: int, topic: str) -> str:
        """Sorted set of the ids of a topic's retained posts of one hour since the epoch, by event time."""
        return f"{self.prefix}:posts:{hour}:{topic}"

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
    def applied(self) -> str:
        """Hash of marks: by Kafka partition, up to which offset everything of it is applied (see `marks.py`)."""
        return f"{self.prefix}:applied"

    def calls(self, worker: str) -> str:
        """How many calls a worker has made of this shard."""
        return f"{self.prefix}:calls:{worker}"

    @property
    def never(self) -> str:
        """A key that is never there; see `script.named`."""
        return f"{self.prefix}:never"

    @property
    def watermark(self) -> str:
        return f"{self.prefix}:watermark"

    @property
    def results(self) -> str:
        return f"{self.prefix}:results"

    @property
    def dead_letters(self) -> str:
        """Hash of dead letters by their places; nothing is in a field whose letter was dropped, or its post deleted."""
        return f"{self.prefix}:dead-letters"

    def corrections(self, post_id: str) -> str:
        """List of what people said of a post, every step of it."""
        return f"{self.prefix}:corrections:{post_id}"

    @property
    def corrected(self) -> str:
        """Set of the ids of posts people said something of."""
        return f"{self.prefix}:corrected"


def name_of_letter(key: str | None, partition: int, offset: int) -> str:
    """Under what a dead letter is kept: its Kafka key, so that the deletion of its post finds it; else its place."""
    return key if key is not None else f"{partition}:{offset}"


def meta_key(namespace: str) -> str:
    return f"{{{namespace}}}:meta"


def worker_key(namespace: str, worker: str) -> str:
    return f"{{{namespace}}}:worker:{worker}"


def workers_key(namespace: str) -> str:
    """Set of worker names; each one's state expires by itself."""
    return f"{{{namespace}}}:workers"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A record no worker could score, as mirrored in Redis; the bytes themselves are in the dead-letters topic.

    partition, offset: where it stands in Kafka, or among its replay's. worker, engine: who gave it up; run: what it
    counts for. retried_at: when somebody sent it again, until that is settled; None if it failed anew.
    """

    partition: int
    offset: int
    error: str
    key: str | None
    size: int
    failed_at: datetime
    worker: str = ""
    engine: str = ""
    run: str = ""
    retried_at: datetime | None = None


class WorkerState(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's own account of itself, renewed every few seconds and gone soon after it dies.

    Latencies are of the last minute: from ingest to Redis, in milliseconds. known_pictures: share of the last minute's
    pictures whose features were remembered, None if there was no picture. behind_s: how long ago the oldest record that
    is read and not done was sent to Kafka; sample: share of the posts it scores now, see `shedding.py`.
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
    known_pictures: float | None = None
    behind_s: float = 0.0
    sample: float = 1.0


class Overview(NamedTuple):
    """The small facts of a namespace; see the methods of `Results` of the same names."""

    meta: Meta
    watermark: datetime | None
    topics: list[str]
    counters: dict[str, int]
    workers: list[WorkerState]


_FEW_HOURS: Final = 3
"""So many lists are read at once without asking first how many posts each hour has: a round trip less."""


class Results:
    """Reads one namespace's results; all methods are single pipelines. `redis` must not decode responses."""

    def __init__(self, redis: Redis, namespace: str) -> None:
        self.redis: Any = redis  # redis-py types every reply as bytes or str
        self.namespace = check_namespace(namespace)
        self._shards: list[Keys] | None = None

    def meta(self) -> Meta:
        """Raises UnknownNamespace if nothing was ever written, NewerResults if a newer version wrote it."""
        return self._meta_of(self.redis.get(meta_key(self.namespace)))

    def _meta_of(self, packed: bytes | None) -> Meta:
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

    def overview(self) -> Overview:
        """All small facts at once, as often as they are wanted: a round trip, and one more for the workers."""
        shards = self.shards()
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.get(meta_key(self.namespace))
        pipeline.smembers(workers_key(self.namespace))
        for keys in shards:
            pipeline.get(keys.watermark)
        for keys in shards:
            pipeline.smembers(keys.topics)
        for keys in shards:
            pipeline.hgetall(keys.counters)
        packed, workers, *rest = pipeline.execute()
        times, topics, counts = (rest[part * len(shards) : (part + 1) * len(shards)] for part in range(3))
        return Overview(
            meta=self._meta_of(packed),
            watermark=_latest(times),
            topics=_names(topics),
            counters=_summed(counts),
            workers=self._workers(workers),
        )

    def topics(self) -> list[str]:
        """Names of all topics seen, `all` first."""
        pipeline = self.redis.pipeline(transaction=False)
        for keys in self.shards():
            pipeline.smembers(keys.topics)
        return _names(pipeline.execute())

    def watermark(self) -> datetime | None:
        """The namespace's clock: the latest event time scored; None before the first post."""
        pipeline = self.redis.pipeline(transaction=False)
        for keys in self.shards():
            pipeline.get(keys.watermark)
        return _latest(pipeline.execute())

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
        return self._read(found[score, post_id].post(post_id) for score, post_id in newest)

    def posts(self, topic: str, start: datetime, end: datetime, *, limit: int) -> list[Prediction]:
        """The newest retained posts of a topic with start <= event time < end, newest first."""
        hours = self._hours(topic, start, end, limit)
        first_ms, last_ms = int(start.timestamp() * 1000), f"({int(end.timestamp() * 1000)}"
        asked = [(keys, hour) for hour in hours for keys in self.shards()]
        pipeline = self.redis.pipeline(transaction=False)
        for keys, hour in asked:
            pipeline.zrange(
                keys.posts(hour, topic),
                last_ms,
                first_ms,
                desc=True,
                byscore=True,
                offset=0,
                num=limit,
                withscores=True,
            )
        found = sorted(
            (
                (score, post_id.decode(), keys)
                for (keys, _), entries in zip(asked, pipeline.execute(), strict=True)
                for post_id, score in entries
            ),
            key=lambda entry: entry[:2],
            reverse=True,
        )
        return self._read(keys.post(post_id) for _, post_id, keys in found[:limit])

    def _hours(self, topic: str, start: datetime, end: datetime, limit: int) -> list[int]:
        """Hours since the epoch of the newest `limit` posts in the range, and of some more."""
        first, last = (int(at.timestamp()) // HOUR_S for at in (start, end))
        if last - first < _FEW_HOURS:
            return list(range(last, first - 1, -1))
        found: list[int] = []
        counted = 0
        buckets = self.rollups([topic], "hour", start, end)[topic]
        for at, counters in sorted(buckets.items(), reverse=True):
            found.append(int(at.timestamp()) // HOUR_S)
            # The newest hour lies only partly in the range: its posts may all come after it.
            counted += counters.posts if len(found) > 1 else 0
            if counted >= limit:
                break
        return found

    def _read(self, keys: Iterable[str]) -> list[Prediction]:
        """The predictions under these keys, but for those no longer retained."""
        pipeline = self.redis.pipeline(transaction=False)
        for key in keys:
            pipeline.get(key)
        return [decode_prediction(packed) for packed in pipeline.execute() if packed is not None]

    def prediction(self, post_id: str) -> Prediction | None:
        """What is known of one post, while it is retained."""
        packed = self.redis.get(self.keys_of(post_id).post(post_id))
        return decode_prediction(packed) if packed is not None else None

    def predictions(self, post_ids: Iterable[str]) -> list[Prediction]:
        """What is known of several posts, but for those no longer retained, in one round trip."""
        return self._read(self.keys_of(post_id).post(post_id) for post_id in post_ids)

    def thumbnails(self, posts: Iterable[tuple[str, int]]) -> list[bytes | None]:
        """JPEG bytes per (post id, image index), None where none is retained."""
        pipeline = self.redis.pipeline(transaction=False)
        for post_id, index in posts:
            pipeline.hget(self.keys_of(post_id).thumbnails(post_id), str(index))
        return list(pipeline.execute())

    def counters(self, run: str | None = None) -> dict[str, int]:
        """What happened to the records: `scored`, `duplicates`, `stale`, `edits`, `deletions`, `dead_letters`, `shed`.

        Of the whole namespace, or of one ingest run. Each record is in exactly one of these (an edit of a post that was
        `shed`, counted without having been scored, is `scored`); beside them stand
        `redelivered` (records counted before), `forgotten` (posts taken out by deletions of their authors), `unseen`
        (deletions whose post has no receipt: never kept, or past its retention and no longer to be subtracted),
        `retried` and `dropped` (what people did with dead letters; one that is scored in the end counts as `scored`),
        and `gap` (records that are not in these results and no longer in Kafka).
        """
        pipeline = self.redis.pipeline(transaction=False)
        for keys in self.shards():
            pipeline.hgetall(keys.counters if run is None else keys.run(run))
        return _summed(pipeline.execute())

    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """The newest dead letters."""
        return list(self.dead_letters_by_place().values())[:limit]

    def dead_letters_by_place(self) -> dict[str, DeadLetter]:
        """All dead letters, the newest first, under their places: `partition:offset:timestamp in ms`."""
        pipeline = self.redis.pipeline(transaction=False)
        for keys in self.shards():
            pipeline.hgetall(keys.dead_letters)
        letters = [
            (place.decode(), msgspec.msgpack.decode(packed, type=DeadLetter))
            for found in pipeline.execute()
            for place, packed in found.items()
            if packed  # else it was dropped, or its post deleted
        ]
        return dict(sorted(letters, key=lambda letter: letter[1].failed_at, reverse=True))

    def workers(self) -> list[WorkerState]:
        """The workers alive now."""
        return self._workers(self.redis.smembers(workers_key(self.namespace)))

    def _workers(self, names: Iterable[bytes]) -> list[WorkerState]:
        pipeline = self.redis.pipeline(transaction=False)
        for name in sorted(name.decode() for name in names):
            pipeline.get(worker_key(self.namespace, name))
        return [msgspec.msgpack.decode(packed, type=WorkerState) for packed in pipeline.execute() if packed is not None]

    def drain_results(self, *, batch: int = 1000) -> Iterator[Prediction]:
        """Takes the results stream's entries out, in order of scoring per shard, until it is empty."""
        for keys in self.shards():
            while entries := self.redis.xrange(keys.results, count=batch):
                yield from (decode_prediction(fields[b"p"]) for _, fields in entries)
                self.redis.xdel(keys.results, *(entry_id for entry_id, _ in entries))

    def read_results(self, shard: int, count: int) -> list[tuple[str, Prediction]]:
        """The oldest entries of a shard's results stream with their ids, which stay there until `trim_results`."""
        entries = self.redis.xrange(self.shards()[shard].results, count=count)
        return [(entry_id.decode(), decode_prediction(fields[b"p"])) for entry_id, fields in entries]

    def waiting_results(self, shard: int) -> int:
        """How many entries a shard's results stream has."""
        return int(self.redis.xlen(self.shards()[shard].results))

    def trim_results(self, shard: int, last_id: str) -> None:
        """Takes the entries of a shard's results stream up to and with this one out."""
        milliseconds, number = map(int, last_id.split("-"))
        self.redis.xtrim(self.shards()[shard].results, minid=f"{milliseconds}-{number + 1}", approximate=False)

    def withdrawn(self, post_ids: Sequence[str]) -> set[str]:
        """Those of the posts that were deleted: what is left of their receipt is a tombstone."""
        pipeline = self.redis.pipeline(transaction=False)
        for post_id in post_ids:
            pipeline.get(self.keys_of(post_id).receipt(post_id))
        receipts = zip(post_ids, pipeline.execute(), strict=True)
        return {
            post_id for post_id, packed in receipts if packed and len(msgspec.msgpack.decode(packed)) < RECEIPT_FIELDS
        }

    def keys_of(self, post_id: str) -> Keys:
        """The keys of a post's shard."""
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


def _latest(times: Iterable[bytes | None]) -> datetime | None:
    """Watermarks of the shards → the namespace's clock."""
    known = [int(value) for value in times if value is not None]
    return datetime.fromtimestamp(max(known) / 1000, UTC) if known else None


def _names(members: Iterable[Iterable[bytes]]) -> list[str]:
    """Topics of the shards → their names, `all` first."""
    names = {name.decode() for of_shard in members for name in of_shard}
    return sorted(names, key=lambda name: (name != ALL, name))


def _summed(counts: Iterable[dict[bytes, bytes]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for of_shard in counts:
        for field, value in of_shard.items():
            sums[field.decode()] = sums.get(field.decode(), 0) + int(value)
    return sums


def _glob_escape(text: str) -> str:
    return re.sub(r"([*?\[\]\\^])", r"\\\1", text)
