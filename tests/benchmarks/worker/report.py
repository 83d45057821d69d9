"""Measurements of a run → medians, the ratios the worker is judged by, and a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from tests.benchmarks.worker.plan import AT_SHARE

Found = Mapping[str, Mapping[str, Sequence[Any]]]
AT: Final = f"load {AT_SHARE:g}"


def summed_up(found: Found) -> dict[str, Any]:
    """By system and stage, and the ratios."""
    systems = {
        name: {stage: _stage(rounds) for stage, rounds in stages.items()}
        for name, stages in found.items()
        if name != "bare"
    }
    if found.get("bare", {}).get("idle"):
        systems["bare"] = _bare(found["bare"]["saturation"], found["bare"]["idle"])
    return {"systems": systems, "ratios": _ratios(found, systems)}


def _stage(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds; latencies of all of them."""
    latencies = np.concatenate([one["latencies_ms"] for one in rounds])
    p50, p95, p99 = np.percentile(latencies, [50, 95, 99]).tolist()
    rates = [one["throughput_posts_per_s"] for one in rounds]
    summary: dict[str, Any] = {
        "offered_posts_per_s": _median(one["offered_posts_per_s"] for one in rounds),
        "throughput_posts_per_s": statistics.median(rates),
        "throughput_range": (min(rates), max(rates)),
        "failed": sum(one["failed"] for one in rounds),
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "sender_late_ms": max(one["sender_late_ms"] for one in rounds),
    }
    for figure in ("cpu_ms_per_post", "cpu_share", "memory_mb", "batches", "gpu"):
        if figure in rounds[0]:
            summary[figure] = {name: _median(one[figure][name] for one in rounds) for name in rounds[0][figure]}
    return summary


def _bare(saturation: Sequence[Mapping[str, Any]], idle: Sequence[Sequence[float]]) -> dict[str, Any]:
    parts = ("engine", "whole")
    p50, p99 = np.percentile(np.concatenate(idle), [50, 99]).tolist()
    by_part = {
        part: {name: _median(one[part][name] for one in saturation) for name in saturation[0][part]} for part in parts
    }
    return {
        **by_part,
        "memory_mb": _median(one["memory_mb"] for one in saturation),
        "single": {"p50_ms": p50, "p99_ms": p99},
    }


def _ratios(found: Found, systems: Mapping[str, Any]) -> dict[str, float]:
    """Of the rounds in which both were measured, the median of the ratios; what a load decides, of all rounds."""
    ratios: dict[str, float] = {}
    if "saturation" not in found.get("worker", {}):
        return ratios
    ours = [one["throughput_posts_per_s"] for one in found["worker"]["saturation"]]
    for name, stages in found.items():
        if name not in ("worker", "bare") and "saturation" in stages:
            theirs = [one["throughput_posts_per_s"] for one in stages["saturation"]]
            ratios[f"worker / {name}"] = _median_ratio(ours, theirs)
        if name != "worker" and AT in stages and AT in found["worker"]:
            ratios[f"p99 at {AT_SHARE:g}, worker / {name}"] = (
                systems["worker"][AT]["p99_ms"] / systems[name][AT]["p99_ms"]
            )
    if "bare" in systems:
        for part in ("engine", "whole"):
            ceilings = [one[part]["throughput_posts_per_s"] for one in found["bare"]["saturation"]]
            ratios[f"worker / bare {part}"] = _median_ratio(ours, ceilings)
        if "idle" in systems["worker"]:
            alone_ms = systems["bare"]["single"]["p50_ms"]
            for percentile in ("p50_ms", "p99_ms"):
                ratios[f"idle {percentile}, worker - single post"] = systems["worker"]["idle"][percentile] - alone_ms
    return ratios


def _median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """An interrupted run has fewer rounds of one than of the other."""
    return _median(mine / other for mine, other in zip(ours, theirs, strict=False))


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def table(result: Mapping[str, Any]) -> str:
    systems = result["systems"]
    lines = [
        f"{'saturation':16} {'posts/s':>8} {'(range)':>13} {'cpu ms/post':>12} {'MB':>6} {'batch':>6} {'waste':>6}"
    ]
    for part in ("engine", "whole") if "bare" in systems else ():
        bare = systems["bare"][part]
        lines.append(
            f"{'bare ' + part:16} {bare['throughput_posts_per_s']:8.1f} {'':13} {bare['cpu_ms_per_post']:12.2f}"
        )
    saturations = {name: stages["saturation"] for name, stages in systems.items() if "saturation" in stages}
    for name, stage in {**saturations, **systems.get("scaling", {})}.items():
        low, high = stage["throughput_range"]
        batches = stage.get("batches", {"size_mean": 1, "pad_waste": 0})
        lines.append(
            f"{name:16} {stage['throughput_posts_per_s']:8.1f} {f'{low:.0f}-{high:.0f}':>13} "
            f"{stage['cpu_ms_per_post']['system']:12.2f} {stage['memory_mb']['system']:6.0f} "
            f"{batches['size_mean']:6.1f} {batches['pad_waste']:6.1%}"
        )
    lines += [
        "",
        f"{'load':10} {'system':10} {'offered':>8} {'done':>8} {'p50 ms':>8} {'p95 ms':>8} {'p99 ms':>8} {'cpu':>5}",
    ]
    for load in [stage for stage in systems.get("worker", {}) if stage != "saturation"]:
        for name in [name for name in saturations if load in systems[name]]:
            stage = systems[name][load]
            lines.append(
                f"{load:10} {name:10} {stage['offered_posts_per_s']:8.1f} {stage['throughput_posts_per_s']:8.1f} "
                f"{stage['p50_ms']:8.1f} {stage['p95_ms']:8.1f} {stage['p99_ms']:8.1f} "
                f"{stage['cpu_share']['system']:5.0%}"
            )
    return "\n".join([*lines, "", *(f"{name:40} {value:8.2f}" for name, value in result["ratios"].items())])
