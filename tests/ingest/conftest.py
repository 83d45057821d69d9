"""What the ingest tests share: an embedded broker, settings that point at it, and small archives of every kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as Pillow

from deploy.servers import start_broker
from ingest.authors import AuthorHash
from ingest.contract import Post
from ingest.settings import Settings

NOON = datetime(2026, 5, 4, 12, 0, 30, tzinfo=UTC)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an embedded broker."""
    child, address = asyncio.run(start_broker(tmp_path_factory.mktemp("broker") / "broker.log"))
    yield address
    asyncio.run(child.stop())


@pytest.fixture
def settings(broker: str, request: pytest.FixtureRequest) -> Settings:
    """A namespace of this test's own."""
    namespace = "".join(letter for letter in request.node.name.lower() if letter.isalnum() or letter == "_")[:60]
    return Settings(kafka=broker, namespace=namespace, partitions=3, idempotence=False, author_key=b"key")


@pytest.fixture(scope="session")
def authors() -> AuthorHash:
    return AuthorHash(b"key")


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    """A picture as a phone might send it: 400 x 300."""
    out = BytesIO()
    Pillow.linear_gradient("L").convert("RGB").resize((400, 300)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture(scope="session")
def make_post() -> Callable[..., Post]:
    def make(post_id: str = "x:1", **changes: Any) -> Post:
        fields = {"id": post_id, "source": post_id.partition(":")[0], "created_at": NOON, "ingested_at": NOON}
        return Post(**(fields | {"text": "a tram"} | changes))

    return make


@pytest.fixture(scope="session")
def mvsa_folder(tmp_path_factory: pytest.TempPathFactory, jpeg: bytes) -> Path:
    """Four made-up posts in the owners' layout: one whole, one neutral with a polar picture, two that are dropped."""
    folder = tmp_path_factory.mktemp("mvsa")
    (folder / "data").mkdir()
    for number, text in (("1", "caf\xe9 \xfcber alles"), ("2", "just a door"), ("3", "love it")):
        (folder / "data" / f"{number}.jpg").write_bytes(jpeg)
        (folder / "data" / f"{number}.txt").write_bytes(text.encode("latin-1") + b"\n")
    labels = "ID\ttext,image\n1\tpositive,positive\n2\tneutral,negative\n3\tpositive,negative\n9\tneutral,neutral\n"
    (folder / "labelResultAll.txt").write_text(labels)
    return folder


@pytest.fixture(scope="session")
def mvsa_parquet(tmp_path_factory: pytest.TempPathFactory, jpeg: bytes) -> Path:
    """Three made-up posts, one per split."""
    path = tmp_path_factory.mktemp("parquet") / "mvsa.parquet"
    rows = {
        "id": ["1", "2", "3"],
        "split": ["train", "validation", "test"],
        "text": ["one", "two", "three"],
        "label": ["positive", "neutral", "negative"],
        "width": [1200, 400, 400],
        "height": [900, 300, 300],
        "image": [jpeg, jpeg, jpeg],
    }
    pq.write_table(pa.table(rows), path)
    return path


@pytest.fixture(scope="session")
def tweets_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tweets in a layout that needs a map, with what goes wrong in real files."""
    path = tmp_path_factory.mktemp("csv") / "tweets.csv"
    path.write_bytes(
        b"\xef\xbb\xbfwhen;who;body;mood\n"
        b"2024-03-01 10:00:00;@Ann;Good morning;Positive\n"
        b'2024-02-01 09:00:00;bob;"two\nlines; and a ""quote""";neg\n'
        b"yesterday;bob;when was that;neg\n"
        b"2024-03-01 11:00:00;bob\n"
        b"2024-03-01 12:00:00;cleo;what a mood;puzzled\n"
        b"\n"
        b"2024-03-01 13:00:00;cleo;bad \xff byte;neutral\n"
    )
    return path
