"""Shares in per cent, drawn and written alike: ``98.8 %``, with a space.

Plotly's own percentages know no space, so figures hold hundredths and name the unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

SPACE = "\N{NO-BREAK SPACE}"
UNIT = f"{SPACE}%"
AXIS = {"ticksuffix": UNIT}  # of hundredths
QUARTERS = {  # Plotly adds no suffix to ticks that are given
    "tickvals": (0, 25, 50, 75, 100),
    "ticktext": [f"{value}{UNIT}" for value in (0, 25, 50, 75, 100)],
}


def percent(value: float, *, space: str = SPACE) -> str:
    """One decimal, and never a rounded 0 or 100: nothing is certain. ``100.0 %`` is said of all alone."""
    if 0 < value < 0.0005:
        return f"<{space}0.1{space}%"
    if 0.9995 <= value < 1:
        return f">{space}99.9{space}%"
    return f"{100 * value:.1f}{space}%"


def hundredths(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """``table`` with shares in [0, 1] of ``columns`` brought to [0, 100]."""
    return table.assign(**{column: 100 * table[column] for column in columns})
