"""Shares drawn in per cent, written as everywhere else: ``98.8 %``, with a space.

Plotly's own percentages know no space, so figures hold hundredths and name the unit.
"""

from __future__ import annotations

import pandas as pd

UNIT = "\N{NO-BREAK SPACE}%"
AXIS = {"ticksuffix": UNIT}  # of hundredths


def hundredths(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """``table`` with shares in [0, 1] of ``columns`` brought to [0, 100]."""
    return table.assign(**{column: 100 * table[column] for column in columns})
