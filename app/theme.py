"""Streamlit's theme as the one source of colour, also for pictures that Streamlit does not draw."""

from __future__ import annotations

import tomllib

from core.config import ROOT

CONFIG = ROOT / ".streamlit" / "config.toml"


def palette() -> tuple[str, ...] | None:
    """The light theme's chart colours in order; ``None`` where the configuration names none."""
    try:
        theme = tomllib.loads(CONFIG.read_text(encoding="utf-8")).get("theme", {})
    except FileNotFoundError:
        return None
    colours = theme.get("light", {}).get("chartCategoricalColors") or theme.get("chartCategoricalColors")
    return tuple(colours) if colours else None
