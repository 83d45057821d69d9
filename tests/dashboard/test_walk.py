"""A walk through the dashboard while a replay runs: landing, topic, point, posts, a post, a correction, an alert.

`moodstream up` runs everything, the shipped model too; the feed is made up here so that an alert opens in it.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.servers import free_port
from tests.dashboard.seeding import wait_until
from tests.dashboard.test_browser import WAIT_S, browser, complaints, count, hosts_asked, look, pictures, shown, text

__all__ = ["browser", "pictures"]
pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parents[2]
START = datetime(2026, 5, 4, 6, 0, tzinfo=UTC)
CALM_MIN, STORM_MIN = 120, 200
SPEED = 240
MOODS = {
    "positive": ("Lovely ride on the tram this morning", "Great coffee, thank you", "The tram is on time, so happy"),
    "neutral": ("The tram runs every ten minutes", "The coffee shop opens at eight", "Tram stop at Mill Street"),
    "negative": ("The tram is late again, awful", "Worst coffee ever", "No tram for an hour, so angry"),
}
TOPICS = '[[topic]]\nname = "Tram"\nquery = "tram"\n\n[[topic]]\nname = "Coffee"\nquery = "coffee"\n'
RULES = '[[rule]]\nname = "Volume spike"\nkind = "volume"\nwindows_min = [5]\ntopics = ["Tram"]\n'
WATCH = """
    window.lost = [];
    const seen = new Set();
    window.watching = setInterval(() => {
        for (const what of arguments[0]) {
            if (document.querySelector(what)) seen.add(what);
            else if (seen.has(what)) window.lost.push(what);
        }
    }, 20);
