"""The report of a replay: what it says, that it stands on its own, and that strangers' words stay words."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from dashboard.evaluation.judgement import BadJudgement, Drift, DriftFlag, Signal
from dashboard.report.outcome import BadResult
from dashboard.report.render import worst_first, write_report
from dashboard.runs import RESULT_FILE, UnknownRun
from tests.dashboard.report.folders import LAST, a_result, a_slice, judged, posts, unlabelled, write_folder
from tests.dashboard.seeding import drawing, prediction

HOSTILE = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=alert(1)><svg onload=alert(1)>",
    '"\' onmouseover=\'alert(1)" style="background:url(https://tracker.example/x)',
    "</style></title><iframe srcdoc='<script>alert(1)</script>'>",
    "javascript:alert(1) [click](javascript:alert(1)) {{ 7 * 7 }} {% raw %}",
    "\u202eoverridden\u202c \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "a" * 20_000,
)
SIZE_LIMIT = 1_500_000


@dataclass
class Page(HTMLParser):
    """A page taken apart: its tags with their attributes, and its words."""

    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def parsed(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    return page


def assert_inert(page: Page) -> None:
    """Nothing runs, nothing is fetched, and links lead only to places on the page."""
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "link", "base", "form", "foreignobject", "use")
        assert not [name for name in attributes if name.startswith("on") or name in ("srcset", "srcdoc")]
        assert (
            not (attributes.get("src") or "data:image/jpeg;base64,").removeprefix("data:image/jpeg;base64,").count(":")
        )
        for name in ("href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
        assert "url(" not in (attributes.get("style") or "")


def test_a_report_tells_the_replay_in_plain_words(tmp_path: Path) -> None:
    predictions = posts()
    report = write_report(write_folder(tmp_path / "airline", predictions, judged(predictions)), picture_of=drawing)
    page = parsed(report)
    assert report == tmp_path / "airline" / "report.html"
    for words in (
        "900 posts, written from 16 February 2015 to 24 February 2015, went through the live pipeline",
        "bag of words gets 81.8 % on the first 500, where the model has 86.8 %",
        "It would not commit itself on 18.6 % of the posts",
        "1 lasting change was noticed on the way; on 21 February 2015, share wrong went from 0.182 to 0.341.",
        "Surest, and wrong",
        "4 columns where 15 are due",
        "at $0.10 per machine-hour, an example price",
        "MOODSTREAM_ENGINE = onnx",
        "MOODSTREAM_ENGINE=onnx moodstream replay feeds/us_airline_2015.csv --map text=tweet --label-delay 3600.0",
        "5f" * 32,
    ):
        assert words in page.text
    assert_inert(page)
    assert sum(tag == "svg" for tag, _ in page.tags) == 15
    assert sum(tag == "img" for tag, _ in page.tags) > 3
    assert report.stat().st_size < SIZE_LIMIT


def test_an_evaluation_is_not_told_as_a_replay(tmp_path: Path) -> None:
    predictions = posts()
    made = {
        "stack": "none",
        "options": {"model": "/models/mine"},
        "variables": {"MOODSTREAM_ENGINE": "null", "MOODSTREAM_MODEL": "/models/mine", "MOODSTREAM_PARTITIONS": "4"},
    }
    folder = write_folder(tmp_path, predictions, judged(predictions), **made)
    page = parsed(write_report(folder))
    for words in (
        "24 February 2015, were scored by moodstream-small 1 on its own, without the live pipeline.",
        "Report of an evaluation",
        "MOODSTREAM_ENGINE=null moodstream evaluate --data feeds/us_airline_2015.csv --model /models/mine",
    ):
        assert words in page.text
    for words in ("replayed", "Replayed", "went through", "MOODSTREAM_MODEL="):
        assert words not in page.text
    assert (folder / "report.md").read_text().startswith("## us\\_airline\\_2015.csv, evaluated\n")


def test_rows_that_are_not_judged_are_said_to_be(tmp_path: Path) -> None:
    predictions = posts(100)
    folder = write_folder(
        tmp_path, predictions, judged(predictions), result={**a_result(), "withdrawn": 31, "deletions": 12}
    )
    page = parsed(write_report(folder))
    assert "Withdrawn 31 edited, deleted or forgotten later: not judged" in page.text
    assert "Deletions 12 of posts, or of all an author wrote" in page.text
    assert (
        "31 withdrawn (edited, deleted or forgotten later: not judged), 12 deletions, 2 left"
        in (folder / "report.md").read_text()
    )
    page = parsed(write_report(write_folder(tmp_path, predictions, judged(predictions))))
    assert "Withdrawn" not in page.text and "Deletions" not in page.text


def test_signals_of_embeddings_are_named_in_words_and_explained(tmp_path: Path) -> None:
    predictions = posts(100)
    judgement = judged(predictions)
    flag = msgspec.structs.replace(judgement.drift.flags[0], signal="direction 2")
    signals = [
        Signal(name=name, needs_labels=False, points=[])
        for name in ("direction 2", "likeness to the first posts", "distance from the first posts")
    ]
    told = msgspec.structs.replace(judgement, drift=Drift(flags=[flag], signals=signals))
    page = parsed(write_report(write_folder(tmp_path, predictions, told)))
    assert "content of the posts, main direction 2 of their embeddings went from 0.182 to 0.341." in page.text
    assert "An embedding is where the model places a post by what it says and shows" in page.text
    unflagged = msgspec.structs.replace(judgement, drift=Drift(flags=[], signals=signals))
    page = parsed(write_report(write_folder(tmp_path / "unflagged", predictions, unflagged)))
    assert "likeness of the posts’ content to that of the first ones, distance of the posts’ content from" in page.text
    page = parsed(write_report(write_folder(tmp_path / "without", predictions, judgement)))
    assert "An embedding" not in page.text


def test_a_report_without_labels_says_so_and_leaves_out_what_needs_them(tmp_path: Path) -> None:
    predictions = [msgspec.structs.replace(one, label=None) for one in posts(200)]
    page = parsed(write_report(write_folder(tmp_path, predictions, unlabelled(predictions))))
    assert "None of them carries a label, so nobody can say how right the model was" in page.text
    assert "Mood and volume" in page.text
    for words in ("Against simple baselines", "By class", "Surest, and wrong"):
        assert words not in page.text
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert links <= {f"#{target}" for target in targets}


def test_a_report_of_nothing_is_a_report(tmp_path: Path) -> None:
    page = parsed(write_report(write_folder(tmp_path, [], unlabelled([]), result={})))
    assert "Not one post of this archive was scored" in page.text
    assert_inert(page)


def test_a_replay_cut_short_is_said_to_be(tmp_path: Path) -> None:
    predictions = posts(60)
    changed = {**a_result(), "lost": 3}
    folder = write_folder(tmp_path, predictions, judged(predictions), result=changed, status="failed", error="no disk")
    page = parsed(write_report(folder))
    assert "This replay is failed, not done" in page.text
    assert "3 posts went missing on the way: do not rely on these figures." in page.text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_strangers_words_stay_words(tmp_path: Path, text: str) -> None:
    predictions = [
        prediction(
            number, LAST + timedelta(minutes=number), text=f"{text} {number}", label="negative", source=text[:40]
        )
        for number in range(8)
    ]
    judgement = msgspec.structs.replace(
        judged(predictions),
        models=[text[:500]],
        slices=[a_slice("language", text[:500], 60, 0.5)],
    )
    flag = msgspec.structs.replace(judgement.drift.flags[0], signal=text[:500])
    judgement = msgspec.structs.replace(judgement, drift=msgspec.structs.replace(judgement.drift, flags=[flag]))
    result = {**a_result(), "samples": [{"item": text, "reason": text}], "skipped": {text[:500]: 1}}
    folder = write_folder(
        tmp_path / "x",
        predictions,
        judgement,
        result=result,
        archive=text[:500],
        model=text[:500],
        options={text[:99]: text[:99]},
        versions={text[:99]: text[:99]},
        processor=text[:500],
        error=text[:500],
        status="failed",
    )
    report = write_report(folder)
    page = parsed(report)
    assert_inert(page)
    assert " ".join(text[:200].split()) in page.text
    assert report.stat().st_size < SIZE_LIMIT
    markdown = (folder / "report.md").read_text()
    assert "<script" not in markdown.replace("\\<", "")
    assert "](" not in markdown.replace("\\]", "")


def test_the_same_replay_gives_the_same_report(tmp_path: Path) -> None:
    predictions = posts(200)
    folder = write_folder(tmp_path, predictions, judged(predictions))
    first = write_report(folder, picture_of=drawing).read_bytes()
    assert write_report(folder, picture_of=drawing).read_bytes() == first
    assert not list(folder.glob("*.part"))


def test_pictures_stop_before_the_page_grows_too_large(tmp_path: Path) -> None:
    predictions = posts(200)
    folder = write_folder(tmp_path, predictions, judged(predictions))
    report = write_report(folder, picture_of=lambda _: b"\xff" * 150_000)
    assert sum(tag == "img" for tag, _ in parsed(report).tags) == 2
    assert report.stat().st_size < SIZE_LIMIT


def test_the_summary_has_the_same_figures_in_short(tmp_path: Path) -> None:
    predictions = posts()
    folder = write_folder(tmp_path, predictions, judged(predictions))
    write_report(folder, price_per_machine_hour=2.0)
    summary = (folder / "report.md").read_text()
    assert summary.startswith("## us\\_airline\\_2015.csv, replayed\n")
    assert "| bag of words | 500 | 81.8\N{NO-BREAK SPACE}% (80.6 to 83.0\N{NO-BREAK SPACE}%) |" in summary
    assert "14,640 read, 900 scored, 152 duplicates, 2 left out, 1 dead letters, 0 lost" in summary
    assert "a million posts cost $6.83 at $2.00 per machine-hour." in summary
    assert len(summary) < 3_000


def test_many_flags_and_slices_fit(tmp_path: Path) -> None:
    predictions = posts(100)
    judgement = judged(predictions)
    flags = [
        DriftFlag(signal="confidence", row=number, at=LAST, since_row=0, since=LAST, before=0.5, after=0.6)
        for number in range(100)
    ]
    judgement = msgspec.structs.replace(
        judgement,
        drift=msgspec.structs.replace(judgement.drift, flags=flags),
        slices=[a_slice("source", f"source {number}", 50, 0.5) for number in range(60)],
    )
    report = write_report(write_folder(tmp_path, predictions, judgement))
    assert "20 more slices in judgement.json" in parsed(report).text
    assert report.stat().st_size < SIZE_LIMIT


def test_slices_come_worst_first_and_those_too_small_to_tell_last() -> None:
    slices = [a_slice("a", "good", 90, 0.9), a_slice("a", "tiny", 5, 0.1), a_slice("a", "bad", 90, 0.4)]
    assert [one.value for one in worst_first(slices)] == ["bad", "good", "tiny"]


def test_a_folder_without_a_replay_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownRun, match=r"run\.json"):
        write_report(tmp_path)


def test_a_replay_not_judged_yet_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadJudgement, match=r"judgement\.json"):
        write_report(write_folder(tmp_path, [], None))


def test_a_broken_result_is_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, [], unlabelled([]))
    (folder / RESULT_FILE).write_bytes(b"{")
    with pytest.raises(BadResult, match=r"result\.json is no result of a replay"):
        write_report(folder)
