"""Posts, Why and Topics in headless Chromium: light, dark and narrow; a search, a correction, no complaint."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.evidence_feed import evidence_feed
from tests.dashboard.seeding import NOW, Seed, Server, wait_until
from tests.dashboard.serving import serving
from tests.dashboard.test_browser import WAIT_S, browser, complaints, count, hosts_asked, look, pictures, text

__all__ = ["browser", "pictures"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(200)]

SIGNS = {"posts": ".ms-facts-line", "why": ".ms-quotes", "topics": ".ms-topic-row"}


def settled(browser: Any, name: str) -> None:
    wait_until(lambda: count(browser, SIGNS[name]) > 0, f"{name} is drawn", WAIT_S)
    wait_until(lambda: count(browser, '[data-testid="stStatusWidget"]') == 0, f"{name} is done", WAIT_S)


def unexpected(browser: Any) -> list[str]:
    """Complaints but for Streamlit's own: it looks for its server below the page's address first."""
    return [line for line in complaints(browser) if "/_stcore/" not in line]


def test_pages_on_wide_dark_and_narrow_screens(
    server: Server, browser: Any, seed: Seed, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(evidence_feed(until=datetime.now(NOW.tzinfo)), kind="sample", source="sample feed")
    monkeypatch.setenv("MOODSTREAM_TOPICS", str(Path("ingest/topics.toml").resolve()))
    with serving(server.url, tmp_path / "log") as dashboard:
        for name in SIGNS:
            for scheme, width, height in (("light", 1280, 1700), ("dark", 1280, 1700), ("narrow", 390, 2600)):
                look(
                    browser,
                    f"{dashboard.url}{name}{'?topic=Line+9+tram' if name == 'topics' else ''}",
                    width=width,
                    height=height,
                    scheme="dark" if scheme == "dark" else "light",
                )
                settled(browser, name)
                browser.save_screenshot(str(pictures / f"{name}-{scheme}.png"))
                assert browser.execute_script("return document.documentElement.scrollWidth") <= width
                assert unexpected(browser) == []
                assert hosts_asked(browser) == {"127.0.0.1"}


def pressed(browser: Any, label: str) -> bool:
    """Presses a class on the first card, once it is there."""
    script = """
        const all = [...document.querySelectorAll('.st-key-tools-0 button, .st-key-tools-0 [role=radio]')];
        const found = all.find(button => button.textContent.includes(arguments[0]));
        if (found) found.click();
        return Boolean(found);
    """
    return bool(browser.execute_script(script, label))


def test_a_post_is_found_corrected_and_taken_back(server: Server, browser: Any, seed: Seed, tmp_path: Path) -> None:
    seed(evidence_feed(60, until=datetime.now(NOW.tzinfo)))
    with serving(server.url, tmp_path / "log") as dashboard:
        look(browser, f"{dashboard.url}posts?words=tram+OR+line")
        settled(browser, "posts")
        wait_until(lambda: pressed(browser, "neutral"), "the first card can be corrected", WAIT_S)
        wait_until(lambda: "corrected by a person" in text(browser), "the correction is shown", WAIT_S)
        wait_until(lambda: pressed(browser, "neutral"), "it can be taken back", WAIT_S)
        wait_until(lambda: "corrected by a person" not in text(browser), "it is taken back", WAIT_S)
        assert unexpected(browser) == []
