"""Shares as people read them."""

import pytest

from core.shares import SPACE, in_percent, percent


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0, "0.0 %"),
        (1e-9, "< 0.1 %"),
        (0.0005, "0.1 %"),
        (0.5, "50.0 %"),
        (0.9994, "99.9 %"),
        (0.9996, "> 99.9 %"),
        (1 - 1e-12, "> 99.9 %"),
        (1.0, "100.0 %"),
    ],
)
def test_only_none_and_all_are_told_as_zero_and_a_hundred(share: float, said: str) -> None:
    assert in_percent(share) == said
    assert percent(share) == said.replace(" ", SPACE)
