"""Hostile strings as everything a post brings: inert in a real browser, and readable as what they are."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from msgspec.structs import replace

from dashboard.highlights import visible
from dashboard.report.render import write_report
from dashboard.runs import REPORT_FILE
from inference_worker.contract import Prediction
from tests.dashboard.injections import INJECTIONS
from tests.dashboard.report.folders import judged, posts, write_folder
from tests.dashboard.seeding import NOW, Seed, Server, prediction, wait_until
from tests.dashboard.serving import serving
from tests.dashboard.test_browser import WAIT_S, browser, complaints, count, hosts_asked, look, text

__all__ = ["browser"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(200)]

ACTIVE = (
    ".stMain :is(script, iframe, object, embed, base, form:not(.vega-bindings), math, marquee, video, audio, meta,"
    " link, plaintext, [onerror], [onload], [onfocus], [onmouseover], [onbegin], [ontoggle], [onstart])"
)
LINKS = ".stMain a:is([href^='javascript:' i], [href^='vbscript:' i], [href^='data:' i], [href*='evil.example'])"
PICTURES = '.stMain img:not([src^="data:image/"])'
OLDER = """
    const older = [...document.querySelectorAll('.st-key-pager button')].find(b => b.innerText.includes('Older'));
    if (older) older.click();
    return Boolean(older)
"""


def hostile(now: datetime) -> list[Prediction]:
    """Each string as text, author, topic, description, source, address, language and warning."""
    return [
        prediction(
            number,
            now - timedelta(seconds=number if number % 2 else 4000 + number),
            text=string,
            author=string,
            topics=(string[:60],),
            alt=(string,),
            images=1,
            image_hashes=(bytes([number % 2]) * 32,),
            source=string,
            url=string,
            lang=string,
            warnings=(string,),
            token_map=tuple((place, place + 3, 40 * place % 256) for place in range(0, len(string), 3)),
        )
        for number, string in enumerate(INJECTIONS)
    ]


@pytest.fixture
def page(server: Server, seed: Seed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    seed(hostile(datetime.now(NOW.tzinfo)), source=INJECTIONS[0])
    monkeypatch.setenv("MOODSTREAM_TOPICS", str(tmp_path / "topics.toml"))
    (tmp_path / "topics.toml").write_text(
        "\n".join(
            f"[[topic]]\nname = '''<b>{n}</b>'''\nquery = '''\"<img src=x onerror=alert({n})>\"'''" for n in range(9)
        )
    )
    with serving(server.url, tmp_path / "log") as dashboard:
        yield dashboard.url


def test_the_corpus_is_large_and_each_string_once() -> None:
    assert len(INJECTIONS) >= 60
    assert len(set(INJECTIONS)) == len(INJECTIONS)


@pytest.mark.parametrize("string", INJECTIONS)
def test_no_string_leaves_an_angle_bracket_or_a_control_character(string: str) -> None:
    shown = visible(string)
    assert not set(shown) & {"<", ">", '"', "'", "\x00", "\x1b"}


def inert(browser: Any) -> None:
    assert browser.title.casefold() in ("moodstream", "posts", "why", "topics", "now", "runs")
    for selector in (ACTIVE, LINKS, PICTURES):
        assert count(browser, selector) == 0, selector
    assert hosts_asked(browser) == {"127.0.0.1"}
    assert "49" not in [word.strip() for word in text(browser).splitlines()]
    assert not [line for line in complaints(browser) if "evil.example" in line or "owned" in line]


def test_posts_are_only_read(page: str, browser: Any) -> None:
    unseen = {shown(string) for string in INJECTIONS}
    look(browser, f"{page}posts", height=3000)
    while True:
        wait_until(partial(_turned, browser, frozenset(unseen)), "a page of posts not yet seen", WAIT_S)
        unseen -= texts(browser)
        for selector in (ACTIVE, LINKS, PICTURES):
            assert count(browser, selector) == 0, selector
        if not unseen:
            break
        # It comes after the posts.
        wait_until(lambda: bool(browser.execute_script(OLDER)), "a button Older", WAIT_S)
    inert(browser)


def _turned(browser: Any, unseen: frozenset[str]) -> bool:
    there = texts(browser)
    return len(there) == min(12, len(unseen)) and there <= unseen


def shown(string: str) -> str:
    return string.replace("\x00", "\u2400").replace("\x1b", "\u241b")


def texts(browser: Any) -> set[str]:
    return set(browser.execute_script("return [...document.querySelectorAll('.ms-text')].map(p => p.textContent)"))


def a_run(folder: Path, number: int, *, predicted: str) -> None:
    """A replay whose archive, model, error, classes and posts are all strings of the corpus, and its report."""
    predictions = [
        replace(one, text=INJECTIONS[place % len(INJECTIONS)], predicted=predicted if place % 3 else one.predicted)
        for place, one in enumerate(posts(3 * len(INJECTIONS)))
    ]
    judgement = judged(predictions)
    string = INJECTIONS[number]
    renamed = replace(
        judgement,
        models=[string],
        curves=[replace(one, name=string if one.name == "majority" else one.name) for one in judgement.curves],
        baselines=[replace(one, name=string) for one in judgement.baselines],
        slices=[replace(one, dimension=string, value=string) for one in judgement.slices],
    )
    write_folder(
        folder, predictions, renamed, archive=string, model=string, error=string, format=string, processor=string
    )
    write_report(folder)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A replay for each string."""
    folder = tmp_path / "runs"
    monkeypatch.setenv("MOODSTREAM_RUNS", str(folder))
    for number, string in enumerate(INJECTIONS):
        name = string.replace("/", "\u2215").replace("\x00", "\u2400")[:60]
        if number < 2:
            a_run(folder / name, number, predicted=("neutral", "positive")[number])
        else:
            write_folder(folder / f"{number} {name}", [], None, archive=string, model=string, error=string)
    return folder


