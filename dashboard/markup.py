"""What every page is built of → HTML for `st.html`: header, shares, a card's parts, notices.

Only names of topics and sources enter it, escaped; never a post's text. Colours and sizes are `style.css`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Final, NamedTuple, Protocol

from inference_worker.contract import ALL, LABELS, Counters, Distribution, Meta, Prediction, most_likely

from .reading import PLAIN, Reading, duration
from .windows import Frame

KIND_NOTICES: Final = {
    "sample": "Sample feed: written and drawn by the project, not live data",
    "replay": "Replay: an archived feed, on its own clock",
}


def topic_title(topic: str) -> str:
    return "All posts" if topic == ALL else topic


def counted(count: float, one: str, reading: Reading = PLAIN) -> str:
    """`1 post`, `1,234 posts`."""
    return f"{reading.compact(count)} {one}" if count == 1 else f"{reading.compact(count)} {one}s"


def sampled(counters: Counters, reading: Reading = PLAIN) -> str:
    """`12.3k scored of 20.1k · 61 % sample`; nothing where all were scored."""
    if not counters.shed:
        return ""
    scored, came = counters.posts, counters.volume
    return f"{reading.compact(scored)} scored of {reading.compact(came)} · {reading.percent(scored, came)} sample"


def sampling(counters: Counters, reading: Reading = PLAIN) -> str:
    """The same as a line of a page."""
    if not (said := sampled(counters, reading)):
        return ""
    return f'<p class="ms-found">{said}: the rest came while the workers were behind, and counts as volume</p>'


class Headed(Protocol):
    """What a header tells of."""

    @property
    def namespace(self) -> str: ...
    @property
    def meta(self) -> Meta: ...
    @property
    def clock(self) -> datetime: ...


class Heading(NamedTuple):
    """What a header tells of, where the page has nothing whole that says it."""

    namespace: str
    meta: Meta
    clock: datetime


def header(of: Headed, reading: Reading = PLAIN, now: datetime | None = None, *, title: str = "Now") -> str:
    """Which page this is, whose mood it tells, by which clock, and how real the feed is."""
    meta = of.meta
    notice = KIND_NOTICES.get(meta.kind)
    age = max((now or datetime.now(UTC)) - of.clock, timedelta(0))
    badge = f'<span class="ms-badge ms-{escape(meta.kind)}">{notice}</span>' if notice else _live_badge(age)
    names = dict.fromkeys(name for name in (of.namespace, meta.source) if name)
    source = f'<span class="ms-source">{escape(" · ".join(names))}</span>'
    return (
        f'<div class="ms-header"><h1 class="ms-namespace">{escape(title)}</h1>{source}{badge}'
        f'<span class="ms-clock">{reading.clock_time(of.clock)}</span></div>'
    )


def _live_badge(age: timedelta) -> str:
    if age > timedelta(minutes=2):
        return f'<span class="ms-badge ms-stale">Quiet: newest post is {duration(age)} old</span>'
    return '<span class="ms-badge ms-live">Live</span>'


def shares(counters: Counters, reading: Reading = PLAIN) -> str:
    """The classes' shares as one bar, with their percentages below."""
    counts = (counters.positive, counters.neutral, counters.negative)
    parts = [
        (label, count, reading.percent(count, counters.posts)) for label, count in zip(LABELS, counts, strict=True)
    ]
    bar = "".join(f'<i class="ms-{label}" style="flex-grow:{count}"></i>' for label, count, _ in parts if count)
    legend = "".join(f'<span class="ms-{label}" title="{label}">{share}</span>' for label, _, share in parts)
    spoken = ", ".join(f"{label} {share}" for label, _, share in parts)
    return f'<div class="ms-bar" role="img" aria-label="{spoken}">{bar}</div><div class="ms-legend">{legend}</div>'


def course_head(bin_label: str, reading: Reading = PLAIN, title: str = "Mood and volume") -> str:
    """Title of the charts below, with the one legend they share."""
    keys = "".join(f'<span class="ms-{label}">{label}</span>' for label in LABELS)
    return (
        f'<div class="ms-course"><h2>{escape(title)} <small>{escape(bin_label)}, {escape(reading.zone)}</small></h2>'
        f'<div class="ms-keys">{keys}<span class="ms-band">95 % interval</span></div></div>'
    )


