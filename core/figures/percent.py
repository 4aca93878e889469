"""Shares in per cent, drawn as they are written.

Plotly's own percentages know no space, so figures hold hundredths and name the unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.shares import SPACE

if TYPE_CHECKING:
    import pandas as pd

UNIT = f"{SPACE}%"
AXIS = {"ticksuffix": UNIT}  # of hundredths
QUARTERS = {  # Plotly adds no suffix to ticks that are given
    "tickvals": (0, 25, 50, 75, 100),
    "ticktext": [f"{value}{UNIT}" for value in (0, 25, 50, 75, 100)],
}


def hundredths(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """``table`` with shares in [0, 1] of ``columns`` brought to [0, 100]."""
    return table.assign(**{column: 100 * table[column] for column in columns})
