"""Posts as cards. A post's text goes through `visible`, here or in `evidence`, which escapes it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Final
from urllib.parse import urlsplit

import streamlit as st

from inference_worker.contract import Prediction

from . import evidence as html
from . import markup, retained
from .errors import DashboardError
from .highlights import visible
from .queries import Snapshot
from .reading import PLAIN, Reading

_TEXT_SHOWN: Final = 400


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
        kept = snapshot
    with suppress(DashboardError):  # which is said above; what was held stays as it was
        kept = replace(kept, posts=tuple(retained.still(kept.namespace, kept.posts)))
    st.session_state["held"] = kept
    return replace(snapshot, posts=kept.posts, pictures=kept.pictures)


def posts(snapshot: Snapshot, reading: Reading = PLAIN) -> None:
    """The latest posts, newest first, in as many columns as fit.

    What a refresh costs grows with its elements: posts without a picture that follow each other are one. A picture is
    one of its own, as Streamlit sends a viewer what has not changed but once.
    """
    with st.container(key="posts"):
        plain = ""
        for slot, post in enumerate(snapshot.posts):
            if not post.images:
                plain += _brief(post, snapshot, reading)
                continue
            if plain:
                st.html(f'<div class="ms-posts">{plain}</div>')
                plain = ""
            with st.container(key=f"post-{slot}", gap="small"):
                _pictured(post, snapshot, reading)
        if plain:
            st.html(f'<div class="ms-posts">{plain}</div>')


def _pictured(post: Prediction, snapshot: Snapshot, reading: Reading) -> None:
    """A sensitive picture stays on the server until it is asked for."""
    jpeg = snapshot.pictures.get(post.id)
    is_veiled = jpeg is not None and post.sensitive and not is_revealed(post.id)
    st.html(html.veil() if is_veiled else html.picture(post, jpeg))
    st.html(_brief(post, snapshot, reading))
    if is_veiled:
        st.button("Show picture", key=f"reveal-{mark(post.id)}", on_click=reveal, args=(post.id,), type="tertiary")


def _brief(post: Prediction, snapshot: Snapshot, reading: Reading) -> str:
    """A post without its picture."""
    now = snapshot.clock if snapshot.is_replay else snapshot.read_at
    text = f'<p class="ms-text" dir="auto">{visible(shortened(post.text))}</p>' if post.text else ""
    link = safe_link(post.url)
    source = (
        f'<a class="ms-link" href="{visible(link)}" target="_blank" rel="noopener noreferrer">Source ↗</a>'
        if link
        else ""
    )
    return (
        f'<article class="ms-post">{markup.card_head(post, now, reading, is_replay=snapshot.is_replay)}{text}'
        f'{markup.card_views(post)}<div class="ms-foot">{markup.card_chips(post)}{source}</div></article>'
    )


def evidence(
    post: Prediction,
    jpeg: bytes | None,
    now: datetime,
    reading: Reading = PLAIN,
    *,
    is_replay: bool,
    is_hot: bool,
    whole: bool = False,
) -> None:
    """A post with all the model made of it: marks in the text, heat over the picture, the three views."""
    st.html(html.head(post, now, reading, is_replay=is_replay))
    is_veiled = bool(post.images) and jpeg is not None and post.sensitive and not is_revealed(post.id)
    drawn = ""
    if post.images:
        hot = retained.heated(jpeg, post.image_map, post.image_map_shape) if is_hot and jpeg and not is_veiled else None
        drawn = html.veil() if is_veiled else html.picture(post, hot or jpeg)
    body = html.body(post, drawn, whole=whole)
    st.html(f'<div class="ms-whole">{body}</div>' if whole else body)
    if is_veiled:
        st.button("Show picture", key=f"reveal-{mark(post.id)}", on_click=reveal, args=(post.id,), type="tertiary")
    st.html(html.description(post) + markup.card_views(post) + html.chips(post) + html.facts(post, reading))


def is_revealed(post_id: str) -> bool:
    """Whether this reader asked for the sensitive picture of a post, here or on the wall."""
    return mark(post_id) in st.session_state.get("revealed", ())


def reveal(post_id: str) -> None:
    st.session_state["revealed"] = {*st.session_state.get("revealed", ()), mark(post_id)}


def mark(post_id: str) -> str:
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
