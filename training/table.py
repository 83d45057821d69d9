"""A table of the bench: which systems are compared on what, read from TOML."""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from training.config import BadConfig, RunConfig, read_config, varied

TABLES: Final = Path(__file__).parent / "tables"
SHIPPED: Final = (
    "mvsa_single",
    "mvsa_single_tuned",
    "memotion",
    "imbalance",
    "ablation_mdse",
    "ablation_clmlf",
    "ablation_spp_scl",
    "ablation_aau",
)
"""The tables of the report, in its order."""
VIEWS: Final = 3
"""Kept of every post, so that all tables share what is cached."""


@dataclass(frozen=True)
class Row:
    """One row of a table: its name, its configuration, what its paper published for it."""

    name: str
    config: RunConfig | None
    published: dict[str, str]


@dataclass(frozen=True)
class Table:
    """Rows that are compared on one corpus; split: `published` or `twin-free`.

    views: of each post, as many as any row asks for, and at least VIEWS;
    reference: the row that the others' accuracies are held against; per_class: whether every class is reported.
    """

    name: str
    title: str
    corpus: str
    split: str
    seeds: int
    rows: tuple[Row, ...]
    note: str = ""
    reference: str = ""
    per_class: bool = False

    @property
    def views(self) -> int:
        return max([VIEWS, *(row.config.views for row in self.rows if row.config is not None)])

    def runs(self) -> Iterator[tuple[Row, RunConfig, int]]:
        """Every row once before any row twice, so that a bench cut short compares all of them."""
        for seed in range(1, self.seeds + 1):
            for row in self.rows:
                if row.config is not None:
                    yield row, row.config, seed


def read_table(name: str) -> Table:
    """A shipped table by its name, or a TOML file by its path. Raises BadConfig."""
    path = Path(name) if name.endswith(".toml") else TABLES / f"{name}.toml"
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
        rows = tuple(_row(entry, given.get("settings", {}), path) for entry in given["row"])
        return Table(
            name=path.stem,
            title=given["title"],
            corpus=given["corpus"],
            split=given.get("split", "published"),
            seeds=int(given["seeds"]),
            rows=rows,
            note=given.get("note", ""),
            reference=_known(given.get("reference", ""), rows, path),
            per_class=bool(given.get("per_class", False)),
        )
    except OSError as error:
        shipped = ", ".join(sorted(file.stem for file in TABLES.glob("*.toml")))
        raise BadConfig(f"cannot read {path} ({error.strerror}): give a TOML file or one of {shipped}") from error
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise BadConfig(f"{path} is no table of runs: {error!r}") from error


def _known(reference: str, rows: tuple[Row, ...], path: Path) -> str:
    if reference and reference not in {row.name for row in rows}:
        raise BadConfig(f"{path}: reference {reference!r} is no row of the table")
    return reference


def _row(entry: dict[str, Any], settings: dict[str, Any], path: Path) -> Row:
    """`config` names the configuration to start from, the other keys vary it; without one nothing is run."""
    changes = {key: value for key, value in entry.items() if key not in ("name", "config", "published")}
    config = None
    if "config" in entry:
        where = f"{path}, row {entry['name']!r}"
        config = varied(varied(read_config(entry["config"]), settings, where), changes, where)
    return Row(entry["name"], config, entry.get("published", {}))
