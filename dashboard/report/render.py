"""A finished replay's folder → report.html for people and report.md for a pull request.

The page is one file: no script, nothing fetched, charts and pictures inside. Posts are strangers' words: everything is
escaped by the template engine, and the page itself forbids whatever could run or be loaded.
"""

from __future__ import annotations

from base64 import b64encode
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dashboard import brand
from dashboard.charts import Spec
from dashboard.evaluation.judgement import Judgement, Slice, read_judgement
from dashboard.report import figures, words
from dashboard.report.examples import Examples, PictureOf, pick
from dashboard.report.outcome import read_outcome
from dashboard.report.svg import drawn
from dashboard.runs import JUDGEMENT_FILE, PREDICTIONS_FILE, REPORT_FILE, SUMMARY_FILE, read_run
from inference_worker.contract import LABELS

HERE: Final = Path(__file__).parent
SLICES_SHOWN: Final = 40
ENOUGH_LABELS: Final = 30
"""Slices with fewer labelled posts come last: their figures are mostly chance."""
_WIDE: Final = 1010
_HALF: Final = 490
_NARROW: Final = 350
_PICTURES_MAX_BYTES: Final = 400_000


def write_report(
    folder: Path, *, picture_of: PictureOf | None = None, price_per_machine_hour: float | None = None
) -> Path:
    """Writes report.html and report.md beside run.json, judgement.json, result.json and predictions.parquet.

    picture_of: gives the pictures, while the replay's store is there (`examples.pictures`); without it there are none.
    price_per_machine_hour: in US dollars; without it an example, called one. Returns the path of report.html.
    Raises UnknownRun, BadJudgement, BadResult; OSError if there are no predictions.
    """
    facts = gathered(folder, price_per_machine_hour)
    templates = environment()
    page = templates.get_template("page.html.j2").render(
        **facts, **_figures(facts["judgement"], folder), **_posts(folder, picture_of)
    )
    replace(folder / SUMMARY_FILE, templates.get_template("summary.md.j2").render(**facts))
    return replace(folder / REPORT_FILE, page)


def gathered(folder: Path, price_per_machine_hour: float | None = None) -> dict[str, Any]:
    """What both the page and the summary say. Raises UnknownRun, BadJudgement, BadResult."""
    run, judgement, outcome = read_run(folder), read_judgement(folder / JUDGEMENT_FILE), read_outcome(folder)
    price = words.EXAMPLE_PRICE if price_per_machine_hour is None else price_per_machine_hour
    return {
        "run": run,
        "judgement": judgement,
        "outcome": outcome,
        "title": words.title(run),
        "story": words.story(judgement, outcome, run),
        "deed": words.deed(run),
        "about_content": words.about_content(signal.name for signal in judgement.drift.signals),
        "contenders": words.contenders(judgement),
        "slices": worst_first(judgement.slices)[:SLICES_SHOWN],
        "left_out": max(len(judgement.slices) - SLICES_SHOWN, 0),
        "price": price,
        "is_example_price": price_per_machine_hour is None,
        "cost": judgement.performance.cost_per_million_posts(price),
        "took": _took(run.finished_at - run.started_at if run.finished_at else None),
        "command": words.command(run),
    }


def worst_first(slices: list[Slice]) -> list[Slice]:
    """By macro F1; those with too few labels to tell come last, the larger ones first."""
    told = [one for one in slices if one.labelled >= ENOUGH_LABELS and one.macro_f1 is not None]
    rest = [one for one in slices if one.labelled < ENOUGH_LABELS or one.macro_f1 is None]
    return sorted(told, key=lambda one: (one.macro_f1, one.dimension, one.value)) + sorted(
        rest, key=lambda one: (-one.labelled, -one.rows, one.dimension, one.value)
    )


def _figures(judgement: Judgement, folder: Path) -> dict[str, Any]:
    curves, flags = judgement.curves, judgement.drift.flags
    course = figures.course(folder / PREDICTIONS_FILE)
    reliability = figures.reliability(judgement.calibration)
    return {
        "curve_names": figures.curve_names(curves),
        "prequential": {
            title: responsive(figures.prequential(curves, flags, measure), _HALF)
            for measure, title in figures.MEASURES.items()
        },
        "reliability": responsive(reliability.diagram if reliability else None, _HALF),
        "counts": responsive(reliability.counts if reliability else None, _HALF),
        "risk_coverage": responsive(figures.risk_coverage(judgement), _HALF),
        "mood": responsive(course.mood if course else None, _WIDE),
        "volume": responsive(course.volume if course else None, _WIDE),
        "per": course.per if course else "",
    }


def _svg(spec: Spec | None, width: int) -> Markup | None:
    return Markup(drawn(spec, width=width)) if spec else None  # noqa: S704  # drawn by ourselves, its words escaped


def responsive(spec: Spec | None, width: int = _HALF) -> tuple[Markup | None, Markup | None]:
    """For a wide and for a narrow place, in which a wide one's words would shrink past reading."""
    return _svg(spec, width), _svg(spec, _NARROW)


def _posts(folder: Path, picture_of: PictureOf | None) -> dict[str, Any]:
    examples = pick(folder / PREDICTIONS_FILE)
    return {"examples": examples, "pictures": _pictures(examples, picture_of)}


def _pictures(examples: Examples, picture_of: PictureOf | None) -> dict[str, str]:
    """Post id → the picture as an address that is the picture itself, while they are small enough together."""
    found: dict[str, str] = {}
    if picture_of is None:
        return found
    total = 0
    for post in (*examples.wrong, *examples.abstained, *examples.right):
        jpeg = picture_of(post.id) if post.images else None
        if jpeg is not None and total + len(jpeg) <= _PICTURES_MAX_BYTES:
            total += len(jpeg)
            found[post.id] = f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"
    return found


def _took(span: timedelta | None) -> str:
    if span is None:
        return words.DASH
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        autoescape=lambda name: name is None or not name.endswith(".md.j2"),  # noqa: S701  # Markdown is no HTML
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": words.percent,
        "decimal": words.decimal,
        "whole": words.whole,
        "interval": words.interval,
        "moment": words.moment,
        "hours": words.hours,
        "brief": words.brief,
        "milliseconds": words.milliseconds,
        "money": words.money,
        "called": words.called,
        "points": words.points,
        "plain": words.plain,
    }
    made.globals |= {
        "LABELS": LABELS,
        "DASH": words.DASH,
        "MARK": Markup(brand.MARK),  # noqa: S704  # a constant of ours
        "STYLE": Markup((HERE / "report.css").read_text(encoding="utf-8")),  # noqa: S704  # a file of ours
        "ENOUGH_LABELS": ENOUGH_LABELS,
        "counted": words.counted,
    }
    return made


def replace(path: Path, content: str) -> Path:
    """Whole or not at all."""
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(content, encoding="utf-8")
    unfinished.replace(path)
    return path
