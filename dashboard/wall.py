"""The wall of pictures that move the mood. A sensitive picture stays on the server until it is asked for."""

from __future__ import annotations

from base64 import b64encode
from typing import Final

import streamlit as st

from . import cards, connection, tiles
from .errors import DashboardError
from .filters import View
from .memes import Meme, Wall

PACE_S: Final = 10.0


@st.fragment(run_every=PACE_S)
def pictures(view: View) -> None:
    """The memes of the window, as many in a row as fit."""
    try:
        frame = connection.snapshot(view.namespace, view.window, view.topics, view.reading.zone).frame
        found = connection.wall(view.namespace, view.window, view.topics)
    except DashboardError:
        return  # the page above says why
    st.html(tiles.wall_head(found, frame, view.reading))
    with st.container(key="wall"):
        for slot, meme in enumerate(found.memes):
            with st.container(key=f"meme-{slot}", border=True, gap="small"):
                _picture(meme, found)
                st.html(tiles.meme(meme, view.reading))


def _picture(meme: Meme, found: Wall) -> None:
    jpeg = found.pictures.get((meme.post.id, meme.image))
    if jpeg is None:
        st.html('<div class="ms-veil">no longer kept</div>')
    elif meme.is_sensitive and not cards.is_revealed(meme.post.id):
        st.html('<div class="ms-veil ms-frosted">sensitive</div>')
        st.button(
            "Show picture",
            key=f"unveil-{cards.mark(meme.post.id)}",
            on_click=cards.reveal,
            args=(meme.post.id,),
            type="tertiary",
        )
    else:
        alt = meme.post.alt[meme.image] if meme.image < len(meme.post.alt) else ""
        # Inline: Streamlit sends equal messages once, while its media files may be gone before a busy browser asks.
        address = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
        st.image(address, width="stretch", alt=alt or "Picture of the post, undescribed by its author")
