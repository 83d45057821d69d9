from __future__ import annotations

from pathlib import Path

from ingest.authors import AuthorHash
from ingest.contract import Record
from ingest.report import Tally
from ingest.service import ingest
from ingest.settings import Settings
from ingest.sources.detect import SourceOptions, open_source
from ingest.topics.definitions import Topics


class Kept:
    """A sink that keeps what it is given."""

    copies = 0
    waited_s = silent_s = 0.0

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.failed: dict[str, int] = {}

    async def __aenter__(self) -> Kept:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    @property
    def sent(self) -> int:
        return len(self.records)

    async def send(self, record: Record, *, number: int | None = None) -> None:
        self.records.append(record)

    async def flush(self) -> None:
        return None


def test_the_first_five_places_of_a_reason_are_kept_and_all_are_counted() -> None:
    tally = Tally()
    for number in range(1, 8):
        tally.skip("unreadable row", f"row {number}: {'x' * 300}")
    tally.skip("neither text nor image")
    assert tally.skipped == {"unreadable row": 7, "neither text nor image": 1}
    assert [place[:6] for place in tally.samples["unreadable row"]] == [
        "row 1:",
        "row 2:",
        "row 3:",
        "row 4:",
        "row 5:",
    ]
    assert {len(place) for place in tally.samples["unreadable row"]} == {200}
    assert tally.samples.keys() == {"unreadable row"}


async def test_a_report_tells_the_format_and_where_rows_were_broken(tmp_path: Path) -> None:
    path = tmp_path / "feed.csv"
    path.write_text("at,text\n2024-03-01,good\n2024-03-01\nyesterday,bad\n2024-03-01,\n")
    options = SourceOptions(authors=AuthorHash(b"key"), column_map={"text": "text", "created_at": "at"})
    report = await ingest(open_source(str(path), options), Settings(), topics=Topics(), sink=Kept())
    assert (report.format, report.read, report.sent) == ("CSV", 4, 1)
    assert report.skipped == {
        "row with too few columns": 1,
        "row without a readable time": 1,
        "neither text nor image": 1,
    }
    assert report.samples == {
        "row with too few columns": ["row 2"],
        "row without a readable time": ["row 3"],
        "neither text nor image": ["csv:feed#4"],
    }
