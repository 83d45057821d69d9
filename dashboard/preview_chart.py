"""Posts per hour that a query would gather → chart."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Final

import altair as alt
import pandas as pd

from .charts import INK, Spec, bare, filled, time_axis, time_format, when
from .reading import PLAIN, Reading

_HEIGHT: Final = 84
_BAR: Final = pd.Timedelta(minutes=52)


def hours(counts: Sequence[tuple[datetime, int]], reading: Reading = PLAIN) -> Spec:
    """counts: start of each hour that has posts, and how many."""
    rows = pd.DataFrame(counts, columns=["at", "posts"])
    rows["until"] = rows["at"] + _BAR
    return filled(_spec(time_format(rows), reading.zone), rows, reading)


@lru_cache
def _spec(pattern: str, zone: str) -> Spec:
    axis = alt.Axis(format="~s", tickMinStep=1, tickCount=2, domain=False, ticks=False, minExtent=32)
    tooltip = [when(zone), alt.Tooltip("posts:Q", title="Posts", format=",")]
    chart = alt.Chart().mark_rect(color=INK).encode(x=time_axis(pattern), x2="until:T", tooltip=tooltip)
    return bare(chart.encode(y=alt.Y("posts:Q", title=None, axis=axis), y2=alt.Y2Datum(0)).properties(height=_HEIGHT))
