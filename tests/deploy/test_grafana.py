"""The dashboard shipped for Grafana by Grafana's own schema; its queries run in `tests/pipeline/test_metrics.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

SHIPPED: dict[str, Any] = json.loads((Path(__file__).parents[2] / "deploy" / "grafana" / "moodstream.json").read_text())


def lost(given: Any, kept: Any, path: str = "") -> list[str]:
    """Paths of what the schema's types did not take in, or took for something else."""
    if isinstance(given, dict) and isinstance(kept, dict):
        return [one for key in given for one in lost(given[key], kept.get(key), f"{path}.{key}")]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        return [
            one for index, pair in enumerate(zip(given, kept, strict=True)) for one in lost(*pair, f"{path}[{index}]")
        ]
    is_empty = kept is None and not given
    return [] if given == kept or is_empty else [path]


def test_the_dashboard_is_one_by_grafanas_schema() -> None:
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json(SHIPPED)))
    assert lost(SHIPPED, kept) == []


def test_a_field_the_schema_does_not_know_is_found() -> None:
    panels = [{**SHIPPED["panels"][1], "titel": "Firing alerts"}]
    kept = json.loads(JSONEncoder().encode(Dashboard.from_json({**SHIPPED, "panels": panels})))
    assert lost({**SHIPPED, "panels": panels}, kept) == [".panels[0].titel"]


def test_panels_have_names_and_places_of_their_own() -> None:
    panels = SHIPPED["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    cells = [
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["w"])
        for y in range(place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
