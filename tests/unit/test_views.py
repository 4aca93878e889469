import numpy as np
import pandas as pd
import pytest

from core.views import CROP_S, VIEWS, answer_together, crops, summarise_views, trimmed, whole, with_faster

RATE = 8_000


def test_crops_cover_the_sound_from_end_to_end_and_skip_silence() -> None:
    sound = np.zeros(5 * RATE, dtype=np.float32)
    sound[RATE : 4 * RATE] = np.arange(1, 3 * RATE + 1) / RATE
    parts = crops(5)(sound, RATE)
    assert [part.size for part in parts] == [round(CROP_S * RATE)] * 5
    assert parts[0][0] == sound[RATE]
    assert parts[-1][-1] == sound[4 * RATE - 1]


def test_a_sound_shorter_than_a_crop_is_one_padded_crop() -> None:
    (part,) = crops(10)(np.full(RATE, 0.1, dtype=np.float32), RATE)
    assert part.size == round(CROP_S * RATE)
    assert part[-1] == 0


def test_silence_stays_whole_and_the_whole_clip_is_untouched() -> None:
    silent = np.zeros(RATE, dtype=np.float32)
    assert trimmed(silent, RATE)[0].size == RATE
    assert whole(silent, RATE)[0] is silent


def test_ten_percent_faster_is_ten_percent_higher() -> None:
    tone = np.sin(2 * np.pi * 500 * np.arange(2 * RATE) / RATE).astype(np.float32)
    _, faster = with_faster(tone, RATE)
    peak_hz = np.abs(np.fft.rfft(faster)).argmax() * RATE / faster.size
    assert peak_hz == pytest.approx(550, abs=1)


def test_networks_together_answer_with_their_mean_probability() -> None:
    records = pd.DataFrame(
        {
            "clip_id": ["a", "a", "a", "b", "b", "b"],
            "fold": 1,
            "seed": [0, 1, 2] * 2,
            "label": ["dog"] * 3 + ["rain"] * 3,
            "logits": [[0.1, 0.0], [0.1, 0.0], [0.0, 9.0], [0.0, 1.0], [0.0, 1.0], [0.5, 0.0]],
        }
    )
    together = answer_together(records, ("dog", "rain"))
    assert together["correct"].tolist() == [False, True]
    assert set(together["cost"]) == {3.0}


def test_a_summary_counts_clips_once_over_seeds() -> None:
    answers = pd.DataFrame(
        [(name, 1, seed, view, name != "c", 1.0) for view in VIEWS for seed in (0, 1) for name in "abcd"],
        columns=["clip_id", "fold", "seed", "view", "correct", "cost"],
    )
    summary = summarise_views(answers)
    assert summary["view"].tolist() == list(VIEWS)
    assert set(summary["n"]) == {4}
    assert set(summary["accuracy"]) == {0.75}
