"""An alert made up here."""

from __future__ import annotations

import msgspec

from dashboard.alerts.history import Alert, Baseline
from tests.dashboard.alerts.feeds import START


def alert(**chosen: object) -> Alert:
    made = Alert(
        id="1:Volume spike:tram",
        namespace="run",
        rule="Volume spike",
        kind="volume",
        topic="tram",
        opened_at=START,
        updated_at=START,
        peak_at=START,
        window_min=15,
        observed=40,
        expected=6.0,
        strength=7.5,
        p=1e-12,
        direction="up",
        sample=40,
        sentence="tram: 40 posts in 15 minutes, 6.0 expected",
        link="/trends?namespace=run&topics=tram",
        baselines=(Baseline(name="past 12 h", expected=6.0, strength=7.5, minutes=720),),
        examples=("sample:1",),
    )
    return msgspec.structs.replace(made, **chosen)
