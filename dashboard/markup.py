"""Numbers of a snapshot → HTML for `st.html`.

Only names of topics and sources enter it, escaped; never a post's text. Colours and sizes are `style.css`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Final

from inference_worker.contract import ALL, FIXED_POINT, LABELS, Counters, Distribution, Prediction, most_likely

from .queries import Mood, Snapshot
from .windows import BEFORE

KIND_NOTICES: Final = {
    "sample": "Sample feed: written and drawn by the project, not live data",
    "replay": "Replay: an archived feed, on its own clock",
}
_MINUS: Final = "\N{MINUS SIGN}"


def topic_title(topic: str) -> str:
    return "All posts" if topic == ALL else topic


def signed(value: float) -> str:
    """Two decimals with a sign, a true minus, and no sign at zero."""
    if round(value, 2) == 0:
        return "0.00"
    return f"{'+' if value > 0 else _MINUS}{abs(value):.2f}"


def compact(count: float) -> str:
    """1234 → `1,234`; 45678 → `45.7k`."""
    if count < 10_000:
        return f"{count:,.0f}"
    return f"{count / 1000:.1f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"


def percent(part: float, whole: float) -> str:
    """`12 %`; one decimal below 10 %, so that rare things do not read as none."""
    if not whole:
        return "\N{EN DASH}"
    share = 100 * part / whole
    return f"{share:.1f} %" if 0 < share < 10 else f"{share:.0f} %"


def duration(span: timedelta) -> str:
    """`12 s`, `4 min`, `3 h`, `2 d`."""
    seconds = max(int(span.total_seconds()), 0)
    for limit, unit, name in ((100, 1, "s"), (100 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds // unit} {name}"
    return f"{seconds // 86_400} d"


def latency(milliseconds: float) -> str:
    return f"{milliseconds:.0f} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"


def clock_time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%-d %b %Y, %H:%M} UTC"


def header(snapshot: Snapshot) -> str:
    """Whose mood this is, by which clock, and how real the feed is."""
    meta = snapshot.meta
    notice = KIND_NOTICES.get(meta.kind)
    badge = f'<span class="ms-badge ms-{escape(meta.kind)}">{notice}</span>' if notice else _live_badge(snapshot)
    source = f'<span class="ms-source">{escape(meta.source)}</span>' if meta.source else ""
    return (
        f'<div class="ms-header"><span class="ms-namespace">{escape(snapshot.namespace)}</span>{source}{badge}'
        f'<span class="ms-clock">{clock_time(snapshot.clock)}</span></div>'
    )


def _live_badge(snapshot: Snapshot) -> str:
    if snapshot.age > timedelta(minutes=2):
        return f'<span class="ms-badge ms-stale">Quiet: newest post is {duration(snapshot.age)} old</span>'
    return '<span class="ms-badge ms-live">Live</span>'


def tiles(moods: Sequence[Mood], window: str) -> str:
    """A tile per topic: mood now, how sure, against before, from which posts."""
    return f'<div class="ms-tiles">{"".join(_tile(mood, window) for mood in moods)}</div>'


def _tile(mood: Mood, window: str) -> str:
    title = f'<h3 class="ms-topic">{escape(topic_title(mood.topic))}</h3>'
    if mood.net is None:
        return f'<section class="ms-tile ms-none">{title}<p class="ms-quiet">No post in this window</p></section>'
    counters = mood.counters
    lean = {1: "positive", -1: "negative", 0: "neutral"}[mood.net.lean]
    words = {1: "leans positive", -1: "leans negative", 0: "no clear lean"}[mood.net.lean]
    return (
        f'<section class="ms-tile">{title}'
        f'<div class="ms-net"><span class="ms-value ms-{lean}">{signed(mood.net.mean)}</span>'
        f'<span class="ms-words">{words}<br><small>95 %: {signed(mood.net.low)} to {signed(mood.net.high)}</small>'
        f"</span></div>"
        f"{_change(mood, window)}{_spark(mood.spark)}{shares(counters)}"
        f'<p class="ms-basis"><b>{compact(counters.posts)}</b> {"post" if counters.posts == 1 else "posts"}'
        f"<span>abstained "
        f"{percent(counters.abstained, counters.posts)}</span></p></section>"
    )


def _change(mood: Mood, window: str) -> str:
    if mood.posts_before is None:
        return '<p class="ms-change">over the whole feed</p>'
    if mood.change is None:
        return f'<p class="ms-change">no posts in {BEFORE[window]}</p>'
    clear = {1: "ms-positive", -1: "ms-negative", 0: ""}[mood.change.lean]
    note = "" if clear else " · within chance"
    arrow = "▲" if mood.change.mean > 0 else "▼"
    return (
        f'<p class="ms-change"><b class="{clear}">{arrow} {signed(mood.change.mean)}</b> vs {BEFORE[window]}{note}</p>'
    )


def _spark(values: Sequence[float | None]) -> str:
    """Net sentiment over the window as bars up and down from the line of balance."""
    reach = max((abs(value) for value in values if value is not None), default=0.0) or 1.0
    bars = []
    for value in values:
        if value is None:
            bars.append("<i></i>")
            continue
        side = "positive" if value >= 0 else "negative"
        bars.append(f'<i><u class="ms-{side}" style="height:{max(50 * abs(value) / reach, 2):.0f}%"></u></i>')
    return f'<div class="ms-spark" aria-hidden="true">{"".join(bars)}</div>'


def shares(counters: Counters) -> str:
    """The classes' shares as one bar, with their percentages below."""
    counts = (counters.positive, counters.neutral, counters.negative)
    parts = [(label, count, percent(count, counters.posts)) for label, count in zip(LABELS, counts, strict=True)]
    bar = "".join(f'<i class="ms-{label}" style="flex-grow:{count}"></i>' for label, count, _ in parts if count)
    legend = "".join(f'<span class="ms-{label}" title="{label}">{share}</span>' for label, _, share in parts)
    spoken = ", ".join(f"{label} {share}" for label, _, share in parts)
    return f'<div class="ms-bar" role="img" aria-label="{spoken}">{bar}</div><div class="ms-legend">{legend}</div>'