"""


def write_feed(path: Path) -> None:
    """Two hours of calm, then a storm about the tram."""
    dice = random.Random(5)
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "text", "created_at", "label"])
        at, number = 0.0, 0
        while at < CALM_MIN + STORM_MIN:
            is_storm = at > CALM_MIN
            label = dice.choices(list(MOODS), weights=(1, 1, 8) if is_storm else (4, 3, 2))[0]
            sentence = MOODS[label][0] if is_storm else dice.choice(MOODS[label])
            rows.writerow([number, f"{sentence} {number}", (START + timedelta(minutes=at)).isoformat(), label])
            at, number = at + dice.expovariate(7.0 if is_storm else 2.0), number + 1


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The page of a replay that has just begun."""
    feed, port = tmp_path / "storm.csv", free_port()
    write_feed(feed)
    (tmp_path / "topics.toml").write_text(TOPICS)
    (tmp_path / "alerts.toml").write_text(RULES)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MOODSTREAM_")}
    environment |= {
        "MOODSTREAM_TOPICS": str(tmp_path / "topics.toml"),
        "MOODSTREAM_ALERTS": str(tmp_path / "alerts.toml"),
        "MOODSTREAM_ALERTS_GRACE_S": "1",
        "MOODSTREAM_REFRESH_S": "1",
    }
    columns = ("id=id", "text=text", "created_at=created_at", "label=label")
    command = [sys.executable, "-m", "deploy", "up", "--replay", str(feed), "--speed", str(SPEED)]
    with (tmp_path / "errors.txt").open("w") as errors:
        up = subprocess.Popen(
            [*command, "--headless", "--port", str(port), "--map", *columns],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert up.stdout is not None
        assert f"http://localhost:{port}" in up.stdout.readline(), (tmp_path / "errors.txt").read_text()
        yield f"http://127.0.0.1:{port}/"
    finally:
        up.send_signal(signal.SIGTERM)
        up.communicate(timeout=60)


def press(browser: Any, selector: str, words: str) -> bool:
    """Presses the first element of these words, once it is there."""
    script = """
        const found = [...document.querySelectorAll(arguments[0])].find(one => one.textContent.includes(arguments[1]));
        if (found) found.click();
        return Boolean(found);
    """
    return bool(browser.execute_script(script, selector, words))


def go(browser: Any, page: str) -> None:
    wait_until(lambda: press(browser, '[data-testid="stTopNavLink"]', page), f"the way to {page} is there", 20)
    shown_title = "const t = document.querySelector('.ms-namespace'); return t && t.innerText"
    wait_until(lambda: browser.execute_script(shown_title) == page, f"{page} is shown", 30)


def click_point(browser: Any) -> bool:
    """Clicks a point of the mood of topics where it is drawn; whether that led to the posts."""
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.common.action_chains import ActionChains

    try:
        points = browser.find_elements("css selector", ".st-key-chart-mood .mark-symbol.role-mark path")
        if points:
            ActionChains(browser).move_to_element(points[len(points) // 2]).click().perform()
            wait_until(lambda: "/posts" in browser.current_url, "the posts open", 3)
    except (WebDriverException, TimeoutError):
        return False  # the chart was drawn anew under the pointer
    return "/posts" in browser.current_url


def unlost(browser: Any) -> list[str]:
    """What was gone while it was watched."""
    lost: list[str] = browser.execute_script("clearInterval(window.watching); return window.lost")
    return sorted(set(lost))


def matched(browser: Any) -> str:
    return str(browser.execute_script("const b = document.querySelector('.ms-found b'); return b ? b.innerText : ''"))


def test_from_the_landing_page_to_an_alert_while_a_replay_runs(address: str, browser: Any, pictures: Path) -> None:
    def picture(name: str) -> None:
        browser.save_screenshot(str(pictures / f"walk-{name}.png"))

    def until(holds: Callable[[], bool], what: str) -> None:
        try:
            wait_until(holds, what, WAIT_S)
        except TimeoutError as error:
            picture("lost")
            said = f"it complains {complaints(browser)}, and says {text(browser)[:900]!r}"
            raise AssertionError(f"{error}; {said}") from error

    look(browser, address, height=1400)
    until(lambda: count(browser, ".ms-tile") == 3, "both topics have posts")
    browser.execute_script(WATCH, [".ms-header", ".ms-tile", ".ms-facts", '[data-testid="stVegaLiteChart"] svg.marks'])
    before = text(browser)
    until(lambda: text(browser) != before, "the page goes on by itself")
    until(lambda: press(browser, ".st-key-filters button", "Tram"), "Tram is chosen")
    until(lambda: count(browser, ".ms-tile") == 1, "the topic alone is shown")
    picture("now")
    assert unlost(browser) == []

    go(browser, "Trends")
    assert "topics=Tram" in browser.current_url
    until(lambda: count(browser, "svg.marks") == 6, "the charts are drawn")
    picture("trends")
    until(lambda: click_point(browser), "a point leads to its posts")
    assert "from=" in browser.current_url and "topics=Tram" in browser.current_url
    until(lambda: count(browser, ".ms-facts-line") > 0, "the posts of the point are there")
    picture("posts")
    until(lambda: press(browser, '[data-testid="stPageLink"] a', "Back to Trends"), "there is a way back")
    until(lambda: count(browser, "svg.marks") == 6, "the charts are drawn again")
    assert "from=" not in browser.current_url and "topics=Tram" in browser.current_url
    until(lambda: click_point(browser), "a point leads to its posts again")
    until(lambda: count(browser, ".ms-facts-line") > 0, "the posts of the point are there again")

    until(lambda: press(browser, ".st-key-tools-0 button", "Open"), "a post can be opened")
    until(lambda: count(browser, ".st-key-tools-whole button") > 0, "the post is open")
    model_said = browser.execute_script("return document.querySelector('.ms-class').innerText")
    other = "neutral" if model_said != "neutral" else "positive"
    until(lambda: press(browser, ".st-key-tools-whole button", other), "it can be corrected")
    shown(browser, "corrected by a person")
    picture("post")
    browser.get(f"{address}posts?only=corrected")
    until(lambda: matched(browser) == "1", "one post counts as corrected")
    until(lambda: press(browser, ".st-key-tools-0 button", other), "it can be taken back")
    until(lambda: matched(browser) == "0", "none counts as corrected")

    go(browser, "Alerts")
    until(lambda: count(browser, ".ms-alert.ms-active") == 1, "the alert has opened")
    shown(browser, "Volume spike")
    picture("alerts")
    go(browser, "Now")
    until(lambda: count(browser, ".ms-alerts a") == 2, "the alert stands on Now")
    browser.execute_script(WATCH, [".ms-alerts", ".ms-tile", ".ms-header"])
    picture("now-alert")
    before = text(browser)
    until(lambda: text(browser) != before, "the page goes on by itself")
    assert unlost(browser) == []
    assert complaints_of(browser) == []
    assert hosts_asked(browser) == {"127.0.0.1"}
    browser.execute_script("document.querySelector('.ms-alerts a').click()")
    until(lambda: "Volume spike: Tram" in drawn_words(browser), "the alert is drawn on Trends")

    for scheme, width in (("dark", 1280), ("light", 390)):
        for page, sign in (("", ".ms-alerts"), ("alerts", ".ms-alert")):
            look(browser, f"{address}{page}", width=width, height=1400, scheme=scheme)
            until(lambda sign=sign: count(browser, sign) > 0, f"{sign} is there")
            picture(f"{page or 'now'}-{scheme}-{width}")
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert complaints_of(browser) == []


def complaints_of(browser: Any) -> list[str]:
    """Complaints but for Streamlit's own: it looks for its server below the page's address first."""
    return [line for line in complaints(browser) if "/_stcore/" not in line]


def drawn_words(browser: Any) -> str:
    return str(
        browser.execute_script("return [...document.querySelectorAll('svg.marks')].map(s => s.textContent).join()")
    )
