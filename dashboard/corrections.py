"""What people say of posts: told to the store with who and when, and taken out again as training data.

Exports hold a record per corrected post: our own archive (`moodstream replay` reads it), Parquet, or CSV.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from PIL import Image as PillowImage

from inference_worker import amendments
from inference_worker.amendments import Correction
from inference_worker.contract import Prediction, Results
from ingest.contract import Image, Label, Post

from .access import Person
from .errors import DashboardError
from .export import harmless

EXPORTED: Final = 5_000
"""Most posts in one export, the latest corrected first."""


class NotAllowed(DashboardError):
    """A reader tried what is for editors."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} is for editors: log in as one (MOODSTREAM_EDITORS), or open this page on its own machine"
        )


def correct(results: Results, person: Person, post_id: str, label: Label | None, *, at: datetime) -> Correction:
    """Lets a post count as `label`; None takes it back. Raises NotAllowed, amendments.NotRetained."""
    if not person.is_editor:
        raise NotAllowed("relabelling")
    return amendments.relabel(results, post_id, label, by=person.name, at=at)


class Corrected(NamedTuple):
    """A post that counts as what a person said, and its pictures by place where they are retained."""

    post: Prediction
    by: str
    at: datetime
    jpegs: tuple[bytes, ...]


def standing(steps: Sequence[Correction]) -> list[Correction]:
    """The last step of each post that counts as what a person said, the latest first."""
    last = {step.post_id: step for step in steps}
    return sorted((step for step in last.values() if step.label is not None), key=lambda step: step.at)[::-1]


def corrected(results: Results, steps: Sequence[Correction]) -> list[Corrected]:
    """The posts whose correction stands, the latest corrected first; those no longer retained have nothing to show."""
    said = {step.post_id: step for step in standing(steps)[:EXPORTED]}
    posts = [post for post in results.predictions(said) if post.correction is not None]
    places = [(post.id, place) for post in posts for place in range(post.images)]
    jpegs: dict[str, list[bytes]] = {post.id: [] for post in posts}
    for (post_id, _), jpeg in zip(places, results.thumbnails(places), strict=True):
        if jpeg:
            jpegs[post_id].append(jpeg)
    return [Corrected(post, said[post.id].by, said[post.id].at, tuple(jpegs[post.id])) for post in posts]


def as_archive(rows: Sequence[Corrected]) -> bytes:
    """`.jsonl.zst` of posts whose label is what the person said; an archive like any other."""
    encoder = msgspec.json.Encoder()
    lines = b"".join(encoder.encode(_post(row)) + b"\n" for row in rows)
    return zstandard.ZstdCompressor(level=12).compress(lines)


def _post(row: Corrected) -> Post:
    post = row.post
    alts = [*post.alt, *[""] * len(row.jpegs)]
    return Post(
        id=post.id,
        source=post.source,
        created_at=post.created_at,
        ingested_at=post.ingested_at,
        revision=post.revision,
        text=post.text,
        lang=post.lang,
        author=post.author,
        reach=post.reach,
        url=post.url,
        sensitive=post.sensitive,
        images=tuple(_image(jpeg, alt) for jpeg, alt in zip(row.jpegs, alts, strict=False)),
        topics=post.topics,
        label=post.correction,
    )


def _image(jpeg: bytes, alt: str) -> Image:
    """Hashes of a retained thumbnail are made anew by whoever reads the archive, as of all pictures of archives."""
    with PillowImage.open(io.BytesIO(jpeg), formats=("JPEG",)) as picture:
        width, height = picture.size
    return Image(jpeg=jpeg, sha256=bytes(32), phash=bytes(32), width=width, height=height, alt=alt)


_COLUMNS: Final = ("id", "text", "label", "predicted", "confidence", "abstained", "model", "by", "at", "lang", "source")


def _fields(row: Corrected) -> dict[str, object]:
    post = row.post
    said = (post.id, post.text, post.correction, post.predicted, round(post.confidence, 4), post.abstained, post.model)
    return dict(zip(_COLUMNS, (*said, row.by, row.at, post.lang, post.source), strict=True))


def as_parquet(rows: Sequence[Corrected]) -> bytes:
    """What the model said beside what the person said, and the first picture as JPEG."""
    types = [pa.string()] * 4 + [pa.float64(), pa.bool_(), pa.string(), pa.string(), pa.timestamp("ms", tz="UTC")]
    schema = pa.schema([*zip(_COLUMNS, [*types, pa.string(), pa.string()], strict=True), ("image", pa.binary())])
    table = pa.Table.from_pylist([_fields(row) | {"image": next(iter(row.jpegs), None)} for row in rows], schema=schema)
    packed = io.BytesIO()
    pq.write_table(table, packed, compression="zstd")
    return packed.getvalue()


def as_csv(rows: Sequence[Corrected]) -> str:
    """The same without pictures. A text that begins like a formula gets an apostrophe, lest a spreadsheet run it."""
    written = io.StringIO()
    writer = csv.DictWriter(written, _COLUMNS)
    writer.writeheader()
    for row in rows:
        fields = _fields(row) | {"at": row.at.isoformat()}
        writer.writerow({name: harmless(value) for name, value in fields.items()})
    return written.getvalue()