def per_bin(frame: Frame, reading: Reading) -> str:
    """What a bin of the charts below is, and that it is of UTC's days where it cannot be of the reader's."""
    is_foreign = frame.bins.width_s >= 3 * 3600 and frame.zone != reading.zone
    return f"{frame.bin_label}, of UTC's days" if is_foreign else frame.bin_label


def section(title: str, note: str = "") -> str:
    """A heading within a page, with what it is about in small."""
    return f'<div class="ms-course"><h2>{escape(title)} <small>{escape(note)}</small></h2></div>'


def left_out(shown: int, others: int) -> str:
    """That there are more topics than a page shows; nothing where there are not."""
    if not others:
        return ""
    return f'<p class="ms-quiet">{shown} of {shown + others} topics, the busiest unless you choose others above</p>'


def course_topic(title: str) -> str:
    return f'<h3 class="ms-row">{escape(title)}</h3>'


def card_head(post: Prediction, now: datetime, reading: Reading = PLAIN, *, is_replay: bool) -> str:
    """Class, confidence and time of a post."""
    state = '<span class="ms-flag">abstained</span>' if post.abstained else ""
    return (
        f'<div class="ms-card-head"><span class="ms-class ms-{post.predicted}">{post.predicted}</span>'
        f'<span class="ms-sure">{100 * post.confidence:.0f} % sure</span>{state}'
        f'<time title="{reading.clock_time(post.created_at)}">'
        f"{_post_time(post.created_at, now, reading, is_replay)}</time></div>"
    )


def _post_time(at: datetime, now: datetime, reading: Reading, is_replay: bool) -> str:
    ago = duration(now - at)
    return f"{reading.at(at):%-d %b %Y, %H:%M}" if is_replay else f"{ago} ago"


def card_views(post: Prediction) -> str:
    """What the fused model, the text alone and the picture alone say."""
    rows = (
        _distribution("Fused", post.probabilities, ""),
        _distribution("Text", post.text_probabilities, "no text"),
        _distribution("Image", post.image_probabilities, "picture not scored" if post.images else "no picture"),
    )
    return f'<div class="ms-views">{"".join(rows)}</div>'


def card_chips(post: Prediction) -> str:
    """Where the post comes from, what it is about and what is odd about it."""
    flags = [*(["text and picture disagree"] if post.disagrees else []), *post.warnings]
    chips = [f'<span class="ms-flag">{escape(flag)}</span>' for flag in flags]
    if post.label:
        chips.append(f'<span class="ms-chip">hand label: {escape(post.label)}</span>')
    chips += [f'<span class="ms-chip">{escape(topic)}</span>' for topic in post.topics if topic != ALL]
    return f'<div class="ms-chips"><span class="ms-source">{escape(post.source)}</span>{"".join(chips)}</div>'


def _distribution(name: str, probabilities: Distribution | None, missing: str) -> str:
    if probabilities is None:
        return f'<div class="ms-view"><span>{name}</span><em>{missing}</em></div>'
    parts = list(zip(LABELS, probabilities, strict=True))
    bar = "".join(f'<i class="ms-{label}" style="flex-grow:{share:.3f}"></i>' for label, share in parts)
    spoken = ", ".join(f"{label} {100 * share:.0f} %" for label, share in parts)
    top = most_likely(probabilities)
    return (
        f'<div class="ms-view" title="{spoken}"><span>{name}</span>'
        f'<div class="ms-bar" role="img" aria-label="{name}: {spoken}">{bar}</div>'
        f'<b class="ms-{top}">{100 * max(probabilities):.0f} %</b></div>'
    )


def facts(rows: Iterable[tuple[str, str, str]]) -> str:
    """Name, value and note of each, as one line of figures; they are HTML already."""
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd><dd class='ms-note'>{note}</dd></div>" for name, value, note in rows
    )
    return f'<dl class="ms-facts">{cells}</dl>'


def notice(title: str, sentences: Sequence[str], commands: Sequence[str] = (), *, tone: str = "calm") -> str:
    """A state of the page in words: what is, why, and what to type. Everything is escaped."""
    body = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    typed = "".join(f"<code>{escape(command)}</code>" for command in commands)
    return f'<div class="ms-notice ms-{escape(tone)}" role="status"><h2>{escape(title)}</h2>{body}{typed}</div>'
