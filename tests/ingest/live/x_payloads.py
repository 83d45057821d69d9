"""Made-up messages in the shape of X API v2."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from ingest.sources.times import SNOWFLAKE_EPOCH_MS
from tests.ingest.live.upstream import text_of, time_of

AUTHOR: Final = "2244994945"
MALFORMED: Final = (
    b"no json at all",
    b'{"data": {"id": "17", "text": ',
    b'{"data": {"id": "../../etc", "text": "an id that is none"}}',
    b'{"data": {"id": "1796225000000000000", "text": 17}}',
    b'{"data": {"id": "1796225000000000000", "text": "\xff\xfe"}}',
    b'["data"]',
    b'{"data": null}',
    b"{}",
)


def snowflake(at: datetime, number: int = 0) -> str:
    """A tweet id of that time."""
    return str((int(at.timestamp() * 1000) - SNOWFLAKE_EPOCH_MS) << 22 | number)


def id_of(number: int, edit: int = 0) -> str:
    return snowflake(time_of(number) + timedelta(minutes=edit), number)


def post_of(number: int, *, edit: int = 0, pictures: int = 0, **changes: Any) -> dict[str, Any]:
    """One message of the stream, with all that is asked for."""
    keys = [f"3_{number}{picture}" for picture in range(pictures)]
    data = {
        "id": id_of(number, edit),
        "text": text_of(number, edit),
        "author_id": AUTHOR,
        "created_at": f"{time_of(number) + timedelta(minutes=edit):%Y-%m-%dT%H:%M:%S}.000Z",
        "lang": "de",
        "possibly_sensitive": False,
        "edit_history_tweet_ids": [id_of(number, version) for version in range(edit + 1)],
        "attachments": {"media_keys": keys},
    }
    media = [
        {
            "media_key": key,
            "type": "photo",
            "url": f"https://pbs.twimg.com/media/{key}.jpg",
            "width": 1200,
            "height": 900,
        }
        for key in keys
    ]
    users = [{"id": AUTHOR, "username": "somebody", "public_metrics": {"followers_count": 512}}]
    return {
        "data": data | changes,
        "includes": {"users": users, "media": media},
        "matching_rules": [{"id": "1166916266197536768", "tag": "moodstream:Line 9"}],
    }
