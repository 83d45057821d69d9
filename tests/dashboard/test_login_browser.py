"""Login against a real OpenID provider, in headless Chromium: nobody sees anything before, and editors alone change."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from redis import Redis

from deploy.servers import free_port
from inference_worker.amendments import corrections
from inference_worker.contract import Results
from tests.dashboard.openid_provider import Flaw, OpenIdProvider, openid_provider
from tests.dashboard.seeding import NOW, Seed, Server, prediction, wait_until
from tests.dashboard.serving import Dashboard, serving
from tests.dashboard.test_browser import browser, count, shown, text
from tests.inference_worker.test_store import dump

__all__ = ["browser"]  # a fixture

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(240)]

PAGES = ("", "trends", "posts", "why", "alerts", "runs", "topics", "health")
SECRET = "the secret post"
GATE = "Log in to look"


@pytest.fixture
def provider() -> Iterator[OpenIdProvider]:
    with openid_provider() as provider:
        yield provider


@pytest.fixture
def post(seed: Seed) -> None:
    seed([prediction(1, datetime.now(NOW.tzinfo), text=SECRET)])


def started(
    server: Server, folder: Path, provider: OpenIdProvider, port: int | None = None
) -> AbstractContextManager[Dashboard]:
    (folder / ".streamlit").mkdir(exist_ok=True)
    (folder / ".streamlit" / "secrets.toml").write_text(provider.secrets_toml())
    environment = {"MOODSTREAM_AUTH": "oidc", "MOODSTREAM_EDITORS": "ann@example.org"}
    return serving(server.url, folder / "log", folder=folder, environment=environment, port=port)


def open_as_stranger(browser: Any, url: str) -> None:
    """With no cookie of an earlier login."""
    browser.get("about:blank")
    browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.get(url)
    shown(browser, GATE)


def press(browser: Any, label: str) -> None:
    script = """
        const found = [...document.querySelectorAll('button')].find(one => one.innerText.includes(arguments[0]));
        if (found) found.click();
        return Boolean(found)
    """
    wait_until(lambda: bool(browser.execute_script(script, label)), f"a button {label!r}", 30)


def log_in(browser: Any, url: str, who: str) -> None:
    open_as_stranger(browser, url)
    press(browser, "Log in")
    shown(browser, who)


@pytest.mark.usefixtures("post")
def test_every_page_asks_for_a_login_also_after_a_restart(
    server: Server, tmp_path: Path, provider: OpenIdProvider, browser: Any
) -> None:
    port = free_port()
    for _ in range(2):
        with started(server, tmp_path, provider, port) as dashboard:
            for page in PAGES:
                open_as_stranger(browser, f"{dashboard.url}{page}?namespace=live")
                assert SECRET not in text(browser), page
                assert count(browser, ".ms-tile, .ms-chips, [data-testid='stVegaLiteChart']") == 0, page
    assert "/authorize" not in provider.asked


@pytest.mark.usefixtures("post")
def test_a_named_editor_may_relabel_another_only_reads_and_logging_out_ends_it(
    server: Server, tmp_path: Path, provider: OpenIdProvider, browser: Any
) -> None:
    port = free_port()
    with started(server, tmp_path, provider, port) as dashboard:
        provider.address = "bob@example.org"
        log_in(browser, dashboard.url, "bob@example.org · viewer")
        browser.get(f"{dashboard.url}posts")
        shown(browser, SECRET)
        assert not browser.execute_script(OFFERED)
        press(browser, "Log out")
        shown(browser, GATE)
        browser.get(f"{dashboard.url}posts")
        shown(browser, GATE)
        assert SECRET not in text(browser)

        provider.address = "ann@example.org"
        log_in(browser, dashboard.url, "ann@example.org · editor")
        browser.get(f"{dashboard.url}posts")
        shown(browser, SECRET)
        wait_until(lambda: bool(browser.execute_script(OFFERED)), "a class can be chosen", 30)
    with started(server, tmp_path, provider, port) as dashboard:  # a login outlives the server: it is in the cookie
        browser.get(f"{dashboard.url}health")
        shown(browser, "ann@example.org · editor")
    assert provider.refused == []


OFFERED = "return document.querySelectorAll('.st-key-tools-0 [data-testid=stButtonGroup] button').length > 0"
CHOOSE = """
    const found = [...document.querySelectorAll('.st-key-tools-0 button, .st-key-tools-0 [role=radio]')]
        .find(one => one.textContent.includes('negative'));
    if (found) found.click();
    return Boolean(found)
"""


@pytest.mark.usefixtures("post")
def test_an_editors_relabel_and_its_undo_leave_every_rollup_as_it_was(
    server: Server, redis: Redis, tmp_path: Path, provider: OpenIdProvider, browser: Any
) -> None:
    def until(words: str, *, there: bool) -> None:
        wait_until(lambda: (words in text(browser)) is there, f"{words!r} {'comes' if there else 'goes'}", 30)

    before = dump(redis)
    with started(server, tmp_path, provider) as dashboard:
        provider.address = "bob@example.org"
        log_in(browser, dashboard.url, "bob@example.org · viewer")
        browser.get(f"{dashboard.url}posts")
        shown(browser, SECRET)
        assert not browser.execute_script(OFFERED)
        assert dump(redis) == before

        provider.address = "ann@example.org"
        log_in(browser, dashboard.url, "ann@example.org · editor")
        browser.get(f"{dashboard.url}posts")
        shown(browser, SECRET)
        wait_until(lambda: bool(browser.execute_script(CHOOSE)), "a class can be chosen", 30)
        until("corrected by a person", there=True)
        assert dump(redis) != before
        wait_until(lambda: bool(browser.execute_script(CHOOSE)), "it can be taken back", 30)
        until("corrected by a person", there=False)
    assert dump(redis) == before
    steps = corrections(Results(redis, "live"))
    assert [(step.by, step.label) for step in steps] == [("ann@example.org", "negative"), ("ann@example.org", None)]


@pytest.mark.usefixtures("post")
def test_forged_and_expired_tokens_are_refused(
    server: Server, tmp_path: Path, provider: OpenIdProvider, browser: Any
) -> None:
    with started(server, tmp_path, provider) as dashboard:
        for flaw in [flaw for flaw in get_args(Flaw) if flaw]:
            provider.flaw = flaw
            open_as_stranger(browser, dashboard.url)
            before = provider.asked.count("/token")
            press(browser, "Log in")
            wait_until(lambda before=before: provider.asked.count("/token") > before, f"a token: {flaw}", 30)  # type: ignore[misc]
            shown(browser, GATE)
            assert not [one for one in browser.get_cookies() if one["name"].startswith("_streamlit_user")], flaw
            assert SECRET not in text(browser), flaw
        browser.add_cookie({"name": "_streamlit_user", "value": '{"is_logged_in":true,"email":"ann@example.org"}'})
        browser.get(dashboard.url)
        shown(browser, GATE)
        log = (tmp_path / "log").read_text()
        assert log.count("OAuth token exchange failed") == len(get_args(Flaw)) - 1
        with urllib.request.urlopen(f"{dashboard.url}oauth2callback?code=x&state=y") as answer:
            assert "_streamlit_user" not in str(answer.headers)
