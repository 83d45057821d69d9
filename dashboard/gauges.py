"""Numbers of the page Health → HTML: workers, sources, dead letters. All words from outside are escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from html import escape

import pandas as pd

from inference_worker.contract import DeadLetter, WorkerState

from . import markup
from .feeds import Head
from .reading import Reading, duration
from .sources import SourceReport

_DASH = "\N{EN DASH}"


def facts(head: Head, reading: Reading) -> str:
    """What became of all records, and how fast."""
    counts, workers = head.counts, head.workers
    lags = [worker.lag for worker in workers if worker.lag is not None]
    slowest = max((worker.latency_p95_ms for worker in workers), default=None)
    rows = [
        ("Throughput", reading.number(sum(worker.posts_per_s for worker in workers), 1), "posts scored a second"),
        ("Latency p95", reading.latency(slowest) if slowest is not None else _DASH, "ingest to Redis, last minute"),
        ("Lag", reading.compact(sum(lags)) if lags else _DASH, "records waiting in Kafka"),
        *(
            (title, reading.compact(counts.get(name, 0)), note)
            for title, name, note in (
                ("Scored", "scored", "posts, each once"),
                ("Edits", "edits", "old share taken back"),
                ("Deletions", "deletions", "text and share erased"),
                ("Duplicates", "duplicates", "counted once"),
                ("Stale", "stale", "older than what is known"),
                ("Dead letters", "dead_letters", "set aside, kept"),
                ("Shed", "shed", "counted, not scored"),
            )
        ),
    ]
    if gap := counts.get("gap"):
        rows.append(("Gap", reading.compact(gap), "records lost to Redis and Kafka"))
    return markup.facts(rows)


def workers(states: Sequence[WorkerState], now: datetime, reading: Reading, *, is_replay: bool) -> str:
    """A panel per worker."""
    if not states:
        start = "A replay needs one only while it runs." if is_replay else "Start one: <code>moodstream worker</code>"
        return f'<p class="ms-quiet">No worker is alive. {start}</p>'
    return f'<div class="ms-panels">{"".join(_worker(state, now, reading) for state in states)}</div>'


def _worker(state: WorkerState, now: datetime, reading: Reading) -> str:
    rows = (
        ("Throughput", f"{reading.number(state.posts_per_s, 1)} posts/s"),
        (
            "Latency",
            " · ".join(
                f"{name} {reading.latency(value)}"
                for name, value in (
                    ("p50", state.latency_p50_ms),
                    ("p95", state.latency_p95_ms),
                    ("p99", state.latency_p99_ms),
                )
            ),
        ),
        ("Batch size", f"{reading.number(state.batch_size_mean, 1)} posts, mean"),
        ("Queue age", reading.latency(state.queue_age_ms)),
        ("Lag", f"{reading.compact(state.lag)} records" if state.lag is not None else _DASH),
        ("Behind", duration(timedelta(seconds=state.behind_s))),
        ("Sample", reading.percent(state.sample, 1)),
        ("Up", duration(now - state.started_at)),
    )
    meters = [("Engine busy", state.engine_busy_share), ("Padding wasted", state.pad_waste)]
    if state.known_pictures is not None:
        meters.append(("Pictures known", state.known_pictures))
    told = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows)
    return (
        f'<section class="ms-panel"><h3>{escape(state.name)}</h3>'
        f'<p class="ms-note">{escape(state.model)} on {escape(state.engine)}, '
        f"heard {duration(now - state.updated_at)} ago</p>"
        f"{''.join(_meter(name, share, reading) for name, share in meters)}"
        f'<dl class="ms-table">{told}</dl></section>'
    )


def _meter(name: str, share: float, reading: Reading) -> str:
    width = 100 * min(max(share, 0.0), 1.0)
    said = reading.percent(share, 1)
    return (
        f'<div class="ms-meter" role="meter" aria-label="{name}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{width:.0f}"><span>{name}</span><b>{said}</b><i><u style="width:{width:.1f}%"></u></i></div>'
    )


def sources(reports: Sequence[SourceReport], reading: Reading) -> str:
    """A panel per ingest process."""
    if not reports:
        return (
            '<p class="ms-quiet">No ingest process is known here: set MOODSTREAM_INGEST_HEALTH to the host:port ingest '
            "listens on, for it and for the dashboard. <code>moodstream up</code> does so by itself.</p>"
        )
    return f'<div class="ms-panels">{"".join(_source(report, reading) for report in reports)}</div>'


def _source(report: SourceReport, reading: Reading) -> str:
    tone = "well" if report.is_well else "ill"
    rows = [("Read", reading.compact(report.read)), ("Sent to Kafka", reading.compact(report.sent))]
    if report.lag_s is not None:
        rows.append(("Behind its source", duration(timedelta(seconds=report.lag_s))))
    rows.append(("Reconnects", reading.number(report.reconnects)))
    rows += [(title, counts) for title, counts in _reasons(report, reading) if counts]
    told = "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in rows)
    gaps = "".join(f"<li>{escape(gap)}</li>" for gap in report.gaps[-5:])
    lost = f'<ul class="ms-gaps" aria-label="Gaps">{gaps}</ul>' if gaps else ""
    body = f'<dl class="ms-table">{told}</dl>' if report.source else ""
    return (
        f'<section class="ms-panel ms-{tone}"><h3>{escape(report.source or report.address)}'
        f'<span class="ms-phase">{escape(report.phase or report.status)}</span></h3>'
        f'<p class="ms-note">{escape(report.detail or report.address)}</p>{_trouble(report)}{body}{lost}</section>'
    )


def _trouble(report: SourceReport) -> str:
    return "" if report.is_well else f'<p class="ms-trouble">{escape(report.status)}</p>'


def _reasons(report: SourceReport, reading: Reading) -> list[tuple[str, str]]:
    parts: tuple[tuple[str, Mapping[str, int]], ...] = (
        ("Skipped", report.skipped),
        ("Failed", report.failed),
        ("Pictures", report.media),
    )
    return [
        (title, ", ".join(f"{reason} {reading.compact(count)}" for reason, count in _most(counts)))
        for title, counts in parts
    ]


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])[:4]


def letters(found: Mapping[str, DeadLetter], reading: Reading) -> pd.DataFrame:
    """Dead letters, by their places, as a table in the order given."""
    return pd.DataFrame(
        {
            f"Failed at ({reading.zone})": [_second(letter.failed_at, reading) for letter in found.values()],
            "Error": [letter.error for letter in found.values()],
            "Place": list(found),
            "Bytes": [letter.size for letter in found.values()],
            "Key": [letter.key or "" for letter in found.values()],
            "Worker": [letter.worker for letter in found.values()],
            "Sent again": [_second(letter.retried_at, reading) for letter in found.values()],
        }
    )


def _second(at: datetime | None, reading: Reading) -> str:
    return f"{reading.at(at):%Y-%m-%d %H:%M:%S}" if at is not None else ""
