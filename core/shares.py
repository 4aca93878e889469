"""A share of all as people read it: ``98.8 %``, with a space, in text, tables and figures alike."""

from __future__ import annotations

SPACE = "\N{NO-BREAK SPACE}"


def percent(value: float, *, space: str = SPACE) -> str:
    """One decimal, and never a rounded 0 or 100: nothing is certain. ``100.0 %`` is said of all alone."""
    if 0 < value < 0.0005:
        return f"<{space}0.1{space}%"
    if 0.9995 <= value < 1:
        return f">{space}99.9{space}%"
    return f"{100 * value:.1f}{space}%"


def in_percent(value: float) -> str:
    """As ``percent``, for terminals and files: plain spaces."""
    return percent(value, space=" ")
