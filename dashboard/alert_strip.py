"""The strip of active alerts on the page Now: each leads to where it is drawn, all of them to their own page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from inference_worker.contract import ALL

from . import connection, states, tiles
from .alerts.cards import brief
from .alerts.history import Alert
from .filters import View
from .reading import PLAIN, UTC_NAME

ALERTS_PAGE: Final = "alerts"


def drawn(view: View) -> str:
    """What is on now of the topics shown; while the store is away, what was on. Empty if nothing is."""
    active = states.fresh(
        "strip", View(view.namespace, "", ()), lambda: connection.active_alerts(view.namespace), has_banner=False
    )
    return strip(active or (), view)


def strip(active: Sequence[Alert], view: View) -> str:
    """Links are whole: they open in a session of their own, so they say the view too."""
    reading = view.reading
    kept = {
        **({} if reading.zone == UTC_NAME else {"zone": reading.zone}),
        **({} if reading.numbers == PLAIN.numbers else {"numbers": reading.numbers}),
    }
    asked = [one for one in active if not view.topics or one.topic in (*view.topics, ALL)]
    shown = [
        tiles.Said(one.kind, brief(one, reading), one.link.lstrip("/") + (f"&{urlencode(kept)}" if kept else ""))
        for one in asked
    ]
    return tiles.alerts(shown, f"{ALERTS_PAGE}?{urlencode({'namespace': view.namespace, **kept})}")
