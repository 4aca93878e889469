"""The same sound under two names: made up, and the three pairs that ESC-10 holds."""

from pathlib import Path

import numpy as np
import pytest

from core.audio import decode
from core.config import AudioConfig
from core.dataset import SHARED_AUDIO
from core.diagnostics.duplicates import COLUMNS, near_duplicates, scaled_descriptors, shared_sound
from core.sources import shipped
from tests.answers import answers

RATE_HZ = 32_000
SHARED = set(SHARED_AUDIO)


def test_a_copy_in_another_recording_is_the_closest_pair() -> None:
    rng = np.random.default_rng(0)
    descriptors = {name: rng.normal(size=200) for name in ("rms_dbfs", "spectral_centroid_hz", "crest_factor_db")}
    for values in descriptors.values():
        values[101] = values[0] + 1e-4
    table = near_duplicates(answers(embedded=False, **descriptors))
    assert tuple(table.columns) == COLUMNS
    assert table.iloc[0][["clip_a", "clip_b"]].tolist() == ["clip0.wav", "clip101.wav"]
    assert "different folds" in table["why"].iloc[0]
    assert "different labels" in table["why"].iloc[0]


def test_pairs_are_of_different_recordings_and_mutually_nearest() -> None:
    records = answers(60, seeds=2)
    table = near_duplicates(records)
    group = dict(zip(records.table["clip_id"], records.table["source_group"], strict=True))
    assert all(group[a] != group[b] for a, b in zip(table["clip_a"], table["clip_b"], strict=True))
    assert not table[["clip_a", "clip_b"]].apply(sorted, axis=1).astype(str).duplicated().any()
    first = records.take(np.arange(60))
    points = scaled_descriptors(first.table[["rms_dbfs", "spectral_centroid_hz"]].to_numpy())
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    apart[np.equal.outer(*[first.table["source_group"].to_numpy()] * 2)] = np.inf
    nearest = apart.argmin(axis=1)
    expected = {(i, int(j)) for i, j in enumerate(nearest) if nearest[j] == i and i < j}
    told = table[table["by"] == "descriptors"]
    position = {clip: i for i, clip in enumerate(first.table["clip_id"])}
    found = {tuple(sorted((position[a], position[b]))) for a, b in zip(told["clip_a"], told["clip_b"], strict=True)}
    assert found <= expected
    by_embedding = table[table["by"] == "embedding"]
    assert (by_embedding["fold_a"] == by_embedding["fold_b"]).all()  # one network's


def test_nothing_to_compare_by_gives_no_pairs() -> None:
    nothing = answers(embedded=False, rms_dbfs=np.full(200, np.nan), spectral_centroid_hz=np.full(200, 1.0))
    assert near_duplicates(nothing).empty
    assert near_duplicates(answers().take(np.zeros(200, dtype=bool))).empty
    assert near_duplicates(answers().take(np.array([0]))).empty


def test_a_shifted_turned_and_noisy_copy_is_the_same_sound() -> None:
    rng = np.random.default_rng(0)
    whole = rng.normal(size=6 * RATE_HZ).astype(np.float32)
    a, b = whole[: 4 * RATE_HZ], -0.1 * whole[RATE_HZ : 5 * RATE_HZ]
    noisy = b + 0.03 * rng.normal(size=b.size).astype(np.float32)
    found = shared_sound(a, noisy, RATE_HZ)
    assert found.same
    assert found.lag_s == pytest.approx(1.0, abs=0.001)
    assert found.agreeing == found.stretches == 12


def test_different_sounds_clicks_and_silence_are_not_the_same() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=3 * RATE_HZ).astype(np.float32) for _ in range(2))
    assert not shared_sound(a, b, RATE_HZ).same
    click_a, click_b = 0.001 * a, 0.001 * b
    click_a[RATE_HZ], click_b[2 * RATE_HZ] = 1, 1
    assert not shared_sound(click_a, click_b, RATE_HZ).same
    silence = np.zeros(3 * RATE_HZ, dtype=np.float32)
    assert shared_sound(silence, a, RATE_HZ).agreeing == 0
    assert not shared_sound(silence, silence, RATE_HZ).same
    assert shared_sound(a[:400], b, RATE_HZ).stretches == 0


def test_the_three_shared_recordings_of_esc10_are_candidates_and_are_confirmed(esc10_dir: Path) -> None:
    table = near_duplicates(shipped())
    pairs = [tuple(sorted(pair)) for pair in zip(table["clip_a"], table["clip_b"], strict=True)]
    assert set(pairs) >= SHARED
    others = [pair for pair in pairs if pair not in SHARED][:6]
    for pair in (*SHARED, *others):
        a, b = (
            decode((esc10_dir / "audio" / name).read_bytes(), audio=AudioConfig(sample_rate_hz=RATE_HZ)).samples
            for name in pair
        )
        assert shared_sound(a, b, RATE_HZ).same == (pair in SHARED), pair
