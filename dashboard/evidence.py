"""A post with what the model made of it → HTML for `st.html`. All that came from outside goes through `visible`."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from typing import Final

from inference_worker.contract import Prediction

from . import markup
from .highlights import STEPS, marked, visible
from .reading import PLAIN, Reading

TEXT_SHOWN: Final = 420


def head(post: Prediction, now: datetime, reading: Reading = PLAIN, *, is_replay: bool) -> str:
    """Class, confidence and time; what a person said goes first."""
    line = markup.card_head(post, now, reading, is_replay=is_replay)
    if post.correction is None:
        return line
    return (
        f'<div class="ms-corrected"><span class="ms-class ms-{post.correction}">{post.correction}</span> '
        f"corrected by a person</div>{line}"
    )


def body(post: Prediction, picture: str, *, whole: bool = False) -> str:
    """Text with its marks, beside the picture."""
    words = marked(post.text, post.token_map, None if whole else TEXT_SHOWN)
    text = f'<p class="ms-text" dir="auto">{words}</p>' if post.text else '<p class="ms-text ms-none">no text</p>'
    return f'<div class="ms-body">{picture}{text}</div>'


def picture(post: Prediction, jpeg: bytes | None, *, caption: str = "") -> str:
    """Inline, as Streamlit's media files may be gone before a busy browser asks."""
    if jpeg is None:
        return '<figure class="ms-picture"><div class="ms-veil">no longer kept</div></figure>'
    alt = post.alt[post.strongest_image] if post.strongest_image < len(post.alt) else ""
    more = f'<span class="ms-more">1 of {post.images}</span>' if post.images > 1 else ""
    return (
        f'<figure class="ms-picture"><img src="data:image/jpeg;base64,{b64encode(jpeg).decode()}" '
        f'alt="{visible(alt or "Picture of the post, undescribed by its author")}">{more}'
        f"{f'<figcaption>{caption}</figcaption>' if caption else ''}</figure>"
    )


def veil() -> str:
    """In place of a sensitive picture, which stays on the server until it is asked for."""
    return '<figure class="ms-picture"><div class="ms-veil ms-frosted">sensitive</div></figure>'


def description(post: Prediction) -> str:
    """What the author says is to be seen on the pictures."""
    said = [alt for alt in post.alt if alt]
    return f'<p class="ms-alt" dir="auto"><b>Described as</b> {visible(" · ".join(said))}</p>' if said else ""


def facts(post: Prediction, reading: Reading = PLAIN) -> str:
    """The small print: where from, in which language, how fast, by whom."""
    took = reading.latency(1000 * (post.scored_at - post.ingested_at).total_seconds())
    said = [
        visible(post.source),
        f"language {visible(post.lang)}" if post.lang else "language unknown",
        f"scored in {took}",
        *([f"author {author_name(post.author)}"] if post.author else []),
        *([f"reach {reading.compact(post.reach)}"] if post.reach is not None else []),
    ]
    return f'<p class="ms-facts-line">{" · ".join(said)}</p>'


def chips(post: Prediction) -> str:
    """What is odd about the post, and what it is about."""
    flags = [
        *(["text and picture disagree"] if post.disagrees else []),
        *(["language the model does not know"] if post.foreign else []),
        *post.warnings,
    ]
    parts = [f'<span class="ms-flag">{visible(flag)}</span>' for flag in flags]
    if post.label:
        parts.append(f'<span class="ms-chip">hand label: {visible(post.label)}</span>')
    parts += [f'<span class="ms-chip">{visible(topic)}</span>' for topic in post.topics]
    return f'<div class="ms-chips">{"".join(parts)}</div>' if parts else ""


def quote(post: Prediction, reading: Reading = PLAIN) -> str:
    """A post in one line or two, as an example of something."""
    words = marked(post.text, (), 180) if post.text else "<em>picture without text</em>"
    return (
        f'<li class="ms-quote"><span class="ms-dot ms-{post.mood}" title="{post.mood}"></span>'
        f'<span dir="auto">{words}</span><time>{reading.at(post.created_at):%H:%M}</time></li>'
    )


def author_name(author: str) -> str:
    """A keyed hash says nobody's name; its first digits tell authors apart."""
    return visible(author[:4])


def legend() -> str:
    """What the marks mean."""
    shades = "".join(f'<mark class="ms-m{shade}">&nbsp;</mark>' for shade in range(1, STEPS + 1))
    return (
        f'<p class="ms-key"><span class="ms-scale">{shades}</span> what the model found in this text alone, or in this '
        "picture alone, and in nothing the two share: the stronger, the more of its view comes from there</p>"
    )
