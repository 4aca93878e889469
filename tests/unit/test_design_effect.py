"""Design effects against Kish's formula, against drawing recordings again and again, and at the edges."""

import numpy as np
import pandas as pd
import pytest

from core.diagnostics.design_effect import (
    Recordings,
    of_distributions,
    recordings_of,
    worth_of_mixes,
    worth_of_rates,
)
from core.diagnostics.two_sample import class_mix
from core.record_tables import record_set
from core.recordset import RecordSet


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def sides(names: tuple[list[str], list[str]]) -> tuple[RecordSet, RecordSet]:
    def of(groups: list[str]) -> RecordSet:
        table = pd.DataFrame(
            {"clip_id": [f"c{i}" for i in range(len(groups))], "fold": 0, "source_group": groups, "label": None}
        )
        logits = np.zeros((len(groups), 2), dtype=np.float32)
        return record_set(table, title="made", class_names=("no", "yes"), logits=logits, temperature=1.0)

    return of(names[0]), of(names[1])


def recordings(n: int, clips: int, m: int) -> Recordings:
    """``n`` recordings of ``clips`` each, against ``m`` of one clip."""
    return Recordings(np.arange(n).repeat(clips), n + np.arange(m), alone=clips == 1)


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_the_design_effect_is_kishs(rng: np.random.Generator, alike: float) -> None:
    """1 + (clips − 1) ρ on one side. ρ of a share below a cut is less than that of the values, but at 0 and 1."""
    n, clips, m = 2_000, 5, 10_000
    values = np.sqrt(alike) * rng.normal(size=n).repeat(clips) + np.sqrt(1 - alike) * rng.normal(size=n * clips)
    found = of_distributions(values, rng.normal(size=m), recordings(n, clips, m))
    expected = (1 + (clips - 1) * alike + 1) / 2  # the other side, as many records, has none
    assert found == pytest.approx(expected, rel=0.05) if alike != 0.5 else 1.3 < found < expected


def test_the_design_effect_is_the_variance_of_drawing_anew(rng: np.random.Generator) -> None:
    """Shares of a class in recordings of unequal length: variance over many draws, and what that of so few would be."""
    n, m = 300, 500

    def draw() -> tuple[np.ndarray, np.ndarray, Recordings]:
        sizes = rng.integers(1, 6, n)
        a = (rng.random(n).repeat(sizes) < 0.5) ^ (rng.random(sizes.sum()) < 0.2)
        b = rng.random(m) < 0.5
        return a.astype(np.int64), b.astype(np.int64), Recordings(np.arange(n).repeat(sizes), n + np.arange(m), False)

    draws = [draw() for _ in range(400)]
    spread = np.var([a.mean() - b.mean() for a, b, _ in draws])
    worth = np.array([worth_of_mixes(a, b, 2, of) for a, b, of in draws])
    assert np.mean(0.25 * (1 / worth).sum(axis=1)) == pytest.approx(spread, rel=0.2)
    assert worth[:, 0].mean() < 0.7 * np.mean([len(a) for a, _, _ in draws])
    assert worth[:, 1].mean() == pytest.approx(m, rel=0.02)  # its records are independent


def test_a_share_of_very_many_recordings_tells_as_much(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, of = rng.normal(size=3_000).repeat(3), recordings(3_000, 3, 3_000)
    whole = of_distributions(values, rng.normal(size=3_000), of)
    monkeypatch.setattr("core.diagnostics.design_effect.MOST_RECORDINGS", 1_000)
    assert of_distributions(values, rng.normal(size=3_000), of) == pytest.approx(whole, rel=0.1)


def test_a_recording_on_both_sides_cancels(rng: np.random.Generator) -> None:
    values = rng.normal(size=100).repeat(4)
    codes = np.arange(100).repeat(4)
    assert of_distributions(values, values, Recordings(codes, codes, alone=False)) == 1.0
    assert of_distributions(values, values, Recordings(codes, 100 + codes, alone=False)) == pytest.approx(4, rel=0.02)


def test_a_recording_on_both_sides_makes_both_worth_more(rng: np.random.Generator) -> None:
    answers, codes = rng.integers(0, 3, 100).repeat(4), np.arange(100).repeat(4)
    moved = np.where(rng.random(400) < 0.1, (answers + 1) % 3, answers)  # most answers stay
    same = worth_of_mixes(answers, moved, 3, Recordings(codes, codes, alone=False))
    others = worth_of_mixes(answers, moved, 3, Recordings(codes, 100 + codes, alone=False))
    assert min(same) > 300
    assert others == pytest.approx((100, 110), rel=0.15)


def test_clips_of_a_recording_count_once_in_a_rate() -> None:
    assert worth_of_rates(recordings(10, 1, 10)) == (10, 10)
    assert worth_of_rates(recordings(10, 4, 40)) == pytest.approx((10, 40))


@pytest.mark.parametrize("clips", [1, 4, 20])
def test_mixes_of_many_clips_of_few_recordings_are_called_different_no_more_often(
    rng: np.random.Generator, clips: int
) -> None:
    """Ten classes, all clips of a recording alike: 50 recordings against 250 of one clip each."""
    of = recordings(50, clips, 250)

    def p() -> float:
        a, b = rng.integers(0, 10, 50).repeat(clips), rng.integers(0, 10, 250)
        counts = np.bincount(a, minlength=10), np.bincount(b, minlength=10)
        return class_mix(*counts, rng=rng, worth=worth_of_mixes(a, b, 10, of)).p

    found = np.array([p() for _ in range(400)])
    assert (found < 0.05).mean() < 0.08
    assert (found < 0.005).mean() < 0.02
    assert (found < 0.5).mean() > 0.4  # nor is the test asleep


def test_recordings_are_told_by_their_names() -> None:
    found = recordings_of(*sides((["a", "a", "b"], ["b", "c"])))
    assert (found.counts, found.alone) == ((2, 2), False)
    assert found.where(np.array([True, False, True]), slice(None)).counts == (2, 2)
    assert recordings_of(*sides((["a", "b"], ["a", "c"]))).alone
    assert recordings_of(*sides((["a", "a"], ["a"]))).counts == (2, 1)  # one name for all tells nothing
    assert recordings_of(*sides((["", ""], ["a", "a"]))).counts == (2, 1)
    assert recordings_of(*sides(([], []))).counts == (0, 0)


def test_what_does_not_vary_and_a_single_recording_have_none() -> None:
    of = recordings(5, 3, 6)
    assert of_distributions(np.zeros(15), np.zeros(6), of) == 1.0
    assert worth_of_mixes(np.zeros(15, dtype=np.int64), np.zeros(6, dtype=np.int64), 3, of) == (5, 6)
    assert worth_of_rates(Recordings(np.arange(0), np.arange(2), alone=True)) == (0, 2)
    assert of_distributions(np.arange(3.0), np.arange(6.0), recordings(1, 3, 6)) == 1.0
