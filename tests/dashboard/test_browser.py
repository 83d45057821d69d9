"""The page in headless Chromium: what a person sees, on wide, dark and narrow screens.

MOODSTREAM_SCREENSHOTS names a folder that keeps the screenshots; they go to a temporary one otherwise.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.seeding import NOW, Seed, Server, feed, prediction, wait_until, worker_state
from tests.dashboard.serving import Dashboard, serving

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing: install the extra `dev`")

pytestmark = [pytest.mark.browser, pytest.mark.timeout(150)]

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'> **bold** [a](javascript:b)"
MISSING = next((name for name in ("chromium", "chromedriver") if shutil.which(name) is None), None)
WAIT_S = 40.0


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("MOODSTREAM_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if MISSING:
        pytest.skip(f"{MISSING} is missing: install the packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def dashboard(server: Server, tmp_path: Path) -> Iterator[Dashboard]:
    with serving(server.url, tmp_path / "log") as dashboard:
        yield dashboard


def look(browser: Any, url: str, *, width: int = 1280, height: int = 2000, scheme: str = "light") -> None:
    """Open the page anew, as wide and as dark as asked."""
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(url)


def count(browser: Any, selector: str) -> int:
    return int(browser.execute_script("return document.querySelectorAll(arguments[0]).length", selector))


def text(browser: Any) -> str:
    return str(browser.execute_script("return document.body.innerText"))


def shown(browser: Any, words: str) -> None:
    wait_until(lambda: words in text(browser), f"the page says {words!r}", WAIT_S)


def is_drawn(browser: Any) -> bool:
    """All posts are there, and every chart has marks on it."""
    charts = '[data-testid="stVegaLiteChart"]'
    return count(browser, ".ms-chips") == 6 and 0 < count(browser, charts) == count(browser, f"{charts} svg.marks")


def drawn(browser: Any) -> None:
    wait_until(lambda: is_drawn(browser), "all charts and posts are drawn", WAIT_S)


def complaints(browser: Any) -> list[str]:
    """Errors of the page; not those of Streamlit looking, on a page of its own, for its server below that page too."""
    said = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    return [message for message in said if not re.search(r"/(trends|health)/_stcore/(health|host-config) ", message)]


def charts_drawn(browser: Any, number: int) -> None:
    marks = '[data-testid="stVegaLiteChart"] svg.marks'
    wait_until(lambda: count(browser, marks) == number, f"{number} charts are drawn", WAIT_S)


def hosts_asked(browser: Any) -> set[str]:
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return {url.split("/")[2].split(":")[0] for url in urls if url.startswith(("http", "ws"))}


def test_wide_light_page(dashboard: Dashboard, browser: Any, seed: Seed, pictures: Path) -> None:
    posts = feed(600, until=datetime.now(NOW.tzinfo))
    seed(posts, kind="sample", source="sample feed", dead_letters=2, worker=worker_state())
    look(browser, dashboard.url)
    drawn(browser)
    browser.save_screenshot(str(pictures / "light.png"))
    page = text(browser)
    for words in ("All posts", "Line 9 tram", "Sample feed", "Confidence", "Latest posts"):
        assert words in page
    assert count(browser, ".ms-tile") == 4
    pictures_due = sum(bool(post.images and not post.sensitive) for post in posts[-6:])
    seen = ".ms-picture img, [data-testid='stImage'] img"
    wait_until(lambda: count(browser, seen) == pictures_due, f"{pictures_due} pictures are seen", WAIT_S)
    assert complaints(browser) == []
    assert hosts_asked(browser) == {"127.0.0.1"}


def test_dark_replay(dashboard: Dashboard, browser: Any, seed: Seed, pictures: Path) -> None:
    seed(
        feed(600, until=datetime(2015, 2, 24, 19, 21, tzinfo=NOW.tzinfo)), "airline", kind="replay", source="an archive"
    )
    look(browser, f"{dashboard.url}?namespace=airline&topics=all&topics=Line+9+tram", scheme="dark")
    drawn(browser)
    browser.save_screenshot(str(pictures / "dark.png"))
    assert "24 Feb 2015, 19:20 UTC" in text(browser)
    assert count(browser, ".ms-tile") == 2
    background = browser.execute_script("return getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    assert background == "rgb(18, 23, 28)"
    assert complaints(browser) == []


def test_narrow_page_needs_no_sideways_scrolling(
    dashboard: Dashboard, browser: Any, seed: Seed, pictures: Path
) -> None:
    seed(feed(300, until=datetime.now(NOW.tzinfo)), worker=worker_state())
    look(browser, dashboard.url, width=390, height=4200)
    drawn(browser)
    browser.save_screenshot(str(pictures / "narrow.png"))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.execute_script("return document.querySelector('.ms-tile').getBoundingClientRect().right") <= 390
    assert complaints(browser) == []


def test_page_follows_the_feed_by_itself(dashboard: Dashboard, browser: Any, seed: Seed) -> None:
    look(browser, dashboard.url)
    shown(browser, "No post has been scored yet")
    seed([prediction(1, datetime.now(NOW.tzinfo), text="the very first")])
    shown(browser, "the very first")
    seed([prediction(2, datetime.now(NOW.tzinfo), text="one more")], first_offset=5)
    shown(browser, "one more")
    assert complaints(browser) == []


def test_page_outlives_the_store(
    dashboard: Dashboard, browser: Any, server: Server, seed: Seed, pictures: Path
) -> None:
    seed([prediction(1, datetime.now(NOW.tzinfo), text="before the fall")])
    look(browser, dashboard.url)
    shown(browser, "before the fall")
    server.stop()
    shown(browser, "this is the last picture")
    browser.save_screenshot(str(pictures / "disconnected.png"))
    shown(browser, "before the fall")
    server.start()
    seed([prediction(2, datetime.now(NOW.tzinfo), text="after it")])
    shown(browser, "after it")
    wait_until(lambda: "last picture" not in text(browser), "the banner goes", WAIT_S)
    assert "Traceback" not in text(browser)


def test_hostile_post_is_only_read(dashboard: Dashboard, browser: Any, seed: Seed) -> None:
    now = datetime.now(NOW.tzinfo)
    post = prediction(
        1, now, text=HOSTILE, topics=(HOSTILE[:60],), url="javascript:document.title='owned'", source="sample"
    )
    seed([post], source=HOSTILE)
    look(browser, dashboard.url)
    shown(browser, HOSTILE)
    assert browser.title == "Moodstream"
    assert count(browser, '.stMain a[href^="javascript:"], .stMain script, .stMain img[src="x"]') == 0


SCREENS = (("light", 1280), ("dark", 1280), ("light", 390))


@pytest.mark.parametrize(("scheme", "width"), SCREENS)
def test_trends_on_every_screen(
    dashboard: Dashboard, browser: Any, seed: Seed, pictures: Path, scheme: str, width: int
) -> None:
    seed(feed(900, until=datetime.now(NOW.tzinfo), span=timedelta(hours=7)), kind="sample", worker=worker_state())
    look(browser, f"{dashboard.url}trends?window=6h", width=width, height=1900 if width > 500 else 3400, scheme=scheme)
    charts_drawn(browser, 6)
    browser.save_screenshot(str(pictures / f"trends-{scheme}-{width}.png"))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert complaints(browser) == []


@pytest.mark.parametrize(("scheme", "width"), SCREENS)
def test_health_on_every_screen(
    dashboard: Dashboard, browser: Any, seed: Seed, pictures: Path, scheme: str, width: int
) -> None:
    seed(feed(60, until=datetime.now(NOW.tzinfo)), dead_letters=4, worker=worker_state())
    look(browser, f"{dashboard.url}health", width=width, height=1500, scheme=scheme)
    shown(browser, "Padding wasted")
    shown(browser, "Model card")
    browser.save_screenshot(str(pictures / f"health-{scheme}-{width}.png"))
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert complaints(browser) == []


def test_pages_are_a_click_apart_and_keep_the_view(dashboard: Dashboard, browser: Any, seed: Seed) -> None:
    seed(feed(300, until=datetime.now(NOW.tzinfo)), "other", worker=worker_state())
    look(browser, f"{dashboard.url}?namespace=other&window=6h&zone=Asia%2FTokyo")
    drawn(browser)
    browser.execute_script("""
        [...document.querySelectorAll('[data-testid="stTopNavLink"]')].find(a => a.innerText.includes('Trends')).click()
    """)
    shown(browser, "Share of voice")
    shown(browser, "JST")
    assert "namespace=other" in browser.current_url
    assert "window=6h" in browser.current_url


@pytest.mark.parametrize(("page", "sign"), [("trends", "Share of voice"), ("posts", "posts match")])
def test_trends_and_posts_keep_their_last_picture_greyed(
    dashboard: Dashboard, browser: Any, server: Server, seed: Seed, pictures: Path, page: str, sign: str
) -> None:
    piece = {"trends": '[data-testid="stVegaLiteChart"]', "posts": ".st-key-evidence"}[page]
    grey = f"const found = document.querySelector('{piece}'); return found && getComputedStyle(found).filter"
    seed(feed(60, until=datetime.now(NOW.tzinfo)))
    look(browser, f"{dashboard.url}{page}")
    shown(browser, sign)
    wait_until(lambda: browser.execute_script(grey) == "none", "it has its colours", WAIT_S)
    server.stop()
    shown(browser, "this is the last picture")
    assert browser.execute_script(grey) == "grayscale(1)"
    assert sign in text(browser)
    browser.save_screenshot(str(pictures / f"{page}-frozen.png"))
    server.start()
    seed(feed(60, until=datetime.now(NOW.tzinfo)))
    wait_until(lambda: "last picture" not in text(browser), "the banner goes", WAIT_S)
    wait_until(lambda: browser.execute_script(grey) == "none", "the picture has its colours back", WAIT_S)


def test_last_picture_is_greyed_until_the_store_is_back(
    dashboard: Dashboard, browser: Any, server: Server, seed: Seed, pictures: Path
) -> None:
    seed(feed(300, until=datetime.now(NOW.tzinfo)), worker=worker_state())
    look(browser, f"{dashboard.url}health")
    shown(browser, "Padding wasted")
    grey = "const facts = document.querySelector('.ms-facts'); return facts && getComputedStyle(facts).filter"
    assert browser.execute_script(grey) == "none"
    server.stop()
    shown(browser, "this is the last picture")
    browser.save_screenshot(str(pictures / "health-frozen.png"))
    assert browser.execute_script(grey) == "grayscale(1)"
    server.start()
    seed(feed(300, until=datetime.now(NOW.tzinfo)), worker=worker_state())
    wait_until(lambda: browser.execute_script(grey) == "none", "the picture has its colours back", WAIT_S)
    assert "last picture" not in text(browser)
