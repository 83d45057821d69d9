"""Who may do what: by where the page listens, by how it is asked, and by who logged in."""

from __future__ import annotations

from datetime import datetime

import pytest
from streamlit.testing.v1 import AppTest

from dashboard.access import Person, of_claims, of_request
from dashboard.loopback import is_loopback
from dashboard.settings import Settings
from tests.dashboard.opening import open_page, run
from tests.dashboard.seeding import NOW, Seed, Server, prediction

EDITOR, READER = Person("local", "editor"), Person("", "viewer")
ANN = {"is_logged_in": True, "email": "Ann@Example.org", "email_verified": True}


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost", "127.9.9.9"])
def test_this_machine_alone_is_an_editor(address: str) -> None:
    assert of_request(address, {"Host": "localhost:8501"}) == EDITOR
    assert of_request(address, {}) == EDITOR


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.4", "example.org", "", None, "localhost.evil.example"])
def test_an_exposed_page_is_read_only(address: str | None) -> None:
    assert of_request(address, {"Host": "localhost:8501"}) == READER


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "mood.example.org"},
        {"Host": "rebound.evil.example:8501"},
        {"Host": "[2001:db8::1]:8501"},
        {"Host": "localhost", "X-Forwarded-For": "203.0.113.9"},
        {"host": "localhost", "Forwarded": "for=203.0.113.9"},
        {"Host": "localhost:8501", "Origin": "https://evil.example"},
    ],
)
def test_who_comes_by_another_name_or_a_proxy_only_reads(headers: dict[str, str]) -> None:
    assert of_request("127.0.0.1", headers) == READER


@pytest.mark.parametrize(
    ("claims", "editors", "role"),
    [
        ({}, ("ann@example.org",), "stranger"),
        ({"is_logged_in": False, "email": "ann@example.org"}, ("ann@example.org",), "stranger"),
        (ANN, ("ann@example.org",), "editor"),
        (ANN, ("*@example.org",), "editor"),
        (ANN, (), "viewer"),
        (ANN, ("bob@example.org", "*@example.com", "*@ample.org"), "viewer"),
        (ANN | {"email_verified": False}, ("*@example.org",), "viewer"),
        (ANN | {"email_verified": "false"}, ("*@example.org",), "viewer"),
        (ANN | {"email_verified": None}, ("*@example.org",), "viewer"),
        (ANN | {"email_verified": "true"}, ("*@example.org",), "editor"),
        (ANN | {"email": "x@evil.example@example.org.evil"}, ("*@example.org",), "viewer"),
        ({"is_logged_in": True, "name": "ann@example.org"}, ("ann@example.org",), "viewer"),
    ],
)
def test_editors_are_those_named(claims: dict[str, object], editors: tuple[str, ...], role: str) -> None:
    assert of_claims(claims, editors).role == role


@pytest.mark.parametrize(
    ("viewers", "role"),
    [
        (None, "viewer"),
        (("*@example.org",), "viewer"),
        (("bob@example.org",), "unwanted"),
    ],
)
def test_where_viewers_are_named_others_the_provider_knows_may_not_look(
    viewers: tuple[str, ...] | None, role: str
) -> None:
    assert of_claims(ANN, (), viewers).role == role
    assert of_claims(ANN, ("ann@example.org",), viewers).role == "editor"
    unverified = of_claims(ANN | {"email_verified": False}, (), viewers)
    assert unverified.role == ("viewer" if viewers is None else "unwanted")


def test_settings_name_the_editors() -> None:
    settings = Settings.from_env({"MOODSTREAM_AUTH": "oidc", "MOODSTREAM_EDITORS": "Ann@example.org, *@example.com"})
    assert (settings.auth, settings.editors) == ("oidc", ("ann@example.org", "*@example.com"))


@pytest.mark.parametrize("value", ["*", "*@*", "ann", "a*@example.org", "@example.org"])
def test_an_editor_who_is_nobody_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="MOODSTREAM_EDITORS names"):
        Settings.from_env({"MOODSTREAM_EDITORS": value})


def test_an_unknown_login_is_refused() -> None:
    with pytest.raises(ValueError, match="MOODSTREAM_AUTH is 'ldap': use off, or oidc"):
        Settings.from_env({"MOODSTREAM_AUTH": "ldap"})


def test_loopback_is_this_machine() -> None:
    assert is_loopback("::1") and not is_loopback("0.0.0.0")


class User(dict[str, object]):
    """What Streamlit says of who is there."""

    to_dict = dict.copy


@pytest.fixture
def post(seed: Seed) -> None:
    seed([prediction(1, datetime.now(NOW.tzinfo), text="the secret post")])


def opened(name: str, server: Server, monkeypatch: pytest.MonkeyPatch, user: User) -> AppTest:
    page = open_page(name, server.url, monkeypatch)
    monkeypatch.setenv("MOODSTREAM_AUTH", "oidc")
    monkeypatch.setenv("MOODSTREAM_EDITORS", "ann@example.org")
    monkeypatch.setattr("streamlit.user", user)
    page.secrets["auth"] = {"redirect_uri": "http://localhost/oauth2callback"}
    return page


@pytest.mark.usefixtures("post")
def test_strangers_see_nothing_but_the_way_in(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    page = opened("now", server, monkeypatch, User(is_logged_in=False))
    html = run(page)
    assert "Log in to look" in html and "secret" not in html
    assert not [text for text in page.text if "secret" in text.value]
    assert [button.label for button in page.button] == ["Log in"]


@pytest.mark.usefixtures("post")
@pytest.mark.parametrize(("address", "role"), [("bob@example.org", "viewer"), ("ann@example.org", "editor")])
def test_the_frame_says_who_is_there(server: Server, monkeypatch: pytest.MonkeyPatch, address: str, role: str) -> None:
    page = opened("now", server, monkeypatch, User(is_logged_in=True, email=address, email_verified=True))
    html = run(page)
    assert f"{address} · {role}" in [text.value for text in page.text] and "the secret post" in html
    assert "Log out" in [button.label for button in page.button]


@pytest.mark.usefixtures("post")
@pytest.mark.parametrize(("address", "controls"), [("bob@example.org", 0), ("ann@example.org", 1)])
def test_editors_alone_can_correct(
    server: Server, monkeypatch: pytest.MonkeyPatch, address: str, controls: int
) -> None:
    page = opened("posts", server, monkeypatch, User(is_logged_in=True, email=address, email_verified=True))
    assert "the secret post" in run(page)
    assert len([group for group in page.get("button_group") if group.label == "Correct me"]) == controls


@pytest.mark.usefixtures("post")
def test_a_login_that_is_not_set_up_is_told_and_shows_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    page = opened("now", server, monkeypatch, User(is_logged_in=False))
    del page.secrets["auth"]
    html = run(page)
    assert "secrets.toml has no [auth]" in html and not page.text
