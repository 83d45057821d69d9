"""What a page shows, to take along: numbers as CSV, charts as SVG and PNG."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd
import streamlit as st

from . import charts, drawings


def harmless(value: object) -> object:
    """A cell no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def csv(rows: Callable[[], pd.DataFrame], name: str, *, key: str) -> None:
    """A button; the file is made once it is pressed."""
    st.download_button(
        "CSV",
        lambda: rows().map(harmless).to_csv(index=False).encode(),
        file_name=f"{name}.csv",
        mime="text/csv",
        key=key,
        type="tertiary",
        icon=":material/download:",
        on_click="ignore",
        help="These numbers as a table",
    )


def chart(spec: charts.Spec, name: str, *, key: str) -> None:
    """Buttons for SVG and PNG; the picture is drawn once one is pressed."""
    for kind, mime in (("svg", "image/svg+xml"), ("png", "image/png")):
        st.download_button(
            kind.upper(),
            partial(drawings.draw, spec, kind),
            file_name=f"{name}.{kind}",
            mime=mime,
            key=f"{key}-{kind}",
            type="tertiary",
            icon=":material/image:",
            on_click="ignore",
            help="This chart as a picture",
        )
