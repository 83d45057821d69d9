"""Who may do what: everybody who may look may read; what changes results or topics is for editors.

    no login, this machine alone   everybody at it is an editor
    no login, other addresses      read-only
    login (MOODSTREAM_AUTH=oidc)   viewers are those named in MOODSTREAM_VIEWERS, or all the provider knows; editors
                                   those named in MOODSTREAM_EDITORS

Login is Streamlit's own (OpenID Connect, `[auth]` in secrets.toml).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

import streamlit as st

from . import connection, markup
from .loopback import LOCALHOST, is_loopback

Role = Literal["editor", "viewer", "unwanted", "stranger"]
"""`unwanted`: logged in, and not among those who may look."""
LOCAL: Final = "local"
_FORWARDED: Final = ("x-forwarded-for", "x-forwarded-host", "forwarded", "x-real-ip")


@dataclass(frozen=True)
class Person:
    """Who sits before the page. name: an e-mail address, `local`, or empty for somebody unknown."""

    name: str
    role: Role

    @property
    def is_editor(self) -> bool:
        return self.role == "editor"


def person() -> Person:
    """Who it is now; asked again before every change, as a session may outlive a login."""
    settings = connection.settings()
    if settings.auth == "oidc":
        claims: Mapping[str, object] = st.user.to_dict()
        return of_claims(claims, settings.editors, settings.viewers)
    return of_request(listens_on(), st.context.headers.to_dict())


def listens_on() -> str | None:
    """The address this server was started on; None stands for all of them."""
    address: str | None = st.get_option("server.address")
    return address


def of_claims(claims: Mapping[str, object], editors: Iterable[str], viewers: Iterable[str] | None = None) -> Person:
    """Of what the identity provider says. An address it does not say it has verified names nobody.

    viewers: None lets everybody look whom the provider knows.
    """
    if claims.get("is_logged_in") is not True:
        return Person("", "stranger")
    address = str(claims.get("email") or "").strip().casefold()
    is_known = bool(address) and str(claims.get("email_verified")).casefold() == "true"  # some providers send a string
    name = address or str(claims.get("name") or claims.get("sub") or "somebody")
    if is_known and _is_named(address, editors):
        return Person(name, "editor")
    return Person(name, "viewer" if viewers is None or (is_known and _is_named(address, viewers)) else "unwanted")


def _is_named(address: str, editors: Iterable[str]) -> bool:
    """`ann@example.org`, or everybody of `*@example.org`; no other pattern, so that none says more than it seems to."""
    user, at, domain = address.rpartition("@")
    return bool(user and at and domain) and any(editor in (address, f"*@{domain}") for editor in editors)


def of_request(listens_on: str | None, headers: Mapping[str, str]) -> Person:
    """Without a login: whoever reaches a page that only this machine can reach, under this machine's own name."""
    names = {name.lower(): value for name, value in headers.items()}
    is_forwarded = any(name in names for name in _FORWARDED)
    origin = names.get("origin")  # of whatever page opened the connection, where a browser says so
    is_local = (
        is_loopback(listens_on or "")
        and is_loopback(_host_of(names.get("host", LOCALHOST)))
        and (origin is None or is_loopback(urlsplit(origin).hostname or ""))
        and not is_forwarded
    )
    return Person(LOCAL, "editor") if is_local else Person("", "viewer")


def _host_of(header: str) -> str:
    """Of `Host`: without port and brackets."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.rpartition(":")[0] if ":" in header else header


def gate() -> bool:
    """Whether the page may be shown. Asks strangers to log in; lets everybody else log out."""
    settings = connection.settings()
    if settings.auth != "oidc":
        return True
    if not _is_configured():
        st.html(
            markup.notice(
                "Login is not set up",
                [
                    "MOODSTREAM_AUTH is oidc, but secrets.toml has no [auth] with redirect_uri, cookie_secret and the "
                    "provider's client_id, client_secret and server_metadata_url."
                ],
                [".streamlit/secrets.toml"],
                tone="alarm",
            )
        )
        return False
    who = person()
    if who.role == "stranger":
        st.html(markup.notice("Log in to look", ["This page is for people its owner knows."]))
        st.button("Log in", type="primary", icon=":material/login:", on_click=st.login)
        return False
    if who.role == "unwanted":
        st.html(markup.notice("Not for this account", [f"{who.name} is not among those who may look at this page."]))
        st.button("Log out", icon=":material/logout:", on_click=st.logout)
        return False
    with st.container(key="who", horizontal=True, horizontal_alignment="right", vertical_alignment="center"):
        st.text(f"{who.name} · {who.role}")
        st.button("Log out", icon=":material/logout:", type="tertiary", on_click=st.logout)
    return True


def _is_configured() -> bool:
    try:
        return "auth" in st.secrets
    except FileNotFoundError:
        return False