def test_runs_their_comparison_and_report_stay_inert(runs: Path, page: str, browser: Any) -> None:
    first, second = (path.name for path in sorted(runs.iterdir()) if (path / REPORT_FILE).is_file())
    for query, sign in (
        (urlencode({"run": first}), "How far to trust"),
        (urlencode({"run": first, "against": second}), "Posts they disagree on"),
    ):
        look(browser, f"{page}runs?{query}", height=4000)
        wait_until(partial(_says, browser, sign), f"the page says {sign!r}", WAIT_S)
        wait_until(lambda: count(browser, '[data-testid="stStatusWidget"]') == 0, "the page is done", WAIT_S)
        inert(browser)
        assert shown(INJECTIONS[30]) in browser.execute_script("return document.querySelector('.stMain').textContent")
    disagreed = browser.execute_script("return document.querySelectorAll('.st-key-posts .ms-card-head').length")
    assert disagreed == 24
    look(browser, (runs / first / REPORT_FILE).as_uri(), height=4000)
    assert "owned" not in browser.title.casefold().replace(first.casefold(), "")
    for selector in (ACTIVE, LINKS):
        assert count(browser, selector.replace(".stMain", "body")) == 0, selector
    assert count(browser, 'img:not([src^="data:image/"])') == 0
    assert hosts_asked(browser) <= {"127.0.0.1", ""}


def _says(browser: Any, sign: str) -> bool:
    return sign in text(browser)


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("why", "mood"),
        ("topics", "What is watched"),
        ("", "Latest posts"),
        ("trends", "Share of voice"),
        ("alerts", "Rules"),
        ("health", "Dead letters"),
    ],
    ids=["why", "topics", "now", "trends", "alerts", "health"],
)
def test_other_pages_stay_inert(page: str, browser: Any, name: str, sign: str) -> None:
    look(browser, page + name, height=3000)
    wait_until(lambda: sign in text(browser), f"the page says {sign!r}", WAIT_S)
    wait_until(lambda: count(browser, '[data-testid="stStatusWidget"]') == 0, "the page is done", WAIT_S)
    inert(browser)
