"""Reasons → plain sentences and HTML: counts, and no adjective the numbers do not carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from inference_worker.contract import LABELS

from . import evidence
from .highlights import visible
from .reading import PLAIN, Reading
from .reasons import FEW_AUTHORS, WIDE, Part, PictureGroup, Reach, Reasons, Term, class_shares

_SMALL: Final = 0.005


def sentences(found: Reasons, topic: str, reading: Reading = PLAIN) -> list[str]:
    """The change and what goes with it, the most telling first."""
    now, before = found.now.counters, found.before.counters
    if not now.posts or not before.posts:
        which = "this window" if not now.posts else "the window before"
        return [f"There is no post on {topic} in {which}, so there is nothing to compare."]
    said = [_change(found, topic, reading), _volume(found, reading)]
    said += _classes(found, reading)
    said += _terms(found, reading)
    said += _pictures(found, reading)
    said += _authors(found, reading)
    said += _parts(found, reading)
    return said


def _change(found: Reasons, topic: str, reading: Reading) -> str:
    now, before, change = found.now.counters, found.before.counters, found.change
    if change is None or now.net_sentiment is None or before.net_sentiment is None:
        return f"The mood of {topic} cannot be compared."
    net, net_before = reading.signed(now.net_sentiment), reading.signed(before.net_sentiment)
    went = f"Net sentiment of {topic} is {net}, against {net_before} before"
    span = f"{reading.signed(change.mean)}, 95 % interval {reading.signed(change.low)} to {reading.signed(change.high)}"
    if not found.is_clear:
        return f"{went}. The difference ({span}) is within chance: what follows need not explain anything."
    return f"{went}: a difference of {span}."


def _volume(found: Reasons, reading: Reading) -> str:
    sides = (found.now.counters, found.before.counters)
    now, before = (counters.volume for counters in sides)
    times = _times(now / before, reading)
    if not any(counters.shed for counters in sides):
        return f"{reading.number(now)} posts were scored, {reading.number(before)} before ({times})."
    shares = (reading.percent(counters.posts, counters.volume) for counters in sides)
    return (
        f"{reading.number(now)} posts came, {reading.number(before)} before ({times}); "
        f"{' and '.join(shares)} of them were scored."
    )


def _times(ratio: float, reading: Reading) -> str:
    return f"{reading.number(ratio, 1)} times as many" if ratio >= 1.1 or ratio <= 0.9 else "about as many"


def _classes(found: Reasons, reading: Reading) -> list[str]:
    now, before = class_shares(found.now.counters), class_shares(found.before.counters)
    moved = max(LABELS, key=lambda label: abs(now[label] - before[label]))
    if abs(now[moved] - before[moved]) < 0.02:
        return []
    return [f"{reading.percent(now[moved], 1)} of them are {moved}, {reading.percent(before[moved], 1)} were."]


def _terms(found: Reasons, reading: Reading) -> list[str]:
    more = [term for term in found.terms if term.is_clear and term.z > 0][:3]
    less = [term for term in found.terms if term.is_clear and term.z < 0][:3]
    said = []
    if more:
        said.append(f"Written in a larger share of the posts read than before: {_listed(more, found.read, reading)}.")
    if less:
        said.append(f"Written in a smaller share: {_listed(less, found.read, reading)}.")
    if not more and not less and found.terms:
        said.append("No word, hashtag or emoji is used more or less often than chance would have it.")
    return said


def _listed(terms: Sequence[Term], read: tuple[int, int], reading: Reading) -> str:
    said = ((term.text, *_shares(term, read, reading)) for term in terms)
    return ", ".join(f"“{text}” ({now}, {before} before)" for text, now, before in said)


def _shares(found: Term | PictureGroup, read: tuple[int, int], reading: Reading) -> tuple[str, str]:
    """Of the posts read, now and before: the two windows need not be read alike."""
    now, before = (count / max(of, 1) for count, of in zip((found.now, found.before), read, strict=True))
    return reading.percent(now, 1), reading.percent(before, 1)


def _pictures(found: Reasons, reading: Reading) -> list[str]:
    read, read_before = found.read
    more = (group for group in found.pictures if group.now * read_before > group.before * read and group.now > 2)
    top = next(more, None)
    if top is None:
        return []
    now, before = _shares(top, found.read, reading)
    return [f"One picture is in {now} of the posts read, {before} before."]


def _authors(found: Reasons, reading: Reading) -> list[str]:
    reach, change = found.reach, found.change
    if not reach.known:
        return []
    said = [
        f"The {min(FEW_AUTHORS, reach.known)} most active of {reading.number(reach.known)} authors wrote "
        f"{reading.percent(reach.few, 1)} of the posts read whose author is "
        f"known ({reading.percent(reach.few_before, 1)} before)."
    ]
    if reach.without and change and found.is_clear and reach.without.lean != change.lean:
        said.append(f"Without them the difference is {reading.signed(reach.without.mean)}, which is within chance.")
    if reach.wide is not None and reach.wide_before is not None and abs(reach.wide - reach.wide_before) >= 0.02:
        said.append(
            f"{reading.percent(reach.wide, 1)} of the posts whose reach is known "
            f"come from authors who reach {reading.number(WIDE)} or more "
            f"({reading.percent(reach.wide_before, 1)} before)."
        )
    return said


def _parts(found: Reasons, reading: Reading) -> list[str]:
    if not found.is_clear or not found.parts:
        return []
    part = max(found.parts, key=lambda part: abs(part.who))
    return [
        f"Parted by {part.by}: {reading.signed(part.who)} is due to who talks, {reading.signed(part.how)} to how the "
        "same groups feel."
    ]


def story(found: Reasons, topic: str, reading: Reading = PLAIN) -> str:
    """The summary, and what it rests on."""
    lean = 0 if found.change is None else found.change.lean
    tone = {1: "positive", -1: "negative", 0: "neutral"}[lean]
    title = {1: "The mood rose", -1: "The mood fell", 0: "No change beyond chance"}[lean]
    if not found.is_comparable:
        title = "Nothing to compare with yet"
    body = "".join(f"<p>{visible(sentence)}</p>" for sentence in sentences(found, topic, reading))
    return (
        f'<section class="ms-story ms-{tone}" role="status"><h2>{title}</h2>{body}'
        f'<p class="ms-basis-line">{visible(basis(found, reading))}</p></section>'
    )


def basis(found: Reasons, reading: Reading = PLAIN) -> str:
    """How many posts the words rest on."""
    read = [(len(side.posts), side.counters.posts) for side in (found.now, found.before)]
    missing = sum(max(scored - kept, 0) for kept, scored in read)
    said = (
        "Mood and classes rest on every post scored; words, pictures and authors on "
        f"{reading.number(read[0][0])} and {reading.number(read[1][0])} posts read"
    )
    return (
        f"{said}; {reading.number(missing)} were not read or are no longer kept."
        if missing
        else f"{said}, which is all of them."
    )


def term_block(title: str, note: str, terms: Sequence[Term], read: tuple[int, int], reading: Reading = PLAIN) -> str:
    """Terms with their strength to either side: right is more than before."""
    if not terms:
        return f'<section class="ms-block"><h3>{title}</h3><p>none in three posts or more</p></section>'
    reach = max(abs(term.z) for term in terms) or 1.0
    head = '<li class="ms-term ms-names"><b></b><i>less · more</i><span>now, before</span><em>mood</em></li>'
    rows = "".join(_term(term, reach, read, reading) for term in sorted(terms, key=lambda term: -term.z))
    return f'<section class="ms-block"><h3>{title}</h3><p>{note}</p><ul class="ms-rows">{head}{rows}</ul></section>'


def _term(term: Term, reach: float, read: tuple[int, int], reading: Reading) -> str:
    side = "up" if term.z > 0 else "down"
    sign = "positive" if term.net > _SMALL else "negative" if term.net < -_SMALL else "neutral"
    note = "beyond chance" if term.is_clear else "within chance"
    return (
        f'<li class="ms-term{"" if term.is_clear else " ms-chance"}" title="z {term.z:+.1f}, {note}">'
        f'<b dir="auto">{visible(term.text)}</b>'
        f'<div class="ms-lean"><i class="ms-{side}" style="width:{50 * abs(term.z) / reach:.0f}%"></i></div>'
        f"<span>{', '.join(_shares(term, read, reading))}</span>"
        f'<em><b class="ms-{sign}">{reading.signed(term.net)}</b></em></li>'
    )


def example_block(terms: Sequence[Term], reading: Reading = PLAIN) -> str:
    """Posts that hold the strongest terms."""
    parts = "".join(
        f'<h3 dir="auto">{visible(term.text)}</h3>'
        f'<ul class="ms-quotes">{"".join(evidence.quote(post, reading) for post in term.examples)}</ul>'
        for term in terms
        if term.examples
    )
    note = "posts that hold the strongest of the words" if parts else "no word is in three posts or more"
    return f'<section class="ms-block"><h3>In their words</h3><p>{note}</p>{parts}</section>'


def figures(found: Reasons, reading: Reading = PLAIN) -> str:
    """Shifts of classes and modalities, and the parts of the change."""
    now, before = class_shares(found.now.counters), class_shares(found.before.counters)
    facts = [
        (label.capitalize(), reading.percent(now[label], 1), f"{reading.percent(before[label], 1)} before")
        for label in LABELS
    ]
    names = {"text": "Text alone", "image": "Picture alone", "both": "Text and picture"}
    facts += [
        (names[name], reading.percent(here, 1), f"{reading.percent(there, 1)} before")
        for name, (here, there) in found.modality.items()
    ]
    cells = "".join(f"<div><dt>{name}</dt><dd>{here}</dd><dd>{there}</dd></div>" for name, here, there in facts)
    return f'<dl class="ms-figures">{cells}</dl>'


def part_block(parts: Sequence[Part], reading: Reading = PLAIN) -> str:
    """Who talks against how they feel."""
    rows = "".join(
        f'<li class="ms-term"><b>by {visible(part.by)}</b><span>{part.groups} groups</span>'
        f"<span>who talks {reading.signed(part.who)}</span><em>{reading.signed(part.how)}</em></li>"
        for part in parts
    )
    head = '<li class="ms-term ms-names"><b></b><span></span><span>the mix</span><em>feeling</em></li>'
    return (
        '<section class="ms-block"><h3>Who talks, or how they feel</h3><p>the change of the posts read, parted by '
        "groups of at least 20 posts in both windows; the two add up</p>"
        f'<ul class="ms-rows">{head}{rows}</ul></section>'
    )


def author_block(reach: Reach, reading: Reading = PLAIN) -> str:
    """The most active authors, whose names nobody here knows."""
    rows = "".join(
        f'<li class="ms-term"><b>author {evidence.author_name(name)}</b><span></span>'
        f"<span>{reading.number(count)} posts</span><em></em></li>"
        for name, count in reach.top
    )
    return (
        f'<section class="ms-block"><h3>Authors</h3>'
        f"<p>{reading.number(reach.known)} known in this window; the most active</p>"
        f'<ul class="ms-rows">{rows}</ul></section>'
    )


def wall(
    groups: Sequence[PictureGroup], jpegs: dict[str, bytes], read: tuple[int, int], reading: Reading = PLAIN
) -> str:
    """Pictures by how much more or less they are shown; a sensitive one stays on the server."""
    tiles = "".join(
        evidence.veil()
        if group.example.sensitive
        else evidence.picture(
            group.example,
            jpegs.get(group.example.id),
            caption="{} now, {} before".format(*_shares(group, read, reading)),
        )
        for group in groups
    )
    return (
        '<section class="ms-block"><h3>Pictures</h3><p>share of the posts read that show it, near copies together</p>'
        f'<div class="ms-wall">{tiles}</div></section>'
    )
