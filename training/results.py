"""results.jsonl → RESULTS.md: a table for every shipped table of runs, ours beside what the papers published."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from training.config import SMALL
from training.differences import difference
from training.table import Row, Table

FINDINGS: Final = Path(__file__).parent / "findings.md"
SHIPPED: Final = Path(__file__).parent / "shipped.md"
NOT_MEASURED: Final = "not measured"
MEASURES: Final = (("accuracy", "Acc"), ("weighted_f1", "wF1"), ("macro_f1", "mF1"))
Line = dict[str, Any]


def render(tables: Sequence[Table], lines: Sequence[Line]) -> str:
    """The whole report. What people conclude from it stands in findings.md and comes first; last comes shipped.md, what
    was tried for the model that ships."""
    by_key = {line["key"]: line for line in lines}
    parts = ["# What the bench found\n", FINDINGS.read_text(encoding="utf-8")]
    parts += [_table(table, by_key) for table in tables]
    parts += [_unions(tables, by_key), SHIPPED.read_text(encoding="utf-8")]
    return "\n".join(part for part in parts if part)


def runs_of(table: Table, row: Row, by_key: dict[str, Line]) -> list[Line]:
    """The runs of a row that were made, by seed."""
    if row.config is None:
        return []
    keys = (row.config.key(table.corpus, table.split, seed) for seed in range(1, table.seeds + 1))
    return [by_key[key] for key in keys if key in by_key]


def bench_command(table: Table) -> str:
    """What makes the runs of a table."""
    return f"moodstream bench {table.name} --{table.corpus.split('_')[0]} {table.corpus}.parquet"


def _table(table: Table, by_key: dict[str, Line]) -> str:
    found = {row.name: runs_of(table, row, by_key) for row in table.rows}
    made = [line for lines in found.values() for line in lines]
    rows = [_cells(table, row, found[row.name]) for row in table.rows]
    header = ["", "seeds", *(short for _, short in MEASURES), "Acc without twins", "wF1 without twins", "ECE"]
    header += ["parameters", "s/epoch", "s/run", "published Acc / F1"]
    if table.reference:
        header.append(f"Acc against {table.reference}")
        for cells, runs in zip(rows, found.values(), strict=True):
            cells.append(_against(runs, found[table.reference]))
    parts = [f"## {table.title}\n", table.note.strip() + "\n" if table.note else ""]
    parts += [markdown_table(header, rows) + "\n", f"`{bench_command(table)}`{_provenance(made)}\n"]
    if table.per_class and made:
        parts.append(_per_class(found) + "\n")
    collapsed = [f"{line['name']} (seed {line['seed']})" for line in _named(found) if _is_collapsed(line)]
    if collapsed:
        parts.append(f"Collapsed to one class: {', '.join(collapsed)}.\n")
    return "\n".join(part for part in parts if part != "")


def _cells(table: Table, row: Row, runs: Sequence[Line]) -> list[str]:
    published = row.published.get(table.corpus, row.published.get("any", ""))
    if not runs:
        needs_weights = row.config is None or row.config.encoders != SMALL
        return [row.name, "0", *[NOT_MEASURED if needs_weights else "–"] * 3, *["–"] * 6, published]
    cells = [row.name, str(len(runs))]
    cells += [_mean([run["test"][measure] for run in runs]) for measure, _ in MEASURES]
    cells += [_mean([run["test_without_twins"][name] for run in runs]) for name in ("accuracy", "weighted_f1")]
    cells.append(_mean([run["test"]["ece"] for run in runs]))
    parameters = runs[0]["parameters"]
    per_epoch = [run["seconds_per_epoch"] for run in runs if run["seconds_per_epoch"] is not None]
    cells += [
        _size(parameters) if parameters else "–",
        f"{statistics.median(per_epoch):.1f}" if per_epoch else "–",
        f"{statistics.median(run['seconds'] for run in runs):.0f}",
        published,
    ]
    return cells


def _size(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} M" if parameters >= 10_000 else f"{parameters:,}"


def _against(runs: Sequence[Line], others: Sequence[Line]) -> str:
    """`+1.2 (0.3 to 2.1)`: points, with the 95 % interval; empty for the reference itself."""
    found = difference(runs, others) if runs is not others else None
    if found is None:
        return ""
    told = f"{100 * found.mean:+.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"
    return f"**{told}**" if found.is_beyond_chance else told


def _per_class(found: dict[str, list[Line]]) -> str:
    """Recall / F1 of each class, by its number in the corpus, and how many test posts it has."""
    confusion = next(lines for lines in found.values() if lines)[0]["test"]["confusion"]
    header = ["recall / F1", *(f"class {number}: {sum(row)} posts" for number, row in enumerate(confusion))]
    rows = [
        [name]
        + [
            " / ".join(_mean([run["test"][measure][number] for run in lines]) for measure in ("recall", "f1"))
            for number in range(len(confusion))
        ]
        for name, lines in found.items()
        if lines
    ]
    return markdown_table(header, rows)


def _mean(values: Sequence[float]) -> str:
    """`71.2 ± 0.8`: percent, mean and standard deviation over seeds."""
    mean = 100 * statistics.fmean(values)
    return f"{mean:.1f} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def _is_collapsed(line: Line) -> bool:
    return bool(line["test"]["predicted_classes"] == 1)


def _named(found: dict[str, list[Line]]) -> list[Line]:
    return [{**line, "name": name} for name, lines in found.items() for line in lines]


def _provenance(lines: Sequence[Line]) -> str:
    if not lines:
        return ""
    devices = sorted({line["device"] for line in lines})
    days = sorted({line["at"][:10] for line in lines})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    return f" ({', '.join(devices)}; {when})"


def _unions(tables: Sequence[Table], by_key: dict[str, Line]) -> str:
    """AAU's upper bound: posts that the text alone or the picture alone gets right, seed by seed."""
    rows = []
    for table in tables:
        named = {row.name: {run["seed"]: run for run in runs_of(table, row, by_key)} for row in table.rows}
        text, image = named.get("Uni-Text", {}), named.get("Uni-Image", {})
        for other, runs in named.items():
            shared = sorted(set(text) & set(image) & set(runs))
            if other in ("Uni-Text", "Uni-Image") or not shared or not all("right" in runs[s] for s in shared):
                continue
            rows.append([table.title, other, *_union_cells(shared, text, image, runs)])
    if not rows:
        return ""
    header = ["", "", "text or picture right", "right", "of the union", "right where neither is"]
    return "\n".join(
        ["## How much of the union of text and picture the fused models reach\n", markdown_table(header, rows), ""]
    )


def _union_cells(
    seeds: Sequence[int], text: dict[int, Line], image: dict[int, Line], both: dict[int, Line]
) -> list[str]:
    shares: dict[str, list[float]] = defaultdict(list)
    for seed in seeds:
        t, i, b = (_bits(runs[seed]["right"]) for runs in (text, image, both))
        union = [x or y for x, y in zip(t, i, strict=True)]
        shares["union"].append(sum(union) / len(union))
        shares["right"].append(sum(b) / len(b))
        shares["reached"].append(sum(x and y for x, y in zip(union, b, strict=True)) / max(1, sum(union)))
        shares["new"].append(sum(y and not x for x, y in zip(union, b, strict=True)) / len(b))
    return [_mean(values) for values in shares.values()]


def _bits(digits: str) -> list[bool]:
    return [digit == "1" for digit in digits]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))
