"""Runs of the bench, read from its lines of results and told in words under a figure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from training.config import BadConfig
from training.results import bench_command, runs_of
from training.table import Table

KEYS_TOLD: Final = 6
Line = dict[str, Any]


def runs_by_row(table: Table, lines: Sequence[Line], names: Sequence[str] | None = None) -> dict[str, list[Line]]:
    """The runs of a table's rows (of `names` alone, if given). Raises BadConfig if none is made or a name is no row."""
    by_key = {line["key"]: line for line in lines}
    known = {row.name: row for row in table.rows if row.config is not None}
    for name in names or ():
        if name not in known:
            raise BadConfig(f"{name!r} is no row of {table.name} that is run: use one of {', '.join(known)}")
    found = {name: runs_of(table, known[name], by_key) for name in names or known}
    if not any(found.values()):
        only = "".join(f' --only "{name}"' for name in names or ())
        raise BadConfig(f"no run of {table.name} is made yet: make them with {bench_command(table)}{only}")
    return found


def missing(table: Table, found: Mapping[str, Sequence[Line]]) -> str:
    """One line on the runs a full table would have beside these; empty if it is full."""
    lacking = [f"{name} ({len(runs)} of {table.seeds})" for name, runs in found.items() if len(runs) < table.seeds]
    return f"Seeds not all made yet: {'; '.join(lacking)}." if lacking else ""


def provenance(table: Table, found: Mapping[str, Sequence[Line]]) -> str:
    """Which runs a figure shows: corpus, split, posts, keys and the command that made them."""
    runs = [run for lines in found.values() for run in lines]
    keys = f", keys {', '.join(run['key'] for run in runs)}" if len(runs) <= KEYS_TOLD else ""
    posts = runs[0]["test"]["rows"]
    count = f"{len(runs)} runs" if len(runs) > 1 else "one run"
    return f"{table.corpus}, {table.split} split, {posts} test posts. {bench_command(table)}: {count}{keys}."
