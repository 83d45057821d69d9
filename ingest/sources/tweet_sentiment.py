r"""SemEval-2017 task 4A tweets as one Parquet file: id, split, text, label, created_at_ms; text only, three classes.

The corpus wrote a comma of one tweet in nine as \u002c and a quote as \"": that is undone, as training undoes it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from ingest.contract import Post
from ingest.sources.data_set import START, Row, SplitParquet
from ingest.sources.items import Draft, Item, label_of
from ingest.sources.times import EventTime, event_time

ROWS_PER_CHUNK: Final = 1000
NO_TIME: Final = "no time in the row: such posts stand one second apart"
COLUMNS: Final = frozenset({"id", "split", "text", "label", "created_at_ms"})
_ESCAPE: Final = re.compile(r"\\u([0-9a-fA-F]{4})")


class TweetSentiment(SplitParquet):
    format = "tweet sentiment, Parquet"
    columns = COLUMNS
    rows_per_chunk = ROWS_PER_CHUNK

    def item(self, row: Row) -> Item:
        values = row.values
        native_id = str(values["id"])
        created = values["created_at_ms"]
        found = event_time(native_id, str(created) if created is not None else None)
        if found is None:  # the validation split comes without the tweets' ids
            found = EventTime(START + timedelta(seconds=row.number), NO_TIME)
        post = Post(
            id=f"x:{native_id}",
            source="x",
            created_at=found.at,
            ingested_at=datetime.now(UTC),
            text=unescape(values["text"] or ""),
            label=label_of(values["label"] or ""),
        )
        return Draft(post=post, warnings=(found.warning,) if found.warning else ())


def unescape(text: str) -> str:
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text).replace('\\""', '"')
    # Two escapes may be one emoji; half of one is no text.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
