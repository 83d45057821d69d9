"""Posts as cards. A post's text goes through `st.text` only, which knows neither HTML nor Markdown."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

import streamlit as st

from inference_worker.contract import Prediction

from . import markup
from .queries import Snapshot

_TEXT_SHOWN: Final = 400
_PICTURE_WIDTH: Final = 128


def held(snapshot: Snapshot) -> Snapshot:
    """The snapshot itself or, while the reader holds the list, with the posts of when that began."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Latest posts", anchor=False)
        is_held = st.toggle("Hold still", key="hold", help="Keep these posts while you read them.")
    if not is_held:
        st.session_state.pop("held", None)
        return snapshot
    kept: Snapshot = st.session_state.setdefault("held", snapshot)
    if kept.namespace != snapshot.namespace:
        kept = st.session_state["held"] = snapshot
    return replace(snapshot, posts=kept.posts, pictures=kept.pictures)


def posts(snapshot: Snapshot) -> None:
    """The latest posts, newest first, in as many columns as fit."""
    with st.container(key="posts"):
        for slot, post in enumerate(snapshot.posts):
            with st.container(key=f"post-{slot}", border=True, gap="small"):
                _card(slot, post, snapshot)


def _card(slot: int, post: Prediction, snapshot: Snapshot) -> None:
    now = snapshot.clock if snapshot.is_replay else snapshot.read_at
    st.html(markup.card_head(post, now, is_replay=snapshot.is_replay))
    with st.container(key=f"body-{slot}", horizontal=True, gap="small"):
        if post.images:
            with st.container(key=f"picture-{slot}", width=_PICTURE_WIDTH, gap=None):
                _picture(post, snapshot.pictures.get(post.id))
        if post.text:
            st.text(shortened(post.text), width="stretch")
    st.html(markup.card_views(post))
    with st.container(key=f"foot-{slot}", horizontal=True, gap="small", vertical_alignment="center"):
        st.html(markup.card_chips(post))
        if link := safe_link(post.url):
            st.link_button("Source", link, type="tertiary", icon=":material/open_in_new:")


def _picture(post: Prediction, jpeg: bytes | None) -> None:
    """A sensitive picture stays on the server until it is asked for."""
    if jpeg is None:
        st.html('<div class="ms-veil">no longer kept</div>')
        return
    if post.sensitive and not _is_revealed(post.id):
        st.html('<div class="ms-veil ms-frosted">sensitive</div>')
        st.button("Show picture", key=f"reveal-{_mark(post.id)}", on_click=_reveal, args=(post.id,), type="tertiary")
        return
    alt = post.alt[post.strongest_image] if post.strongest_image < len(post.alt) else ""
    # Inline: Streamlit sends equal messages once, while its media files may be gone before a busy browser asks.
    address = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
    st.image(address, width="stretch", alt=alt or "Picture of the post, undescribed by its author")


def _is_revealed(post_id: str) -> bool:
    return _mark(post_id) in st.session_state.get("revealed", ())


def _reveal(post_id: str) -> None:
    st.session_state["revealed"] = {*st.session_state.get("revealed", ()), _mark(post_id)}


def _mark(post_id: str) -> str:
    """A widget key becomes a CSS class: none of the id's own characters may enter it."""
    return sha256(post_id.encode()).hexdigest()[:16]


def shortened(text: str, limit: int = _TEXT_SHOWN) -> str:
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def safe_link(url: str | None) -> str | None:
    """The address itself if it is plain http(s) with a host and no credentials, else None."""
    if not url or len(url) > 2048 or any(character.isspace() or ord(character) < 32 for character in url):
        return None
    try:
        parts = urlsplit(url)
        host, user = parts.hostname, parts.username
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and host and user is None else None
