"""What `moodstream model compare` says: the figures of a model at work and its shadow, in lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from dashboard.evaluation.judgement import Estimate
from dashboard.evaluation.shadowing import Agreement, Shadowing, Side
from dashboard.report.words import counted, interval, percent
from deploy.printing import shown

TOPICS_SHOWN: Final = 20
_WIDTH: Final = 24


def lines(found: Shadowing) -> Iterator[str]:
    agreeing = found.agreement.agreeing
    yield (
        f"They agree on {percent(agreeing.value)} ({interval(agreeing)}) of {counted(found.shared, 'post')} that both "
        f"scored; {counted(found.only_live, 'post')} only the live side has, {found.only_shadow:,} only the shadow"
    )
    yield ""
    yield f"{'':{_WIDTH}}{'live':32}shadow"
    for name, values in _rows(found):
        yield f"{name:{_WIDTH}}{values[0]:32}{values[1]}"
    yield f"{'net sentiment':{_WIDTH}}{_difference(found.agreement.net_difference)} from live to shadow"
    yield ""
    yield f"{'live down, shadow across':{_WIDTH}}" + "".join(f"{label:>10}" for label in found.labels)
    for label, row in zip(found.labels, found.table, strict=True):
        yield f"{label:{_WIDTH}}" + "".join(f"{count:>10,}" for count in row)
    if found.topics:
        yield ""
        yield f"{'topic':{_WIDTH}}{'posts':>8}  {'agree':>8}  net sentiment; classes live → shadow"
        yield from (_topic(one, found.labels) for one in found.topics[:TOPICS_SHOWN])
        if len(found.topics) > TOPICS_SHOWN:
            yield f"… and {len(found.topics) - TOPICS_SHOWN} more (--json has them)"


def _rows(found: Shadowing) -> Iterator[tuple[str, tuple[str, str]]]:
    sides = (found.live, found.shadow)
    yield "model", _each(sides, lambda side: shown(", ".join(side.models)))
    for number, label in enumerate(found.labels):
        yield label, (percent(found.agreement.live[number]), percent(found.agreement.shadow[number]))
    yield "abstained", _each(sides, lambda side: percent(side.abstained))
    yield "engine p50 / p95 / p99", _each(sides, lambda side: _milliseconds(side.engine_ms))
    yield "from ingest, the same", _each(sides, lambda side: _milliseconds(side.latency_ms))
    if found.live.accuracy.value is not None:
        yield "accuracy, where labelled", _each(sides, lambda side: percent(side.accuracy.value))


def _each(sides: tuple[Side, Side], said: Callable[[Side], str]) -> tuple[str, str]:
    return said(sides[0]), said(sides[1])


def _milliseconds(quantiles: Sequence[float]) -> str:
    return " / ".join(f"{value:,.0f}" for value in quantiles) + " ms" if quantiles else "–"


def _difference(estimate: Estimate) -> str:
    said = f"{estimate.value:+.3f}"
    return said if estimate.low is None else f"{said} ({estimate.low:+.3f} to {estimate.high:+.3f})"


def _topic(one: Agreement, labels: Sequence[str]) -> str:
    classes = ", ".join(
        f"{label} {percent(here)} → {percent(there)}"
        for label, here, there in zip(labels, one.live, one.shadow, strict=True)
    )
    name, agreeing = shown(one.topic)[: _WIDTH - 1], percent(one.agreeing.value)
    return f"{name:{_WIDTH}}{one.posts:>8,}  {agreeing:>8}  {_difference(one.net_difference)}; {classes}"
