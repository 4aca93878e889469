"""The theme's colours: told apart by everyone, in both modes, and legible on their page."""

import tomllib
from itertools import pairwise

import numpy as np
import pytest

from core.config import ROOT

THEME = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["theme"]
RGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
D65 = RGB_TO_XYZ.sum(axis=1)
# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(colour: str) -> np.ndarray:
    """Linear RGB of ``#rrggbb``."""
    code = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB."""
    ratio = RGB_TO_XYZ @ np.clip(rgb, 0, 1) / D65
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio, 1 to 21."""
    dark, light = sorted(float(RGB_TO_XYZ[1] @ linear(colour)) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def lightness(colours: list[str]) -> np.ndarray:
    return np.array([lab(linear(colour))[0] for colour in colours])


modes = pytest.mark.parametrize("mode", ["light", "dark"])


@modes
def test_streamlit_gets_as_many_colours_as_it_asks_for(mode: str) -> None:
    assert len(set(THEME[mode]["chartCategoricalColors"])) >= 10
    assert len(THEME[mode]["chartSequentialColors"]) == 10
    assert len(THEME[mode]["chartDivergingColors"]) == 10


@modes
def test_text_is_legible_and_chart_colours_stand_out_from_the_page(mode: str) -> None:
    theme = THEME[mode]
    for page in (theme["backgroundColor"], theme["secondaryBackgroundColor"]):
        assert contrast(theme["textColor"], page) >= 7  # WCAG 1.4.6
    for colour in [*theme["chartCategoricalColors"], theme["primaryColor"]]:
        assert contrast(colour, theme["backgroundColor"]) >= 3, colour  # WCAG 1.4.11


@modes
@pytest.mark.parametrize("vision", VISION)
def test_categories_are_told_apart_with_any_colour_vision(mode: str, vision: str) -> None:
    seen = [lab(VISION[vision] @ linear(colour)) for colour in THEME[mode]["chartCategoricalColors"]]
    for i, one in enumerate(seen):
        for j, other in enumerate(seen[:i]):
            assert np.linalg.norm(one - other) > 12, (i, j)


@modes
def test_sequential_colours_change_lightness_in_even_steps_away_from_the_page(mode: str) -> None:
    steps = np.diff(lightness(THEME[mode]["chartSequentialColors"]))
    assert np.all(steps < 0) if mode == "light" else np.all(steps > 0)
    assert np.ptp(steps) < 1


@modes
def test_diverging_colours_are_as_strong_on_both_sides(mode: str) -> None:
    values = lightness(THEME[mode]["chartDivergingColors"])
    assert np.allclose(values, values[::-1], atol=2.1)
    outward = [b - a for a, b in pairwise(values[5:])]
    assert all(step < 0 for step in outward) if mode == "light" else all(step > 0 for step in outward)