def course_head(bin_label: str) -> str:
    """Titles of the two columns of charts, with the one legend both share."""
    keys = "".join(f'<span class="ms-{label}">{label}</span>' for label in LABELS)
    return (
        f'<div class="ms-course"><h2>Mood and volume <small>{escape(bin_label)}, UTC</small></h2>'
        f'<div class="ms-keys">{keys}<span class="ms-band">95 % interval</span></div></div>'
    )


def course_topic(title: str) -> str:
    return f'<h3 class="ms-row">{escape(title)}</h3>'


def confidence(snapshot: Snapshot) -> str:
    """The line that says how sure the page is of itself."""
    total, counts = snapshot.total, snapshot.counts
    facts = [
        ("Posts scored", compact(counts.get("scored", 0)), f"{compact(total.posts)} in the window"),
        ("Abstained", percent(total.abstained, total.posts), "model not sure enough"),
        ("Confidence", percent(total.confidence_sum / FIXED_POINT, total.posts), "mean, calibrated"),
    ]
    if total.labelled:
        facts.append(("Accuracy", percent(total.correct, total.labelled), f"on {compact(total.labelled)} hand labels"))
    facts += [
        ("Duplicates", compact(counts.get("duplicates", 0)), "counted once"),
        ("Dead letters", compact(counts.get("dead_letters", 0)), "set aside, kept"),
        *_worker_facts(snapshot),
        _freshness(snapshot),
    ]
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value}</dd><dd class='ms-note'>{note}</dd></div>" for name, value, note in facts
    )
    return f'<dl class="ms-facts">{cells}</dl>'


def _worker_facts(snapshot: Snapshot) -> list[tuple[str, str, str]]:
    workers = snapshot.workers
    if not workers and snapshot.is_replay:
        return [("Worker", "none", "needed while replaying")]
    if not workers:
        return [("Worker", "none", "start one: <code>moodstream worker</code>")]
    count = "1 worker" if len(workers) == 1 else f"slowest of {len(workers)}"
    p50, p95 = (max(getattr(worker, name) for worker in workers) for name in ("latency_p50_ms", "latency_p95_ms"))
    lags = [worker.lag for worker in workers if worker.lag is not None]
    rate = sum(worker.posts_per_s for worker in workers)
    return [
        ("Latency", latency(p50), f"p95 {latency(p95)}, {count}"),
        ("Lag", compact(sum(lags)) if lags else "\N{EN DASH}", f"waiting; {rate:,.1f} scored/s"),
    ]


def _freshness(snapshot: Snapshot) -> tuple[str, str, str]:
    if snapshot.is_replay:
        return ("Clock", f"{snapshot.clock:%H:%M}", f"{snapshot.clock:%-d %b %Y}, the feed's own time")
    return ("Newest post", duration(snapshot.age), "old, by your clock")


def card_head(post: Prediction, now: datetime, *, is_replay: bool) -> str:
    """Class, confidence and time of a post."""
    state = '<span class="ms-flag">abstained</span>' if post.abstained else ""
    return (
        f'<div class="ms-card-head"><span class="ms-class ms-{post.predicted}">{post.predicted}</span>'
        f'<span class="ms-sure">{100 * post.confidence:.0f} % sure</span>{state}'
        f'<time title="{clock_time(post.created_at)}">{_post_time(post.created_at, now, is_replay)}</time></div>'
    )


def _post_time(at: datetime, now: datetime, is_replay: bool) -> str:
    ago = duration(now - at)
    return f"{at:%-d %b %Y, %H:%M}" if is_replay else f"{ago} ago"


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


def notice(title: str, sentences: Sequence[str], commands: Sequence[str] = (), *, tone: str = "calm") -> str:
    """A state of the page in words: what is, why, and what to type. Everything is escaped."""
    body = "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)
    typed = "".join(f"<code>{escape(command)}</code>" for command in commands)
    return f'<div class="ms-notice ms-{escape(tone)}" role="status"><h2>{escape(title)}</h2>{body}{typed}</div>'
