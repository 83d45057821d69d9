"""Numbers of the page Now → HTML: a tile per topic, how sure the page is, what a picture moved.

Only names of topics enter it, escaped; never a post's text. Colours and sizes are `style.css`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from html import escape
from typing import Final, NamedTuple

from inference_worker.contract import ALL, FIXED_POINT, Counters, WorkerState

from .markup import counted, facts, header, left_out, sampled, shares, topic_title
from .memes import Meme, Wall
from .queries import Change, Mood, Snapshot
from .reading import PLAIN, Reading, duration
from .windows import BEFORE, SAME, Frame

TILES_SHOWN: Final = 8
BEHIND_S: Final = 10.0
"""From here on it is told that the workers are behind, as they log it."""
_LEANS: Final = {
    1: ("positive", "leans positive"),
    -1: ("negative", "leans negative"),
    0: ("neutral", "no clear lean"),
}


def now(snapshot: Snapshot, reading: Reading = PLAIN, strip: str = "") -> str:
    """All numbers of the page at once, with the strip of alerts: one element costs a refresh less than five."""
    shown = snapshot.shown[:TILES_SHOWN]
    more = left_out(len(shown), len(snapshot.shown) - len(shown) + snapshot.left_out)
    moods = [snapshot.moods[topic] for topic in shown]
    # A stretch the feed was not there for makes everything after it look like growth.
    filled = snapshot.frame.filled(snapshot.clock) if snapshot.covers_before else None
    late = backlog(snapshot.workers, reading)
    drawn = tiles(moods, snapshot.frame.window, reading, filled=filled)
    head, sure = header(snapshot, reading), confidence(snapshot, reading)
    return f'<div class="ms-now">{head}{late}{strip}{drawn}{more}{sure}</div>'


def tiles(moods: Sequence[Mood], window: str, reading: Reading = PLAIN, *, filled: float | None = 1.0) -> str:
    """A tile per topic: mood now, how sure, against two stretches before, from which posts.

    filled: see `Frame`; None where volume has nothing to be compared with.
    """
    return f'<div class="ms-tiles">{"".join(_tile(mood, window, reading, filled) for mood in moods)}</div>'


def _tile(mood: Mood, window: str, reading: Reading, filled: float | None) -> str:
    title = f'<h3 class="ms-topic">{escape(topic_title(mood.topic))}</h3>'
    if mood.net is None:
        return f'<section class="ms-tile ms-none">{title}<p class="ms-quiet">{_nothing(mood, reading)}</p></section>'
    counters, net = mood.counters, mood.net
    lean, words = _LEANS[net.lean]
    return (
        f'<section class="ms-tile">{title}'
        f'<div class="ms-net"><span class="ms-value ms-{lean}">{reading.signed(net.mean)}</span>'
        f'<span class="ms-words">{words}<br><small>95 %: {reading.signed(net.low)} to {reading.signed(net.high)}'
        f"</small></span></div>"
        f"{_changes(mood, window, reading)}{_spark(mood.spark)}{shares(counters, reading)}"
        f'<p class="ms-basis">{_basis(counters, reading)}'
        f"{_growth(mood, reading, filled)}"
        f"<span>abstained {reading.percent(counters.abstained, counters.posts)}</span></p></section>"
    )


def _nothing(mood: Mood, reading: Reading) -> str:
    shed = mood.counters.shed
    return f"{counted(shed, 'post', reading)} in this window, none scored" if shed else "No post in this window"


def _basis(counters: Counters, reading: Reading) -> str:
    """The posts the numbers rest on, and what share they are of those that came."""
    if counters.shed:
        return f"<b>{sampled(counters, reading)}</b>"
    return f"<b>{reading.compact(counters.posts)}</b> {'post' if counters.posts == 1 else 'posts'}"


def _changes(mood: Mood, window: str, reading: Reading) -> str:
    if mood.before is None:
        return '<p class="ms-change">over the whole feed</p>'
    rows = [_change(mood.before, BEFORE[window], reading)]
    if mood.same is not None:
        rows.append(_change(mood.same, SAME[window], reading))
    return "".join(rows)


def _change(change: Change, stretch: str, reading: Reading) -> str:
    if change.net is None:
        return f'<p class="ms-change"><b>\N{EN DASH}</b> no posts in {stretch}</p>'
    clear = {1: "ms-positive", -1: "ms-negative", 0: ""}[change.net.lean]
    note = "" if clear else ' <span title="the difference may be chance">≈</span>'
    arrow = "▲" if change.net.mean > 0 else "▼"
    return (
        f'<p class="ms-change"><b class="{clear}">{arrow} {reading.signed(change.net.mean)}</b>{note} vs {stretch}</p>'
    )


def _growth(mood: Mood, reading: Reading, filled: float | None) -> str:
    """Posts per time against the stretch before, which is full where the window still fills."""
    if mood.before is None or not mood.before.posts or filled is None:
        return ""
    growth = 100 * (mood.counters.volume / filled / mood.before.posts - 1)
    sign = "+" if growth > 0 else ""
    return f' <small title="against {mood.before.posts} before">{sign}{reading.number(round(growth) or 0)} %</small>'


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


def confidence(snapshot: Snapshot, reading: Reading = PLAIN) -> str:
    """The line that says how much of the feed the page knows, and how sure it is of that."""
    total, counts = snapshot.total, snapshot.counts
    rows = [
        _scored(snapshot, reading),
        ("Abstained", reading.percent(total.abstained, total.posts), "model not sure enough"),
        ("Other languages", reading.percent(total.foreign, total.posts), "not the model's: abstained"),
        ("Confidence", reading.percent(total.confidence_sum / FIXED_POINT, total.posts), "mean, calibrated"),
    ]
    if total.labelled and not total.corrected:  # what people correct is no fair sample
        basis = f"on {reading.compact(total.labelled)} hand labels"
        rows.append(("Accuracy", reading.percent(total.correct, total.labelled), basis))
    rows += [
        ("Duplicates", reading.compact(counts.get("duplicates", 0)), "counted once"),
        ("Dead letters", reading.compact(counts.get("dead_letters", 0)), "set aside, kept"),
        *_worker_facts(snapshot, reading),
        _freshness(snapshot, reading),
    ]
    return facts(rows)


def _scored(snapshot: Snapshot, reading: Reading) -> tuple[str, str, str]:
    """Of the window where posts were shed in it, else of all there ever was."""
    total, counts = snapshot.total, snapshot.counts
    if total.shed:
        said = f"{reading.compact(total.posts)} of {reading.compact(total.volume)} posts; the rest is only counted"
        return "Sample", reading.percent(total.posts, total.volume), said
    scored, dead = counts.get("scored", 0), counts.get("dead_letters", 0)
    return "Scored", reading.percent(scored, scored + dead), f"{reading.compact(scored)} posts; none sampled out"


def backlog(workers: Sequence[WorkerState], reading: Reading = PLAIN) -> str:
    """How far the workers are behind, while that is to be felt."""
    furthest_s = max((worker.behind_s for worker in workers), default=0.0)
    if furthest_s < BEHIND_S:
        return ""
    waiting = counted(sum(worker.lag or 0 for worker in workers), "record", reading)
    said = f"Behind: {waiting} wait, the oldest for {duration(timedelta(seconds=furthest_s))}"
    least = min(worker.sample for worker in workers)
    if least < 1:
        said += f"; {reading.percent(least, 1)} of the posts are scored now"
    return f'<p class="ms-found"><span class="ms-badge ms-stale">{said}</span></p>'


def _worker_facts(snapshot: Snapshot, reading: Reading) -> list[tuple[str, str, str]]:
    workers = snapshot.workers
    if not workers and snapshot.is_replay:
        return [("Worker", "none", "needed while replaying")]
    if not workers:
        return [("Worker", "none", "start one: <code>moodstream worker</code>")]
    count = "1 worker" if len(workers) == 1 else f"slowest of {len(workers)}"
    p50, p95 = (max(getattr(worker, name) for worker in workers) for name in ("latency_p50_ms", "latency_p95_ms"))
    lags = [worker.lag for worker in workers if worker.lag is not None]
    rate = sum(worker.posts_per_s for worker in workers)
    waiting = reading.compact(sum(lags)) if lags else "\N{EN DASH}"
    return [
        ("Latency", reading.latency(p50), f"p95 {reading.latency(p95)}, {count}"),
        ("Lag", waiting, f"waiting; {reading.number(rate, 1)} scored/s"),
    ]


def _freshness(snapshot: Snapshot, reading: Reading) -> tuple[str, str, str]:
    if snapshot.is_replay:
        at = reading.at(snapshot.clock)
        return ("Clock", f"{at:%H:%M}", f"{at:%-d %b %Y}, the feed's own time")
    return ("Newest post", duration(snapshot.age), "old, by your clock")


def wall_head(wall: Wall, frame: Frame, reading: Reading = PLAIN) -> str:
    """What the pictures below were chosen from."""
    if not wall.pictured:
        basis = "no picture in this window"
    else:
        since = f" since {reading.at(wall.since):%-d %b, %H:%M}" if wall.since and wall.since > frame.start else ""
        basis = f"of {reading.number(wall.pictured)} newest posts with a picture{since}; copies count as one"
    return f'<div class="ms-course"><h2>Pictures that move the mood <small>{basis}</small></h2></div>'


def meme(meme: Meme, reading: Reading = PLAIN) -> str:
    """How often a picture was posted, how its posts feel, and what they moved."""
    side = "positive" if meme.score >= 0.05 else "negative" if meme.score <= -0.05 else "neutral"
    arrow = "▲" if meme.moved > 0 else "▼"
    moved = reading.signed(meme.moved) if abs(meme.moved) >= 0.005 else "< 0.01".replace(".", reading.marks.decimal)
    topic = "" if meme.topic == ALL else f'<span class="ms-chip">{escape(topic_title(meme.topic))}</span>'
    return (
        f'<div class="ms-meme"><b>{reading.number(meme.posts)}×</b>'
        f'<span class="ms-class ms-{side}">{reading.signed(meme.score)}</span>'
        f'<span class="ms-note">{arrow} moves the mood {moved}</span>{topic}</div>'
    )


class Said(NamedTuple):
    """An alert in the strip: its severity, what it says, and where it is shown."""

    severity: str
    sentence: str
    address: str


def alerts(said: Sequence[Said], more: str, at_most: int = 3) -> str:
    """Alerts that are on, the strongest first, and the way to all of them; nothing where there is none."""
    if not said:
        return ""
    rows = "".join(
        f'<li class="ms-{escape(one.severity)}"><a href="{escape(one.address)}" target="_self">{escape(one.sentence)}'
        "</a></li>"
        for one in said[:at_most]
    )
    rest = f"{len(said) - at_most} more" if len(said) > at_most else "All alerts"
    rows += f'<li class="ms-more"><a href="{escape(more)}" target="_self">{rest}</a></li>'
    return f'<ul class="ms-alerts" role="status" aria-label="Active alerts">{rows}</ul>'
