"""A report opened from disk in headless Chromium: light, dark and narrow, with nothing fetched and nothing run.

MOODSTREAM_SCREENSHOTS names a folder that keeps the screenshots; they go to a temporary one otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from dashboard.report.render import write_report
from tests.dashboard.report.folders import judged, posts, write_folder
from tests.dashboard.report.test_render import HOSTILE
from tests.dashboard.seeding import drawing
from tests.dashboard.test_browser import browser, complaints, hosts_asked, look, pictures

__all__ = ["browser", "pictures"]

pytestmark = [pytest.mark.browser, pytest.mark.timeout(150)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    predictions = posts()
    folder = tmp_path_factory.mktemp("runs") / "airline"
    return write_report(write_folder(folder, predictions, judged(predictions)), picture_of=drawing)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 1200), ("light", 390)])
def test_a_report_reads_well_from_disk(browser: Any, pictures: Path, report: Path, scheme: str, width: int) -> None:
    look(browser, report.as_uri(), scheme=scheme, width=width)
    browser.save_screenshot(str(pictures / f"report-{scheme}-{width}.png"))
    assert complaints(browser) == []
    assert hosts_asked(browser) == set()
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    paper = browser.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
    assert paper == {"light": "rgb(251, 250, 247)", "dark": "rgb(18, 23, 28)"}[scheme]
    seen = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].filter(one => one.getClientRects().length).length"
    )
    assert seen == 7


def test_a_hostile_report_is_only_read(browser: Any, tmp_path: Path) -> None:
    predictions = [replace(one, text=HOSTILE[place % len(HOSTILE)]) for place, one in enumerate(posts(100))]
    folder = write_folder(tmp_path / "x", predictions, judged(predictions), archive=HOSTILE[3], error=HOSTILE[0])
    look(browser, write_report(folder).as_uri())
    assert browser.title.endswith("Moodstream")
    assert complaints(browser) == []
    assert hosts_asked(browser) == set()
