from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dashboard.evaluation.feed import BadPredictions, read_feed, read_texts
from tests.dashboard.evaluation.feeds import NOON, feed_of, prediction, write


def test_rows_come_by_event_time_and_ties_by_id(tmp_path: Path) -> None:
    rows = [prediction(3, at=NOON), prediction(1, at=NOON + timedelta(seconds=1)), prediction(2, at=NOON)]
    feed = feed_of(tmp_path, rows)
    assert feed.ids.to_pylist() == ["csv:2", "csv:3", "csv:1"]
    assert feed.rows.tolist() == [2, 0, 1]


def test_only_the_last_revision_of_a_post_counts(tmp_path: Path) -> None:
    rows = [
        prediction(1, "negative", revision=1),
        prediction(2, "neutral"),
        prediction(1, "positive", revision=0),
    ]
    feed = feed_of(tmp_path, rows)
    assert feed.ids.to_pylist() == ["csv:1", "csv:2"]
    assert feed.predicted.tolist() == [2, 1]


def test_texts_turn_into_traits(tmp_path: Path) -> None:
    texts = ["RT @someone so good 😀", "late again #trams", "# 5 euros", ""]
    feed = feed_of(tmp_path, [prediction(number, text=text) for number, text in enumerate(texts)])
    assert feed.is_retweet.tolist() == [True, False, False, False]
    assert feed.has_emoji.tolist() == [True, False, False, False]
    assert feed.has_hashtag.tolist() == [False, True, False, False]
    assert feed.length.tolist() == [21, 17, 9, 0]


def test_embeddings_come_as_rows_of_signed_bytes_and_zeros_where_there_is_none(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, [prediction(1, embedding=bytes([255, 2] + [0] * 30)), prediction(2)])
    assert feed.embeddings[:, :3].tolist() == [[-1, 2, 0], [0, 0, 0]]


def test_texts_are_read_in_the_order_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, [prediction(number) for number in range(12_000)])
    assert read_texts(path, np.array([11_999, 0, 7_000])) == ["post 11999", "post 0", "post 7000"]


def test_order_of_the_file_does_not_matter(tmp_path: Path) -> None:
    rows = [prediction(number, label="neutral", confidence=0.5 + number / 1000) for number in range(200)]
    ordered = feed_of(tmp_path, rows)
    random.Random(1).shuffle(rows)
    shuffled = feed_of(tmp_path, rows)
    assert ordered.ids.equals(shuffled.ids)
    assert np.array_equal(ordered.confidence, shuffled.confidence)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    path.write_bytes(b"id,label\n")
    with pytest.raises(BadPredictions, match="cannot be read.*name the predictions.parquet of a replay"):
        read_feed(path)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions.parquet"
    pq.write_table(pq.read_table(write(tmp_path, [prediction(1)], "whole.parquet")).drop_columns(["lang"]), path)
    with pytest.raises(BadPredictions, match="lacks the columns lang: replay the archive again"):
        read_feed(path)


def test_an_empty_file_is_an_empty_feed(tmp_path: Path) -> None:
    feed = feed_of(tmp_path, [])
    assert len(feed) == 0
    assert feed.embeddings.shape == (0, 32)
    assert isinstance(feed.ids, pa.ChunkedArray)
