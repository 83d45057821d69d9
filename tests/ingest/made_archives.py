"""Small archives of every line format, written for the tests, and the containers people keep them in."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import zstandard


def lines(*objects: Any) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in objects)


class Made(NamedTuple):
    """An archive, the options it needs, and what must come out: post ids, `-id` for deletions, `!reason` for skips."""

    data: bytes
    format: str
    out: list[str]
    options: Mapping[str, Any] = {}


X_ID, OTHER_X_ID = "1550000000000000000", "1550000000000000001"
USER = {"id": "7", "username": "ann", "public_metrics": {"followers_count": 12}}
MEDIA = {"media_key": "3_1", "type": "photo", "url": "https://pbs.twimg.com/media/a.jpg"}
X_POST = {
    "id": X_ID,
    "text": "a tram &amp; a bus",
    "author_id": "7",
    "lang": "en",
    "created_at": "2022-07-21T06:00:00.000Z",
    "attachments": {"media_keys": ["3_1"]},
}
X_V2 = lines(
    {"data": [X_POST], "includes": {"users": [USER], "media": [MEDIA]}, "__twarc": {"version": "2.9"}},
    {"data": {**X_POST, "id": OTHER_X_ID}, "includes": {"users": [USER]}, "matching_rules": [{"id": "1"}]},
    {**X_POST, "id": "1550000000000000002", "author": USER, "attachments": {"media_keys": ["3_1"], "media": [MEDIA]}},
    {"errors": [{"title": "Not Found"}]},
)
TWEET = {
    "id": 210462857140252672,
    "id_str": "210462857140252672",
    "created_at": "Wed Jun 06 20:07:10 +0000 2012",
    "text": "a long tweet that is cut…",
    "extended_tweet": {"full_text": "a long tweet that is whole", "entities": {"media": [{"type": "photo"}]}},
    "user": {"id_str": "7", "screen_name": "ann", "followers_count": 12},
    "lang": "en",
}
RETWEET = {
    **TWEET,
    "id_str": "210462857140252673",
    "retweeted_status": {**TWEET, "extended_tweet": None, "full_text": "all of it"},
}
DELETE = {"delete": {"status": {"id_str": "210462857140252672", "user_id_str": "7"}, "timestamp_ms": "1339013230000"}}
X_V1 = lines(DELETE, TWEET, {"limit": {"track": 5}}, RETWEET, {"scrub_geo": {"user_id": 7, "up_to_status_id": 9}})
DID = "did:plc:abcdefghijklmnopqrstuvwx"
RECORD = {"$type": "app.bsky.feed.post", "text": "a tram", "createdAt": "2024-09-09T19:46:02.102Z", "langs": ["en"]}
COMMIT = {"operation": "create", "collection": "app.bsky.feed.post", "rkey": "3l3qo2vutsw2b", "rev": "3l3qo2vuowo2b"}
JETSTREAM_1 = lines(
    {"did": DID, "time_us": 1725911162329308, "kind": "identity"},
    {"did": DID, "time_us": 1725911162329309, "kind": "commit", "commit": {**COMMIT, "record": RECORD}},
    {"did": DID, "time_us": 1725911162329310, "kind": "commit", "commit": {**COMMIT, "operation": "delete"}},
    {
        "did": DID,
        "time_us": 1725911162329311,
        "kind": "account",
        "account": {"active": False, "status": "deleted"},
    },
)
PAYLOAD = {"$type": "network.bsky.jetstream#commit", "seq": 5, "did": DID, "time": "2024-09-09T19:46:02.329Z"}
JETSTREAM_2 = lines(
    {"$type": "message", "payload": {**PAYLOAD, **COMMIT, "record": RECORD}},
    {"$type": "message", "payload": {"$type": "network.bsky.jetstream#info", "name": "OutdatedCursor"}},
)
STATUS = {
    "id": "113000000000000001",
    "created_at": "2024-08-21T10:00:00.000Z",
    "uri": "https://toot.example/users/ann/statuses/113000000000000001",
    "account": {"acct": "ann", "url": "https://toot.example/@ann"},
    "content": "<p>a tram</p>",
    "media_attachments": [{"type": "image", "preview_url": "https://toot.example/a.jpg"}],
}
SSE = (
    b":)\nevent: update\ndata: "
    + json.dumps(STATUS).encode()
    + b"\n\n:thump\nevent: notification\ndata: {}\n\nevent: delete\ndata: 113000000000000001\n\n"
    + b"event: delete\ndata: 999\n\nevent: status.update\ndata: {\n\n"
)
COLUMNS = {"text": "body", "created_at": "at", "label": "mood", "author": "who", "id": "nr"}
_OWN = {"type": "post", "schema": 1, "id": "x:1", "source": "x", "text": "a tram"}
_TIMES = {"created_at": "2026-05-04T12:00:30Z", "ingested_at": "2026-05-04T12:00:30Z"}

MADE: Final[dict[str, Made]] = {
    "x v2": Made(
        X_V2,
        "X API v2 JSON Lines",
        [f"x:{X_ID}", f"x:{OTHER_X_ID}", "x:1550000000000000002", "!message without posts"],
    ),
    "x v1.1": Made(
        X_V1,
        "X API v1.1 JSON Lines",
        [
            "-x:210462857140252672",
            "x:210462857140252672",
            "!control message limit",
            "x:210462857140252673",
            "!control message scrub_geo",
        ],
    ),
    "jetstream v1": Made(
        JETSTREAM_1,
        "Jetstream v1 JSON Lines",
        ["!identities", f"bluesky:{DID}/3l3qo2vutsw2b", f"-bluesky:{DID}/3l3qo2vutsw2b", "-author"],
    ),
    "jetstream v2": Made(
        JETSTREAM_2, "Jetstream v2 JSON Lines", [f"bluesky:{DID}/3l3qo2vutsw2b", "!remark of the server"]
    ),
    "mastodon sse": Made(
        SSE,
        "Mastodon event stream",
        [
            "mastodon:toot.example/113000000000000001",
            "!event of another kind",
            "-mastodon:toot.example/113000000000000001",
            "!deletion of a status that is not in the capture",
            "!malformed status",
        ],
    ),
    "mastodon lines": Made(
        lines(STATUS, {**STATUS, "reblog": STATUS}),
        "Mastodon JSON Lines",
        ["mastodon:toot.example/113000000000000001", "!boost"],
    ),
    "jsonl": Made(
        lines(
            {"nr": 1, "post": {"body": "good"}, "at": 1424806552, "mood": "pos", "who": None},
            {"nr": 2, "post": {"body": ["?"]}, "at": "2024-03-01", "mood": "neg"},
            {"nr": 3, "at": "2024-03-01"},
            {"nr": 4, "post": {"body": "when"}, "at": "yesterday"},
        ),
        "JSON Lines",
        [
            "jsonl:1",
            "!line whose 'post.body' is not one value",
            "!line without 'post.body'",
            "!row without a readable time",
        ],
        {"column_map": {**COLUMNS, "text": "post.body"}},
    ),
    "csv": Made(
        b'nr,at,body,mood,who\n1,2024-03-01,"two\nlines",pos,ann\n2,2024-03-02,short\n3,2024-03-03,third,neg,bob\n',
        "CSV",
        ["csv:1", "!row with too few columns", "csv:3"],
        {"column_map": COLUMNS},
    ),
    "tsv": Made(
        b"nr\tat\tbody\tmood\twho\n1\t2024-03-01\tone, two\tpos\tann\n",
        "TSV",
        ["csv:1"],
        {"column_map": COLUMNS},
    ),
    "own": Made(
        lines(
            {**_OWN, **_TIMES},
            {
                "type": "deletion",
                "schema": 1,
                "source": "x",
                "post_id": "x:1",
                "deleted_at": _TIMES["created_at"],
                "ingested_at": _TIMES["created_at"],
            },
        ),
        "Moodstream archive",
        ["x:1", "-x:1"],
    ),
}

PACKED: Final[dict[str, Callable[[bytes], bytes]]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


def tar_of(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    return out.getvalue()


def contained(made: Made, container: str, folder: Path) -> Path:
    """The archive in a container; the names say nothing."""
    path = folder / "feed"
    if container == "plain":
        path.write_bytes(made.data)
    elif container in PACKED:
        path.write_bytes(PACKED[container](made.data))
    elif container == "two frames":
        begin, end = made.data[: len(made.data) // 2], made.data[len(made.data) // 2 :]
        path.write_bytes(gzip.compress(begin) + gzip.compress(end))
    elif container == "tar":
        path.write_bytes(tar_of({"a": made.data}))
    elif container == "tar.gz":
        path.write_bytes(gzip.compress(tar_of({"2012/06/a.json": made.data})))
    elif container == "tar of bz2":
        path.write_bytes(tar_of({"2012/06/06/20/07.json.bz2": bz2.compress(made.data)}))
    else:
        path.mkdir()
        (path / "sub").mkdir()
        (path / "sub" / "b").write_bytes(zstandard.ZstdCompressor().compress(made.data))
    return path


CONTAINERS: Final = {
    "plain": "",
    **{name: f", {name}" for name in PACKED},
    "two frames": ", gzip",
    "tar": ", tar",
    "tar.gz": ", tar, gzip",
    "tar of bz2": ", bzip2, tar",
    "folder": ", zstd, a folder",
}
"""Name → what the format then says of it."""
