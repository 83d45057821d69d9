"""What people may change of a scored post: the class it counts as, and its topics. Everything else is the worker's.

A change is one call of `store.lua`: rollups, lists, receipt and post move together, or not at all if somebody was
quicker. Nothing lives any longer for it, and taking a correction back leaves every rollup as it was, to the bit.
Readers import this module beside `contract.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from inference_worker.contract import (
    ALL,
    Counters,
    Prediction,
    Results,
    decode_prediction,
    encode_prediction,
)
from inference_worker.script import FIRST_BLOB, SCRIPT, arguments, named
from ingest.contract import Label

TRIES: Final = 20
"""So often a change is computed anew because the post was changed meanwhile."""


class NotRetained(LookupError):
    """The post is unknown, deleted, or past its retention."""


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """One step of what people said of a post. label None takes the step before back.

    revision: of the post as it was judged; predicted, confidence: what the model had said; by: who said it.
    """

    post_id: str
    revision: int
    label: Label | None
    predicted: Label
    confidence: float
    by: str
    at: datetime


_decoder = msgspec.msgpack.Decoder(Correction)


def relabel(results: Results, post_id: str, label: Label | None, *, by: str, at: datetime) -> Correction:
    """Lets a post count as `label`; None takes it back. Returns what was noted.

    Raises NotRetained if there is no such post.
    """
    for _ in range(TRIES):
        packed, prediction = _read(results, post_id)
        correction = Correction(
            post_id=post_id,
            revision=prediction.revision,
            label=label,
            predicted=prediction.predicted,
            confidence=prediction.confidence,
            by=by,
            at=at,
        )
        changed = msgspec.structs.replace(prediction, correction=label)
        if _amend(results, packed, changed, msgspec.msgpack.encode(correction)):
            return correction
    raise RuntimeError(f"post {post_id} changed {TRIES} times while it was relabelled to {label}: try again")


def retag(results: Results, post_id: str, topics: Iterable[str]) -> bool:
    """Moves a post to these topics (and `all`); False if it is no longer retained or already there."""
    wanted = tuple(dict.fromkeys(topic for topic in topics if topic != ALL))
    for _ in range(TRIES):
        try:
            packed, prediction = _read(results, post_id)
        except NotRetained:
            return False
        if prediction.topics == wanted:
            return False
        if _amend(results, packed, msgspec.structs.replace(prediction, topics=wanted), None):
            return True
    raise RuntimeError(f"post {post_id} changed {TRIES} times while it was moved to topics {wanted}: try again")


def corrections(results: Results) -> list[Correction]:
    """Every step people took, oldest first; of posts not deleted since."""
    pipeline = results.redis.pipeline(transaction=False)
    for keys in results.shards():
        pipeline.smembers(keys.corrected)
    post_ids = [post_id.decode() for members in pipeline.execute() for post_id in members]
    for post_id in post_ids:
        pipeline.lrange(results.keys_of(post_id).corrections(post_id), 0, -1)
    steps = [_decoder.decode(packed) for of_post in pipeline.execute() for packed in of_post]
    return sorted(steps, key=lambda step: step.at)


def steps_of(results: Results, post_id: str) -> list[Correction]:
    """Every step people took of one post, oldest first."""
    packed = results.redis.lrange(results.keys_of(post_id).corrections(post_id), 0, -1)
    return [_decoder.decode(step) for step in packed]


def _read(results: Results, post_id: str) -> tuple[bytes, Prediction]:
    packed = results.redis.get(results.keys_of(post_id).post(post_id))
    if packed is None:
        raise NotRetained(f"post {post_id} is unknown, deleted or past its retention: it cannot be changed any more")
    return packed, decode_prediction(packed)


def _amend(results: Results, before: bytes, after: Prediction, correction: bytes | None) -> bool:
    """False if the post no longer reads as `before`, or lost its receipt."""
    keys = results.keys_of(after.id)
    blobs = [before, encode_prediction(after), *([correction] if correction is not None else [])]
    entry = (
        6,
        after.id,
        Counters.of(after),
        (ALL, *after.topics),
        FIRST_BLOB,
        FIRST_BLOB + 1,
        FIRST_BLOB + 2 if correction is not None else None,
    )
    (outcome,) = results.redis.register_script(SCRIPT)(keys=named(keys), args=arguments(keys, [entry], blobs))
    return bool(outcome == b"amended")
